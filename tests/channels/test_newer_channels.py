"""Channels of YOLO11, YOLO12 and YOLO26: attention, depthwise convolutions, factors, two branches."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sparsity.base.errors import InputError
from sparsity.channels.compacting import compact
from sparsity.channels.cutting import cut
from sparsity.channels.graph import Channels, trace_channels
from sparsity.channels.scores import channel_scores, free_channels
from sparsity.channels.slimming import slim
from sparsity.channels.slimming_settings import SlimmingSettings
from sparsity.formats.half import round_to_half
from sparsity.formats.loading import load
from sparsity.formats.onnx_file import Exporter, write_model
from sparsity.formats.saving import save
from sparsity.pruning.layers import convolutions
from sparsity.training.sparse_training import ScalePenalty
from sparsity.yolo.attention import SelfAttention
from sparsity.yolo.current import current_architecture
from sparsity.yolo.families import published_architecture
from sparsity.yolo.heads import choose_head, held_heads, keep_head
from sparsity.yolo.network import Network, build, fuse
from sparsity.yolo.parts import conv, layer
from sparsity.yolo.spec import Architecture
from sparsity.yolo.yolo11.architectures import c2psa, light_detect
from sparsity.yolo.yolo12 import architectures as yolo12_architectures
from sparsity.yolo.yolov8.architectures import Scale

IMAGES = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
FAMILIES = ("yolo11n", "yolo12n", "yolo12 with factors", "yolo26n", "yolo26n one2many", "yolo26n one2one")


def architecture_of(name: str) -> Architecture:
    if name != "yolo12 with factors":
        return published_architecture(name, 3)
    scales = yolo12_architectures.SCALES
    with pytest.MonkeyPatch.context() as patch:
        # As deep as l and x, with residuals and gamma, and narrow.
        patch.setattr(yolo12_architectures, "SCALES", {**scales, "narrow": Scale(1.0, 1 / 4, 512)})
        return yolo12_architectures.yolo12("narrow", 3)


@torch.no_grad()
def randomised(network: Network) -> Network:
    """The network in float64, with random weights and the statistics of IMAGES, so that no map dies out."""
    network = network.double().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.normal_(std=module.weight[0].numel() ** -0.5, generator=generator)
            if module.bias is not None:
                module.bias.uniform_(-0.5, 0.5, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.weight.uniform_(0.5, 1.5, generator=generator)
            module.bias.uniform_(-0.5, 0.5, generator=generator)
            module.momentum = 1.0
    for name, parameter in network.named_parameters():
        if name.endswith("gamma"):
            parameter.uniform_(0.2, 1, generator=generator)
    network.train()(IMAGES)
    for branch in reversed(held_heads(network)):
        choose_head(network, branch)(IMAGES)
    return network.eval()


@pytest.fixture(scope="module")
def made() -> dict[str, Network]:
    """Networks that were made already, by their names. They are not to be changed."""
    return {}


@pytest.fixture(params=FAMILIES)
def network(request, made) -> Network:
    """A network of a newer family, with batch norms, in float64."""
    return copy.deepcopy(_made(request.param, made))


def _made(name: str, made: dict[str, Network]) -> Network:
    if name not in made:
        family, _, branch = name.partition(" one2")
        network = build(architecture_of(family), ("cat", "dog", "bird"))
        made[name] = randomised(keep_head(network, f"one2{branch}") if branch else network)
    return made[name]


@pytest.fixture
def of_name(made) -> Callable[[str], Network]:
    """Makes the network of a name in FAMILIES."""
    return lambda name: copy.deepcopy(_made(name, made))


def attentions(network: Network) -> dict[str, SelfAttention]:
    return {name: one for name, one in network.named_modules() if isinstance(one, SelfAttention)}


def heads_of(channels: Channels, name: str) -> Tensor:
    """The identities of the heads of an attention."""
    return channels.layers[f"{name}.qkv.conv"].outputs.unique()


def first_heads(network: Network, channels: Channels) -> Tensor:
    """The first head of each attention that has several."""
    several = [name for name, one in attentions(network).items() if one.num_heads > 1]
    assert several
    return torch.stack([channels.layers[f"{name}.qkv.conv"].outputs[0] for name in several])


def some(network: Network, channels: Channels, share: float, *, tied: bool) -> Tensor:
    """Free identities to cut, bool: about that share, with a head of each attention, but none of all."""
    drawn = torch.rand(len(channels.pinned), generator=torch.Generator().manual_seed(1))
    found = drawn < share
    found[first_heads(network, channels)] = True
    found &= free_channels(channels, tied=tied)
    for ends in channels.layers.values():
        found[ends.outputs[-1]] = False
    return found


@torch.no_grad()
def every_raw(network: Network, images: Tensor = IMAGES) -> list[Tensor]:
    """The raw maps of every branch."""
    held = held_heads(network)
    if not held:
        return network(images)
    runs = [choose_head(copy.deepcopy(network), branch)(images) for branch in held]
    return [raw for run in runs for raw in run]


def assert_alike(one: Network, other: Network, rtol: float = 1e-5) -> None:
    """Raw maps of every branch differ by less than rtol of their largest number."""
    for ours, theirs in zip(every_raw(one), every_raw(other), strict=True):
        assert theirs.std() > 1e-3
        assert (ours - theirs).abs().max() < rtol * theirs.abs().max()


@torch.no_grad()
def switch_off(network: Network, channels: Channels, which: Tensor) -> None:
    """Set the scales and shifts of these channels to 0."""
    for name, ends in channels.layers.items():
        module = network.get_submodule(name)
        if isinstance(module, nn.BatchNorm2d):
            module.weight[which[ends.outputs]] = module.bias[which[ends.outputs]] = 0


# --- which channels are one ------------------------------------------------------------------------


def test_only_image_and_raw_maps_are_pinned(network):
    channels = trace_channels(network)
    convs = dict(convolutions(network))
    head = f"model.{len(network.model) - 1}."
    last = [name for name in convs if name.startswith(head) and not name.endswith(".conv")]
    ends = [channels.layers["model.0.conv"].inputs, *(channels.layers[name].outputs for name in last)]
    assert sorted(channels.pinned.nonzero().flatten().tolist()) == sorted(torch.cat(ends).unique().tolist())
    assert len(last) == 6 * max(1, len(held_heads(network))), (
        "boxes and classes of three maps and each branch"
    )
    norms = {name for name, one in network.named_modules() if isinstance(one, nn.BatchNorm2d)}
    assert channels.layers.keys() == convs.keys() | norms, "branches that do not run too"


def test_the_channels_of_an_attention_go_by_heads(network):
    channels = trace_channels(network)
    for name, one in attentions(network).items():
        qkv = channels.layers[f"{name}.qkv.conv"].outputs.view(one.num_heads, -1)
        assert (qkv == qkv[:, :1]).all()
        assert len(qkv[:, 0].unique()) == one.num_heads
        of_values = qkv[:, :1].expand(-1, one.head_dim).flatten()
        for layer_name, side in (("pe.conv", "inputs"), ("pe.conv", "outputs"), ("proj.conv", "inputs")):
            assert torch.equal(getattr(channels.layers[f"{name}.{layer_name}"], side), of_values)
        stream = channels.layers[f"{name}.proj.conv"].outputs
        assert torch.equal(channels.layers[f"{name}.qkv.conv"].inputs, stream), "the addition ties them"
        assert not channels.heads[stream].any()
    assert int(channels.heads.sum()) == sum(one.num_heads for one in attentions(network).values())
    assert not free_channels(channels, tied=False)[channels.heads].any()
    assert free_channels(channels, tied=True)[channels.heads].all()


def test_additions_tie_the_stream_of_a_block_of_attention(of_name):
    layers = trace_channels(of_name("yolo11n")).layers
    halves = layers["model.10.cv1.conv"].outputs
    assert torch.equal(halves[:128], halves[128:]), "the halves of C2PSA lose the same channels"
    for name in ("attn.proj", "ffn.1"):
        assert torch.equal(layers[f"model.10.m.0.{name}.conv"].outputs, halves[128:])
    assert not set(layers["model.10.m.0.ffn.0.conv"].outputs.tolist()) & set(halves.tolist())


def test_the_addition_of_sppf_ties_its_input_and_its_output(of_name):
    layers = trace_channels(of_name("yolo26n")).layers
    assert torch.equal(layers["model.9.cv1.conv"].inputs, layers["model.9.cv2.conv"].outputs)
    layers = trace_channels(of_name("yolo11n")).layers
    one, other = layers["model.9.cv1.conv"].inputs, layers["model.9.cv2.conv"].outputs
    assert not set(one.tolist()) & set(other.tolist())


def test_factors_go_with_the_channels_that_they_multiply(of_name):
    network = of_name("yolo12 with factors")
    channels = trace_channels(network)
    assert set(channels.factors) == {"model.6.gamma", "model.8.gamma"}
    for index in (6, 8):
        own = channels.factors[f"model.{index}.gamma"]
        assert torch.equal(own, channels.layers[f"model.{index}.cv2.conv"].outputs)
        assert torch.equal(own, channels.layers[f"model.{index}.cv1.conv"].inputs), "the residual ties them"
    assert not trace_channels(of_name("yolo12n")).factors


def test_depthwise_layers_of_the_head_go_with_the_map_that_they_filter(network):
    layers = trace_channels(network).layers
    head = f"model.{len(network.model) - 1}"
    names = ["one2one_cv3" if branch == "one2one" else "cv3" for branch in held_heads(network) or ("",)]
    for name in names:
        one, other = (layers[f"{head}.{name}.0.{step}.0.conv"] for step in (0, 1))
        assert torch.equal(one.inputs, one.outputs)
        assert torch.equal(one.inputs, layers[f"{head}.{names[0]}.0.0.0.conv"].inputs), "all read one map"
        assert torch.equal(other.outputs, layers[f"{head}.{name}.0.0.1.conv"].outputs)


# --- cutting ---------------------------------------------------------------------------------------


def test_a_cut_network_gives_what_silenced_channels_give(network):
    channels = trace_channels(network)
    off = some(network, channels, 0.4, tied=True)
    before = {name: one.num_heads for name, one in attentions(network).items()}
    smaller = cut(network, channels, ~off)
    switch_off(network, channels, off)
    assert_alike(smaller, network)
    after = {name: one.num_heads for name, one in attentions(smaller).items()}
    assert after == {name: count - int(off[heads_of(channels, name)].sum()) for name, count in before.items()}
    assert any(after[name] < count for name, count in before.items())
    assert smaller.architecture == current_architecture(smaller)
    assert held_heads(smaller) == held_heads(network)


def test_a_cut_network_can_be_cut_again(network):
    channels = trace_channels(network)
    once = cut(network, channels, ~some(network, channels, 0.3, tied=True))
    channels = trace_channels(once)
    drawn = torch.rand(len(channels.pinned), generator=torch.Generator().manual_seed(3)) < 0.3
    off = drawn & free_channels(channels, tied=True)
    for ends in channels.layers.values():
        off[ends.outputs[-1]] = False
    again = cut(once, channels, ~off)
    switch_off(once, channels, off)
    assert_alike(again, once)


def test_a_network_never_loses_the_last_head_of_an_attention(of_name):
    network = of_name("yolo11n")
    channels = trace_channels(network)
    keep = torch.ones_like(channels.pinned)
    keep[channels.heads] = False
    with pytest.raises(InputError, match=r"model\.10\.m\.0\.attn.*would cut all of its \d+ channels; keep 1"):
        cut(network, channels, keep)


@pytest.fixture
def one_head() -> Network:
    """A network whose attention has one head."""
    blocks = (conv(3, 16, 3, 2), conv(16, 16, 3, 2), conv(16, 16, 3, 2), c2psa(16, 1))
    head = light_detect((16,), 3, (8,))
    network = build((*map(layer, blocks), layer(head, 3)), ("cat", "dog", "bird"))
    return randomised(network)


def test_an_attention_of_one_head_stays_whole(one_head):
    (before,) = attentions(one_head).values()
    found = slim(one_head, SlimmingSettings(0.9, tied=True, min_channels=1))
    (after,) = attentions(found.network).values()
    assert (after.num_heads, after.head_dim, after.key_dim) == (1, before.head_dim, before.key_dim)
    assert after.qkv.conv.out_channels == before.qkv.conv.out_channels
    assert after.qkv.conv.in_channels < before.qkv.conv.in_channels
    found.network(IMAGES)


# --- slimming --------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [False, True], ids=["free", "tied"])
def test_channels_of_scale_and_shift_0_change_nothing(network, tied):
    channels = trace_channels(network)
    free = free_channels(channels, tied=tied)
    off = some(network, channels, 0.3, tied=tied)
    switch_off(network, channels, off)
    for fold in (True, False):
        share = int(off.sum()) / int(free.sum())
        found = slim(network, SlimmingSettings(share, tied=tied, fold=fold, min_channels=1))
        assert found.extent.removed == int(off.sum()) > 0.2 * int(free.sum())
        assert found.extent.threshold == 0
        assert_alike(found.network, network)
    heads = [one.num_heads for one in attentions(found.network).values()]
    assert (heads != [one.num_heads for one in attentions(network).values()]) == tied


def depthwise_chain(network: Network) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Of the class branch of the first map: a Conv, the depthwise Conv that reads it, and its only reader."""
    branch = network.head.cv3[0]
    return branch[0][1], branch[1][0], branch[1][1]


