"""Free memory is the least of what system and container leave."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from sparsity.base import memory
from sparsity.base.memory import free_memory, is_out_of_memory, peak_memory

CPU = torch.device("cpu")


@pytest.fixture
def container(tmp_path, monkeypatch):
    """Set the container's limit and use, as the files' text."""

    def put(limit: str, used: str) -> None:
        (tmp_path / "max").write_text(limit)
        (tmp_path / "current").write_text(used)
        monkeypatch.setattr(memory, "_LIMITS", ((str(tmp_path / "max"), str(tmp_path / "current")),))

    return put


def test_a_container_without_limit_leaves_the_systems(container):
    container("max\n", "12345\n")
    assert free_memory(CPU) > 2**20


@pytest.mark.parametrize(
    ("limit", "used", "free"),
    [
        pytest.param("1000\n", "400\n", 600, id="room"),
        pytest.param("1000\n", "1200\n", 0, id="above the limit"),
    ],
)
def test_a_containers_limit_counts(container, limit, used, free):
    container(limit, used)
    assert free_memory(CPU) == free


def test_a_system_that_says_nothing(monkeypatch):
    def unreadable(*_args, **_kw):
        raise OSError

    monkeypatch.setattr(memory.Path, "read_text", unreadable)
    assert free_memory(CPU) == memory.UNKNOWN


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(torch.cuda.OutOfMemoryError("CUDA out of memory"), True, id="GPU"),
        pytest.param(RuntimeError("DefaultCPUAllocator: can't allocate memory"), True, id="Linux"),
        pytest.param(RuntimeError("DefaultCPUAllocator: not enough memory"), True, id="Windows"),
        pytest.param(RuntimeError("could not create a primitive"), True, id="oneDNN"),
        pytest.param(RuntimeError("could not execute a primitive"), True, id="oneDNN, running"),
        pytest.param(MemoryError("Unable to allocate 9 GiB"), True, id="NumPy"),
        pytest.param(ValueError("not enough memory"), False, id="no error of torch"),
        pytest.param(RuntimeError("shapes cannot be multiplied"), False, id="something else"),
    ],
)
def test_errors_that_say_memory_was_not_enough(error, expected):
    assert is_out_of_memory(error) == expected


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such figure")
def test_a_processs_peak_is_its_own():
    """Not that of the process which starts it: this one holds a GiB more for a moment."""
    np.ones(2**27)
    code = (
        "import numpy; from sparsity.base.memory import peak_memory; before = peak_memory(); "
        "numpy.ones(2**24); print(before, peak_memory())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert peak_memory() > 2**30
    assert after - before == pytest.approx(2**27, rel=0.1)
    assert after < 2**30
