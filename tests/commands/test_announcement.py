"""The lines that a command prints about its checkpoint."""

import pytest

from sparsity.commands.announcement import warn_of_trained_size


@pytest.mark.parametrize(("trained_with", "asked"), [({}, 640), ({"imgsz": 320}, 320), ({"imgsz": 300}, 300)])
def test_the_size_of_the_training_is_no_news(trained_with, asked):
    said: list[str] = []
    warn_of_trained_size(trained_with, asked, said.append)
    assert not said


def test_another_size_is_warned_of():
    said: list[str] = []
    warn_of_trained_size({"imgsz": 1280}, 640, said.append)
    assert len(said) == 1
    assert said[0].startswith(
        "WARNING: the image size is 640 pixels, but the checkpoint was trained at 1280; "
    )
