"""The reader in docs/format.md reads what we write as our own does."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from sparsity import prune
from sparsity.formats.architecture import as_data
from sparsity.formats.compressed import read_parts, write
from sparsity.formats.half import round_to_half
from sparsity.yolo.network import build
from sparsity.yolo.yolov5.architectures import yolov5

DOC = Path(__file__).parents[2] / "docs" / "format.md"


def their_reader():
    """The function read of the doc's block, which may import no more than it says."""
    code = re.search(r"```python reader\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL)[1]
    assert set(re.findall(r"\b(?:import|,) (\w+)", code.split("unzip =")[0])) == {
        *("base64", "json", "numpy", "zstandard")
    }
    found: dict = {}
    exec(code, found)
    return found["read"]


def unfused():
    torch.manual_seed(0)
    return build(yolov5("yolov5n", nc=3), ("cat", "dog", "bird"))


@pytest.mark.parametrize(
    ("amount", "pattern", "rounded"),
    [(0, "", True), (0.5, "2:4", True), (0.6, "", False), (0.95, "", True), (0.95, "", False)],
)
def test_the_docs_reader_reads_as_ours_does(tiny, tmp_path, amount, pattern, rounded):
    network = unfused() if pattern else tiny
    prune(network, amount, pattern=pattern)
    write(round_to_half(network) if rounded else network, tmp_path / "a.safetensors")
    architecture, weights, names = read_parts(tmp_path / "a.safetensors")
    theirs = their_reader()(tmp_path / "a.safetensors")
    assert theirs[0] == as_data(architecture)
    assert theirs[2] == list(names)
    assert theirs[1].keys() == weights.keys()
    for name, tensor in weights.items():
        wide = theirs[1][name].astype(np.float32) if tensor.is_floating_point() else theirs[1][name]
        assert wide.tobytes() == tensor.numpy().tobytes(), name
