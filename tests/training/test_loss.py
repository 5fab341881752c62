"""The detection loss against numbers worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from sparsity.base.errors import InputError
from sparsity.training.ciou import complete_iou_cxcywh
from sparsity.training.loss import DetectionLoss, LossParts
from sparsity.training.matching import match_targets

NOWHERE = [[100.0, 100.0]]
"""An anchor that no target of these tests matches."""


def ciou(first, second) -> float:
    return complete_iou_cxcywh(torch.tensor([first]).double(), torch.tensor([second]).double()).item()


def aspect(first: float, second: float) -> float:
    """The paper's v of two ratios of width and height."""
    return 4 / math.pi**2 * (math.atan(first) - math.atan(second)) ** 2


def bce(logit: float, wanted: float) -> float:
    return math.log1p(math.exp(logit)) - wanted * logit


def maps(batch: int = 1, nc: int = 2, sides=(2, 1, 1)) -> list[Tensor]:
    """Raw maps of one anchor: 0 everywhere."""
    return [torch.zeros(batch, 5 + nc, side, side) for side in sides]


def loss_of(raw, rows, *, anchor=(1.0, 1.0), nc: int = 2, imgsz: int = 640) -> LossParts:
    """Loss where only the finest map has an anchor that matches."""
    anchors = torch.tensor([[list(anchor)]] + [NOWHERE] * (len(raw) - 1))
    return DetectionLoss(anchors, nc, imgsz, len(raw))(raw, torch.tensor(rows).reshape(-1, 6))


AMID_FIRST_CELL = [0, 1, 0.25, 0.25, 0.5, 0.5]
"""Class 1, a cell of the 2x2 map large, in the centre of its first cell."""


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        pytest.param((3, 4, 2, 1), (3, 4, 2, 1), 1, id="identical"),
        pytest.param((0, 0, 4, 4), (0, 0, 2, 2), 1 / 4, id="inside, same centre"),
        pytest.param((0, 0, 2, 2), (1, 0, 2, 2), 1 / 3 - 1 / 13, id="half over"),
        pytest.param((0, 0, 4, 4), (0.5, 0.5, 2, 2), 1 / 4 - 0.5 / 32, id="inside, off the centre"),
        pytest.param((0, 0, 2, 2), (2, 0, 2, 2), -4 / 20, id="touching"),
        pytest.param((0, 0, 1, 1), (3, 4, 1, 1), -25 / 41, id="disjoint"),
        pytest.param(
            (0, 0, 2, 1),
            (0, 0, 1, 2),
            1 / 3 - aspect(2, 0.5) ** 2 / (2 / 3 + aspect(2, 0.5)),
            id="aspect ratio",
        ),
    ],
)
def test_ciou(first, second, expected):
    assert ciou(first, second) == pytest.approx(expected, abs=1e-6)
    assert ciou(second, first) == pytest.approx(expected, abs=1e-6)


def test_ciou_gradient():
    """Of boxes of the same aspect ratio, where the constant alpha makes no difference."""
    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 4, 4], [5, 5, 1, 1]]).double().requires_grad_()
    others = torch.tensor([[0.7, 0.3, 3, 3], [0.5, 0.25, 1, 1], [0, 0, 2, 2]]).double().requires_grad_()
    assert torch.autograd.gradcheck(complete_iou_cxcywh, (boxes, others))


def test_ciou_alpha_carries_no_gradient():
    width = torch.tensor(2.0).double().requires_grad_()
    zero, one = torch.zeros(()).double(), torch.ones(()).double()
    box = torch.stack((zero, zero, width, one))[None]
    complete_iou_cxcywh(box, torch.tensor([[0, 0, 1, 2]]).double()).sum().backward()
    v = aspect(2, 0.5)
    alpha = v / (2 / 3 + v)
    # IoU = 1 / (w + 2 - 1) falls by 1 / 9; d arctan(w) / dw = 1 / (1 + w^2).
    by_hand = -1 / 9 - alpha * 8 / math.pi**2 * (math.atan(2) - math.atan(0.5)) / 5
    assert width.grad.item() == pytest.approx(by_hand, abs=1e-6)


