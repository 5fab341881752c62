"""Compact networks: the same raw maps, borders included, of fewer channels."""

import copy
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sparsity import load, prune
from sparsity.channels.compacting import Compacted, compact
from sparsity.data.letterbox import letterbox
from sparsity.formats.saving import save
from sparsity.pruning.layers import convolutions
from sparsity.yolo.current import current_architecture
from sparsity.yolo.network import Network, build, fuse
from sparsity.yolo.spec import ModuleSpec
from sparsity.yolo.yolov5.architectures import SCALES, Scale, yolov5

IMAGES = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def assert_same(network: Network, found: Compacted, images: Tensor = IMAGES) -> None:
    """The raw maps differ by less than 1e-4 of their largest number, and all that is said is true."""
    for ours, theirs in zip(found.network(images), network(images), strict=True):
        assert theirs.std() > 1e-3
        assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()
    before, after = dict(convolutions(network)), dict(convolutions(found.network))
    assert [layer.name for layer in found.layers] == list(before) == list(after)
    for layer in found.layers:
        assert layer.before == before[layer.name].weight.shape
        assert layer.after == after[layer.name].weight.shape
        assert len(layer.removed) == layer.before[0] - layer.after[0]
    assert found.channels_after == sum(conv.out_channels for conv in after.values())
    assert found.weights_after == sum(conv.weight.numel() for conv in after.values())
    assert found.network.architecture == current_architecture(found.network)
    assert not found.network.training


def body(network: Network) -> dict[str, nn.Conv2d]:
    """The convolutions before the head's."""
    head = f"model.{len(network.model) - 1}."
    return {name: conv for name, conv in convolutions(network) if not name.startswith(head)}


@torch.no_grad()
def kill(conv: nn.Conv2d, filters: Tensor | slice | list[int], bias: float | None = None) -> None:
    """Set filters' weights to 0, and their biases to bias."""
    conv.weight[filters] = 0
    if bias is not None:
        conv.bias[filters] = bias


@torch.no_grad()
def with_dead_channels(network: Network, share: float = 0.4, seed: int = 0) -> Network:
    """A copy with random dead filters in every layer, whose constants are far from 0 or exactly 0."""
    network = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(seed)
    for conv in body(network).values():
        filters = torch.rand(conv.out_channels, generator=generator) < share
        kill(conv, filters)
        if conv.bias is not None:
            conv.bias[filters] = torch.rand(int(filters.sum()), generator=generator) * 4 - 2
            conv.bias[filters & (torch.rand(len(filters), generator=generator) < 0.3)] = 0
    return network


def removed(found: Compacted, name: str) -> tuple[int, ...]:
    return next(layer.removed for layer in found.layers if layer.name == name)


# --- whole networks --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(SCALES))
def test_random_dead_channels_in_every_layer(monkeypatch, name):
    monkeypatch.setitem(SCALES, "slim", Scale(SCALES[name].depth, 1 / 32))
    torch.manual_seed(0)
    network = fuse(build(yolov5("slim", nc=3), "abc")).requires_grad_(False)
    network = with_dead_channels(network)
    found = compact(network)
    assert found.channels_after < 0.8 * found.channels_before
    assert_same(network, found)


@pytest.mark.parametrize("seed", range(3))
def test_odd_blocks(odd_network, seed):
    name, network = odd_network
    network = with_dead_channels(network, seed=seed)
    found = compact(network)
    assert found.channels_after < found.channels_before, name
    assert_same(network, found)


def test_sides_that_are_no_squares(network):
    network = with_dead_channels(network)
    found = compact(network)
    for height, width in ((32, 32), (32, 160), (96, 32)):
        assert_same(network, found, torch.rand(1, 3, height, width))


def test_the_network_itself_stays(tiny):
    network = with_dead_channels(tiny)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    compact(network)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_nothing_dead_nothing_changed(network):
    found = compact(network)
    assert found.channels_after == found.channels_before
    assert found.weights_after == found.weights_before
    weights = found.network.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in network.state_dict().items())


