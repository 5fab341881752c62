"""Learning of anchor-free heads: which cells find which target, the loss, distillation."""

import math

import pytest
import torch
from torch import Tensor, nn

from sparsity.base.errors import InputError
from sparsity.training.alignment import MOST_CELLS, align
from sparsity.training.anchor_free_distillation import anchor_free_distillation_loss
from sparsity.training.anchor_free_loss import AnchorFreeLoss, DistributedSides, distribution_focal_loss
from sparsity.training.lessons import LESSONS, lesson_of
from sparsity.yolo.families import DIALECTS
from sparsity.yolo.yolov8.detect import DFL, AnchorFreeDetect

NC, BINS = 3, 16


def make_head(strides=(8, 16)) -> AnchorFreeDetect:
    layers = [nn.ModuleList(nn.Sequential(nn.Conv2d(4, n, 1)) for _ in strides) for n in (4 * BINS, NC)]
    return AnchorFreeDetect(NC, BINS, strides, *layers, DFL(BINS))


def make_loss() -> AnchorFreeLoss:
    head = make_head()
    return AnchorFreeLoss(head.strides, DistributedSides(head.dfl, head.reg_max))


def maps(seed: int = 0, batch: int = 2, spread: float = 2.0) -> list[Tensor]:
    """Of 64 x 64 pixels: 8 x 8 and 4 x 4 cells."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 4 * BINS + NC, n, n, generator=generator) * spread for n in (8, 4)]


# --- alignment -------------------------------------------------------------------------------------


def cells_of(width: int, stride: float) -> Tensor:
    """Centres of width x width cells."""
    places = (torch.arange(width) + 0.5) * stride
    return torch.stack((places.repeat(width), places.repeat_interleave(width)), 1)


def alignment(boxes, scores, centres, targets, image=None):
    targets = torch.tensor(targets, dtype=torch.float32).view(-1, 5)
    image = torch.zeros(len(targets), dtype=torch.int64) if image is None else torch.tensor(image)
    return align(boxes, scores, centres, image, targets[:, 0].long(), targets[:, 1:])


def test_aligned_cells_score_by_score_and_overlap():
    """Two cells in a target of 8 x 8 around (8, 8): one's box is the target, one's has half its width."""
    centres = torch.tensor([[6.0, 8.0], [10.0, 8.0], [20.0, 8.0]])
    boxes = torch.tensor([[[8.0, 8.0, 8.0, 8.0], [8.0, 8.0, 4.0, 8.0], [8.0, 8.0, 8.0, 8.0]]])
    scores = torch.tensor([[[0.25], [0.81], [1.0]]])
    found = alignment(boxes, scores, centres, [0, 8, 8, 8, 8])
    assert found.cell.tolist() == [0, 1], "the third lies outside"
    angle = 4 / math.pi**2 * (math.atan(1) - math.atan(0.5)) ** 2
    overlap = 0.5 - angle * angle / (1 - 0.5 + angle)
    metrics = [0.25**0.5 * 1, 0.81**0.5 * overlap**6]
    expected = [1.0, metrics[1] / metrics[0]]
    assert found.scores.tolist() == pytest.approx(expected, rel=1e-5)
    assert found.target.tolist() == [0, 0]


def test_a_target_gets_so_many_cells_at_most():
    centres = cells_of(8, 8)
    boxes = torch.tensor([32.0, 32, 60, 60]).expand(1, 64, 4)
    scores = torch.linspace(0.1, 0.9, 64).view(1, 64, 1)
    found = alignment(boxes, scores, centres, [0, 32, 32, 60, 60])
    assert len(found.cell) == MOST_CELLS
    assert sorted(found.cell.tolist()) == list(range(54, 64)), "the best aligned"


def test_a_cell_goes_to_the_target_that_its_box_overlaps_most():
    centres = torch.tensor([[8.0, 8.0]])
    boxes = torch.tensor([[[8.0, 8.0, 10.0, 10.0]]])
    found = alignment(boxes, torch.ones(1, 1, 2), centres, [[0, 8, 8, 16, 16], [1, 8, 8, 11, 11]])
    assert (found.cell.tolist(), found.target.tolist()) == ([0], [1])
    assert found.scores.tolist() == pytest.approx([100 / 121])


def test_of_equal_targets_the_first_gets_the_cell():
    centres = torch.tensor([[8.0, 8.0]])
    boxes = torch.tensor([[[8.0, 8.0, 8.0, 8.0]]])
    found = alignment(boxes, torch.ones(1, 1, 2), centres, [[1, 8, 8, 8, 8], [0, 8, 8, 8, 8]])
    assert (found.cell.tolist(), found.target.tolist()) == ([0], [0])


def test_images_do_not_mix():
    centres = torch.tensor([[8.0, 8.0]])
    boxes = torch.tensor([[[8.0, 8.0, 8.0, 8.0]], [[8.0, 8.0, 4.0, 4.0]]])
    targets = [[0, 8, 8, 8, 8], [0, 8, 8, 8, 8]]
    found = alignment(boxes, torch.ones(2, 1, 1), centres, targets, image=[1, 0])
    assert found.image.tolist() == [1, 0]
    assert found.scores.tolist() == pytest.approx([0.25, 1.0])


@pytest.mark.parametrize(
    "targets",
    [
        pytest.param([], id="no target"),
        pytest.param([0, 4.0, 4.0, 2.0, 2.0], id="one between the centres of cells"),
        pytest.param([0, 60.0, 60.0, 9.0, 9.0], id="one that no box overlaps"),
    ],
)
def test_a_target_may_find_no_cell(targets):
    centres, boxes = cells_of(2, 32), torch.tensor([8.0, 8.0, 8.0, 8.0]).expand(1, 4, 4)
    found = alignment(boxes, torch.ones(1, 4, 1), centres, targets)
    assert len(found.cell) == len(found.scores) == 0


# --- the loss --------------------------------------------------------------------------------------


def test_distribution_focal_loss_is_cross_entropy_with_both_neighbours():
    logits = torch.tensor([0.5, 2.0, 1.0, -1.0])
    total = math.log(sum(math.exp(x) for x in logits.tolist()))
    expected = 0.75 * (total - 2.0) + 0.25 * (total - 1.0)
    assert distribution_focal_loss(logits, torch.tensor(1.25)).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("wanted", "as_if"), [pytest.param(-3.0, 0.0, id="below"), pytest.param(40.0, 2.99, id="above")]
)
def test_sides_outside_of_the_bins_count_as_the_nearest(wanted, as_if):
    logits = torch.tensor([[0.5, 2.0, 1.0, -1.0]])
    found = distribution_focal_loss(logits, torch.tensor([wanted]))
    torch.testing.assert_close(found, distribution_focal_loss(logits, torch.tensor([as_if])))


def perfect_maps() -> tuple[list[Tensor], Tensor]:
    """Maps of one image that find, in cell (3, 4) of the first map, what the target says."""
    raw = [torch.full((1, 4 * BINS + NC, n, n), -30.0) for n in (8, 4)]
    for level in raw:
        level[:, : 4 * BINS] = 0
    sides = (1, 2, 3, 1)  # left, top, right, bottom, in strides of 8
    for i, side in enumerate(sides):
        raw[0][0, i * BINS + side, 4, 3] = 30.0
    raw[0][0, 4 * BINS + 1, 4, 3] = 30.0
    x1, y1, x2, y2 = (3.5 - 1) * 8, (4.5 - 2) * 8, (3.5 + 3) * 8, (4.5 + 1) * 8
    box = [(x1 + x2) / 128, (y1 + y2) / 128, (x2 - x1) / 64, (y2 - y1) / 64]
    return raw, torch.tensor([[0, 1, *box]])


def test_the_loss_of_a_perfect_answer_is_next_to_nothing():
    raw, targets = perfect_maps()
    found = make_loss()(raw, targets)
    assert found.box.item() == pytest.approx(0, abs=1e-4)
    assert found.dfl.item() == pytest.approx(0, abs=1e-4)
    # Other cells that find the same place, if worse, are to score a little, too.
    assert found.total.item() < 0.1


def test_the_loss_by_hand():
    """Only the cell of perfect_maps can be aligned: all boxes of others have the centre elsewhere."""
    raw, targets = perfect_maps()
    raw[0][0, 4 * BINS + 1, 4, 3] = 0.0  # scores 0.5, wanted 1
    raw[0][0, 2 * BINS + 3, 4, 3] = 0.0
    raw[0][0, 2 * BINS + 2, 4, 3] = 30.0  # the right side a stride short
    wanted = targets[0, 2:] * 64
    found = make_loss()(raw, targets)
    x, y, w, h = wanted.tolist()
    ours = (x - 4, y, w - 8, h)
    angle = 4 / math.pi**2 * (math.atan(w / h) - math.atan(ours[2] / h)) ** 2
    iou = ours[2] / w
    ciou = iou - 16 / (w**2 + h**2) - angle * angle / (1 - iou + angle)
    assert found.box.item() == pytest.approx(7.5 * (1 - ciou) * ciou / 1, rel=1e-3)
    # The norm is at least 1. Of four sides one is off: all the mass is a bin below the one wanted.
    assert found.dfl.item() == pytest.approx(1.5 * ciou * 30 / 4, rel=1e-3)
    assert found.classes.item() == pytest.approx(0.5 * math.log(2), rel=1e-3)


def test_without_targets_only_classes_count():
    raw = maps(batch=2)
    found = make_loss()(raw, torch.zeros(0, 6))
    logits = torch.cat([x[:, 4 * BINS :].flatten() for x in raw])
    assert found.box.item() == found.dfl.item() == 0
    assert found.classes.item() == pytest.approx(
        0.5 * 2 * nn.functional.softplus(logits).sum().item(), rel=1e-5
    )


def test_it_grows_with_the_batch():
    raw, targets = perfect_maps()
    noisy = [x + 0.3 * y[:1] for x, y in zip(raw, maps(), strict=True)]
    one = make_loss()(noisy, targets)
    both = torch.cat((targets, targets + torch.tensor([1.0, 0, 0, 0, 0, 0])))
    two = make_loss()([x.repeat(2, 1, 1, 1) for x in noisy], both)
    for part in ("box", "dfl"):
        assert getattr(two, part).item() >= getattr(one, part).item() * 1.99


def test_gradients_reach_all_maps_and_lower_the_loss():
    loss = make_loss()
    targets = torch.tensor([[0, 1, 0.5, 0.5, 0.4, 0.4], [1, 2, 0.3, 0.6, 0.2, 0.5]])
    raw = [x.requires_grad_() for x in maps(spread=0.1)]
    first = loss(raw, targets).total
    gradients = torch.autograd.grad(first, raw)
    assert all(torch.isfinite(g).all() and g.abs().sum() > 0 for g in gradients)
    after = loss([x.detach() - 0.01 * g for x, g in zip(raw, gradients, strict=True)], targets).total
    assert after < first


def test_half_maps_are_learnt_from_in_float32():
    targets = torch.tensor([[0, 1, 0.5, 0.5, 0.4, 0.4]])
    half = [x.half() for x in maps(batch=1)]
    loss = make_loss()
    found, expected = loss(half, targets), loss([x.float() for x in half], targets)
    assert found.total.dtype == torch.float32
    assert found.total.item() == expected.total.item()


# --- distillation ----------------------------------------------------------------------------------


def distil(student, teacher) -> Tensor:
    return anchor_free_distillation_loss(student, teacher, reg_max=BINS)


def test_zero_where_student_and_teacher_are_equal():
    teacher = maps(0)
    student = [x.clone().requires_grad_() for x in teacher]
    loss = distil(student, teacher)
    assert loss.item() == pytest.approx(0, abs=1e-5)
    loss.backward()
    assert all(x.grad.abs().max() < 1e-5 for x in student)


def test_distillation_by_hand():
    """One cell: two bins' masses swapped at one side, and one class less sure."""
    teacher = [torch.full((1, 4 * BINS + NC, 1, 1), -20.0)]
    teacher[0][0, : 4 * BINS] = 0
    teacher[0][0, 0], teacher[0][0, 4 * BINS] = 2.0, math.log(3)
    student = [teacher[0].clone()]
    student[0][0, 0], student[0][0, 1], student[0][0, 4 * BINS] = 0.0, 2.0, 0.0
    p = [math.exp(2) / (math.exp(2) + 15), 1 / (math.exp(2) + 15)]
    sides = (p[0] - p[1]) * 2.0 / 4
    classes = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    expected = 0.5 * classes + 1.5 * 0.75 * sides
    assert distil(student, teacher).item() == pytest.approx(expected, rel=1e-4)


