"""A hundred damaged files of each kind; python -m tests.data.fuzz_data reads as many as are asked for."""

import pytest

from tests.data.fuzz_data import GOOD, KINDS, fuzz


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_refused_or_read(kind):
    found = fuzz(kind, range(100))
    assert set(found) == set(GOOD), found