def test_a_compact_network_stays_as_it_is(network):
    once = compact(with_dead_channels(network)).network
    again = compact(once)
    assert again.channels_after == again.channels_before


def test_a_compact_network_is_like_any_other(network, tmp_path):
    network = with_dead_channels(network)
    found = compact(network)
    again = build(found.network.architecture, network.names)
    again.load_state_dict(found.network.state_dict())
    assert_same(network, Compacted(again, found.layers))
    save(found.network, tmp_path / "compact.pt")
    read = load(tmp_path / "compact.pt")
    assert current_architecture(read) == found.network.architecture
    for ours, theirs in zip(read(IMAGES), network(IMAGES), strict=True):
        assert (ours - theirs).abs().max() < 1e-2 * theirs.abs().max()


def test_unfused_networks_too(odd_unfused_network):
    network = copy.deepcopy(odd_unfused_network)
    for conv in body(network).values():
        kill(conv, slice(0, conv.out_channels, 3))
    found = compact(network)
    assert_same(network, found)


# --- what a constant becomes -----------------------------------------------------------------------


@pytest.fixture
def chain(block_network, conv_spec) -> Callable[[int], Network]:
    """Makes a network with a 1x1 convolution, model.2.0, and one that reads it, of kernel k."""

    def make(k: int) -> Network:
        one, other = conv_spec(16, 16), conv_spec(16, 16, k)
        return block_network(ModuleSpec("Sequential", {}, {"0": one, "1": other}))

    return make


@pytest.mark.parametrize(
    ("kernel", "bias", "staying"),
    [
        pytest.param(1, 1.5, 0, id="folded into the biases of 1x1"),
        pytest.param(1, -0.7, 0, id="negative constants too"),
        pytest.param(3, 0.0, 0, id="0 needs nothing, padded or not"),
        pytest.param(3, 1.5, 1, id="one channel stands for all where padding ends them"),
        pytest.param(3, -0.7, 1, id="negative constants too, padded"),
        pytest.param(3, -200.0, 0, id="what vanishes in float32 is 0"),
        pytest.param(3, -12.0, 1, id="small constants count"),
    ],
)
def test_dead_channels_go(chain, kernel, bias, staying):
    network = chain(kernel)
    kill(network.model[2][0].conv, slice(3, 8), bias)
    found = compact(network)
    assert len(removed(found, "model.2.0.conv")) == 5 - staying
    assert set(removed(found, "model.2.0.conv")) <= {3, 4, 5, 6, 7}
    assert found.channels_after == found.channels_before - (5 - staying)
    assert_same(network, found)


def test_a_single_constant_behind_padding_stays(chain):
    network = chain(3)
    kill(network.model[2][0].conv, [4], 1.5)
    found = compact(network)
    assert found.channels_after == found.channels_before
    assert torch.equal(found.network.model[2][1].conv.weight, network.model[2][1].conv.weight)


def test_the_largest_constant_stands_for_the_others(chain):
    network = chain(3)
    kill(network.model[2][0].conv, slice(0, 4))
    network.model[2][0].conv.bias[:4] = torch.tensor([1e-4, -9.0, 2.0, 1e-3])
    found = compact(network)
    assert removed(found, "model.2.0.conv") == (0, 1, 3)
    assert found.network.model[2][1].conv.weight.abs().max() < 1
    assert_same(network, found)


def test_readers_share_the_one_that_stands(block_network, conv_spec):
    three = {str(i): conv_spec(16, 16, 3) for i in range(2)}
    block = ModuleSpec("C3", {}, {"cv1": three["0"], "cv2": three["1"], "cv3": conv_spec(32, 16)})
    block.children["m"] = ModuleSpec("Identity")
    network = block_network(block)
    stem = network.model[1].conv
    kill(stem, slice(0, 4), 1.0)
    # To the first reader 0 is the largest, to the second 1, and both know 2 and 3.
    stem.bias[:4] = torch.tensor([2.0, 1.9, 1.5, 1.4])
    network.model[2].cv1.conv.weight[:, 1] = 0
    network.model[2].cv2.conv.weight[:, 0] = 0
    found = compact(network)
    assert removed(found, "model.1.conv") == (0, 1, 3)
    assert_same(network, found)