def test_ciou_of_empty_boxes_is_finite():
    boxes = torch.tensor([[0.0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 1e-30, 1e-30]], requires_grad=True)
    values = complete_iou_cxcywh(boxes, torch.tensor([[0.0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]))
    values.sum().backward()
    assert values.isfinite().all()
    assert boxes.grad.isfinite().all()


def test_tiny_maps_by_hand():
    raw = maps()
    raw[0][0, 4] = torch.tensor([[1.0, -2], [-3, 0.5]])
    raw[0][0, 5:, 0, 0] = torch.tensor([0.3, 1.2])
    raw[1][0, 4], raw[2][0, 4] = -1.0, 2.0
    found = loss_of(raw, [AMID_FIRST_CELL], anchor=(2.0, 1.0), imgsz=320)
    # Zeros decode to the anchor in the middle of the cell: twice as wide as the target.
    v = aspect(2, 1)
    overlap = 1 / 2 - v**2 / (1 / 2 + v)
    finest = (bce(1, overlap) + bce(-2, 0) + bce(-3, 0) + bce(0.5, 0)) / 4
    assert found.box.item() == pytest.approx(0.05 * (1 - overlap))
    assert found.objectness.item() == pytest.approx((4 * finest + bce(-1, 0) + 0.4 * bce(2, 0)) / 4)
    assert found.classes.item() == pytest.approx(0.5 * 2 / 80 * (bce(0.3, 0) + bce(1.2, 1)) / 2)
    assert found.total.item() == pytest.approx(
        sum(x.item() for x in (found.box, found.objectness, found.classes))
    )


def test_loss_is_summed_over_the_images():
    rows = [AMID_FIRST_CELL, [1, *AMID_FIRST_CELL[1:]]]
    one, two = loss_of(maps(), rows[:1], anchor=(2.0, 1.0)), loss_of(maps(2), rows, anchor=(2.0, 1.0))
    for part in ("box", "objectness", "classes", "total"):
        assert getattr(two, part).item() == pytest.approx(2 * getattr(one, part).item())


@pytest.mark.parametrize(
    ("balance", "level"),
    [
        pytest.param(12, (1, 0), id="one map"),
        *((balance * 3 / 2, (2, level)) for level, balance in enumerate((4, 1))),
        *((balance, (3, level)) for level, balance in enumerate((4, 1, 0.4))),
        *((balance * 3 / 4, (4, level)) for level, balance in enumerate((4, 1, 0.25, 0.06))),
    ],
)
def test_balance_of_the_maps(balance, level):
    """Logits that give only one map a loss: 0 in this map, certain of no object elsewhere."""
    levels, which = level
    raw = maps(sides=[2] * levels)
    for other, x in enumerate(raw):
        x[:, 4] = 0 if other == which else -200
    assert loss_of(raw, []).objectness.item() == pytest.approx(balance * math.log(2))


def test_gains_follow_levels_classes_and_image_size():
    rows = [AMID_FIRST_CELL]
    three, four = (
        loss_of(maps(), rows, anchor=(2.0, 1.0)),
        loss_of(maps(sides=(2, 1, 1, 1)), rows, anchor=(2.0, 1.0)),
    )
    assert four.box.item() == pytest.approx(three.box.item() * 3 / 4)
    assert four.classes.item() == pytest.approx(three.classes.item() * 3 / 4)
    assert three.classes.item() == pytest.approx(0.5 * 2 / 80 * math.log(2))
    assert loss_of(maps(nc=80), rows, nc=80).classes.item() == pytest.approx(0.5 * math.log(2))
    half = loss_of(maps(), rows, anchor=(2.0, 1.0), imgsz=320)
    assert half.objectness.item() == pytest.approx(three.objectness.item() / 4)
    assert half.box.item() == three.box.item()


def test_terms_are_means_over_matches_and_sums_over_levels():
    """The same target in two maps, once and twice."""
    anchors = torch.tensor([[[2.0, 1.0]], [[2.0, 1.0]], NOWHERE])
    loss = DetectionLoss(anchors, 2, 640)
    row = torch.tensor([AMID_FIRST_CELL])
    found = loss(maps(sides=(2, 2, 2)), row)
    alone = loss_of(maps(sides=(2, 2, 2)), [AMID_FIRST_CELL], anchor=(2.0, 1.0))
    assert found.box.item() == pytest.approx(2 * alone.box.item())
    assert found.classes.item() == pytest.approx(2 * alone.classes.item())
    twice = loss(maps(sides=(2, 2, 2)), torch.cat((row, row)))
    for part in ("box", "objectness", "classes"):
        assert getattr(twice, part).item() == pytest.approx(getattr(found, part).item())


def test_no_targets():
    raw = [x.requires_grad_() for x in maps()]
    found = loss_of(raw, [])
    assert (found.box.item(), found.classes.item()) == (0, 0)
    assert found.objectness.item() == pytest.approx(5.4 * math.log(2))
    found.total.backward()
    for x in raw:
        assert (x.grad[:, 4] > 0).all()
        assert not x.grad[:, :4].any()


def test_one_class_has_no_class_loss():
    raw = maps(nc=1)
    raw[0][:, 5] = 3.0
    found = loss_of(raw, [[0, 0, *AMID_FIRST_CELL[2:]]], anchor=(2.0, 1.0), nc=1)
    assert found.classes.item() == 0
    assert found.box.item() > 0


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_several_targets_at_one_place_the_highest_overlap_counts(order):
    rows = [[0, 1, 0.25, 0.25, 0.5 / 1.25, 0.5 / 1.25], [0, 0, 0.25, 0.25, 0.25, 0.25]]
    raw = maps()
    raw[0][0, 4] = torch.tensor([[1.0, -200], [-200, -200]])
    raw[1][:, 4] = raw[2][:, 4] = -200.0
    found = loss_of(raw, [rows[i] for i in order])
    high, low = 0.8**2, 0.5**2
    assert found.objectness.item() == pytest.approx(4 * bce(1, high) / 4)
    assert found.box.item() == pytest.approx(0.05 * (1 - (high + low) / 2))


def test_an_overlap_below_zero_counts_as_no_object():
    raw = maps()
    raw[0][0, :4, 0, 0] = torch.tensor([100.0, 100, -3, -3])  # far from the target, and small
    found = loss_of(raw, [AMID_FIRST_CELL])
    assert found.box.item() > 0.05
    assert found.objectness.item() == pytest.approx(5.4 * math.log(2))
    raw[0][0, 4, 0, 0] = 1.0
    assert loss_of(raw, [AMID_FIRST_CELL]).objectness.item() == pytest.approx(
        bce(1, 0) + (3 + 1.4) * math.log(2)
    )


def test_objectness_sends_no_gradient_into_the_box():
    raw = [x.requires_grad_() for x in maps()]
    loss_of(raw, [AMID_FIRST_CELL], anchor=(2.0, 1.0)).objectness.backward()
    assert raw[0].grad[:, 4].all()
    assert not raw[0].grad[:, :4].any()


def test_a_perfect_prediction_has_next_to_no_loss():
    generator = torch.Generator().manual_seed(0)
    anchors = torch.tensor([[[2.0, 2], [3, 6]], [[1.5, 2], [2, 3]], [[1, 1], [1.5, 1.5]]])
    sides, images, nc = (16, 8, 4), 6, 3
    image = torch.arange(images)[:, None]
    centres, sizes = (torch.rand(images, 2, generator=generator) for _ in range(2))
    targets = torch.cat((image, image % nc, centres, sizes * 0.2 + 0.15), 1)
    raw = [torch.full((images, 2 * (5 + nc), side, side), -30.0) for side in sides]
    for x, matches in zip(raw, match_targets(targets, anchors, [(s, s) for s in sides]), strict=True):
        cells = x.unflatten(1, (2, 5 + nc))
        fraction = (
            (matches.boxes_cxcywh[:, :2] + 0.5) / 2,
            (matches.boxes_cxcywh[:, 2:] / matches.anchors_wh).sqrt() / 2,
        )
        place = matches.image, matches.anchor
        cells[(*place, slice(0, 4), matches.row, matches.column)] = torch.cat(fraction, 1).logit(1e-7)
        cells[(*place, 4, matches.row, matches.column)] = 30.0
        cells[(*place, 5 + matches.classes, matches.row, matches.column)] = 30.0
        assert len(matches.row) >= images
    found = DetectionLoss(anchors, nc, 640)(raw, targets)
    assert 0 <= found.box.item() < 1e-4
    assert found.objectness.item() < 1e-3
    assert found.classes.item() < 1e-6


def test_going_down_the_gradient_finds_the_target():
    raw = [x.requires_grad_() for x in maps()]
    optimiser = torch.optim.Adam(raw, lr=0.1)
    first = loss_of(raw, [[0, 1, 0.2, 0.3, 0.7, 0.4]])
    for _ in range(150):
        optimiser.zero_grad()
        found = loss_of(raw, [[0, 1, 0.2, 0.3, 0.7, 0.4]])
        found.total.backward()
        optimiser.step()
    assert found.box.item() < first.box.item() / 8
    assert found.classes.item() < first.classes.item() / 8
    assert found.total.item() < first.total.item() / 8


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_float32_whatever_the_maps_and_autocast(dtype):
    raw = maps()
    raw[0][0, 4] = torch.tensor([[1.0, -2], [-3, 0.5]])
    expected = loss_of(raw, [AMID_FIRST_CELL], anchor=(2.0, 1.0))
    with torch.autocast("cpu", torch.bfloat16):
        found = loss_of([x.to(dtype) for x in raw], [AMID_FIRST_CELL], anchor=(2.0, 1.0))
    for part in ("box", "objectness", "classes"):
        assert getattr(found, part).dtype == torch.float32
        assert torch.equal(getattr(found, part), getattr(expected, part))


def test_refuses_levels_it_does_not_know():
    with pytest.raises(InputError, match="`anchors` are for 4 raw maps; anchors for 3 are expected"):
        DetectionLoss(torch.ones(4, 3, 2), 80, 640, maps=3)
    with pytest.raises(InputError, match="the head has 6 raw maps; 1 to 5 are expected"):
        DetectionLoss(torch.ones(6, 3, 2), 80, 640)
