"""YOLOv8 detectors: the published sizes, C2f, the head, and checkpoints of the ultralytics package."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sparsity import count_sparsity, load, prune
from sparsity.base.errors import InputError
from sparsity.formats.half import round_to_half
from sparsity.formats.pt_reader import read_checkpoint
from sparsity.formats.saving import save
from sparsity.formats.stand_ins import stand_in
from sparsity.pruning.layers import convolutions
from sparsity.yolo.current import current_architecture
from sparsity.yolo.families import FAMILIES, dialect_by_output, published_architecture, sizes
from sparsity.yolo.network import build, fuse
from sparsity.yolo.parts import conv, layer, sppf
from sparsity.yolo.registry import HEADS
from sparsity.yolo.spec import Layer
from sparsity.yolo.yolov5.architectures import c3
from sparsity.yolo.yolov8.architectures import SCALES, Scale, detect, yolov8
from sparsity.yolo.yolov8.blocks import C2f
from sparsity.yolo.yolov8.detect import DFL, AnchorFreeDetect
from sparsity.yolo.yolov8.published import DETECT, ONE_FILE
from tests import published_networks
from tests.published_networks import CLASSES, model, other, write

NC = 3

# --- architectures ---------------------------------------------------------------------------------

PUBLISHED = [
    pytest.param("yolov8n", 3_157_200, 3_151_904, 64, id="n"),
    pytest.param("yolov8s", 11_166_560, 11_156_544, 64, id="s"),
    pytest.param("yolov8m", 25_902_640, 25_886_080, 84, id="m"),
    pytest.param("yolov8l", 43_691_520, 43_668_288, 104, id="l"),
    pytest.param("yolov8x", 68_229_648, 68_200_608, 104, id="x"),
]
DFL_WEIGHTS = 16
"""Parameters of a convolution as published; here they are none."""


@pytest.mark.parametrize(("name", "unfused", "fused", "convs"), PUBLISHED)
def test_counts_are_those_published(name: str, unfused: int, fused: int, convs: int) -> None:
    with torch.device("meta"):
        network = build(yolov8(name), [str(i) for i in range(80)])
        assert sum(p.numel() for p in network.parameters()) == unfused - DFL_WEIGHTS
        fuse(network)
    assert sum(p.numel() for p in network.parameters()) == fused - DFL_WEIGHTS
    assert sum(1 for _ in convolutions(network)) == convs - 1


def test_every_size_is_tested() -> None:
    assert {case.values[0] for case in PUBLISHED} == set(SCALES)


@pytest.mark.parametrize(
    ("count", "channels"),
    [
        pytest.param(64, 80, id="wider"),
        pytest.param(512, 640, id="the most"),
        pytest.param(1024, 640, id="above the most, which counts before the factor"),
    ],
)
def test_channels_are_limited(count: int, channels: int) -> None:
    assert Scale(1.0, 1.25, 512).channels(count) == channels


def test_weights_are_named_as_published() -> None:
    with torch.device("meta"):
        named = build(yolov8("yolov8n"), [str(i) for i in range(80)]).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in named.items()}
    assert shapes["model.0.conv.weight"] == (16, 3, 3, 3)
    assert shapes["model.2.m.0.cv1.conv.weight"] == (16, 16, 3, 3)
    assert shapes["model.4.cv2.conv.weight"] == (64, 128, 1, 1)
    assert shapes["model.22.cv2.0.0.bn.running_var"] == (64,)
    assert shapes["model.22.cv2.2.2.weight"] == (64, 64, 1, 1)
    assert shapes["model.22.cv3.1.0.conv.weight"] == (80, 128, 3, 3)
    assert shapes["model.22.cv3.0.2.bias"] == (80,)
    assert shapes["model.22.dfl.conv.weight"] == (1, 16, 1, 1)


def test_families_are_told_apart_by_their_heads() -> None:
    assert {one.head for family in FAMILIES.values() for one in family.dialects} == set(HEADS.values())
    assert sizes() == [f"yolo{v}{size}" for v in ("v5", "v8", 11, 12, 26) for size in "nsmlx"]
    for family in FAMILIES.values():
        for name in family.sizes:
            head = published_architecture(name, 7)[-1].module
            assert HEADS[head.kind].dialect in {dialect.key for dialect in family.dialects}
            assert not HEADS[head.kind].misfit(head)


@pytest.mark.parametrize(
    ("dims", "family"),
    [
        pytest.param([1, 25200, 85], "yolov5", id="YOLOv5's export"),
        pytest.param([0, 0, 85], "yolov5", id="any number of cells"),
        pytest.param([1, 84, 8400], "yolov8", id="YOLOv8's export"),
        pytest.param([0, 84, 0], "yolov8", id="any number of its cells"),
        pytest.param([0, 0, 0], None, id="nothing is known"),
        pytest.param([0, 0, 84], None, id="the other way round"),
        pytest.param([1, 84], None, id="two dimensions"),
    ],
)
def test_an_output_tells_its_family(dims: list[int], family: str | None) -> None:
    assert dialect_by_output(dims, 80) == family


# --- C2f -------------------------------------------------------------------------------------------


class Plus(nn.Module):
    def __init__(self, term: float) -> None:
        super().__init__()
        self.term = term

    def forward(self, x: Tensor) -> Tensor:
        return x + self.term


def test_c2f_keeps_both_halves_and_what_each_block_gives() -> None:
    x = torch.arange(32.0).reshape(1, 2, 4, 4)
    first, second = x[:, :1] + 1, x[:, 1:] + 1
    block = C2f(Plus(1), nn.Identity(), nn.ModuleList([Plus(10), Plus(100)]))
    torch.testing.assert_close(block(x), torch.cat((first, second, second + 10, second + 110), 1))


# --- the head --------------------------------------------------------------------------------------


def make_head() -> AnchorFreeDetect:
    """Two maps of 4 channels, strides 8 and 16."""
    layers = nn.ModuleList(nn.ModuleList([nn.Conv2d(4, n, 1) for _ in range(2)]) for n in (64, NC))
    return AnchorFreeDetect(NC, 16, (8, 16), layers[0], layers[1], DFL(16))


def random_raw(images: int = 2) -> list[Tensor]:
    """Raw maps of 4 x 6 and 2 x 3 cells."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn((images, 64 + NC, 4 // n, 6 // n), generator=generator) * 2 for n in (1, 2)]