@pytest.mark.parametrize(
    ("scales", "border"),
    [
        pytest.param((0, 0.8), 3, id="off before: a constant, which padding ends at the border"),
        pytest.param((0.9, 0), 0, id="off behind: the same everywhere"),
        pytest.param((0, 0), 0, id="off before and behind"),
    ],
)
def test_what_comes_through_a_depthwise_convolution_is_folded(of_name, scales, border):
    network = of_name("yolo11n")
    one, filtering, reader = depthwise_chain(network)
    for module, scale in zip((one, filtering), scales, strict=True):
        module.bn.weight[:5], module.bn.bias[:5] = scale, torch.linspace(-0.9, 1.1, 5, dtype=torch.float64)
    channels = trace_channels(network)
    gone = channels.layers["model.23.cv3.0.0.1.conv"].outputs[:5]
    assert (channel_scores(network, channels, "bn")[gone] == 0).all()
    free = int(free_channels(channels, tied=False).sum())
    found = slim(network, SlimmingSettings(5 / free, min_channels=1)).network
    assert found.head.cv3[0][1][1].conv.in_channels == reader.conv.in_channels - 5
    with torch.no_grad():
        x = network.head.cv3[0][0][0](torch.rand(1, 64, 12, 16, dtype=torch.float64))
        ours, theirs = (h.cv3[0][1](h.cv3[0][0][1](x)) for h in (found.head, network.head))
    away = (ours - theirs).abs()
    assert away[..., 1:-1, 1:-1].max() < 1e-6, "scores are float32"
    assert (away.max() > 1e-3) == bool(border)


