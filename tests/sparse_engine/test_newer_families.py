"""YOLO11, YOLO12 and YOLO26 in the sparse engine: attention, depthwise convolutions, gamma, either head."""

from __future__ import annotations

import pytest
import torch
from torch import nn

pytest.importorskip("numba")

from sparsity import load
from sparsity.base.errors import InputError
from sparsity.sparse_engine import CompiledNetwork, explain, layer_times
from sparsity.sparse_engine.layer_times import measure_layer_times
from sparsity.yolo.families import published_architecture
from sparsity.yolo.heads import choose_head
from sparsity.yolo.network import Network, build, fuse
from sparsity.yolo.parts import conv, layer
from sparsity.yolo.yolo11.architectures import c2psa
from sparsity.yolo.yolo12 import architectures as yolo12
from sparsity.yolo.yolo26.architectures import two_branch_detect
from sparsity.yolo.yolov8.architectures import Scale

NAMES = ("cat", "dog", "bird")
NETWORKS = [
    pytest.param(("yolo11n", ""), id="yolo11n"),
    pytest.param(("yolo12n", ""), id="yolo12n"),
    pytest.param(("deep12", ""), id="as yolo12l, narrow"),
    pytest.param(("yolo26n", "one2many"), id="yolo26n, one-to-many"),
    pytest.param(("yolo26n", "one2one"), id="yolo26n, one-to-one"),
]


def random_network(architecture) -> Network:
    """Statistics are random, but mild: attention to attention would amplify rounding."""
    torch.manual_seed(0)
    network = build(architecture, NAMES)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1)
            nn.init.uniform_(module.bias, -0.5, 0.5)
        if getattr(module, "gamma", None) is not None:
            nn.init.uniform_(module.gamma, -1, 1)
    return network.requires_grad_(False)


@pytest.fixture(params=NETWORKS)
def named_network(request, monkeypatch) -> Network:
    name, head = request.param
    monkeypatch.setitem(yolo12.SCALES, "deep12", Scale(1.0, 1 / 8, 512))
    network = random_network(published_architecture(name, len(NAMES)))
    return choose_head(network, head) if head else network


def attentive(**attributes: object) -> Network:
    """Four convolutions, attention with these attributes, and a head of one level with two branches."""
    block = c2psa(32, 1)
    block.children["m"].children["0"].children["attn"].attributes.update(attributes)
    layers = (conv(3, 8, 3, 2), conv(8, 16, 3, 2), conv(16, 32, 3, 2), block)
    head = two_branch_detect((32,), len(NAMES), (8,))
    return random_network(tuple(map(layer, (*layers, head))))


def errors(network: Network, images: torch.Tensor) -> list[float]:
    """The largest difference of each raw map to torch's, over the largest number."""
    pairs = zip(CompiledNetwork(network, 2)(images), in_torch(network, images), strict=True)
    return [float((one - other).abs().max() / other.abs().max()) for one, other in pairs]


def assert_near_in_lower_precisions(network: Network, images: torch.Tensor) -> None:
    expected = in_torch(network, images)
    for dtype, most in ((torch.bfloat16, 0.03), (torch.int8, 0.15)):
        found = CompiledNetwork(network, 2, dtype=dtype, calibration=[images])(images)
        for one, other in zip(found, expected, strict=True):
            assert float((one - other).norm() / other.norm()) < most


@torch.inference_mode()
def in_torch(network: Network, images: torch.Tensor) -> list[torch.Tensor]:
    return network(images)


@pytest.mark.parametrize("size", [(64, 96), (128, 160)])
def test_dense_networks_give_what_torch_gives(named_network, size):
    assert max(errors(named_network, torch.rand(2, 3, *size))) < 1e-5


def test_pruned_networks_in_all_precisions(named_network):
    for module in named_network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight[torch.rand_like(module.weight) < 0.6] = 0
    images = torch.rand(1, 3, 64, 96)
    assert max(errors(named_network, images)) < 1e-5
    assert_near_in_lower_precisions(named_network, images)


@pytest.mark.assets
@pytest.mark.parametrize("name", ["yolo11n", "yolo26n"])
def test_trained_networks_to_1e_4(assets, name):
    network = load(assets / f"{name}_train50.pt")
    images = torch.rand(1, 3, 320, 416)
    for head in ("one2many", "one2one") if name == "yolo26n" else ("",):
        if head:
            choose_head(network, head)
        assert max(errors(network, images)) < 1e-4
        assert_near_in_lower_precisions(network, images)


def test_depthwise_weights_do_not_grow_with_the_square_of_the_channels():
    network = attentive()
    images = torch.rand(1, 3, 64, 64)
    for dtype in (torch.float32, torch.bfloat16, torch.int8):
        program = CompiledNetwork(network, 1, dtype=dtype, calibration=[images]).program(64, 64)
        task = program.tasks[program.names.index("model.3.m.0.attn.pe.conv")]
        assert (task.outputs, task.per_group, task.all_weights) == (16, 1, 16 * 9)


def test_attention_is_reported_and_timed_as_no_layer(monkeypatch):
    monkeypatch.setattr(layer_times, "ROUNDS", 2)
    monkeypatch.setattr(layer_times, "WARM_SECONDS", 0.0)
    monkeypatch.setattr(layer_times, "tune", lambda *_args: None)
    network = attentive()
    lines = {line.name: line for line in explain(CompiledNetwork(network, 1), 64, 64)}
    assert lines["attention"].milliseconds > 0
    times = measure_layer_times(network, 64, 1)
    timed = {name for name, seconds in times.layers.items() if seconds[-1] > 0}
    idle = {name for name in times.layers if "one2one" in name}
    assert timed == {name for name, one in network.named_modules() if isinstance(one, nn.Conv2d)} - idle
    assert idle
    assert times.rest > 0


def test_heads_that_do_not_fill_packed_numbers_are_refused():
    network = attentive(num_heads=8, key_dim=1, head_dim=2)
    images = torch.rand(1, 3, 64, 64)
    assert max(errors(fuse(network), images)) < 1e-5
    for dtype, share in ((torch.bfloat16, 2), (torch.int8, 4)):
        with pytest.raises(InputError, match=f"multiples of {share} channels.*has 1 and 2.*engine. sparse"):
            CompiledNetwork(network, dtype=dtype, calibration=[images])


def test_maps_that_have_no_equal_areas_are_refused():
    network = attentive()
    network.get_submodule("model.3.m.0.attn").area = 4
    assert max(errors(network, torch.rand(1, 3, 48, 32))) < 1e-5
    with pytest.raises(InputError, match="a map of 3 x 5 cells can't be cut into 4 equal areas"):
        CompiledNetwork(network)(torch.rand(1, 3, 24, 40))


def test_attention_to_the_result_of_a_grouped_convolution_is_refused():
    network = attentive()
    network.get_submodule("model.3.m.0.attn.qkv").conv = nn.Conv2d(16, 32, 1, groups=2).eval()
    with pytest.raises(
        InputError,
        match="does not support attention that reads anything but the result of a convolution",
    ):
        CompiledNetwork(network)


def test_a_multiplication_of_maps_is_refused():
    class Gate(nn.Module):
        def forward(self, x):
            return x * x

    network = attentive()
    network.model[2] = nn.Sequential(network.model[2], Gate())
    with pytest.raises(InputError, match="does not support a multiplication of anything but a map"):
        CompiledNetwork(network)