def mean_bin(logits: list[float]) -> float:
    weights = [math.exp(logit) for logit in logits]
    return sum(i * weight for i, weight in enumerate(weights)) / sum(weights)


@pytest.mark.parametrize(
    ("level", "row", "column"),
    [
        pytest.param(0, 0, 0, id="the first cell"),
        pytest.param(0, 3, 5, id="the last cell of a map"),
        pytest.param(1, 1, 2, id="the second map"),
        pytest.param(1, 0, 1, id="row is not column"),
    ],
)
def test_decode_follows_the_published_formula(level: int, row: int, column: int) -> None:
    head, raw = make_head(), random_raw()
    stride, width = head.strides[level], raw[level].shape[3]
    numbers = raw[level][1, :, row, column].tolist()
    left, top, right, bottom = (mean_bin(numbers[i : i + 16]) for i in range(0, 64, 16))
    x1, x2 = column + 0.5 - left, column + 0.5 + right
    y1, y2 = row + 0.5 - top, row + 0.5 + bottom
    box = [(x1 + x2) / 2 * stride, (y1 + y2) / 2 * stride, (x2 - x1) * stride, (y2 - y1) * stride]
    scores = [1 / (1 + math.exp(-logit)) for logit in numbers[64:]]
    found = head.decode(raw)
    assert found.shape == (2, 4 + NC, 24 + 6)
    torch.testing.assert_close(found[1, :, level * 24 + row * width + column], torch.tensor(box + scores))


def rows_of(found) -> list[tuple[float, ...]]:
    parts = (found.image[:, None], found.classes[:, None], found.scores[:, None], found.boxes_xyxy)
    return sorted(tuple(row) for row in torch.cat([part.double() for part in parts], 1).tolist())


def by_decode(head: AnchorFreeDetect, raw: list[Tensor], conf_thres: float) -> list[tuple[float, ...]]:
    """What candidates should give, by the dense way: image, class, score, x1, y1, x2, y2."""
    rows = []
    for image, cells in enumerate(head.decode(raw).transpose(1, 2).tolist()):
        for x, y, w, h, *scores in cells:
            corners = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
            rows += [(image, i, score, *corners) for i, score in enumerate(scores) if score > conf_thres]
    return sorted(rows)


@pytest.mark.parametrize("conf_thres", [0.001, 0.25, 0.9])
def test_candidates_agree_with_decode(conf_thres: float) -> None:
    head, raw = make_head(), random_raw(images=3)
    expected = by_decode(head, raw, conf_thres)
    assert expected
    for found in (head.candidates(raw, conf_thres), head.decoded_candidates(head.decode(raw), conf_thres)):
        torch.testing.assert_close(torch.tensor(rows_of(found)), torch.tensor(expected), rtol=1e-5, atol=1e-4)


def test_nothing_above_the_threshold_is_an_empty_result() -> None:
    found = make_head().candidates([torch.full_like(x, -20.0) for x in random_raw()], 0.001)
    assert found.image.shape == found.scores.shape == found.classes.shape == (0,)
    assert found.boxes_xyxy.shape == (0, 4)