def test_what_is_read_counts_not_what_filters_it(of_name):
    network = of_name("yolo11n")
    channels = trace_channels(network)
    scores = channel_scores(network, channels, "bn")
    one, filtering, _ = depthwise_chain(network)
    both = torch.minimum(one.bn.weight, filtering.bn.weight).abs().float()
    assert torch.equal(scores[channels.layers["model.23.cv3.0.0.1.conv"].outputs], both)
    # The map is read by other layers too: its own scale counts, whatever the depthwise layer does to it.
    own = network.model[16].cv2.bn.weight.abs().float()
    assert torch.equal(scores[channels.layers["model.16.cv2.conv"].outputs], own)


@pytest.mark.parametrize("by", ["bn", "l1"])
def test_the_score_of_a_head_is_that_of_its_values(network, by):
    channels = trace_channels(network)
    scores = channel_scores(network, channels, by)
    fused = fuse(copy.deepcopy(network))
    for name, one in attentions(network).items():
        whole = fused.get_submodule(name).qkv.conv.weight.abs().mean((1, 2, 3))
        own = one.qkv.bn.weight.abs() if by == "bn" else whole
        of_values = own.view(one.num_heads, -1)[:, 2 * one.key_dim :].amax(1).float()
        found = scores[channels.layers[f"{name}.qkv.conv"].outputs].view(one.num_heads, -1)[:, 0]
        torch.testing.assert_close(found, of_values)


