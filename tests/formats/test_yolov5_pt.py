"""YOLOv5's own .pt: what is written comes back, bit by bit, and holds what YOLOv5's files hold."""

import copy
import errno
import pickletools
import sys
import zipfile
from datetime import datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from sparsity import count_sparsity, load, prune
from sparsity.base.errors import InputError
from sparsity.formats.half import round_to_half
from sparsity.formats.pt_reader import read_checkpoint
from sparsity.formats.yolov5_pt import write
from sparsity.yolo.current import current_architecture
from sparsity.yolo.network import build, fuse
from sparsity.yolo.parts import sppf
from sparsity.yolo.spec import Layer, ModuleSpec
from sparsity.yolo.yolov5.architectures import c3, concat, conv, yolov5

# fmt: off
COMMON = {
    "Conv", "DWConv", "Bottleneck", "BottleneckCSP", "C3", "SPP", "SPPF", "Focus", "Concat", "Contract",
    "Expand", "GhostConv", "GhostBottleneck", "C3Ghost", "C3TR", "TransformerLayer", "TransformerBlock",
    "CrossConv", "C3x", "C3SPP",
}
# fmt: on
STOCK = {
    "collections OrderedDict",
    "__builtin__ set",
    *("torch._utils _rebuild_parameter", "torch._utils _rebuild_tensor_v2"),
    *("torch HalfStorage", "torch LongStorage"),
    *("torch.nn.modules.container Sequential", "torch.nn.modules.container ModuleList"),
    *("torch.nn.modules.conv Conv2d", "torch.nn.modules.batchnorm BatchNorm2d"),
    *(f"torch.nn.modules.activation {name}" for name in ("SiLU", "LeakyReLU", "Hardswish", "ReLU")),
    *("torch.nn.modules.pooling MaxPool2d", "torch.nn.modules.upsampling Upsample"),
    "torch.nn.modules.linear Identity",
    *(f"models.common {name}" for name in COMMON),
    *("models.yolo DetectionModel", "models.yolo Detect"),
}
"""The globals of a stock detection checkpoint, and the activation ReLU."""
TRANSFORMER = {
    "torch.nn.modules.activation MultiheadAttention",
    *("torch.nn.modules.linear Linear", "torch.nn.modules.linear NonDynamicallyQuantizableLinear"),
}