def test_boxes_count_where_the_teacher_sees_something():
    teacher = [x.clone() for x in maps(0)]
    for level in teacher:
        level[:, 4 * BINS :] = -30.0
    student = [x.clone() for x in teacher]
    student[0][:, : 4 * BINS] += torch.randn(2, 4 * BINS, 8, 8, generator=torch.Generator().manual_seed(1))
    assert distil(student, teacher).item() == pytest.approx(0, abs=1e-5)
    teacher[0][:, 4 * BINS, 2, 2] = student[0][:, 4 * BINS, 2, 2] = 5.0
    assert distil(student, teacher).item() > 0.01


def test_the_teacher_gets_no_gradient():
    teacher = [x.requires_grad_() for x in maps(0)]
    student = [x.requires_grad_() for x in maps(1)]
    distil(student, teacher).backward()
    assert all(x.grad is None for x in teacher)
    assert all(x.grad.abs().sum() > 0 for x in student)


def test_maps_of_other_shapes_are_refused():
    with pytest.raises(
        InputError, match="the same classes and strides: the teacher has 1 raw maps, the student 2"
    ):
        distil(maps(), maps()[:1])


# --- lessons ---------------------------------------------------------------------------------------


def test_every_family_has_a_lesson():
    assert LESSONS.keys() == DIALECTS.keys()


def test_a_network_begins_with_few_finds(tiny_yolov8):
    lesson_of(tiny_yolov8).initialise(tiny_yolov8.head, 64)
    raw = tiny_yolov8(torch.rand(1, 3, 64, 64))
    scores = torch.cat([x[:, 4 * BINS :].flatten() for x in raw]).sigmoid()
    assert scores.sum() == pytest.approx(15, rel=0.5), "five per map"
    assert len(tiny_yolov8.candidates(raw, 0.5).scores) == 0
    parts = lesson_of(tiny_yolov8).losses(tiny_yolov8.head, 64)(
        raw, torch.tensor([[0, 1, 0.5, 0.5, 0.5, 0.5]])
    )
    assert set(parts) == {"box", "dfl", "classes"}
    assert all(value > 0 for value in parts.values())
