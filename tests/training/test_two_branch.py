"""Training of YOLO26: the losses of its two branches, by hand, and which of them trains what."""

import math

import pytest
import torch
from torch import Tensor, nn

from sparsity import InputError, keep_head
from sparsity.training.alignment import Assigner, align
from sparsity.training.anchor_free_distillation import anchor_free_distillation_loss
from sparsity.training.anchor_free_loss import AnchorFreeLoss, PlainSides
from sparsity.training.lessons import lesson_of
from sparsity.training.two_branch_loss import TwoBranchLoss, one2many_weight, two_branch_distillation_loss
from sparsity.yolo.yolo26.branches import BRANCHES
from sparsity.yolo.yolo26.detect import OneToManyDetect, OneToOneDetect

NC = 3


def make_head(*branches: str) -> OneToManyDetect | OneToOneDetect:
    def layers(width: int) -> nn.ModuleList:
        return nn.ModuleList(nn.Sequential(nn.Conv2d(4, width, 1)) for _ in range(2))

    children = {}
    for boxes, classes in (BRANCHES[branch] for branch in branches or BRANCHES):
        children |= {boxes: layers(4), classes: layers(NC)}
    kind = OneToManyDetect if "cv2" in children else OneToOneDetect
    return kind(NC, 1, (8, 16), **children)


def silent() -> list[Tensor]:
    """Raw maps of one image of 64 x 64 that find nothing: boxes without a size, no class."""
    raw = [torch.zeros(1, 4 + NC, n, n) for n in (8, 4)]
    for level in raw:
        level[:, 4:] = -30
    return raw


# --- the loss by hand ------------------------------------------------------------------------------


def maps_of_one_box(right: float) -> tuple[list[Tensor], Tensor]:
    """Cell (3, 4) of the first map finds the target, whose right side is 3 strides away, at score 0.5."""
    raw = silent()
    raw[0][0, :4, 4, 3] = torch.tensor([1.0, 2.0, right, 1.0])
    raw[0][0, 4 + 1, 4, 3] = 0.0
    x1, y1, x2, y2 = (3.5 - 1) * 8, (4.5 - 2) * 8, (3.5 + 3) * 8, (4.5 + 1) * 8
    box = [(x1 + x2) / 128, (y1 + y2) / 128, (x2 - x1) / 64, (y2 - y1) / 64]
    return raw, torch.tensor([[0, 1, *box]])


def ciou_of_a_short_box() -> float:
    """The target is 32 x 24, the box 24 x 24: a stride of 8 is missing at the right."""
    angle = 4 / math.pi**2 * (math.atan(32 / 24) - math.atan(1)) ** 2
    iou = 24 / 32
    return iou - 4**2 / (32**2 + 24**2) - angle * angle / (1 - iou + angle)


def test_plain_sides_by_hand():
    """Distances of 1 stride of 8; left is wanted at 2, top at 3: 8 of 64 pixels and 16 of 32."""
    found = PlainSides().loss(
        torch.ones(1, 4, 1), torch.tensor([[2.0, 3, 1, 1]]), torch.tensor([[8.0]]), torch.tensor([64.0, 32.0])
    )
    assert found.tolist() == pytest.approx([(8 / 64 + 16 / 32) / 4])


@pytest.mark.parametrize(("progress", "weight"), [(0.0, 0.8), (0.5, 0.45), (1.0, 0.1)])
def test_the_loss_by_hand(progress, weight):
    """The one-to-many branch misses the right side by a stride; the one-to-one branch gives the very box."""
    short, targets = maps_of_one_box(right=2.0)
    whole, _ = maps_of_one_box(right=3.0)
    found = TwoBranchLoss(make_head())([*short, *whole], targets, progress)
    ciou = ciou_of_a_short_box()
    # The score that a cell should give is its overlap. Their sum counts as 1 at least.
    assert found["box"].item() == pytest.approx(weight * 7.5 * (1 - ciou) * ciou, rel=1e-4)
    assert found["dfl"].item() == pytest.approx(weight * 1.5 * ciou * (8 / 64) / 4, rel=1e-4)
    # A score of 0.5 costs log 2 whatever is wanted.
    assert found["classes"].item() == pytest.approx(0.5 * math.log(2), rel=1e-4)


@pytest.mark.parametrize("branch", BRANCHES)
def test_one_branch_alone_has_its_own_loss(branch):
    raw, targets = maps_of_one_box(right=2.0)
    found = TwoBranchLoss(make_head(branch))(raw, targets, 0.5)
    ciou = ciou_of_a_short_box()
    assert found["dfl"].item() == pytest.approx(1.5 * ciou * (8 / 64) / 4, rel=1e-4)


