"""Depthwise layers, attention and two heads: what is pruned of them, and by what."""

import copy
import json

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from sparsity import Method, Pruner, count_sparsity, keep_head, layer_sparsity, load, prune
from sparsity.pruning.amounts import keep_counts
from sparsity.pruning.layers import convolutions, depthwise_layers, is_depthwise
from sparsity.pruning.multiply_adds import count_gflops, count_multiply_adds, prices
from sparsity.yolo.families import published_architecture, sizes
from sparsity.yolo.network import Network, build, fuse

FAMILIES = ("yolo11", "yolo12", "yolo26")


def small() -> nn.Sequential:
    """A stem, a grouped and a depthwise layer, and one weight: 216, 288, 72, 32 and 1 weights."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.Conv2d(8, 8, 3, groups=2),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 4, 1, bias=False),
        nn.Conv2d(1, 1, 1),
    )


def zeros(network: nn.Module) -> list[int]:
    return [layer.zeros for layer in layer_sparsity(network)]


def by_torch(network: nn.Module, amount: float, *, depthwise: bool) -> nn.Module:
    """torch's own l1_unstructured on the same layers."""
    for _, conv in convolutions(network):
        if depthwise or not is_depthwise(conv):
            torch_prune.l1_unstructured(conv, "weight", amount)
            torch_prune.remove(conv, "weight")
    return network


def assert_equal(one: nn.Module, other: nn.Module) -> None:
    theirs = other.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in one.state_dict().items())


# --- depthwise layers ------------------------------------------------------------------------------


def test_only_a_layer_of_several_groups_of_one_channel_is_depthwise():
    assert depthwise_layers(small()) == ["2"]


@pytest.mark.parametrize("name", [one for one in sizes() if one.startswith("yolov")])
def test_yolov5_and_yolov8_have_none(name):
    with torch.device("meta"):
        assert not depthwise_layers(build(published_architecture(name, 80), [str(i) for i in range(80)]))


@pytest.mark.parametrize("depthwise", [False, True])
def test_by_layer_the_others_keep_their_amount(depthwise):
    network = prune(small(), 0.5, depthwise=depthwise)
    assert zeros(network) == [108, 144, 36 if depthwise else 0, 16, 0]
    assert_equal(network, by_torch(small(), 0.5, depthwise=depthwise))


@pytest.mark.parametrize("scope", ["global", "lamp", "erk"])
def test_by_other_scopes_the_others_reach_the_amount(scope):
    network = prune(small(), 0.5, scope)
    assert zeros(network)[2] == 0
    assert count_sparsity(network).conv_zeros == round(0.5 * 609)


@pytest.mark.parametrize(("pattern", "expected"), [("2:4", 0), ("pair", 36)])
def test_patterns_do_not_fit_depthwise_layers(pattern, expected):
    """N:M leaves what it does not fit dense; blocks leave it to single weights."""
    assert zeros(prune(small(), 0.5, pattern=pattern, depthwise=True))[2] == expected
    assert zeros(prune(small(), 0.5, pattern=pattern))[2] == 0


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("depthwise", [False, True])
def test_families_are_pruned_as_by_torch(few_layers, family, depthwise):
    network = fuse(few_layers(family=family))
    pruned = Pruner(network, depthwise=depthwise).prune("l1", 0.3)
    assert_equal(pruned, by_torch(copy.deepcopy(network), 0.3, depthwise=depthwise))


def test_the_row_and_the_identity_say_what_became_of_them(few_layers, shallow):
    network = fuse(few_layers(family="yolo11"))
    kept, pruned = (Pruner(network, depthwise=one) for one in (False, True))
    assert (kept.rules["depthwise"], pruned.rules["depthwise"]) == ("dense", "pruned")
    assert kept.identity([Method()]) != pruned.identity([Method()])
    # Nothing is said about a network without any, so that its earlier sweeps can be resumed.
    assert Pruner(shallow, depthwise=True).identity([Method()]) == {"pattern": "unstructured", "keep": ""}
    assert Pruner(shallow).rules["depthwise"] == ""


@pytest.mark.assets
@pytest.mark.parametrize(
    ("name", "head"), [("yolo11n", "one2many"), ("yolo26n", "one2many"), ("yolo26n", "one2one")]
)
def test_zeros_are_those_of_the_package(assets, name, head):
    file = assets / f"{name}_train50.pt"
    reference = assets.parent / "reference" / f"{name}_train50.json"
    if not file.is_file() or not reference.is_file():
        pytest.skip(f"{file.name} or its figures are not among the assets")
    for row in json.loads(reference.read_text())["rows"]:
        if row["head"] == head:
            network = load(file)
            network = keep_head(network, head) if name == "yolo26n" else network
            network = prune(network, row["amount"], depthwise=True) if row["amount"] else network
            counted = count_sparsity(network)
            assert counted.conv_layers == row["conv_layers"]
            assert (counted.conv_weights, counted.conv_zeros) == (row["conv_weights"], row["conv_zeros"])


# --- attention's products --------------------------------------------------------------------------


