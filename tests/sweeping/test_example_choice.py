"""Examples of a sweep: typical images, with what levels find and lose."""

import json
from pathlib import Path

import numpy as np
import pytest

from sparsity import Method
from sparsity.data.annotations import Annotations, Labels
from sparsity.data.dataset import Dataset, DatasetImage
from sparsity.data.scan import Scan
from sparsity.sweeping.example import Example, read_examples, write_examples
from sparsity.sweeping.example_choice import choose_levels, make_examples
from sparsity.sweeping.level import plan

SIZE = 100
LEVELS = plan([0.3, 0.6], [Method("l1")])


def image(image_id: int, boxes: int) -> DatasetImage:
    """An image with true boxes in a row, 10 pixels wide and high."""
    centres = [[0.1 + 0.15 * i, 0.5, 0.1, 0.1] for i in range(boxes)]
    labels = Labels(np.zeros(boxes, int), np.array(centres, np.float32).reshape(-1, 4))
    return DatasetImage(Path(f"{image_id}.jpg"), image_id, SIZE, SIZE, labels)


def dataset(*boxes: int) -> Dataset:
    images = tuple(image(number, count) for number, count in enumerate(boxes, 1))
    return Dataset("shapes", images, ("cat", "dog"), Annotations(None, {}), (17, 18), Scan(0, 0, 0))


def found(image_id: int, number: int, *, score: float = 0.9, category: int = 17, shift: float = 0) -> dict:
    """A detection of a true box."""
    x = (0.1 + 0.15 * number) * SIZE - 5 + shift
    return {"image_id": image_id, "category_id": category, "bbox": [x, 45, 10, 10], "score": score}


def write(folder: Path, *levels: list[dict]) -> Path:
    for level, rows in zip(LEVELS, levels, strict=True):
        place = folder / "levels" / level.key
        place.mkdir(parents=True)
        (place / "predictions.json").write_text(json.dumps(rows))
    return folder


def test_what_is_found_and_lost(tmp_path):
    dense = [found(1, 0), found(1, 1), found(1, 2, score=0.2), found(1, 3, category=18)]
    first = [found(1, 0, shift=3), found(1, 1, shift=6)]
    second = [found(1, 1), found(1, 1, score=0.8)]
    (example,) = make_examples(write(tmp_path, dense, first, second), LEVELS, dataset(5))
    assert [panel.title for panel in example.panels] == ["dense", "l1, 0.3", "l1, 0.6"]
    assert len(example.true) == 5
    assert example.true[1].corners_xyxy == pytest.approx((20, 45, 30, 55))
    assert [len(panel.found) for panel in example.panels] == [3, 2, 2], "from a confidence of 0.25 on"
    assert [panel.true for panel in example.panels] == [2, 1, 1], "another class, or too far, is not found"
    assert [panel.lost for panel in example.panels] == [(), (example.true[1],), (example.true[0],)]
    assert [box.name for box in example.panels[0].found] == ["cat", "cat", "dog"]


def test_typical_images_are_chosen_not_the_worst(tmp_path):
    """Losses of 7 images: 0, 0, 1/2, 1/2, 1/2, 1, 1. The third to the fifth are the median."""
    dense = [found(i, number) for i in range(1, 8) for number in (0, 1)]
    kept = [found(i, 0) for i in (1, 2, 3, 4, 5)] + [found(i, 1) for i in (1, 2)]
    examples = make_examples(write(tmp_path, dense, kept, kept), LEVELS, dataset(*[2] * 7, 3, 0))
    assert [Path(example.path).stem for example in examples] == ["1", "3", "4", "5"]
    assert Path(examples[0].path).is_absolute()


@pytest.mark.parametrize(
    ("amounts", "shown"),
    [((), []), ((0.5,), [0.5]), ((0.1, 0.2, 0.3), [0.1, 0.2, 0.3]), ((0.1, 0.2, 0.3, 0.4), [0.1, 0.3, 0.4])],
)
def test_levels_that_are_shown(amounts, shown):
    levels = plan(amounts, [Method("l1"), Method("l1", "global")], ["torch", "sparse"])
    assert [level.amount for level in choose_levels(levels)] == [0.0, *shown]
    assert {level.engine for level in choose_levels(levels)} == {"torch"}


def test_nine_levels_are_spread():
    levels = plan([n / 10 for n in range(1, 10)], [Method("l1")])
    assert [level.amount for level in choose_levels(levels)] == [0.0, 0.2, 0.5, 0.8]


def test_nothing_to_show(tmp_path):
    assert make_examples(tmp_path, plan([], [Method("l1")]), dataset(2)) == []
    assert make_examples(write(tmp_path, [], [], []), LEVELS, dataset(2)) == []


def test_examples_are_read_as_they_were_written(tmp_path):
    examples = make_examples(write(tmp_path, [found(1, 0)], [], []), LEVELS, dataset(2))
    write_examples(tmp_path, examples)
    back = read_examples(tmp_path)
    assert isinstance(back[0], Example)
    assert back == examples
    for text in ("", "{}", '[{"path": 3}]', "[3]"):
        (tmp_path / "examples.json").write_text(text)
        assert read_examples(tmp_path) == []