def shuffle(network):
    """Norms whose statistics are far from the identity, so that none is taken for a neutral one."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return network.requires_grad_(False)


@pytest.fixture
def unfused():
    torch.manual_seed(0)
    return shuffle(build(yolov5("yolov5n", nc=3), ("cat", "dog", "bird")))


def raw(network):
    with torch.inference_mode():
        return network(torch.linspace(0, 1, 3 * 64 * 64).view(1, 3, 64, 64))


def assert_same(one, other):
    """The same modules, and bit by bit the same tensors, the sign of a zero included."""
    assert current_architecture(one) == current_architecture(other)
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name
        assert torch.equal(tensor.signbit(), theirs[name].signbit()), name


def globals_of(path):
    with zipfile.ZipFile(path) as archive:
        data = archive.read(next(n for n in archive.namelist() if n.endswith("/data.pkl")))
    opcodes = [(opcode.name, argument) for opcode, argument, _ in pickletools.genops(data)]
    assert "STACK_GLOBAL" not in dict(opcodes)
    return {argument for name, argument in opcodes if name == "GLOBAL"}


@pytest.fixture
def opened(monkeypatch):
    """Open a file as YOLOv5 does, by its class names, with classes that do nothing."""
    for module_name, names in {"models.common": COMMON, "models.yolo": {"DetectionModel", "Detect"}}.items():
        module = ModuleType(module_name)
        for name in names:
            setattr(module, name, type(name, (nn.Module,), {"__module__": module_name}))
        monkeypatch.setitem(sys.modules, module_name, module)
    monkeypatch.setitem(sys.modules, "models", ModuleType("models"))
    return lambda path: torch.load(path, weights_only=False)


# --- what is written comes back --------------------------------------------------------------------


@pytest.mark.parametrize("fused", [True, False])
def test_a_fused_pruned_network_comes_back_bit_by_bit(network, tmp_path, fused):
    prune(network, 0.6)
    zeros = count_sparsity(network)
    write(network, tmp_path / "a.pt")
    back = load(tmp_path / "a.pt", fused=fused)
    assert_same(back, round_to_half(network))
    assert count_sparsity(back) == zeros
    assert not [m for m in back.modules() if isinstance(m, nn.BatchNorm2d)]
    assert back.names == network.names
    assert all(torch.equal(one, other) for one, other in zip(raw(back), raw(network), strict=True))


def test_an_unfused_network_keeps_its_norms(unfused, tmp_path):
    write(unfused, tmp_path / "a.pt")
    back = load(tmp_path / "a.pt", fused=False)
    assert_same(back, round_to_half(unfused))
    assert back.architecture == unfused.architecture
    assert_same(load(tmp_path / "a.pt"), fuse(back))


def test_a_network_that_is_fused_in_part_comes_back_so(unfused, tmp_path):
    fuse(unfused.model[2])
    write(unfused, tmp_path / "a.pt")
    assert_same(load(tmp_path / "a.pt", fused=False), round_to_half(unfused))


def test_writing_leaves_the_network_as_it_was(network, tmp_path):
    before = copy.deepcopy(network)
    write(network.train(), tmp_path / "a.pt")
    assert network.training
    assert_same(network, before)


def test_writing_again_gives_the_same_weights(network, tmp_path):
    write(network, tmp_path / "a.pt")
    write(load(tmp_path / "a.pt"), tmp_path / "b.pt")
    assert_same(load(tmp_path / "a.pt"), load(tmp_path / "b.pt"))


def test_what_is_too_small_for_half_precision_does_not_become_zero(network, tmp_path):
    with torch.no_grad():
        network.model[0].conv.weight[0, 0, 0, :2] = torch.tensor([1e-12, -1e-12])
        network.model[0].conv.bias[:2] = torch.tensor([1e-12, -0.0])
    write(network, tmp_path / "a.pt")
    assert_same(load(tmp_path / "a.pt"), round_to_half(network))


def test_a_network_on_its_way_through_a_detector_is_written(network, tmp_path):
    """In channels_last, half precision, its convolutions of another class."""
    expected = copy.deepcopy(round_to_half(network))
    network.to(torch.float16, memory_format=torch.channels_last)
    for module in network.modules():
        if type(module) is nn.Conv2d:
            module.__class__ = type("Faster", (nn.Conv2d,), {})
    write(network, tmp_path / "a.pt")
    assert_same(load(tmp_path / "a.pt"), expected)
    assert globals_of(tmp_path / "a.pt") < STOCK


def narrow(network):
    """Take hidden channels away from every bottleneck, each another number of them."""
    for count, block in enumerate((m for m in network.modules() if type(m).__name__ == "Bottleneck"), 3):
        first, second = block.cv1.conv, block.cv2.conv
        first.weight, first.bias = nn.Parameter(first.weight[:count]), nn.Parameter(first.bias[:count])
        second.weight = nn.Parameter(second.weight[:, :count])
        first.out_channels = second.in_channels = count
    return network.requires_grad_(False)


def test_irregular_channels_come_back(network, tmp_path, opened):
    write(narrow(network), tmp_path / "a.pt")
    back = load(tmp_path / "a.pt")
    assert back.model[2].m[0].cv1.conv.weight.shape[0] == 3
    assert_same(back, round_to_half(network))
    assert raw(back)[0].shape == (1, 24, 8, 8)
    yaml = opened(tmp_path / "a.pt")["model"].yaml
    assert "backbone" not in yaml  # its rows can't say these channels


@pytest.mark.parametrize(
    "names", [("猫", "狗 \U0001f415", "oiseau d'été"), ("a\nb", "", " ")], ids=["unicode", "odd ones"]
)
def test_names_come_back(tmp_path, opened, names):
    write(build(yolov5("yolov5n", nc=3), names), tmp_path / "a.pt")
    assert load(tmp_path / "a.pt").names == names
    assert opened(tmp_path / "a.pt")["model"].names == dict(enumerate(names))


# --- every kind of block ---------------------------------------------------------------------------


def module(kind, attributes=None, **children):
    return ModuleSpec(kind, attributes or {}, children)


def sequential(*modules, kind="Sequential"):
    return ModuleSpec(kind, {}, {str(i): one for i, one in enumerate(modules)})


def pool(k):
    return module("MaxPool2d", {"kernel_size": k, "stride": 1, "padding": k // 2})


def bare(c1, c2):
    return conv(c1, c2).children["conv"]


def linear(bias=False):
    return module("Linear", {"in_features": 4, "out_features": 4, "bias": bias})


def bottleneck(c):
    return module("Bottleneck", {"add": True}, cv1=conv(c, c), cv2=conv(c, c, 3))


def spp(c):
    pools = sequential(*(pool(k) for k in (5, 9, 13)), kind="ModuleList")
    return module("SPP", cv1=conv(c, c // 2), cv2=conv(2 * c, c), m=pools)


def csp(c):
    norm = module("BatchNorm2d", {"num_features": c, "eps": 1e-3, "momentum": 0.03})
    act = module("LeakyReLU", {"negative_slope": 0.1})
    parts = {"cv1": conv(c, c // 2), "cv2": bare(c, c // 2), "cv3": bare(c // 2, c // 2), "cv4": conv(c, c)}
    return module("BottleneckCSP", **parts, bn=norm, act=act, m=sequential(bottleneck(c // 2)))


def ghost(c):
    return module("GhostConv", cv1=conv(c, c // 2), cv2=conv(c // 2, c // 2, 5))


def transformer(**more):
    attention = module("MultiheadAttention", {"embed_dim": 4, "num_heads": 2})
    layer = module("TransformerLayer", ma=attention, **{n: linear() for n in ("q", "k", "v", "fc1", "fc2")})
    return module("TransformerBlock", linear=linear(bias=True), tr=sequential(layer), **more)


def with_m(m):
    return ModuleSpec("C3", {}, c3(8, 8, 1).children | {"m": m})


def activated(act):
    return ModuleSpec("Conv", {}, conv(8, 8).children | {"act": act})


BLOCKS = {
    "Conv": conv(8, 8, 3),
    "Conv with Hardswish": activated(module("Hardswish")),
    "Conv with Identity": activated(module("Identity")),
    "Bottleneck": bottleneck(8),
    "BottleneckCSP": csp(8),
    "SPP": spp(8),
    "SPPF": sppf(8, 8, 5),
    "C3": c3(8, 8, 2),
    "C3 of SPP": with_m(spp(4)),
    "C3 of ghosts": with_m(
        sequential(
            module(
                "GhostBottleneck",
                conv=sequential(ghost(4), module("Identity"), ghost(4)),
                shortcut=sequential(conv(4, 4, 3), conv(4, 4)),
            )
        )
    ),
    "C3 of a transformer": with_m(transformer()),
    "C3 of a transformer with a convolution": with_m(transformer(conv=conv(4, 4))),
    "GhostConv": ghost(8),
    "Focus": sequential(
        module("Focus", conv=conv(32, 8)),
        module("Upsample", {"size": None, "scale_factor": 2.0, "mode": "nearest"}),
    ),
    "Contract and Expand": sequential(
        module("Contract", {"gain": 2}), conv(32, 32), module("Expand", {"gain": 2})
    ),
    "torch's own": sequential(module("ReLU"), module("LeakyReLU", {"negative_slope": 0.2})),
}


def block_network(spec):
    attributes = conv(8, 8).children["conv"].attributes | {"out_channels": 24, "bias": True}
    maps = sequential(ModuleSpec("Conv2d", attributes), kind="ModuleList")
    head = module("Detect", {"nc": 3, "na": 3, "strides": (8,)}, m=maps)
    layers = (Layer(conv(3, 8, 3, 8)), Layer(spec), Layer(concat(), (-1, -2)), Layer(conv(16, 8)))
    torch.manual_seed(0)
    network = build((*layers, Layer(head, (3,))), ("cat", "dog", "bird"))
    network.head.anchors.uniform_(1, 8)
    return shuffle(network)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
@pytest.mark.parametrize("spec", BLOCKS.values(), ids=BLOCKS)
def test_every_block_comes_back(tmp_path, spec, fused):
    network = block_network(spec)
    network = fuse(network) if fused else network
    write(network, tmp_path / "a.pt")
    back = load(tmp_path / "a.pt", fused=False)
    assert_same(back, round_to_half(network))
    assert torch.equal(raw(back)[0], raw(network)[0])
    assert globals_of(tmp_path / "a.pt") <= STOCK | TRANSFORMER


def test_a_transformer_block_carries_its_width(tmp_path, opened):
    write(block_network(with_m(transformer())), tmp_path / "a.pt")
    block = opened(tmp_path / "a.pt")["model"].model[1].m
    assert (block.c2, block.conv) == (4, None)


# --- what the file holds ---------------------------------------------------------------------------


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
def test_the_file_names_the_classes_of_a_stock_checkpoint_alone(unfused, tmp_path, fused):
    write(fuse(unfused) if fused else unfused, tmp_path / "a.pt")
    found = globals_of(tmp_path / "a.pt")
    named = {f"models.common {name}" for name in ("Conv", "Bottleneck", "C3", "SPPF", "Concat")}
    assert {one for one in found if one.startswith("models.")} == {
        *named,
        *("models.yolo DetectionModel", "models.yolo Detect"),
    }
    assert found < STOCK


def test_the_root_is_that_of_a_finished_training(network, tmp_path, opened):
    write(network, tmp_path / "a.pt")
    root = opened(tmp_path / "a.pt")
    assert datetime.fromisoformat(root.pop("date")) <= datetime.now()
    assert type(root.pop("model")).__qualname__ == "DetectionModel"
    nothing = dict.fromkeys(("best_fitness", "ema", "updates", "optimizer", "opt", "git"))
    assert root == {"epoch": -1, **nothing}


def test_every_tensor_is_in_half_precision(network, tmp_path, opened):
    write(network.requires_grad_(True), tmp_path / "a.pt")
    whole = opened(tmp_path / "a.pt")["model"]
    assert {t.dtype for n, t in whole.state_dict().items() if "num_batches" not in n} == {torch.float16}
    assert not any(p.requires_grad for p in whole.parameters())
    assert not any(m.training or m._forward_hooks or m._forward_pre_hooks for m in whole.modules())
    assert (tmp_path / "a.pt").stat().st_size < 2.3 * sum(p.numel() for p in network.parameters())


def test_the_layers_say_what_yolov5_asks_them(network, tmp_path, opened):
    write(network, tmp_path / "a.pt")
    whole = opened(tmp_path / "a.pt")["model"]
    assert (whole.save, whole.nc, whole.inplace) == ([4, 6, 10, 14, 17, 20, 23], 3, True)
    assert whole.stride.tolist() == [8, 16, 32]
    layers = list(whole.model)
    assert [layer.i for layer in layers] == list(range(25))
    assert [layers[i].f for i in (0, 12, 24)] == [-1, [-1, 6], [17, 20, 23]]
    types = ("models.common.Conv", "torch.nn.modules.upsampling.Upsample", "models.yolo.Detect")
    assert tuple(layers[i].type for i in (0, 11, 24)) == types
    assert layers[0].np == 16 * 3 * 36 + 2 * 16  # a norm's scale and shift in place of the bias
    assert layers[0].act.inplace


def test_a_head_of_one_level_takes_a_list(tmp_path, opened):
    write(block_network(BLOCKS["Conv"]), tmp_path / "a.pt")
    whole = opened(tmp_path / "a.pt")["model"]
    assert (whole.model[-1].f, whole.model[2].f, whole.save) == ([3], [-1, -2], [0, 3])


def test_the_head_holds_what_yolov5_asks_it(network, tmp_path, opened):
    write(network, tmp_path / "a.pt")
    head = opened(tmp_path / "a.pt")["model"].model[-1]
    assert (head.nc, head.no, head.nl, head.na, head.inplace) == (3, 8, 3, 3, True)
    assert head.stride.tolist() == [8, 16, 32]
    assert torch.equal(head.anchors.float(), network.head.anchors)
    for grids in (head.grid, head.anchor_grid):
        assert [grid.shape for grid in grids] == [(0,)] * 3


def test_a_neutral_norm_adds_the_bias_alone(network, tmp_path, opened):
    write(network, tmp_path / "a.pt")
    whole = opened(tmp_path / "a.pt")["model"].float()
    first, expected = whole.model[0], round_to_half(network).model[0].conv
    assert (first.conv.bias, first.bn.eps) == (None, 0)
    fused = nn.utils.fusion.fuse_conv_bn_eval(first.conv, first.bn)
    assert torch.equal(fused.weight, expected.weight)
    assert torch.equal(fused.bias, expected.bias)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
def test_the_yaml_tells_the_network_in_true_channels(unfused, tmp_path, opened, fused):
    unfused.head.anchors.copy_(torch.tensor([[1.25, 1.625], [2, 3.75], [4.125, 2.875]]).expand(3, 3, 2))
    write(fuse(unfused) if fused else unfused, tmp_path / "a.pt")
    yaml = opened(tmp_path / "a.pt")["model"].yaml
    assert (yaml["nc"], yaml["depth_multiple"], yaml["width_multiple"]) == (3, 1, 1)
    assert yaml["anchors"][0] == [10, 13, 16, 30, 33, 23]
    assert [len(yaml[part]) for part in ("backbone", "head")] == [10, 15]
    rows = yaml["backbone"] + yaml["head"]
    assert rows[0] == [-1, 1, "Conv", [16, 6, 2, 2]]
    assert rows[1] == [-1, 1, "Conv", [32, 3, 2]]
    assert rows[6] == [-1, 3, "C3", [128]]
    assert rows[9] == [-1, 1, "SPPF", [256, 5]]
    assert rows[11:14] == [
        [-1, 1, "nn.Upsample", ["None", 2, "nearest"]],
        [[-1, 6], 1, "Concat", [1]],
        [-1, 1, "C3", [128, False]],
    ]
    assert rows[24] == [[17, 20, 23], 1, "Detect", ["nc", "anchors"]]


@pytest.mark.parametrize("kind", ["Conv with Hardswish", "C3 of a transformer", "BottleneckCSP"])
def test_the_yaml_leaves_out_rows_that_would_tell_another_network(tmp_path, opened, kind):
    write(block_network(BLOCKS[kind]), tmp_path / "a.pt")
    assert not {"backbone", "head"} & opened(tmp_path / "a.pt")["model"].yaml.keys()


def test_no_module_appears_or_goes(network, tmp_path):
    before = dict(sys.modules)
    write(network, tmp_path / "a.pt")
    assert sys.modules == before


# --- what is refused -------------------------------------------------------------------------------


def full(path, data):
    with path.open("wb") as file:
        file.write(data[:1000])
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_the_old_file(network, tmp_path, monkeypatch):
    write(network, tmp_path / "a.pt")
    before = (tmp_path / "a.pt").read_bytes()
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"No space left on device") as caught:
        write(network, tmp_path / "a.pt")
    assert str(tmp_path) in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]
    assert (tmp_path / "a.pt").read_bytes() == before


def test_a_folder_is_made(network, tmp_path):
    write(network, tmp_path / "runs" / "1" / "a.pt")
    assert read_checkpoint(tmp_path / "runs" / "1" / "a.pt").names == ("cat", "dog", "bird")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_weights_that_half_precision_cannot_hold_are_refused(network, tmp_path, value):
    with torch.no_grad():
        network.model[0].conv.bias[0] = value
    with pytest.raises(InputError, match=r"model.0.conv.bias: a weight is not finite or above 65504"):
        write(network, tmp_path / "a.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_later_layer_that_takes_the_image_is_refused(tmp_path):
    network = block_network(BLOCKS["Conv"])
    network.architecture = (*network.architecture[:2], Layer(concat(), (-1, -3)), *network.architecture[3:])
    with pytest.raises(InputError, match=r"model\.2 takes the image itself"):
        write(network, tmp_path / "a.pt")


# --- the real thing --------------------------------------------------------------------------------


@pytest.mark.assets
def test_the_published_yolov5n_comes_back(assets, tmp_path):
    published = load(assets / "yolov5n.pt", fused=False)
    write(published, tmp_path / "a.pt")
    assert_same(load(tmp_path / "a.pt", fused=False), published)


@pytest.mark.assets
def test_it_says_what_the_published_file_says(assets, tmp_path, opened):
    write(load(assets / "yolov5n.pt", fused=False), tmp_path / "a.pt")
    sys.modules["models.yolo"].Model = sys.modules["models.yolo"].DetectionModel
    ours, theirs = opened(tmp_path / "a.pt")["model"], opened(assets / "yolov5n.pt")["model"]
    assert (ours.save, ours.nc) == (theirs.save, theirs.nc)
    assert ours.yaml["anchors"] == theirs.yaml["anchors"]
    for mine, published in zip(ours.model, theirs.model, strict=True):
        said = [
            SimpleNamespace(**{key: getattr(m, key) for key in ("i", "f", "type", "np")})
            for m in (mine, published)
        ]
        assert said[0] == said[1]
