"""Copies by every method: as many zeros as asked, the network left alone, what is learnt, learnt once."""

import copy

import pytest
import torch

from sparsity import InputError, Method, PriceCurve, Pruner, count_sparsity, layer_sparsity, prune
from sparsity.commands.method_lists import parse_methods
from sparsity.pruning import obs
from sparsity.pruning import pruner as module
from sparsity.pruning.multiply_adds import count_multiply_adds

OBS = Method("obs", "layer")
BLOCKS = {"pair": 2, "quad": 4}


def assert_whole_blocks(network: torch.nn.Module, size: int) -> None:
    fitting = [layer for layer in layer_sparsity(network) if layer.shape[1] % size == 0]
    assert sum(layer.zeros for layer in fitting)
    for layer in fitting:
        kept = network.get_submodule(layer.name).weight.unflatten(1, (-1, size)).count_nonzero(2)
        assert set(kept.flatten().tolist()) <= {0, size}


@pytest.fixture
def images() -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.rand(2, 3, 64, 64), torch.rand(1, 3, 32, 64)]


@pytest.mark.parametrize("scope", ["layer", "global", "lamp", "erk"])
def test_magnitude_is_what_prune_gives(shallow, scope):
    ours, theirs = Pruner(shallow).prune(Method("l1", scope), 0.6), prune(copy.deepcopy(shallow), 0.6, scope)
    expected = theirs.state_dict()
    assert list(ours.state_dict()) == list(expected)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in ours.state_dict().items())


@pytest.mark.parametrize(
    "method", parse_methods("l1,lamp,erk,obs") + parse_methods("l1", "measured"), ids=str
)
@pytest.mark.parametrize("pattern", [None, "2:4", "pair", "quad"])
def test_every_method(shallow, images, method, pattern):
    before = copy.deepcopy(shallow.state_dict())
    pruner = Pruner(shallow, calibration=images, keep=["model.7.*"], pattern=pattern)
    network = pruner.prune(method, 0.5)
    assert all(torch.equal(before[name], tensor) for name, tensor in shallow.state_dict().items())
    assert list(network.state_dict()) == list(prune(copy.deepcopy(shallow), 0.5).state_dict())
    counted = count_sparsity(network)
    if method.scope != "layer":
        assert counted.conv_zeros >= round(0.5 * counted.conv_weights)
    assert counted.conv == pytest.approx(0.5, abs=0.05)
    for layer in layer_sparsity(network):
        assert not (layer.name.startswith("model.7.") and layer.zeros)
        if pattern == "2:4" and layer.zeros and layer.shape[1] % 4 == 0:
            groups = network.get_submodule(layer.name).weight.unflatten(1, (-1, 4))
            assert (groups != 0).sum(2).max() <= 2
    if pattern in BLOCKS:
        assert_whole_blocks(network, BLOCKS[pattern])
    with torch.no_grad():
        assert all(raw.isfinite().all() for raw in network(images[0]))


@pytest.mark.parametrize("budget", ["flops", "latency"])
@pytest.mark.parametrize("scope", ["layer", "lamp", "measured"])
@pytest.mark.parametrize("pattern", BLOCKS)
def test_blocks_go_with_budgets(shallow, images, pattern, scope, budget):
    def times(network):
        return {one.name: PriceCurve((0, 1), (0, one.weights)) for one in layer_sparsity(network)}

    pruner = Pruner(shallow, calibration=images, pattern=pattern, price_curves=times)
    network = pruner.prune(Method("obs", scope, budget), 0.4)
    assert_whole_blocks(network, BLOCKS[pattern])
    sides = (640, 640)
    counted = count_multiply_adds(network, sides)
    left = counted.left_share if budget == "flops" else 1 - count_sparsity(network).conv
    assert left == pytest.approx(0.6, abs=0.01)


def test_curves_are_measured_with_the_pattern(shallow, images):
    free, pairs = (Pruner(shallow, calibration=images, pattern=one)._measure_curves() for one in ("", "pair"))
    assert sum(pairs[name].costs[4] > free[name].costs[4] for name in free) > len(free) / 2