def test_factors_multiply_scores(of_name):
    network = of_name("yolo12 with factors")
    channels = trace_channels(network)
    block, stem = network.model[6], network.model[5]
    block.gamma[:4], stem.bn.weight[:4] = torch.tensor([0.0, 0.5, 2.0, -2.0]), 0.3
    scores = channel_scores(network, channels, "bn")[channels.factors["model.6.gamma"]]
    added = block.gamma.abs() * block.cv2.bn.weight.abs()
    torch.testing.assert_close(scores, stem.bn.weight.abs().maximum(added).float())


def test_heads_are_not_rounded(of_name):
    network = of_name("yolo12n")
    channels = trace_channels(network)
    off = torch.zeros_like(channels.pinned)
    off[first_heads(network, channels)] = True
    switch_off(network, channels, off)
    share = int(off.sum()) / int(free_channels(channels, tied=True).sum())
    found = slim(network, SlimmingSettings(share, tied=True, round_to=8))
    assert found.extent.removed == int(off.sum())
    assert_alike(found.network, network)


def test_sparse_training_counts_the_channels_that_slimming_cuts(of_name):
    network = of_name("yolo11n")
    penalty = ScalePenalty(network, 0.01, "yolov8", tied=True, epochs=1)
    assert penalty.count_small(network) == 0
    one, filtering, _ = depthwise_chain(network)
    one.bn.weight[:3], filtering.bn.weight[3:5] = 1e-3, 1e-3
    assert penalty.count_small(network) == 5, "a channel ends before or behind the depthwise layer"
    attn = network.model[10].m[0].attn
    attn.qkv.bn.weight.view(2, -1)[0, : 2 * attn.key_dim] = 0
    assert penalty.count_small(network) == 5, "a head without queries and keys gives means of its values"
    attn.qkv.bn.weight.view(2, -1)[0, 2 * attn.key_dim :] = 0
    assert penalty.count_small(network) == 6