def test_half_maps_are_decoded_in_float32() -> None:
    head, raw = make_head(), [x.half() for x in random_raw()]
    expected = rows_of(head.candidates([x.float() for x in raw], 0.1))
    assert rows_of(head.candidates(raw, 0.1)) == expected
    assert rows_of(copy.deepcopy(head).half().candidates(raw, 0.1)) == expected
    assert head.candidates(raw, 0.1).boxes_xyxy.dtype == torch.float32


def test_raw_maps_have_boxes_and_classes_of_a_level_per_stride(tiny_yolov8) -> None:
    raw = tiny_yolov8(torch.rand(2, 3, 64, 96))
    assert [tuple(x.shape) for x in raw] == [(2, 67, 64 // s, 96 // s) for s in (8, 16, 32)]
    assert tiny_yolov8.dialect == "yolov8"


def test_importance_weighs_cells_by_their_best_class() -> None:
    head, raw = make_head(), random_raw()
    raw[0][0, 64:, 1, 2] = torch.tensor([-9.0, 9.0, -9.0])
    weights = head.importance(raw)
    assert [w.shape for w in weights] == [x.shape for x in raw]
    assert all((w > 0).all() for w in weights)
    for part in (slice(0, 64), slice(64, None)):
        assert weights[0][0, part, 1, 2].mean() == weights[0][:, part].mean(1).max()


def test_dfl_is_nothing_to_prune_or_train(tiny_yolov8) -> None:
    integers = torch.arange(16.0).view(1, 16, 1, 1)
    pruned = prune(copy.deepcopy(tiny_yolov8), 0.9)
    assert torch.equal(pruned.head.dfl.conv.weight, integers)
    assert "model.22.dfl.conv" not in dict(convolutions(pruned))
    assert "model.22.dfl.conv.weight" not in dict(pruned.requires_grad_(True).named_parameters())
    assert count_sparsity(pruned).conv_layers == 63
    assert torch.equal(round_to_half(pruned).head.dfl.conv.weight, integers)


def test_fusing_keeps_the_outputs(unfused_yolov8) -> None:
    images = torch.rand(2, 3, 64, 64)
    before = unfused_yolov8(images)
    for fused, unfused in zip(fuse(unfused_yolov8)(images), before, strict=True):
        assert unfused.std() > 0.01
        torch.testing.assert_close(fused, unfused, rtol=1e-4, atol=1e-4)


# --- checkpoints -----------------------------------------------------------------------------------


def test_a_checkpoint_is_read_whole(tmp_path, unfused_yolov8) -> None:
    read = read_checkpoint(write(tmp_path / "a.pt", model(unfused_yolov8)))
    assert read.architecture == unfused_yolov8.architecture
    assert read.names == ("cat", "dog", "bird")
    expected = {k: v.half().float() for k, v in unfused_yolov8.state_dict().items() if v.is_floating_point()}
    assert read.weights.keys() == unfused_yolov8.state_dict().keys()
    assert all(torch.equal(read.weights[name], tensor) for name, tensor in expected.items())


def test_a_checkpoint_runs(tmp_path, unfused_yolov8) -> None:
    path = write(tmp_path / "a.pt", model(unfused_yolov8))
    images = torch.rand(1, 3, 64, 64)
    for found, expected in zip(
        load(path, fused=False)(images), round_to_half(unfused_yolov8)(images), strict=True
    ):
        assert torch.equal(found, expected)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in load(path).modules())


def set_attribute(where: str, name: str, value: object):
    return lambda whole: whole.get_submodule(where).__dict__.__setitem__(name, value)


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load(path)
    message = str(caught.value)
    assert str(path) in message
    assert message.isprintable()
    return message


def another_child(whole: nn.Module) -> None:
    whole.model[22].one2one_cv2 = nn.ModuleList()


def fewer_classes(whole: nn.Module) -> None:
    whole.model[22].cv3[1][2] = nn.Conv2d(16, 2, 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(set_attribute("model.9", "add", 1), "add is 1; True or False", id="SPPF adds a number"),
        pytest.param(set_attribute("model.9", "n", 5), "layer 9 cannot run", id="SPPF of 5"),
        pytest.param(set_attribute("model.9", "n", 10**6), "a whole number from 1 to 64", id="SPPF of many"),
        pytest.param(set_attribute("model.9", "n", "3"), "n is '3'; a whole number", id="SPPF of a word"),
        pytest.param(set_attribute("model.22", "_end2end", True), "_end2end True", id="without NMS"),
        pytest.param(another_child, "one2one_cv2", id="a second head"),
        pytest.param(fewer_classes, "[3, 2, 3] channels", id="a map of fewer classes"),
        pytest.param(set_attribute("model.22", "reg_max", 8), "another number of bins", id="fewer bins"),
        pytest.param(set_attribute("model.22", "nc", None), "nc is None; a whole", id="no classes"),
        pytest.param(set_attribute("model.22", "stride", torch.tensor([8.0])), "strides (8,)", id="strides"),
        pytest.param(set_attribute("model.22.dfl", "c1", 0), "c1 is 0; a whole", id="no bins"),
        pytest.param(set_attribute("", "names", ["a", "b"]), "2 class names, but its head has 3", id="names"),
    ],
)
def test_a_model_that_does_not_hold_together_is_refused(tmp_path, unfused_yolov8, change, words: str) -> None:
    whole = model(unfused_yolov8)
    change(whole)
    assert words in refusal(write(tmp_path / "a.pt", whole))


