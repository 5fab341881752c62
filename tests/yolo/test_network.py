"""The detector: blocks, head, routing, fusing, and the published sizes."""

from __future__ import annotations

import copy
import weakref

import pytest
import torch
from torch import Tensor, nn

from sparsity.yolo import blocks
from sparsity.yolo.network import Network, build, drop_neutral_norms, fuse, take_over
from sparsity.yolo.spec import Layer, ModuleSpec
from sparsity.yolo.yolov5 import blocks as yolov5_blocks
from sparsity.yolo.yolov5.architectures import SCALES, Scale, yolov5
from sparsity.yolo.yolov5.detect import Detect


class Times(nn.Module):
    """Multiplies, so that a block's output tells what ran, and in what order."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class Plus(nn.Module):
    def __init__(self, term: float) -> None:
        super().__init__()
        self.term = term

    def forward(self, x: Tensor) -> Tensor:
        return x + self.term


def counted(*shape: int) -> Tensor:
    """0, 1, 2, ... in the given shape: every element tells its place."""
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float32).reshape(shape)


def random_network(nc: int = 3) -> Network:
    """yolov5n with batch norms whose statistics and weights are far from the identity."""
    torch.manual_seed(0)
    network = build(yolov5("yolov5n", nc), [f"class {i}" for i in range(nc)])
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.1, 0.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return network.requires_grad_(False)


# --- architectures ---------------------------------------------------------------------------------

PUBLISHED = [
    pytest.param("yolov5n", 1_872_157, 1_867_405, 60, 1_861_888, id="n"),
    pytest.param("yolov5s", 7_235_389, 7_225_885, 60, 7_215_616, id="s"),
    pytest.param("yolov5m", 21_190_557, 21_172_173, 82, 21_153_024, id="m"),
    pytest.param("yolov5l", 46_563_709, 46_533_693, 104, 46_502_912, id="l"),
    pytest.param("yolov5x", 86_749_405, 86_705_005, 126, 86_659_840, id="x"),
]


@pytest.mark.parametrize(("name", "unfused", "fused", "convolutions", "conv_weights"), PUBLISHED)
def test_counts_are_those_published(
    name: str, unfused: int, fused: int, convolutions: int, conv_weights: int
) -> None:
    with torch.device("meta"):
        network = build(yolov5(name), [str(i) for i in range(80)])
        assert sum(p.numel() for p in network.parameters()) == unfused
        fuse(network)
    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert sum(p.numel() for p in network.parameters()) == fused
    assert len(convs) == convolutions
    assert sum(conv.weight.numel() for conv in convs) == conv_weights


def test_every_size_is_tested() -> None:
    assert {case.values[0] for case in PUBLISHED} == set(SCALES)


@pytest.mark.parametrize(
    ("width", "count", "channels"),
    [
        pytest.param(0.25, 64, 16, id="a multiple of 8 stays"),
        pytest.param(0.3, 64, 24, id="19.2 is rounded up, not to the nearest"),
        pytest.param(1.25, 64, 80, id="wider"),
        pytest.param(0.01, 64, 8, id="never under 8"),
    ],
)
def test_channels_are_rounded_up_to_eights(width: float, count: int, channels: int) -> None:
    assert Scale(1.0, width).channels(count) == channels


@pytest.mark.parametrize(
    ("depth", "count", "repeats"),
    [
        pytest.param(0.33, 1, 1, id="never under 1"),
        pytest.param(0.33, 9, 3, id="2.97 to the nearest"),
        pytest.param(0.67, 6, 4, id="4.02 to the nearest"),
        pytest.param(1.33, 9, 12, id="deeper"),
    ],
)
def test_repeats_are_rounded(depth: float, count: int, repeats: int) -> None:
    assert Scale(depth, 1.0).repeats(count) == repeats


def test_an_unknown_size_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="yolov5z"):
        yolov5("yolov5z")


def test_weights_are_named_as_published() -> None:
    with torch.device("meta"):
        named = build(yolov5("yolov5n"), [str(i) for i in range(80)]).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in named.items()}
    assert shapes["model.0.conv.weight"] == (16, 3, 6, 6)
    assert shapes["model.0.bn.running_var"] == (16,)
    assert shapes["model.6.m.2.cv2.conv.weight"] == (64, 64, 3, 3)
    assert shapes["model.9.cv2.conv.weight"] == (256, 512, 1, 1)
    assert shapes["model.24.anchors"] == (3, 3, 2)
    assert shapes["model.24.m.2.bias"] == (255,)


def test_raw_maps_have_a_level_per_stride() -> None:
    network = random_network(nc=3)
    raw = network(torch.rand(2, 3, 64, 96))
    assert [tuple(x.shape) for x in raw] == [(2, 24, 64 // s, 96 // s) for s in (8, 16, 32)]
    assert network.strides == (8, 16, 32)


# --- blocks ----------------------------------------------------------------------------------------

X = counted(1, 2, 4, 4)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        pytest.param(
            blocks.Bottleneck(Times(2), Plus(1), add=False), X * 2 + 1, id="Bottleneck: cv1, then cv2"
        ),
        pytest.param(
            blocks.Bottleneck(Times(2), Plus(1), add=True), X * 2 + 1 + X, id="Bottleneck: shortcut"
        ),
        pytest.param(
            blocks.C3(Times(2), Times(3), Plus(1), Times(5)),
            torch.cat((X * 10 + 1, X * 3 + 1), 1),
            id="C3: m after cv1 comes first",
        ),
        pytest.param(
            yolov5_blocks.BottleneckCSP(
                Times(2), Times(3), Times(5), Times(-1), Plus(1), nn.ReLU(), Times(7)
            ),
            -torch.cat((X * 70 + 1, X * 3 + 1), 1),
            id="BottleneckCSP: one norm and activation over both branches, then cv4",
        ),
        pytest.param(
            yolov5_blocks.GhostConv(Times(2), Plus(1)), torch.cat((X * 2, X * 2 + 1), 1), id="GhostConv"
        ),
        pytest.param(yolov5_blocks.GhostBottleneck(Times(2), Plus(1)), X * 3 + 1, id="GhostBottleneck"),
        pytest.param(
            yolov5_blocks.Focus(nn.Identity()),
            torch.cat((X[..., ::2, ::2], X[..., 1::2, ::2], X[..., ::2, 1::2], X[..., 1::2, 1::2]), 1),
            id="Focus: rows before columns",
        ),
    ],
)
def test_block_computes(block: nn.Module, expected: Tensor) -> None:
    torch.testing.assert_close(block(X.clone()), expected)


def test_conv_is_convolution_norm_activation() -> None:
    conv, norm = nn.Conv2d(2, 2, 1, bias=False), nn.BatchNorm2d(2).eval()
    norm.running_mean.copy_(torch.tensor([5.0, -5.0]))
    expected = nn.functional.silu(norm(conv(X)))
    torch.testing.assert_close(blocks.Conv(conv, nn.SiLU(), norm)(X), expected)
    torch.testing.assert_close(blocks.Conv(conv, nn.SiLU())(X), nn.functional.silu(conv(X)))


def test_conv_leaves_its_input_alone() -> None:
    x = X.clone() - 8
    blocks.Conv(nn.Conv2d(2, 2, 1), nn.ReLU())(x)
    assert torch.equal(x, X - 8)


def test_sppf_is_spp_with_5_9_13() -> None:
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    pools = nn.ModuleList(nn.MaxPool2d(k, 1, k // 2) for k in (5, 9, 13))
    spp = yolov5_blocks.SPP(Times(2), Plus(1), pools)
    sppf = blocks.SPPF(Times(2), Plus(1), nn.MaxPool2d(5, 1, 2))
    assert spp(x).shape == (2, 12, 16, 16)
    assert torch.equal(spp(x), sppf(x))


def test_concat_joins_along_its_dimension() -> None:
    assert torch.equal(blocks.Concat(1)([X, X + 1]), torch.cat((X, X + 1), 1))
    assert torch.equal(blocks.Concat(2)([X, X + 1]), torch.cat((X, X + 1), 2))


def test_contract_puts_the_place_in_the_cell_before_the_channel() -> None:
    y = yolov5_blocks.Contract(2)(X)
    assert y.shape == (1, 8, 2, 2)
    for row in range(2):
        for column in range(2):
            group = y[:, 2 * (2 * row + column) :][:, :2]
            assert torch.equal(group, X[..., row::2, column::2])


def test_expand_undoes_contract() -> None:
    x = counted(2, 3, 4, 6)
    assert torch.equal(yolov5_blocks.Expand(2)(yolov5_blocks.Contract(2)(x)), x)


def test_transformer_block_adds_position_and_keeps_the_shape() -> None:
    x = counted(2, 3, 4, 5)
    block = yolov5_blocks.TransformerBlock(Times(2), Plus(1), conv=Times(10))
    torch.testing.assert_close(block(x), x * 30 + 1)
    torch.testing.assert_close(yolov5_blocks.TransformerBlock(Times(2), Plus(1))(x), x * 3 + 1)


def test_transformer_layer_has_two_shortcuts() -> None:
    attention = nn.MultiheadAttention(4, 2)
    layer = yolov5_blocks.TransformerLayer(Times(1), Times(2), Times(3), attention, Times(5), Plus(1))
    x = torch.rand(6, 2, 4, generator=torch.Generator().manual_seed(0))
    attended = x + attention(x, x * 2, x * 3)[0]
    torch.testing.assert_close(layer(x), attended * 6 + 1)


# --- the head --------------------------------------------------------------------------------------


def make_head(nc: int = 3) -> Detect:
    """Two raw maps, two anchors, strides 8 and 16."""
    head = Detect(nc, 2, (8, 16), nn.ModuleList(nn.Conv2d(4, 2 * (5 + nc), 1) for _ in range(2)))
    head.anchors.copy_(torch.tensor([[[1.0, 2.0], [3.0, 1.5]], [[2.0, 2.5], [4.0, 0.5]]]))
    return head


def random_raw(images: int = 2, nc: int = 3, spread: float = 2.0) -> list[Tensor]:
    """Raw maps of 4 x 6 and 2 x 3 cells."""
    generator = torch.Generator().manual_seed(1)
    shapes = [(images, 2 * (5 + nc), 4, 6), (images, 2 * (5 + nc), 2, 3)]
    return [torch.randn(shape, generator=generator) * spread for shape in shapes]


@pytest.mark.parametrize(
    ("level", "anchor", "row", "column"),
    [
        pytest.param(0, 0, 0, 0, id="the first cell"),
        pytest.param(0, 1, 3, 5, id="the last cell of a map"),
        pytest.param(1, 0, 1, 2, id="the second map"),
        pytest.param(1, 1, 0, 1, id="row is not column"),
    ],
)
def test_decode_follows_the_published_formula(level: int, anchor: int, row: int, column: int) -> None:
    head, raw = make_head(), random_raw()
    stride, (height, width) = head.strides[level], raw[level].shape[2:]
    s = raw[level][1, anchor * 8 : anchor * 8 + 8, row, column].sigmoid().tolist()
    anchor_w, anchor_h = (head.anchors[level, anchor] * stride).tolist()
    centre = [(2 * s[0] - 0.5 + column) * stride, (2 * s[1] - 0.5 + row) * stride]
    size = [(2 * s[2]) ** 2 * anchor_w, (2 * s[3]) ** 2 * anchor_h]
    index = level * 4 * 6 * 2 + (row * width + column) * 2 + anchor
    assert row < height
    torch.testing.assert_close(head.decode(raw)[1, index], torch.tensor([*centre, *size, *s[4:]]))


def by_decode(head: Detect, raw: list[Tensor], conf_thres: float) -> list[tuple[float, ...]]:
    """What candidates should give, by the dense way: image, class, score, x1, y1, x2, y2."""
    rows = []
    for image, cells in enumerate(head.decode(raw).tolist()):
        for x, y, w, h, objectness, *classes in cells:
            corners = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
            for label, confidence in enumerate(classes):
                if objectness > conf_thres and objectness * confidence > conf_thres:
                    rows.append((image, label, objectness * confidence, *corners))
    return sorted(rows)


def by_candidates(head: Detect, raw: list[Tensor], conf_thres: float) -> list[tuple[float, ...]]:
    found = head.candidates(raw, conf_thres)
    parts = (found.image[:, None], found.classes[:, None], found.scores[:, None], found.boxes_xyxy)
    return sorted(tuple(row) for row in torch.cat([part.double() for part in parts], 1).tolist())


@pytest.mark.parametrize(
    "conf_thres",
    [
        pytest.param(0.001, id="validation's threshold: nearly all"),
        pytest.param(0.25, id="detection's threshold: some"),
        pytest.param(0.8, id="few"),
    ],
)
def test_candidates_agree_with_decode(conf_thres: float) -> None:
    head, raw = make_head(), random_raw(images=3)
    expected = by_decode(head, raw, conf_thres)
    assert expected
    found = by_candidates(head, raw, conf_thres)
    assert len(found) == len(expected)
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=1e-5, atol=1e-4)


def test_a_box_gives_a_candidate_per_class() -> None:
    head = make_head()
    raw = [torch.full_like(x, -20.0) for x in random_raw(images=1)]
    raw[1][0, 4:8, 1, 2] = torch.tensor([20.0, 20.0, -20.0, 20.0])
    found = head.candidates(raw, 0.5)
    assert found.classes.tolist() == [0, 2]
    assert torch.equal(found.boxes_xyxy[0], found.boxes_xyxy[1])


def test_nothing_above_the_threshold_is_an_empty_result() -> None:
    found = make_head().candidates([torch.full_like(x, -20.0) for x in random_raw()], 0.001)
    assert found.image.shape == found.scores.shape == found.classes.shape == (0,)
    assert found.boxes_xyxy.shape == (0, 4)


def test_candidates_have_the_documented_types() -> None:
    found = make_head().candidates([x.half() for x in random_raw()], 0.1)
    assert (found.image.dtype, found.classes.dtype) == (torch.int64, torch.int64)
    assert (found.boxes_xyxy.dtype, found.scores.dtype) == (torch.float32, torch.float32)


def test_half_maps_are_decoded_in_float32() -> None:
    head, raw = make_head(), [x.half() for x in random_raw()]
    torch.testing.assert_close(head.decode(raw), head.decode([x.float() for x in raw]), rtol=0, atol=0)
    assert by_candidates(head, raw, 0.1) == by_candidates(head, [x.float() for x in raw], 0.1)


def test_memory_format_does_not_matter() -> None:
    head, raw = make_head(), random_raw()
    last = [x.to(memory_format=torch.channels_last) for x in raw]
    assert by_candidates(head, raw, 0.2) == by_candidates(head, last, 0.2)
    assert torch.equal(head.decode(raw), head.decode(last))


# --- building and fusing ---------------------------------------------------------------------------


def test_fusing_keeps_the_outputs() -> None:
    network, images = random_network(), torch.rand(2, 3, 64, 64)
    before = network(images)
    assert fuse(network) is network
    for fused, unfused in zip(network(images), before, strict=True):
        assert unfused.std() > 0.01
        torch.testing.assert_close(fused, unfused, rtol=1e-4, atol=1e-4)


def test_fusing_removes_every_norm_once() -> None:
    network = fuse(random_network())
    assert not [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    fuse(network)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in network.state_dict().items())


def test_build_takes_the_weights_given() -> None:
    weights = random_network().state_dict()
    network = build(yolov5("yolov5n", 3), "abc", weights)
    assert network.names == ("a", "b", "c")
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    for name, tensor in network.state_dict().items():
        assert tensor.data_ptr() == weights[name].data_ptr()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"model.0.conv.weight": None}, "Missing key", id="missing"),
        pytest.param({"model.0.conv.extra": torch.zeros(1)}, "Unexpected key", id="left over"),
        pytest.param({"model.24.m.0.bias": torch.zeros(7)}, "size mismatch", id="another shape"),
    ],
)
def test_build_refuses_weights_that_do_not_fit(change: dict[str, Tensor | None], words: str) -> None:
    weights = random_network().state_dict() | change
    weights = {name: tensor for name, tensor in weights.items() if tensor is not None}
    with pytest.raises(RuntimeError, match=words):
        build(yolov5("yolov5n", 3), "abc", weights)


def neutral_conv() -> blocks.Conv:
    norm = nn.BatchNorm2d(2, eps=0.0)
    nn.init.uniform_(norm.bias, 1, 2)
    return blocks.Conv(nn.Conv2d(3, 2, 1, bias=False), nn.SiLU(), norm).eval().requires_grad_(False)


def test_a_neutral_norm_becomes_the_bias() -> None:
    block = neutral_conv()
    x, bias = torch.rand(1, 3, 2, 2), block.bn.bias.clone()
    expected = block(x)
    assert drop_neutral_norms(block) is block
    assert block.bn is None
    assert torch.equal(block.conv.bias, bias)
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda norm: setattr(norm, "eps", 1e-3), id="eps"),
        pytest.param(lambda norm: norm.weight[0].fill_(1.001), id="weight"),
        pytest.param(lambda norm: norm.running_mean[1].fill_(1e-6), id="mean"),
        pytest.param(lambda norm: norm.running_var[0].fill_(0.999), id="variance"),
        pytest.param(lambda norm: norm.running_var[0].fill_(float("nan")), id="not a number"),
    ],
)
def test_a_norm_that_does_more_stays(change) -> None:
    block = neutral_conv()
    change(block.bn)
    drop_neutral_norms(block)
    assert block.bn is not None
    assert block.conv.bias is None


# --- routing ---------------------------------------------------------------------------------------

IDENTITY, CONCAT = ModuleSpec("Identity"), ModuleSpec("Concat", {"d": 1})


def plus_network(*layers: Layer) -> Network:
    """A network whose Identity layers add 10 to the power of their index."""
    network = Network(layers, ()).eval()
    for index, layer in enumerate(layers):
        if layer.module.kind == "Identity":
            network.model[index] = Plus(10**index)
    return network


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        pytest.param([Layer(IDENTITY), Layer(IDENTITY)], [11], id="-1: the layer before"),
        pytest.param([Layer(IDENTITY), Layer(IDENTITY), Layer(IDENTITY, (0,))], [101], id="an index"),
        pytest.param([Layer(IDENTITY), Layer(IDENTITY), Layer(IDENTITY, (-2,))], [101], id="-2: two back"),
        pytest.param([Layer(IDENTITY), Layer(IDENTITY, (-2,))], [10], id="the image itself"),
        pytest.param(
            [Layer(IDENTITY), Layer(IDENTITY), Layer(CONCAT, (-1, 0))], [11, 1], id="a list, in its order"
        ),
        pytest.param(
            [Layer(IDENTITY), Layer(CONCAT, (0, 0, -2)), Layer(IDENTITY)],
            [101, 101, 100],
            id="the same output twice, and the image",
        ),
    ],
)
def test_layers_take_their_sources(layers: list[Layer], expected: list[int]) -> None:
    output = plus_network(*layers)(torch.zeros(1, 1, 1, 1))
    assert output.flatten().tolist() == expected


class Watch(nn.Module):
    """Gives a fresh map, and notes which layers' maps are alive when it runs."""

    def __init__(self, made: list[weakref.ref[Tensor]], seen: list[list[int]]) -> None:
        super().__init__()
        self.made, self.seen = made, seen

    def forward(self, x: Tensor | list[Tensor]) -> Tensor:
        self.seen.append([index for index, map_ in enumerate(self.made) if map_() is not None])
        y = (x if isinstance(x, Tensor) else x[0]) + 1
        self.made.append(weakref.ref(y))
        return y


def test_outputs_are_freed_after_their_last_use() -> None:
    routes = [(-1,), (-1,), (-1,), (-1, 0), (-1,), (-1,)]
    network = Network(tuple(Layer(IDENTITY, sources) for sources in routes), ())
    made: list[weakref.ref[Tensor]] = []
    seen: list[list[int]] = []
    for index in range(len(routes)):
        network.model[index] = Watch(made, seen)
    network(torch.zeros(1))
    assert seen == [[], [0], [0, 1], [0, 2], [3], [4]]


def test_a_network_takes_over_what_a_fused_one_of_its_kind_gives():
    torch.manual_seed(0)
    network = build(yolov5("yolov5n", nc=3), ("a", "b", "c"))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -1, 1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.uniform_(module.weight, -2, 2)
    other = fuse(copy.deepcopy(network))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(torch.rand_like(parameter) + 0.5)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = other(images)
        found = take_over(network, other)(images)
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4)