def test_obs_stays_nearer_to_the_dense_network(shallow, images):
    pruner = Pruner(shallow, calibration=images)
    dense, magnitude, obs = shallow, pruner.prune(Method(), 0.5), pruner.prune(OBS, 0.5)
    with torch.no_grad():
        truth = dense(images[0])
        far, near = (
            sum((a - b).square().sum() for a, b in zip(one(images[0]), truth, strict=True))
            for one in (magnitude, obs)
        )
    assert near < 0.5 * far


def test_what_layers_cost_is_measured_once(shallow, images, monkeypatch):
    calls, real = [], module.measure_curves

    def spy(*args, **more):
        calls.append(args)
        return real(*args, **more)

    monkeypatch.setattr(module, "measure_curves", spy)
    pruner = Pruner(shallow, calibration=images)
    for method in (Method("l1", "measured"), Method("obs", "measured")):
        pruner.prune(method, 0.3)
    assert len(calls) == 1


def test_the_same_images_and_seed_give_the_same_copy(shallow, images):
    one, other = (Pruner(shallow, calibration=images).prune(OBS, 0.5).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_amount_0_is_a_dense_copy(shallow):
    copied = Pruner(shallow).prune(Method("l1", "global"), 0)
    assert copied is not shallow
    assert count_sparsity(copied) == count_sparsity(shallow)


@pytest.mark.parametrize(
    ("given", "method", "amount", "words"),
    [
        pytest.param(
            {}, OBS, 0.5, "`criterion` obs learns from images, but `calibration` is missing", id="no images"
        ),
        pytest.param({}, Method("l1", "measured"), 0.5, "`scope` measured learns", id="no images, measured"),
        pytest.param({"keep": ["x"]}, Method(), 0.5, "`keep` 'x' matches no Conv2d", id="no such layer"),
        pytest.param({"keep": "*"}, Method("l1", "lamp"), 0.5, "0.0 at most", id="out of reach"),
        pytest.param(
            {"pattern": "2:4"}, Method(), 0.3, "less than that of `pattern` 2:4", id="less than the pattern"
        ),
        pytest.param({}, Method(), 1.0, "`amount` is 1.0", id="all"),
    ],
)
def test_what_cannot_be_is_said_before_work_begins(shallow, given, method, amount, words):
    for refused in (Pruner(shallow, **given).check, Pruner(shallow, **given).prune):
        with pytest.raises(InputError, match=words):
            refused(method, amount)


def test_a_network_that_cannot_weigh_its_outputs_is_refused(images):
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1))
    with pytest.raises(InputError, match=r"obs layer weighs .* Sequential has no method `importance`"):
        Pruner(network, calibration=images).check(OBS, 0.5)


def test_channel_costs_are_computed_once_and_given_to_obs(shallow, images, monkeypatch):
    calls, real = [], module.channel_costs
    monkeypatch.setattr(module, "channel_costs", lambda *a, **more: calls.append(a) or real(*a, **more))
    pruner = Pruner(shallow, calibration=images)
    weighed, _ = (pruner.prune(method, 0.5) for method in (OBS, Method("obs")))
    assert len(calls) == 1
    counts = {layer.name: layer.weights - layer.zeros for layer in layer_sparsity(weighed)}
    alike = obs.prune_obs(copy.deepcopy(shallow), counts, images)
    assert any(not torch.equal(a, b) for a, b in zip(weighed.parameters(), alike.parameters(), strict=True))


def test_too_many_images_are_one_line(shallow, images, monkeypatch):
    def fail(*_args, **_more):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(obs, "prune_obs", fail)
    with pytest.raises(InputError, match=r"`calib_images`: memory does not hold .* 3 images"):
        Pruner(shallow, calibration=images).prune(OBS, 0.5)


def test_identity_tells_pruners_apart(shallow, images):
    def identity(methods="l1,obs", **changes):
        return Pruner(shallow, **{"calibration": images, **changes}).identity(parse_methods(methods))

    assert identity() == identity()
    for change in ({"calibration": images[:1]}, {"seed": 1}, {"keep": ["a"]}, {"pattern": "pair"}):
        assert identity() != identity(**change), change
    assert identity("l1", pattern="pair")["pattern"] == "pair"
    assert identity(pattern="pair") != identity(pattern="quad") != identity(pattern="2:4")
    assert identity("l1") == {"pattern": "unstructured", "keep": ""} == identity("l1", calibration=())
