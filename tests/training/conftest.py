"""What the tests of training share."""

from pathlib import Path

import pytest
import yaml


@pytest.fixture
def data(shapes) -> Path:
    """Return a data yaml whose images are for training and for validation."""
    shapes.write_text(yaml.safe_dump(yaml.safe_load(shapes.read_text()) | {"train": "images"}))
    return shapes