class Product(nn.Module):
    """Two convolutions with a product between them that has no weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.attention = Squares()

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.attention(self.first(x)))


class Squares(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)
        return ((flat @ flat.mT) @ flat).unflatten(2, x.shape[2:])

    def multiply_adds(self, x: Tensor) -> int:
        return 2 * 16 * x[0, 0].numel()


def test_products_are_a_fixed_cost():
    """64 cells: 12 and 16 weights give 1792 multiply-adds, the products 2048."""
    network = Product().eval()
    counted = count_multiply_adds(network, (8, 8))
    assert (counted.total, counted.products) == (1792 + 2048, 2048)
    assert count_gflops(network, (8, 8)) == pytest.approx(2 * 1792 / 1e9)
    found = prices(network, "flops", (8, 8))
    assert (found.of_weights, found.fixed) == ({"first": 64, "second": 64}, 2048)
    pruned = Pruner(network, imgsz=8).prune(Method("l1", "global", "flops"), 0.25)
    # A quarter of 3840 are 960 multiply-adds, those of 15 weights.
    assert count_sparsity(pruned).conv_zeros == 15
    assert count_multiply_adds(pruned, (8, 8)).left_share == pytest.approx(0.75)


def test_what_the_products_take_cannot_be_pruned():
    with pytest.raises(ValueError, match=r"hold 1792 of 3840 multiply-adds; 0\.4666 at most is expected"):
        Pruner(Product().eval(), imgsz=8).check(Method("l1", "global", "flops"), 0.5)


@pytest.mark.parametrize(("family", "products"), [("yolo11", 0.06), ("yolo12", 0.98), ("yolo26", 0.12)])
def test_products_at_640_are_those_of_the_package(family, products):
    """In 1e9 operations, two for each multiply-add."""
    network = build(published_architecture(f"{family}n", 80), [str(i) for i in range(80)])
    counted = count_multiply_adds(network, (640, 640))
    assert 2 * counted.products / 1e9 == pytest.approx(products, abs=0.01)


# --- calibration images ----------------------------------------------------------------------------


def images(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(2, 3, 64, 64 + 32 * i, generator=generator) for i in range(2)]


def away(pruned: Network, dense: Network) -> list[float]:
    """The relative error of the raw maps of each branch, on other images."""
    errors = []
    with torch.no_grad():
        for batch in images(9):
            ours, theirs = pruned.every_output(batch), dense.every_output(batch)
            pairs = zip(ours, theirs, strict=True)
            errors.append([float((x - y).square().mean() / y.var()) for x, y in pairs])
    means = [sum(one) / len(one) for one in zip(*errors, strict=True)]
    return [sum(means[i : i + 3]) / 3 for i in range(0, len(means), 3)]


@pytest.mark.parametrize("family", FAMILIES)
def test_obs_stays_closer_than_magnitude_in_every_branch(few_layers, family):
    network = fuse(few_layers(family=family))
    pruner = Pruner(network, calibration=images(1))
    ours, magnitude = (pruner.prune(Method(one, "layer"), 0.5) for one in ("obs", "l1"))
    assert zeros(ours) == zeros(magnitude)
    assert not any(zeros(ours)[i] for i, (_, conv) in enumerate(convolutions(network)) if is_depthwise(conv))
    errors = list(zip(away(ours, network), away(magnitude, network), strict=True))
    assert len(errors) == (2 if family == "yolo26" else 1)
    assert all(one < 0.7 * other for one, other in errors), errors


def test_obs_prunes_depthwise_layers_where_it_is_asked_to(few_layers):
    network = fuse(few_layers(family="yolo26"))
    pruner = Pruner(network, calibration=images(1), depthwise=True)
    ours, magnitude = (pruner.prune(Method(one, "layer"), 0.5) for one in ("obs", "l1"))
    assert zeros(ours) == zeros(magnitude)
    assert all(layer.zeros for layer in layer_sparsity(ours) if layer.name in depthwise_layers(network))
    assert all(one < other for one, other in zip(away(ours, network), away(magnitude, network), strict=True))


def test_the_measured_allocation_prunes_both_branches(few_layers):
    network = fuse(few_layers(family="yolo26"))
    pruned = Pruner(network, calibration=images(1), imgsz=64).prune("obs", 0.6)
    found = {layer.name: layer for layer in layer_sparsity(pruned)}
    assert sum(layer.zeros for layer in found.values()) == round(0.6 * sum(x.weights for x in found.values()))
    for branch in ("cv2", "cv3", "one2one_cv2", "one2one_cv3"):
        assert sum(layer.zeros for name, layer in found.items() if f".{branch}." in name)


def test_flops_are_those_of_both_branches(few_layers):
    network = fuse(few_layers(family="yolo26"))
    assert all(prices(network, "flops", (64, 64)).of_weights.values())
    counts = keep_counts(network, 0.3, "global", prices=prices(network, "flops", (64, 64)).of_weights)
    branches = [
        n for n, c in counts.items() if "one2one" in n and c < network.get_submodule(n).weight.numel()
    ]
    assert branches
    # What runs is one branch.
    whole = count_multiply_adds(network, (64, 64)).total
    assert whole == count_multiply_adds(keep_head(copy.deepcopy(network), "one2many"), (64, 64)).total


def test_importance_of_every_branch_is_that_of_each(few_layers):
    network = fuse(few_layers(family="yolo26"))
    with torch.no_grad():
        raw = network.every_output(images(1)[0])
    found, alone = network.importance(raw), [*network.importance(raw[:3]), *network.importance(raw[3:])]
    assert all(torch.equal(one, other) for one, other in zip(found, alone, strict=True))
