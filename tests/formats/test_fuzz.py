"""Some damaged files of each format are refused in one line or read, and never worse."""

import pytest

from tests.fuzz import GOOD, fuzz


@pytest.mark.parametrize(("name", "files"), [("safetensors", 200), ("pt", 200), ("onnx", 50)])
def test_damaged_files_are_refused_or_read(name, files, tmp_path):
    found = fuzz(name, range(files), 1, tmp_path / "kept")
    assert set(found) == set(GOOD)
    assert sum(found.values()) == files
    assert found["refused"] > files / 2
    assert not (tmp_path / "kept").exists()