# --- dead channels ---------------------------------------------------------------------------------


@torch.no_grad()
def kill(conv: nn.Conv2d, filters: Tensor | slice | list[int], bias: float) -> None:
    """Set filters' weights to 0, and their biases to bias."""
    conv.weight[filters], conv.bias[filters] = 0, bias


@torch.no_grad()
def with_dead_channels(network: Network, share: float) -> Network:
    """The network, fused, with dead filters in every layer, whose constants are random or exactly 0."""
    network, generator = fuse(network), torch.Generator().manual_seed(0)
    for name, one in convolutions(network):
        if name.startswith(f"model.{len(network.model) - 1}.") and not name.endswith(".conv"):
            continue
        filters = torch.rand(one.out_channels, generator=generator) < share
        constants = torch.rand(one.out_channels, generator=generator, dtype=torch.float64) * 4 - 2
        zero = torch.rand(one.out_channels, generator=generator) < 0.5
        one.weight[filters] = 0
        one.bias[filters] = constants.masked_fill(zero, 0)[filters]
    for name, one in attentions(network).items():
        if one.num_heads > 1:
            values = torch.arange(one.qkv.conv.out_channels).view(one.num_heads, -1)[0, 2 * one.key_dim :]
            kill(one.qkv.conv, values, 0.7 if name.endswith("0.attn") else 0)
            kill(one.pe.conv, slice(0, one.head_dim), 0.4)
    return network


def test_a_network_without_dead_channels_gives_the_same(network):
    network = with_dead_channels(network, 0.4)
    found = compact(network)
    assert found.channels_after < 0.9 * found.channels_before
    assert_alike(found.network, network)
    assert found.network.architecture == current_architecture(found.network)
    for name, one in attentions(network).items():
        lost = one.num_heads - found.network.get_submodule(name).num_heads
        assert lost == (one.num_heads > 1), name
    assert compact(found.network).channels_after == found.channels_after


