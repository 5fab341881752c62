"""Which channels are the same, and networks of some of a network's channels."""

import copy

import pytest
import torch
from torch import Tensor, nn

from sparsity.base.errors import InputError
from sparsity.channels.cutting import cut
from sparsity.channels.graph import Channels, _components, trace_channels
from sparsity.formats.loading import load
from sparsity.formats.saving import save
from sparsity.yolo.current import current_architecture
from sparsity.yolo.network import Network, build, fuse
from sparsity.yolo.registry import KINDS, Kind
from sparsity.yolo.spec import ModuleSpec


def random_biases(network: Network) -> Network:
    """Biases of convolutions far from 0, so that constants are."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                module.bias.uniform_(-2, 2)
    return network


def some(channels: Channels, share: float = 0.5, seed: int = 0) -> Tensor:
    """Identities to keep: the pinned, one of each layer, and about that share of the rest."""
    drawn = torch.rand(len(channels.pinned), generator=torch.Generator().manual_seed(seed))
    keep = channels.pinned | (drawn < share)
    for ends in channels.layers.values():
        keep[ends.inputs[0]] = keep[ends.outputs[-1]] = True
    return keep


@torch.no_grad()
def silenced(network: Network, channels: Channels, keep: Tensor) -> Network:
    """A copy whose channels not kept are 0 wherever they are read."""
    network = copy.deepcopy(network)
    for name, ends in channels.layers.items():
        module, gone = network.get_submodule(name), ~keep[ends.outputs]
        module.weight[gone] = 0
        if module.bias is not None:
            module.bias[gone] = 0
    return network


@torch.no_grad()
def assert_alike(one: Network, other: Network, images: Tensor, rtol: float = 1e-4) -> None:
    """Raw maps differ by less than rtol of their largest number."""
    for ours, theirs in zip(one(images), other(images), strict=True):
        assert theirs.std() > 1e-3
        assert (ours - theirs).abs().max() < rtol * theirs.abs().max()


IMAGES = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


# --- identities ------------------------------------------------------------------------------------


def test_joined_channels_keep_their_identity(network):
    layers = trace_channels(network).layers
    layer = {name.removesuffix(".conv"): ends for name, ends in layers.items()}
    pool = layer["model.9.cv1"].outputs
    assert layer["model.9.cv2"].inputs.tolist() == pool.tolist() * 4
    joined = torch.cat((layer["model.10"].outputs, layer["model.6.cv3"].outputs))
    assert torch.equal(layer["model.13.cv1"].inputs, joined)
    assert torch.equal(layer["model.13.cv2"].inputs, joined)


def test_shortcuts_tie_channels(network):
    layers = trace_channels(network).layers
    one = layers["model.4.cv1.conv"].outputs
    for name in ("model.4.m.0.cv2.conv", "model.4.m.1.cv2.conv"):
        assert torch.equal(layers[name].outputs, one)
    assert not set(layers["model.4.m.0.cv1.conv"].outputs.tolist()) & set(one.tolist())
    without = layers["model.13.m.0.cv2.conv"].outputs
    assert not set(without.tolist()) & set(layers["model.13.cv1.conv"].outputs.tolist())


def test_image_and_raw_maps_alone_are_pinned(network):
    channels = trace_channels(network)
    ends = [channels.layers["model.0.conv"].inputs]
    ends += [channels.layers[f"model.24.m.{i}"].outputs for i in range(3)]
    assert sorted(channels.pinned.nonzero().flatten().tolist()) == sorted(torch.cat(ends).tolist())


def test_every_layer_is_there_with_all_its_channels(odd_unfused_network):
    layers = trace_channels(odd_unfused_network).layers
    for name, module in odd_unfused_network.named_modules():
        if isinstance(module, nn.Conv2d):
            assert len(layers[name].inputs) == module.in_channels
            assert len(layers[name].outputs) == module.out_channels
        elif isinstance(module, nn.BatchNorm2d):
            assert torch.equal(layers[name].inputs, layers[name].outputs)
            assert len(layers[name].outputs) == module.num_features


def test_channels_that_nothing_is_known_of_are_pinned(odd_network):
    name, network = odd_network
    channels = trace_channels(network)
    layers = {n: e for n, e in channels.layers.items() if n.startswith("model.2.")}
    if name == "C3TR":
        assert channels.pinned[layers["model.2.cv1.conv"].outputs].all()
        assert channels.pinned[layers["model.2.cv3.conv"].inputs].sum() == 8
        assert not channels.pinned[layers["model.2.cv2.conv"].outputs].any()
    elif name in ("depthwise with a multiplier", "grouped"):
        grouped = [n for n in layers if network.get_submodule(n).groups > 1]
        assert len(grouped) == 1
        assert channels.pinned[layers[grouped[0]].inputs].all()
        assert channels.pinned[layers[grouped[0]].outputs].all()
    elif name == "depthwise":
        ends = layers["model.2.0.conv"]
        assert torch.equal(ends.inputs, ends.outputs)
        assert not channels.pinned[ends.outputs].any()
    elif name == "Contract and Expand":
        assert channels.pinned[layers["model.2.1.conv"].outputs].all()
    else:
        for ends in layers.values():
            assert not channels.pinned[ends.inputs].any()
            assert not channels.pinned[ends.outputs].any()


def test_components_are_those_of_a_plain_search():
    generator = torch.Generator().manual_seed(0)
    for count in (2, 30, 200):
        ends = torch.randint(count, (2, count // 2), generator=generator)
        neighbours = {i: {i} for i in range(count)}
        for one, other in ends.T.tolist():
            merged = neighbours[one] | neighbours[other]
            for member in merged:
                neighbours[member] = merged
        found = _components(count, [(ends[0], ends[1])])
        assert {tuple(sorted(group)) for group in neighbours.values()} == {
            tuple((found == label).nonzero().flatten().tolist()) for label in found.unique()
        }


# --- cutting ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_a_cut_network_gives_what_silenced_channels_give(network, share):
    channels = trace_channels(random_biases(network))
    keep = some(channels, share, seed=1)
    smaller = cut(network, channels, keep)
    assert smaller.head.m[0].in_channels < network.head.m[0].in_channels
    assert_alike(smaller, silenced(network, channels, keep), IMAGES)


@pytest.mark.parametrize("seed", range(3))
def test_every_block_can_be_cut(odd_network, seed):
    _, network = odd_network
    channels = trace_channels(network)
    keep = some(channels, seed=seed)
    assert not keep.all()
    smaller = cut(network, channels, keep)
    assert_alike(smaller, silenced(network, channels, keep), IMAGES)


def test_norms_are_cut_too(odd_unfused_network):
    channels = trace_channels(odd_unfused_network)
    keep = some(channels)
    smaller = cut(odd_unfused_network, channels, keep)
    assert_alike(smaller, silenced(odd_unfused_network, channels, keep), IMAGES)
    assert_alike(fuse(smaller), silenced(odd_unfused_network, channels, keep), IMAGES)


def test_a_cut_network_is_like_any_other(network, tmp_path):
    channels = trace_channels(network)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    smaller = cut(network, channels, some(channels))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert smaller.architecture == current_architecture(smaller)
    again = build(smaller.architecture, smaller.names)
    again.load_state_dict(smaller.state_dict())
    assert_alike(again, smaller, IMAGES, rtol=1e-6)
    assert_alike(copy.deepcopy(smaller), smaller, IMAGES, rtol=1e-6)
    save(smaller, tmp_path / "cut.pt")
    assert_alike(load(tmp_path / "cut.pt"), smaller, IMAGES, rtol=1e-2)


def test_a_cut_network_can_be_cut_again(network):
    channels = trace_channels(network)
    smaller = cut(network, channels, some(channels, 0.7))
    fewer = trace_channels(smaller)
    assert len(fewer.pinned) < len(channels.pinned)
    keep = some(fewer, 0.5, seed=2)
    assert_alike(cut(smaller, fewer, keep), silenced(smaller, fewer, keep), IMAGES)


def test_what_is_pinned_stays(network):
    channels = trace_channels(network)
    keep = torch.ones_like(channels.pinned)
    keep[channels.layers["model.24.m.0"].outputs[0]] = False
    with pytest.raises(InputError, match=r"model\.24\.m\.0: `keep` would cut a pinned channel"):
        cut(network, channels, keep)


def test_no_layer_loses_all_channels(network):
    channels = trace_channels(network)
    keep = torch.ones_like(channels.pinned)
    keep[channels.layers["model.3.conv"].outputs] = False
    with pytest.raises(InputError, match=r"model\.3\.conv: `keep` would cut all of its 64 channels; keep 1"):
        cut(network, channels, keep)


def test_keep_has_a_place_for_each_identity(network):
    channels = trace_channels(network)
    with pytest.raises(InputError, match=r"`keep` is torch.bool \[3\]; torch.bool \[\d+\] is expected"):
        cut(network, channels, torch.ones(3, dtype=torch.bool))


# --- blocks of other families ----------------------------------------------------------------------


class Halves(nn.Module):
    """Splits a map in two, works on one half, and joins all again, as YOLOv8's C2f does."""

    def __init__(self, cv1: nn.Module, cv2: nn.Module, m: nn.Module, how: str) -> None:
        super().__init__()
        self.cv1, self.cv2, self.m, self.how = cv1, cv2, m, how

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv1(x)
        inner = self.m.conv.in_channels
        if self.how == "by shape":
            one, other = y.split((y.shape[1] - inner, inner), 1)
        elif self.how == "by modules":
            one, other = torch.split(y, [self.cv1.conv.out_channels - inner, inner], dim=1)
        else:
            one, other = y.chunk(2, 1)
        return self.cv2(torch.cat((one, other, self.m(other)), 1))


@pytest.fixture(params=["by modules", "chunk", "by shape"])
def halves(request, monkeypatch, block_network, conv_spec) -> tuple[str, Network]:
    monkeypatch.setitem(KINDS, "Halves", Kind(Halves, ("how",)))
    children = {"cv1": conv_spec(16, 16), "cv2": conv_spec(24, 16), "m": conv_spec(8, 8, 3)}
    return request.param, block_network(ModuleSpec("Halves", {"how": request.param}, children))


def test_split_maps_are_followed(halves):
    how, network = halves
    channels = trace_channels(network)
    outputs = channels.layers["model.2.cv1.conv"].outputs
    if how == "by shape":
        assert channels.pinned[outputs].all()
        return
    read = channels.layers["model.2.m.conv"].inputs
    assert torch.equal(read, outputs[8:])
    assert (how == "chunk") == torch.equal(outputs[:8], outputs[8:])
    keep = some(channels)
    assert not keep[outputs].all()
    assert_alike(cut(network, channels, keep), silenced(network, channels, keep), IMAGES)
