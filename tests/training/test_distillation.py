"""Distillation: nothing to learn from one's equal, and the teacher's objects count."""

import math

import pytest
import torch
from torch import Tensor

from sparsity.base.errors import InputError
from sparsity.training.distillation import LEAST_OBJECTNESS, distillation_loss

SIDES = (4, 2, 1)
CHANNELS = ["x", "y", "w", "h", "objectness", "class0", "class1", "class2"]


def maps(seed: int, batch: int = 2, na: int = 2, nc: int = 3, sides=SIDES) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, na * (5 + nc), side, side, generator=generator) * 3 for side in sides]


def loss_of(student, teacher) -> Tensor:
    return distillation_loss(student, teacher, na=2, nc=3)


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def divergence(logit: float, wanted: float) -> float:
    """Of two Bernoulli distributions, given by their logits."""
    p, q = sigmoid(wanted), sigmoid(logit)
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def test_zero_where_student_and_teacher_are_equal():
    teacher = maps(0)
    student = [x.clone().requires_grad_() for x in teacher]
    loss = loss_of(student, teacher)
    assert loss.item() == 0
    loss.backward()
    for x in student:
        assert x.grad.abs().max() < 1e-6


@pytest.mark.parametrize("channel", range(len(CHANNELS)), ids=CHANNELS)
def test_every_channel_counts(channel):
    teacher = maps(1)
    for level in range(3):
        student = [x.clone() for x in teacher]
        student[level][:, channel] += 0.5
        assert loss_of(student, teacher) > 1e-6


def test_grows_with_the_difference():
    teacher, noise = maps(2), maps(3)
    losses = [
        loss_of([t + step * n for t, n in zip(teacher, noise, strict=True)], teacher).item()
        for step in (0, 0.01, 0.1, 0.3, 1)
    ]
    assert losses == sorted(losses)
    assert losses[1] > 0


def test_by_hand():
    """One cell per map, one anchor, one class. The finest and the coarsest map agree."""
    teacher = [torch.zeros(1, 6, 1, 1) for _ in range(3)]
    student = [x.clone() for x in teacher]
    teacher[1][0, :, 0, 0] = torch.tensor([0.2, -0.4, 0.1, 0.3, 1.5, 2.0])
    student[1][0, :, 0, 0] = torch.tensor([0.5, 0.0, 0.1, -1.0, -0.5, 1.0])
    boxes = sum((sigmoid(s) - sigmoid(t)) ** 2 for s, t in ((0.5, 0.2), (0, -0.4), (-1, 0.3)))
    expected = divergence(-0.5, 1.5) + boxes + 0.5 / 80 * divergence(1, 2)
    found = distillation_loss(student, teacher, na=1, nc=1)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    finest = distillation_loss(student[1::-1] + student[2:], teacher[1::-1] + teacher[2:], na=1, nc=1)
    assert finest.item() == pytest.approx(expected + 3 * divergence(-0.5, 1.5), rel=1e-5)


def test_cells_count_as_the_teacher_sees_objects():
    """Two cells whose boxes differ alike: the weighted mean is that difference, whatever the weights."""
    teacher = [torch.zeros(1, 6, 1, 2) for _ in range(3)]
    teacher[0][0, 4, 0] = torch.tensor([2.0, -6.0])
    certain, doubtful, both = ([x.clone() for x in teacher] for _ in range(3))
    certain[0][0, 0, 0, 0] = doubtful[0][0, 0, 0, 1] = 1.0
    both[0][0, 0, 0] = 1.0
    here, there, everywhere = (
        distillation_loss(x, teacher, na=1, nc=1).item() for x in (certain, doubtful, both)
    )
    assert here / there == pytest.approx(sigmoid(2) / sigmoid(-6), rel=1e-4)
    assert everywhere == pytest.approx((sigmoid(1) - 0.5) ** 2, rel=1e-4)


def test_summed_over_the_images():
    student, teacher = maps(4, batch=1), maps(5, batch=1)
    twice = loss_of([x.repeat(2, 1, 1, 1) for x in student], [x.repeat(2, 1, 1, 1) for x in teacher])
    assert twice.item() == pytest.approx(2 * loss_of(student, teacher).item(), rel=1e-5)


def test_four_levels():
    teacher, student = maps(6, sides=(4, 2, 1, 1)), maps(7, sides=(4, 2, 1, 1))
    assert loss_of(student, teacher) > 0


def test_gradient_flows_to_the_student_alone():
    student, teacher = ([x.requires_grad_() for x in maps(seed)] for seed in (8, 9))
    loss_of(student, teacher).backward()
    for ours, theirs in zip(student, teacher, strict=True):
        grads, seen = (x.unflatten(1, (2, 8)).movedim(2, -1) for x in (ours.grad, theirs.detach()))
        objects = seen[..., 4].sigmoid() >= LEAST_OBJECTNESS
        assert grads[..., 4].all(), "objectness, everywhere"
        assert grads[objects].all()
        assert not grads[~objects][:, [0, 1, 2, 3, 5, 6, 7]].any()
        assert theirs.grad is None


def test_boxes_and_classes_count_where_the_teacher_sees_something():
    teacher = [torch.zeros(1, 6, 1, 2) for _ in range(3)]
    limit = math.log(LEAST_OBJECTNESS / (1 - LEAST_OBJECTNESS))
    teacher[0][0, 4, 0] = torch.tensor([limit + 0.01, limit - 0.01])
    above, below = ([x.clone() for x in teacher] for _ in range(2))
    above[0][0, 0, 0, 0] = below[0][0, 0, 0, 1] = 1.0
    assert distillation_loss(above, teacher, na=1, nc=1) > 0
    assert distillation_loss(below, teacher, na=1, nc=1) == 0


def test_teacher_in_inference_mode():
    student = [x.requires_grad_() for x in maps(10)]
    with torch.inference_mode():
        teacher = maps(11)
    loss_of(student, teacher).backward()
    assert all(x.grad.all() for x in student)


def test_a_teacher_that_sees_nothing():
    student, teacher = [x.requires_grad_() for x in maps(12)], maps(13)
    for x in teacher:
        x.unflatten(1, (2, 8))[:, :, 4] = -200
    loss = loss_of(student, teacher)
    loss.backward()
    assert loss.isfinite()
    assert all(x.grad.isfinite().all() for x in student)


def test_float32_under_autocast():
    student, teacher = ([x.bfloat16() for x in maps(seed)] for seed in (14, 15))
    expected = loss_of([x.float() for x in student], [x.float() for x in teacher])
    with torch.autocast("cpu", torch.bfloat16):
        found = loss_of(student, teacher)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        pytest.param(
            {"nc": 4}, r"raw map 0, the teacher's is \[2, 18, 4, 4\], the student's \[2, 16,", id="classes"
        ),
        pytest.param({"na": 3}, r"raw map 0, the teacher's is \[2, 24,", id="anchors"),
        pytest.param({"sides": (4, 2, 2)}, "raw map 2, the teacher's is", id="strides"),
        pytest.param({"sides": (4, 2, 1, 1)}, "the teacher has 4 raw maps, the student 3", id="maps"),
        pytest.param({"batch": 1}, "raw map 0, the teacher's is", id="batch"),
    ],
)
def test_refuses_a_teacher_of_other_shape(other, words):
    with pytest.raises(InputError, match=words) as refusal:
        loss_of(maps(0), maps(0, **other))
    assert "need the same classes, anchors and strides" in str(refusal.value)
