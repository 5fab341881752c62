"""Non-maximum suppression against the textbook loop."""

import pytest
import torch

from sparsity.base.boxes import box_iou_xyxy
from sparsity.validation import nms
from sparsity.validation.nms import MOST_CANDIDATES, best_detections, non_maximum_suppression


def textbook(boxes, scores, classes, iou_thres, max_det, agnostic=False) -> list[int]:
    """Greedy suppression, one box at a time."""
    kept: list[int] = []
    for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
        rivals = [k for k in kept if agnostic or classes[k] == classes[i]]
        if not rivals or box_iou_xyxy(boxes[rivals], boxes[i : i + 1]).max() <= iou_thres:
            kept.append(i)
        if len(kept) == max_det:
            break
    return kept


def crowd(count: int, seed: int, spread: float, classes: int = 3):
    """Overlapping boxes: centres within spread pixels."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.rand(count, 2, generator=generator) * spread
    sizes = torch.rand(count, 2, generator=generator) * 30 + 5
    boxes = torch.cat((centres - sizes / 2, centres + sizes / 2), 1)
    scores = torch.rand(count, generator=generator)
    return boxes, scores, torch.randint(classes, (count,), generator=generator)


def one_image(boxes, scores, classes, **options):
    options = {"iou_thres": 0.5, "max_det": 300} | options
    image = torch.zeros(len(scores), dtype=torch.int64)
    return non_maximum_suppression(image, boxes, scores, classes, images=1, **options)[0]


@pytest.mark.parametrize(
    ("count", "spread", "iou_thres", "max_det", "agnostic"),
    [
        pytest.param(100, 60, 0.5, 300, True, id="agnostic, few"),
        pytest.param(0, 1, 0.5, 300, False, id="nothing"),
        pytest.param(1, 1, 0.5, 300, False, id="one box"),
        pytest.param(200, 60, 0.5, 300, False, id="one block"),
        pytest.param(600, 126, 0.5, 600, False, id="several blocks"),
        pytest.param(1500, 200, 0.5, 1500, True, id="agnostic"),
        pytest.param(1500, 20, 0.1, 300, False, id="long chains of suppression"),
        pytest.param(1500, 2000, 0.65, 300, False, id="most are kept, stops at max_det"),
        pytest.param(700, 100, 0.0, 5, False, id="max_det inside a block"),
    ],
)
def test_same_as_the_textbook(count, spread, iou_thres, max_det, agnostic):
    boxes, scores, classes = crowd(count, seed=count, spread=spread)
    kept = textbook(boxes, scores, classes, iou_thres, max_det, agnostic)
    found = one_image(boxes, scores, classes, iou_thres=iou_thres, max_det=max_det, agnostic=agnostic)
    assert torch.equal(found.boxes_xyxy, boxes[kept])
    assert torch.equal(found.scores, scores[kept])
    assert torch.equal(found.classes, classes[kept])


@pytest.mark.parametrize(
    ("count", "spread", "max_det", "most_pairs"),
    [
        pytest.param(1500, 2000, 300, 2**19, id="the best boxes are enough"),
        pytest.param(1500, 20, 300, 2**19, id="the best boxes are not enough"),
        pytest.param(1500, 20, 1500, 2**19, id="all at once"),
        pytest.param(1500, 20, 300, 12_000, id="the best by pairs, all in blocks"),
    ],
)
@pytest.mark.parametrize("classes", [40, 200])
def test_many_classes_are_the_same_as_the_textbook(count, spread, max_det, most_pairs, classes, monkeypatch):
    monkeypatch.setattr(nms, "MOST_PAIRS", most_pairs)
    boxes, scores, labels = crowd(count, seed=count, spread=spread, classes=classes)
    kept = textbook(boxes, scores, labels, 0.1, max_det)
    found = one_image(boxes, scores, labels, iou_thres=0.1, max_det=max_det)
    assert torch.equal(found.boxes_xyxy, boxes[kept])
    assert torch.equal(found.classes, labels[kept])


@pytest.mark.parametrize("pairs", [-1, 2**19], ids=["blocks", "pairs"])
def test_chains_of_suppression_end_as_in_the_textbook(pairs, monkeypatch):
    """Box i suppresses only its neighbours: every second box of a chain is kept."""
    monkeypatch.setattr(nms, "MOST_PAIRS", pairs)
    left = torch.arange(60) * 3.0
    boxes = torch.stack((left, left * 0, left + 9, left * 0 + 5), 1)
    found = one_image(boxes, torch.linspace(1, 0.1, 60), torch.zeros(60, dtype=torch.int64), iou_thres=0.4)
    assert found.boxes_xyxy[:, 0].tolist() == [i * 3.0 for i in range(0, 60, 2)]


def test_images_of_a_batch_do_not_see_each_other():
    parts = [crowd(count, seed=count, spread=50) for count in (40, 0, 70)]
    boxes, scores, classes = (torch.cat(column) for column in zip(*parts, strict=True))
    image = torch.tensor([0] * 40 + [2] * 70)
    shuffled = torch.randperm(110, generator=torch.Generator().manual_seed(0))
    found = non_maximum_suppression(
        image[shuffled],
        boxes[shuffled],
        scores[shuffled],
        classes[shuffled],
        images=3,
        iou_thres=0.5,
        max_det=300,
    )
    assert len(found) == 3
    for detections, part in zip(found, parts, strict=True):
        alone = one_image(*part)
        assert torch.equal(detections.boxes_xyxy, alone.boxes_xyxy)
        assert torch.equal(detections.scores, alone.scores)


def test_only_the_best_30000_candidates_count():
    count = MOST_CANDIDATES + 10
    left = torch.zeros(count)
    left[MOST_CANDIDATES - 1 :] = torch.arange(1, 12) * 10.0  # the best are one box, the others apart
    boxes = torch.stack((left, left * 0, left + 5, left * 0 + 5), 1)
    scores = torch.linspace(1, 0.1, count)
    found = one_image(boxes, scores, torch.zeros(count, dtype=torch.int64), max_det=count)
    assert found.scores.tolist() == [1, scores[MOST_CANDIDATES - 1]]


@pytest.mark.parametrize(
    ("first", "second", "iou"),
    [
        pytest.param((0, 0, 2, 2), (0, 0, 2, 2), 1, id="the same"),
        pytest.param((0, 0, 2, 2), (1, 0, 3, 2), 1 / 3, id="half over"),
        pytest.param((0, 0, 2, 2), (2, 0, 4, 2), 0, id="touching"),
        pytest.param((0, 0, 2, 2), (5, 5, 6, 6), 0, id="apart"),
        pytest.param((1, 1, 1, 1), (1, 1, 1, 1), 0, id="empty"),
        pytest.param((0, 0, 4, 4), (1, 1, 3, 3), 1 / 4, id="inside"),
    ],
)
def test_iou(first, second, iou):
    boxes = torch.tensor([first], dtype=torch.float32), torch.tensor([second], dtype=torch.float32)
    assert box_iou_xyxy(*boxes).item() == pytest.approx(iou)


def test_without_suppression_the_best_boxes_of_each_image_are_kept():
    boxes, scores, classes = crowd(50, seed=1, spread=5)
    image = torch.tensor([0] * 20 + [2] * 30)
    found = best_detections(image, boxes, scores, classes, images=3, max_det=25)
    assert [len(one) for one in found] == [20, 0, 25]
    for one, start, end in ((found[0], 0, 20), (found[2], 20, 50)):
        order = scores[start:end].argsort(descending=True)[:25] + start
        assert torch.equal(one.scores, scores[order])
        assert torch.equal(one.boxes_xyxy, boxes[order])
        assert torch.equal(one.classes, classes[order])