def test_constants_of_constants_go_too(block_network, conv_spec):
    block = ModuleSpec("Sequential", {}, {str(i): conv_spec(16, 16) for i in range(3)})
    network = block_network(block)
    kill(network.model[2][0].conv, slice(0, 8), 1.0)
    # These filters read dead channels alone.
    network.model[2][1].conv.weight[:5, 8:] = 0
    found = compact(network)
    assert removed(found, "model.2.0.conv") == tuple(range(8))
    assert removed(found, "model.2.1.conv") == tuple(range(5))
    assert_same(network, found)


def test_unread_channels_go_and_what_only_they_read(block_network, conv_spec):
    block = ModuleSpec("Sequential", {}, {str(i): conv_spec(16, 16, 3) for i in range(3)})
    network = block_network(block)
    network.model[2][2].conv.weight[:, :6] = 0
    network.model[2][1].conv.weight[6:, :4] = 0
    found = compact(network)
    assert removed(found, "model.2.1.conv") == tuple(range(6))
    assert removed(found, "model.2.0.conv") == tuple(range(4))
    assert_same(network, found)


# --- ties, and layers that are dead as a whole ----------------------------------------------------------


def test_tied_channels_go_together(network):
    block = network.model[2]
    kill(block.cv1.conv, [1, 2], 0.8)
    kill(block.m[0].cv2.conv, [2, 3], -0.5)
    found = compact(network)
    assert removed(found, "model.2.cv1.conv") == removed(found, "model.2.m.0.cv2.conv") == (2,)
    assert_same(network, found)


@pytest.mark.parametrize("bias", [0.0, 1.2])
@pytest.mark.parametrize("name", ["model.0", "model.4.cv1", "model.4.m.1.cv1", "model.9.cv1", "model.13.cv2"])
def test_a_layer_that_is_dead_as_a_whole_keeps_one(network, name, bias):
    conv = network.get_submodule(f"{name}.conv")
    kill(conv, slice(None), bias)
    if name == "model.4.cv1":
        # What shortcuts add to it has to die with it.
        for block in network.model[4].m:
            kill(block.cv2.conv, slice(None), bias)
    found = compact(network)
    assert found.network.get_submodule(f"{name}.conv").out_channels == 1
    with torch.no_grad():
        for ours, theirs in zip(found.network(IMAGES), network(IMAGES), strict=True):
            assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()


def test_a_network_of_zeros_gives_its_biases(network):
    for conv in body(network).values():
        kill(conv, slice(None), 0.5)
    found = compact(network)
    assert {layer.after[0] for layer in found.layers[:-3]} == {1}
    for ours, theirs in zip(found.network(IMAGES), network(IMAGES), strict=True):
        assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()


# --- a real one ------------------------------------------------------------------------------------


def real_images(folder: Path, sides: tuple[int, int]) -> Tensor:
    """Two images of the folder, letterboxed: float32 [2, 3, height, width] in 0 to 1."""
    pixels = np.empty((2, *sides, 3), np.uint8)
    for file, out in zip(sorted(folder.glob("*.jpg")), pixels, strict=False):
        letterbox(cv2.imread(str(file)), max(sides), out)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


@pytest.mark.assets
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda network: prune(network, 0.9, "global"), id="l1 global 0.9"),
        pytest.param(lambda network: with_dead_channels(network, 0.1), id="random dead channels"),
    ],
)
def test_yolov5n_on_real_images(assets, change):
    network = change(load(assets / "yolov5n.pt"))
    found = compact(network)
    assert found.channels_after < found.channels_before
    for sides in ((320, 416), (256, 128)):
        assert_same(network, found, real_images(assets / "coco50" / "images" / "val2017", sides))
