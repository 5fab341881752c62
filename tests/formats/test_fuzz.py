"""A few hundred damaged files of each format are refused in one line or read, and never worse."""

import pytest

from tests.fuzz import GOOD, fuzz


@pytest.mark.parametrize("name", ["safetensors", "pt"])
def test_damaged_files_are_refused_or_read(name, tmp_path):
    found = fuzz(name, range(200), 1, tmp_path / "kept")
    assert set(found) == set(GOOD)
    assert sum(found.values()) == 200
    assert found["refused"] > 100
    assert not (tmp_path / "kept").exists()