@pytest.mark.parametrize(
    ("module", "name", "words"),
    [
        pytest.param("head", "v10Detect", "YOLOv10", id="YOLOv10"),
        pytest.param("block", "RepNCSPELAN4", "YOLOv9", id="YOLOv9"),
    ],
)
def test_a_third_family_is_named(tmp_path, unfused_yolov8, module: str, name: str, words: str) -> None:
    whole = model(unfused_yolov8)
    whole.model[2] = stand_in(f"ultralytics.nn.modules.{module}", name)
    message = refusal(write(tmp_path / "a.pt", whole))
    assert words in message
    assert "a detection checkpoint of YOLOv5, YOLOv8, YOLO11, YOLO12 or YOLO26 is expected" in message


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"args": other("ultralytics.utils", "IterableSimpleNamespace")}, id="arguments"),
        pytest.param(
            {"args": other("ultralytics.yolo.utils", "IterableSimpleNamespace")}, id="old arguments"
        ),
        pytest.param({"criterion": other("ultralytics.utils.loss", "v8DetectionLoss")}, id="a loss"),
        pytest.param({"criterion": other("any.package", "Of")}, id="a class of any package"),
    ],
)
def test_what_hangs_on_the_model_is_not_read(tmp_path, unfused_yolov8, more: dict[str, object]) -> None:
    whole = model(unfused_yolov8)
    for key, value in more.items():
        whole.__dict__[key] = value
    path = write(tmp_path / "a.pt", whole, optimizer=other("torch.optim.adamw", "AdamW"))
    assert read_checkpoint(path).architecture == unfused_yolov8.architecture


def test_the_first_releases_had_one_file_of_modules(tmp_path, unfused_yolov8, monkeypatch) -> None:
    before = read_checkpoint(write(tmp_path / "a.pt", model(unfused_yolov8)))
    one_file = {"AnchorFreeDetect" if kind == DETECT else kind: path for path, kind in ONE_FILE.items()}
    one_file["Conv"] = ("ultralytics.nn.modules", "Conv")
    monkeypatch.setattr(published_networks, "CLASSES", CLASSES | one_file)
    path = write(tmp_path / "b.pt", model(unfused_yolov8))
    assert b"ultralytics.nn.modules\n" in path.read_bytes()
    assert read_checkpoint(path).architecture == before.architecture


def test_yolov5u_has_c3_blocks_and_the_head_of_yolov8(tmp_path) -> None:
    torch.manual_seed(0)
    layers = (
        layer(conv(3, 16, 6, 2, 2)),
        layer(conv(16, 32, 3, 2)),
        layer(c3(32, 32, 2)),
        layer(conv(32, 32, 3, 2)),
        layer(sppf(32, 32, 5)),
        layer(detect((32,), NC, (8,)), 4),
    )
    network = build(layers, ("cat", "dog", "bird"))
    path = write(tmp_path / "yolov5nu.pt", model(network))
    assert b"ultralytics.nn.modules.block\nC3\n" in path.read_bytes()
    read = load(path, fused=False)
    assert (read.dialect, read.architecture) == ("yolov8", layers)
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(read(images), round_to_half(copy.deepcopy(network))(images))
    save(read, tmp_path / "saved.pt")
    torch.testing.assert_close(load(tmp_path / "saved.pt", fused=False)(images), read(images))


def test_a_head_may_be_described_for_other_levels() -> None:
    layers = (Layer(yolov8("yolov8n", NC)[0].module), Layer(detect((16,), NC, (2,)), (0,)))
    network = build(layers, "abc")
    assert [tuple(x.shape) for x in network(torch.rand(1, 3, 8, 8))] == [(1, 64 + NC, 4, 4)]
    assert current_architecture(network) == layers


@pytest.mark.assets
def test_a_real_checkpoint_is_the_architecture_as_data(assets) -> None:
    read = read_checkpoint(assets / "yolov8n_train50.pt")
    assert read.architecture == yolov8("yolov8n")
    assert (len(read.names), read.names[0], read.names[-1]) == (80, "person", "toothbrush")
    assert torch.equal(read.weights["model.22.dfl.conv.weight"].flatten(), torch.arange(16.0))
