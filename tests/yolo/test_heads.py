"""The two branches of YOLO26's head: decoding, choosing one, dropping the other."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from sparsity import choose_head, count_sparsity, keep_head
from sparsity.base.errors import InputError
from sparsity.yolo.current import current_architecture
from sparsity.yolo.head import corners_xyxy
from sparsity.yolo.heads import held_heads
from sparsity.yolo.network import Network, build
from sparsity.yolo.registry import HEADS
from sparsity.yolo.spec import ModuleSpec
from sparsity.yolo.yolo26.architectures import two_branch_detect
from sparsity.yolo.yolo26.detect import OneToManyDetect, OneToOneDetect
from tests.small_networks import newer_networks, small_networks

ONE2MANY, ONE2ONE = "one2many", "one2one"


@pytest.fixture
def network() -> Network:
    return copy.deepcopy(newer_networks()[1])


def random_raw(nc: int, images: int = 2, sides: tuple[int, int] = (24, 20)) -> list[Tensor]:
    """Raw maps of strides 4 and 8, of which some distances are negative."""
    generator = torch.Generator().manual_seed(0)
    height, width = sides
    shapes = [(images, 4 + nc, height // n, width // n) for n in (1, 2)]
    return [torch.randn(shape, generator=generator) * 2 for shape in shapes]


def make_head(kind: type, nc: int = 3) -> OneToManyDetect | OneToOneDetect:
    return kind(nc, 1, (4, 8))


def test_boxes_are_distances_in_strides_as_they_come() -> None:
    raw = random_raw(3)
    found = make_head(OneToManyDetect).decode(raw)
    assert found.shape == (2, 7, 24 * 20 + 12 * 10)
    left, top, right, bottom = raw[1][1, :4, 5, 7].tolist()
    assert min(left, top, right, bottom) < 0
    x1, y1, x2, y2 = (8 * place for place in (7.5 - left, 5.5 - top, 7.5 + right, 5.5 + bottom))
    expected = torch.tensor([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1])
    cell = found[1, :, 24 * 20 + 5 * 10 + 7]
    torch.testing.assert_close(cell[:4], expected)
    torch.testing.assert_close(cell[4:], raw[1][1, 4:, 5, 7].sigmoid())


def test_the_one_to_one_branch_gives_the_best_pairs_of_the_best_cells() -> None:
    raw = random_raw(3)
    cells = make_head(OneToManyDetect).decode(raw)
    found = make_head(OneToOneDetect).decode(raw)
    assert found.shape == (2, 300, 6)
    for image in range(2):
        boxes, scores = corners_xyxy(cells[image, :4].T), cells[image, 4:].T
        best = scores.amax(1).topk(300).indices
        pairs = scores[best].flatten().topk(300)
        torch.testing.assert_close(found[image, :, 4], pairs.values)
        torch.testing.assert_close(found[image, :, 5], (pairs.indices % 3).float())
        torch.testing.assert_close(found[image, :, :4], boxes[best][pairs.indices // 3])


def test_an_image_of_few_cells_gives_rows_of_score_0() -> None:
    raw = random_raw(1, images=1, sides=(4, 4))
    head = make_head(OneToOneDetect, nc=1)
    found = head.decode(raw)
    assert found.shape == (1, 300, 6)
    assert (found[0, 20:, 4] == 0).all()
    assert len(head.candidates(raw, 0.0).scores) == 20


@pytest.mark.parametrize("kind", [OneToManyDetect, OneToOneDetect])
@pytest.mark.parametrize("conf_thres", [0.25, 0.6])
def test_candidates_are_above_the_threshold(kind: type, conf_thres: float) -> None:
    head, raw = make_head(kind), random_raw(3)
    found = head.candidates(raw, conf_thres)
    assert found.scores.min() > conf_thres
    assert found.boxes_xyxy.dtype == torch.float32
    assert found.classes.dtype == torch.int64
    cells = make_head(OneToManyDetect).decode(raw)
    above = int((cells[:, 4:] > conf_thres).sum())
    assert len(found.scores) == (min(above, 600) if kind is OneToOneDetect else above)


def test_the_branch_that_runs_is_chosen(network) -> None:
    images = torch.rand(1, 3, 64, 64)
    assert held_heads(network) == (ONE2MANY, ONE2ONE)
    many = network(images)
    one = choose_head(network, ONE2ONE)(images)
    assert (network.dialect, network.head.branch) == ("yolo26_one2one", ONE2ONE)
    assert not torch.equal(many[0], one[0])
    assert held_heads(network) == (ONE2MANY, ONE2ONE)
    for again, before in zip(choose_head(network, ONE2MANY)(images), many, strict=True):
        assert torch.equal(again, before)
    assert current_architecture(network) == newer_networks()[1].architecture


@pytest.mark.parametrize("head", [ONE2MANY, ONE2ONE])
def test_the_other_branch_is_dropped(network, head: str) -> None:
    images, before = torch.rand(1, 3, 64, 64), count_sparsity(network).conv_layers
    expected = choose_head(network, head)(images)
    kept = keep_head(network, head)
    assert held_heads(kept) == (head,)
    assert before - count_sparsity(kept).conv_layers == 2 * 8
    assert all(torch.equal(a, b) for a, b in zip(kept(images), expected, strict=True))
    again = build(kept.architecture, kept.names, kept.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(again(images), expected, strict=True))


@pytest.mark.parametrize(
    ("change", "head", "words"),
    [
        pytest.param(lambda _: small_networks()[2], ONE2ONE, "this network has one head", id="a YOLOv8"),
        pytest.param(lambda n: n, "both", "`head` is 'both'; one of one2many, one2one", id="another word"),
        pytest.param(
            lambda n: keep_head(n, ONE2MANY), ONE2ONE, "this network holds one2many only", id="a dropped one"
        ),
    ],
)
def test_a_head_that_is_not_there_is_refused(network, change, head: str, words: str) -> None:
    for choose in (choose_head, keep_head):
        with pytest.raises(InputError, match=words):
            choose(change(network), head)


def _without(spec: ModuleSpec, *names: str) -> ModuleSpec:
    return ModuleSpec(spec.kind, spec.attributes, {k: v for k, v in spec.children.items() if k not in names})


@pytest.mark.parametrize(
    ("names", "words"),
    [
        pytest.param(("one2one_cv2",), "or both branches, are expected", id="half of the other branch"),
        pytest.param(("cv3",), "cv2 and cv3, or both branches", id="half of the branch that runs"),
        pytest.param(("cv2", "cv3"), "cv2 and cv3, or both branches", id="not the branch that runs"),
    ],
)
def test_a_head_with_half_a_branch_is_refused(names: tuple[str, ...], words: str) -> None:
    whole = two_branch_detect((8, 16), 3, (4, 8))
    assert HEADS[whole.kind].misfit(whole) == ""
    assert words in HEADS[whole.kind].misfit(_without(whole, *names))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"attributes": {"nc": 4}}, "in its branch one2many", id="another number of classes"),
        pytest.param({"attributes": {"reg_max": 16}}, "reg_max 16", id="bins"),
        pytest.param({"attributes": {"strides": (4,)}}, "strides (4,)", id="fewer strides"),
        pytest.param({"children": {"dfl": ModuleSpec("SiLU")}}, "a dfl that is SiLU", id="a dfl"),
    ],
)
def test_a_head_that_does_not_fit_is_refused(change: dict[str, dict[str, object]], words: str) -> None:
    whole = two_branch_detect((8, 16), 3, (4, 8))
    changed = ModuleSpec(
        whole.kind,
        whole.attributes | change.get("attributes", {}),
        whole.children | change.get("children", {}),
    )
    assert words in HEADS[whole.kind].misfit(changed)
