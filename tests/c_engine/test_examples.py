"""The example programs in C, C++ and Python print the same boxes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("numba")

from sparsity.formats.saving import save

EXAMPLES = Path(__file__).parents[2] / "examples" / "c"


@pytest.mark.slow
def test_all_three_print_the_same_boxes(tiny, tmp_path):
    for name in ("make", "gcc", "g++"):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
    folder = tmp_path / "c"
    shutil.copytree(EXAMPLES, folder)
    save(tiny, tmp_path / "tiny.pt")
    weights = ["WEIGHTS=../tiny.pt", f"PYTHON={sys.executable}", "IMGSZ=64x96", "CPU=x86-64-v3"]
    root = os.environ | {"PYTHONPATH": str(EXAMPLES.parents[1])}
    subprocess.run(["make", *weights, "CC=gcc", "CFLAGS=-O1 -Wall -Werror"], check=True, cwd=folder, env=root)
    picture = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    cv2.imwrite(str(folder / "a.ppm"), picture)
    ppm = (folder / "a.ppm").read_bytes()
    (folder / "comment.ppm").write_bytes(ppm.replace(b"P6\n", b"P6 # a comment\n", 1))

    def printed(*command: str) -> list[str]:
        return subprocess.check_output(command, cwd=folder, text=True).splitlines()

    found = printed("./detect", "a.ppm", "0.1", "0.5")
    assert len(found) > 3
    assert found[0].split()[0] in tiny.names
    assert printed("./detect", "comment.ppm", "0.1", "0.5") == found
    assert printed("./detect_cpp", "a.ppm", "0.1", "0.5") == found
    assert printed(sys.executable, "detect.py", "a.ppm", "0.1", "0.5") == found
    for wrong in ("Makefile", "nothing.ppm"):
        done = subprocess.run(["./detect", wrong], cwd=folder, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (1, "")
        assert "a binary PPM of 8 bits is expected" in done.stderr