@pytest.mark.parametrize(
    ("values", "places", "removed"),
    [
        pytest.param(0.0, True, 1, id="zeros, which pe turns to a constant"),
        pytest.param(0.7, False, 1, id="constants, which pe does not read"),
        pytest.param(0.7, True, 0, id="constants, which end at the border for pe"),
    ],
)
def test_a_head_goes_if_all_that_proj_reads_is_constant(of_name, values, places, removed):
    network = fuse(of_name("yolo11n"))
    attn = network.model[10].m[0].attn
    kill(attn.qkv.conv, slice(2 * attn.key_dim, 2 * attn.key_dim + attn.head_dim), values)
    if not places:
        kill(attn.pe.conv, slice(0, attn.head_dim), -0.3)
    found = compact(network)
    small = found.network.model[10].m[0].attn
    assert (small.num_heads, small.head_dim, small.key_dim) == (2 - removed, attn.head_dim, attn.key_dim)
    assert_alike(found.network, network)


def test_queries_and_keys_that_are_0_leave_the_head(of_name):
    network = fuse(of_name("yolo11n"))
    attn = network.model[10].m[0].attn
    kill(attn.qkv.conv, slice(0, 2 * attn.key_dim), 0.0)
    found = compact(network)
    assert found.network.model[10].m[0].attn.num_heads == 2, "it gives the means of its values"
    assert_alike(found.network, network)


@pytest.mark.parametrize(("bias", "gone"), [(0.0, 4), (1.3, 0)], ids=["0", "a constant"])
def test_constants_before_padded_depthwise_layers(of_name, bias, gone):
    network = fuse(of_name("yolo11n"))
    one, _, _ = depthwise_chain(network)
    kill(one.conv, slice(0, 4), bias)
    found = compact(network)
    assert found.network.head.cv3[0][1][0].conv.groups == one.conv.out_channels - gone
    assert_alike(found.network, network)


def test_a_channel_that_only_the_other_branch_reads_stays(of_name):
    network = fuse(of_name("yolo26n"))
    for name in ("cv2", "cv3"):
        first = getattr(network.head, name)[0][0]
        reader = first.conv if name == "cv2" else first[1].conv
        reader.weight[:, :6] = 0
    maps = network.model[16].cv2.conv
    layers = [layer for layer in compact(network).layers if layer.name == "model.16.cv2.conv"]
    assert layers[0].after[0] == maps.out_channels
    assert_alike(compact(network).network, network)


def test_a_factor_of_0_ends_a_channel(of_name):
    network = fuse(of_name("yolo12 with factors"))
    network.model[6].gamma[:5] = 0
    kill(network.model[5].conv, slice(0, 5), 0.0)
    found = compact(network)
    assert len(found.network.model[6].gamma) == len(network.model[6].gamma) - 5
    assert_alike(found.network, network)


# --- files -----------------------------------------------------------------------------------------


def cut_down(network: Network) -> Network:
    """The network without 30% of its channels and without heads, as files keep it, in float32."""
    channels = trace_channels(network)
    off = some(network, channels, 0.3, tied=True)
    switch_off(network, channels, off)
    share = int(off.sum()) / int(free_channels(channels, tied=True).sum())
    return round_to_half(slim(network, SlimmingSettings(share, tied=True, min_channels=1)).network.float())


def test_they_are_read_back(network, tmp_path):
    smaller = cut_down(network)
    save(smaller, tmp_path / "small.safetensors")
    again = load(tmp_path / "small.safetensors", fused=False)
    assert again.architecture == smaller.architecture == current_architecture(again)
    for ours, theirs in zip(
        every_raw(again, IMAGES.float()), every_raw(smaller, IMAGES.float()), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_they_are_exported(network, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    smaller = fuse(cut_down(network))
    for branch in held_heads(smaller) or ("",):
        if branch:
            choose_head(smaller, branch)
        write_model(Exporter(decoded=False).export(smaller), tmp_path / "small.onnx")
        session = onnxruntime.InferenceSession(str(tmp_path / "small.onnx"))
        found = session.run(None, {"images": IMAGES.float().numpy()})
        with torch.no_grad():
            expected = smaller(IMAGES.float())
        for ours, theirs in zip(found, expected, strict=True):
            assert (torch.from_numpy(ours) - theirs).abs().max() < 1e-4 * theirs.abs().max()