def test_the_weight_falls_by_the_same_step_each_epoch():
    weights = [one2many_weight(epoch / 7) for epoch in range(8)]
    assert weights == pytest.approx([0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


# --- assignment ------------------------------------------------------------------------------------


def assigned(boxes, scores, centres, targets, assigner):
    targets = torch.tensor(targets, dtype=torch.float32).view(-1, 4)
    return align(
        torch.tensor(boxes, dtype=torch.float32)[None],
        torch.tensor(scores, dtype=torch.float32).view(1, -1, 1),
        torch.tensor(centres, dtype=torch.float32),
        torch.zeros(len(targets), dtype=torch.int64),
        torch.zeros(len(targets), dtype=torch.int64),
        targets,
        assigner,
    )


def nine_cells() -> list[list[float]]:
    return [[x, y] for y in (4.0, 12.0, 20.0) for x in (4.0, 12.0, 20.0)]


def test_of_seven_the_best_is_left():
    """Nine cells lie in the target, and their boxes are the target."""
    scores = [0.1, 0.2, 0.3, 0.9, 0.4, 0.5, 0.6, 0.7, 0.8]
    given = ([[12, 12, 24, 24]] * 9, scores, nine_cells(), [12, 12, 24, 24])
    assert len(assigned(*given, Assigner()).cell) == 9
    assert sorted(assigned(*given, Assigner(7)).cell.tolist()) == [2, 3, 4, 5, 6, 7, 8]
    found = assigned(*given, Assigner(7, 1))
    assert (found.cell.tolist(), found.scores.tolist()) == ([3], [1.0])


def test_the_best_is_chosen_after_each_cell_has_gone_to_one_target():
    """Eight cells lie in two targets of 40 and 39 pixels. The boxes of seven are the smaller target, and fit
    the larger one better than the eighth, which is the larger target at a low score."""
    boxes = [[12, 12, 39, 39]] * 7 + [[12, 12, 40, 40]]
    scores = [0.91, 0.92, 0.93, 0.97, 0.94, 0.95, 0.96, 0.01]
    given = (boxes, scores, nine_cells()[:8], [[12, 12, 40, 40], [12, 12, 39, 39]])
    of_seven = assigned(*given, Assigner(7, 1))
    assert (of_seven.cell.tolist(), of_seven.target.tolist()) == ([3], [1]), "the larger one has lost all"
    of_eight = assigned(*given, Assigner(8, 1))
    assert dict(zip(of_eight.target.tolist(), of_eight.cell.tolist(), strict=True)) == {0: 7, 1: 3}


def test_small_boxes_find_the_cells_of_a_larger_one():
    """A box of 4 x 20 around (12, 8): no centre lies within 2 of it in x; within 8, those at 12 do.

    Of y, within 10, those at 4 and 12 do. Overlaps are those of the box itself.
    """
    box, cells = [8, 8, 4, 20], nine_cells()
    given = ([box] * 9, [0.5] * 9, cells, box)
    assert assigned(*given, Assigner()).cell.tolist() == []
    found = assigned(*given, Assigner(smallest=16))
    assert [cells[i] for i in found.cell] == [[4, 4], [12, 4], [4, 12], [12, 12]]
    assert found.scores.tolist() == [1.0] * 4


def test_a_side_below_the_second_stride_counts_as_that():
    """A target of 4 x 4 around (8, 8), between the centres of four cells, which find it."""
    raw = silent()
    for row in (0, 1):
        for column in (0, 1):
            x, y = 4 + 8 * column, 4 + 8 * row
            raw[0][0, :4, row, column] = torch.tensor([x - 6, y - 6, 10 - x, 10 - y]) / 8
            raw[0][0, 4, row, column] = 2.0
    targets = torch.tensor([[0, 0, 8 / 64, 8 / 64, 4 / 64, 4 / 64]])
    plain = AnchorFreeLoss((8, 16), PlainSides())(raw, targets)
    found = TwoBranchLoss(make_head("one2many"))(raw, targets)
    score = 1 / (1 + math.exp(-2))
    assert plain.classes.item() == pytest.approx(0.5 * 4 * math.log1p(math.exp(2)), rel=1e-4), "wants 0"
    # Four cells should give 1; the sum of these scores divides.
    assert found["classes"].item() == pytest.approx(0.5 * -math.log(score), rel=1e-4)
    assert found["box"].item() == pytest.approx(0, abs=1e-5)


# --- which branch trains what ----------------------------------------------------------------------


def gradients(network, raw: list[Tensor]) -> tuple[set[str], float]:
    """The branches that get gradients, and the sum of the gradients of all layers before the head."""
    total = sum(x.square().sum() for x in raw)
    names, parameters = zip(*network.named_parameters(), strict=True)
    found = torch.autograd.grad(total, parameters, allow_unused=True)
    last = f"model.{len(network.model) - 1}."
    branches, before = set(), 0.0
    for name, gradient in zip(names, found, strict=True):
        if gradient is not None and gradient.abs().sum() > 0:
            if name.startswith(last):
                branches.add(name.removeprefix(last).split(".")[0])
            else:
                before += float(gradient.abs().sum())
    return branches, before


def test_the_one_to_one_branch_does_not_train_the_backbone(few_layers):
    network = few_layers(family="yolo26").requires_grad_(True).train()
    images = torch.rand(2, 3, 64, 64)
    assert len(network(images)) == 6
    branches, before = gradients(network, network(images)[3:])
    assert branches == {"one2one_cv2", "one2one_cv3"}
    assert before == 0
    branches, before = gradients(network, network(images)[:3])
    assert branches == {"cv2", "cv3"}
    assert before > 0


@pytest.mark.parametrize("branch", BRANCHES)
def test_a_branch_alone_trains_all(few_layers, branch):
    network = keep_head(few_layers(family="yolo26"), branch).requires_grad_(True).train()
    branches, before = gradients(network, network(torch.rand(2, 3, 64, 64)))
    assert branches == set(BRANCHES[branch])
    assert before > 0


def test_in_evaluation_one_branch_runs(few_layers):
    network = few_layers(family="yolo26")
    images = torch.rand(1, 3, 64, 64)
    assert len(network(images)) == 3
    assert all(torch.equal(x, y) for x, y in zip(network(images), network.every_output(images), strict=False))


@pytest.mark.parametrize("family", ["yolo11", "yolo12", "yolo26"])
def test_every_family_learns_a_batch(few_layers, family):
    network = few_layers(family=family).requires_grad_(True)
    lesson = lesson_of(network)
    lesson.initialise(network.head, 64)
    with torch.no_grad():
        raw = network.every_output(torch.rand(1, 3, 64, 64))
        scores = torch.cat([x[:, -3:].flatten() for x in raw]).sigmoid()
    assert scores.sum() == pytest.approx(5 * len(raw), rel=0.5), "five per map"
    losses = lesson.losses(network.head, 64)
    images, targets = (
        torch.rand(2, 3, 64, 64),
        torch.tensor([[0, 1, 0.5, 0.5, 0.4, 0.4], [1, 2, 0.3, 0.6, 0.2, 0.5]]),
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.003)
    network.train()
    found = []
    for _ in range(12):
        parts = losses(network(images), targets, 0.5)
        assert set(parts) == {"box", "dfl", "classes"}
        found.append(sum(parts.values()))
        optimizer.zero_grad()
        found[-1].backward()
        optimizer.step()
    assert min(found[6:]) < 0.8 * found[0]


# --- distillation ----------------------------------------------------------------------------------


def test_distillation_by_hand():
    """One cell: a side is half a stride off, and one class is less sure."""
    teacher = [torch.full((1, 4 + NC, 1, 1), -20.0)]
    teacher[0][0, :4], teacher[0][0, 4] = 1.0, math.log(3)
    student = [teacher[0].clone()]
    student[0][0, 0], student[0][0, 4] = 1.5, 0.0
    classes = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    expected = 0.5 * classes + 1.5 * 0.75 * (0.5 * 0.5**2) / 4
    found = anchor_free_distillation_loss(student, teacher, reg_max=1)
    assert found.item() == pytest.approx(expected, rel=1e-4)


def test_distillation_is_the_mean_over_the_branches():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (
        [torch.randn(2, 4 + NC, n, n, generator=generator) for n in (8, 4, 8, 4)] for _ in range(2)
    )
    alone = [
        anchor_free_distillation_loss(student[i:j], teacher[i:j], reg_max=1) for i, j in ((0, 2), (2, 4))
    ]
    found = two_branch_distillation_loss(make_head(), student, teacher)
    assert found.item() == pytest.approx(float(sum(alone)) / 2)
    with pytest.raises(InputError, match="the same heads, classes and strides: the teacher has 2 raw maps"):
        two_branch_distillation_loss(make_head(), student, teacher[:2])
