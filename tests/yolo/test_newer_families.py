"""YOLO11, YOLO12 and YOLO26: the counts of the published sizes, and the package's own outputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sparsity import load
from sparsity.pruning.layers import convolutions
from sparsity.yolo.families import published_architecture, sizes
from sparsity.yolo.heads import choose_head, held_heads, keep_head
from sparsity.yolo.network import Network, build, fuse

DFL_WEIGHTS = 16
"""Weights of a convolution of YOLO11 and YOLO12 as published; here they are a constant."""
# Parameters, fused parameters, Conv2d, grouped Conv2d, their weights, batch norms; of YOLO26 then the Conv2d
# and weights of one branch, fused.
COUNTS = {
    "yolo11n": (2_624_080, 2_616_248, 88, 7, 2_607_984, 81),
    "yolo11s": (9_458_752, 9_443_760, 88, 7, 9_428_336, 81),
    "yolo11m": (20_114_688, 20_091_712, 113, 7, 20_068_304, 106),
    "yolo11l": (25_372_160, 25_340_992, 174, 8, 25_309_392, 167),
    "yolo11x": (56_966_176, 56_919_424, 174, 8, 56_872_240, 167),
    "yolo12n": (2_602_288, 2_590_824, 120, 14, 2_578_928, 113),
    "yolo12s": (9_284_096, 9_261_840, 120, 14, 9_239_152, 113),
    "yolo12m": (20_199_168, 20_166_592, 130, 14, 20_133_584, 123),
    "yolo12l": (26_450_784, 26_400_752, 212, 22, 26_349_264, 205),
    "yolo12x": (59_210_784, 59_135_744, 212, 22, 59_058_736, 205),
    "yolo26n": (2_572_280, 2_408_932, 126, 14, 2_552_208, 114, 102, 2_400_160),
    "yolo26s": (10_009_784, 9_496_140, 126, 14, 9_971_296, 114, 102, 9_479_136),
    "yolo26m": (21_896_248, 20_411_132, 136, 14, 21_839_552, 124, 112, 20_386_752),
    "yolo26l": (26_299_704, 24_807_420, 190, 15, 26_228_672, 178, 166, 24_775_872),
    "yolo26x": (58_993_368, 55_725_948, 190, 15, 58_887_072, 178, 166, 55_678_752),
}


def on_meta(name: str) -> Network:
    with torch.device("meta"):
        return build(published_architecture(name, 80), [str(i) for i in range(80)])


def parameters(network: nn.Module) -> int:
    return sum(one.numel() for one in network.parameters())


def test_every_size_is_tested() -> None:
    assert [name for name in sizes() if not name.startswith("yolov")] == list(COUNTS)


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_those_of_the_package(name: str) -> None:
    whole, fused, convs, grouped, weights, norms, *one_branch = COUNTS[name]
    network = on_meta(name)
    dfl = 0 if one_branch else 1
    found = [conv for _, conv in convolutions(network)]
    assert parameters(network) == whole - dfl * DFL_WEIGHTS
    assert (len(found), sum(conv.groups > 1 for conv in found)) == (convs - dfl, grouped)
    assert sum(conv.weight.numel() for conv in found) == weights - dfl * DFL_WEIGHTS
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == norms
    if one_branch:
        keep_head(network, "one2one")
    with torch.device("meta"):
        fuse(network)
    found = [conv for _, conv in convolutions(network)]
    expected = one_branch or (convs - 1, weights - DFL_WEIGHTS)
    assert parameters(network) == fused - dfl * DFL_WEIGHTS
    assert (len(found), sum(conv.weight.numel() for conv in found)) == tuple(expected)


def test_gamma_is_in_two_layers_of_the_large_sizes() -> None:
    for name, layers in (("yolo12m", set()), ("yolo12l", {"model.6.gamma", "model.8.gamma"})):
        named = dict(on_meta(name).named_parameters())
        assert {one for one in named if one.endswith("gamma")} == layers


# --- the package's own outputs ---------------------------------------------------------------------


@pytest.fixture(params=["yolo11n", "yolo12n", "yolo26n"])
def random_one(request, assets) -> tuple[str, Network, dict[str, np.ndarray]]:
    """A network with random statistics, and what the package gives for one image."""
    file = assets / "random" / f"{request.param}_random.pt"
    reference = assets.parent / "reference" / f"{request.param}_random_out.npz"
    if not file.is_file() or not reference.is_file():
        pytest.skip(f"{file.name} or its outputs are not among the assets")
    return request.param, load(file, fused=False), dict(np.load(reference))


def image() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random((1, 3, 256, 320), np.float32))


@pytest.mark.assets
@torch.inference_mode()
def test_outputs_are_those_of_the_package(random_one) -> None:
    name, network, theirs = random_one
    assert network.architecture == published_architecture(name, 80)
    for _ in ("unfused", "fused"):
        ours = network.head.decode(network(image())).numpy()
        np.testing.assert_allclose(ours[:, :4], theirs["one2many_decoded"][:, :4], rtol=1e-6, atol=1e-4)
        np.testing.assert_allclose(ours[:, 4:], theirs["one2many_decoded"][:, 4:], rtol=0, atol=1e-6)
        fuse(network)


@pytest.mark.assets
@torch.inference_mode()
def test_the_one_to_one_branch_gives_the_detections_of_the_package(random_one) -> None:
    _, network, theirs = random_one
    if not held_heads(network):
        return
    raw = choose_head(network, "one2one")(image())
    cells = torch.cat([x.flatten(2) for x in raw], 2).numpy()
    np.testing.assert_allclose(cells[:, :4], theirs["one2one_raw_boxes"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(cells[:, 4:], theirs["one2one_raw_scores"], rtol=0, atol=1e-5)
    ours, theirs = network.head.decode(raw).numpy()[0], theirs["one2one_top300"][0]
    assert ours.shape == (300, 6)
    np.testing.assert_allclose(ours[:, 4], theirs[:, 4], rtol=0, atol=1e-6)
    # Near ties can be in another order, and at the end other ones can be chosen: sets are compared.
    distances = np.abs(ours[:, None] - theirs[None]).max(2)
    end = theirs[-1, 4] + 1e-6
    assert distances.min(1)[ours[:, 4] > end].max() < 1e-4
    assert distances.min(0)[theirs[:, 4] > end].max() < 1e-4
