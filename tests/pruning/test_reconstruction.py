"""Reconstruction: the kept weights learn to give what the dense network gives."""

import copy

import pytest
import torch
from torch import nn

from sparsity.base.errors import InputError
from sparsity.pruning.imitation import BlockOutputs, blocks_error, outputs_error
from sparsity.pruning.magnitude import prune
from sparsity.pruning.method import Method
from sparsity.pruning.pruner import Pruner
from sparsity.pruning.reconstructed import Reconstructed
from sparsity.pruning.reconstruction import ReconstructionSettings, reconstruct
from sparsity.yolo.network import fuse


class Small(nn.Sequential):
    """Two blocks, and what a network needs to weigh the errors of its outputs."""

    def __init__(self):
        torch.manual_seed(0)
        first = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.SiLU())
        super().__init__(first, nn.Sequential(nn.Conv2d(16, 8, 3, padding=1)))
        self.eval().requires_grad_(False)

    def forward(self, images):
        return [super().forward(images)]

    def importance(self, outputs):
        return [torch.ones_like(one) for one in outputs]


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(4, 3, 12, 16, generator=generator) for _ in range(4)]


def loss(network, dense, images):
    with torch.no_grad():
        pairs = [(network(batch), dense(batch)) for batch in images]
        return sum(float(outputs_error(one, other, dense.importance(other))) for one, other in pairs)


def test_zeros_stay_exact_and_the_outputs_come_nearer(images):
    dense = Small()
    pruned = prune(copy.deepcopy(dense), 0.6)
    zeros = [conv.weight == 0 for conv in pruned.modules() if isinstance(conv, nn.Conv2d)]
    before = loss(pruned, dense, images)
    ticks = []
    made = reconstruct(
        pruned,
        dense,
        images,
        dense.importance,
        settings=ReconstructionSettings(steps=60),
        tick=lambda: ticks.append(1),
    )
    after = [conv.weight == 0 for conv in pruned.modules() if isinstance(conv, nn.Conv2d)]
    assert made is pruned
    assert all(map(torch.equal, zeros, after))
    assert loss(pruned, dense, images) < 0.6 * before
    assert len(ticks) == 60
    assert not any(parameter.requires_grad for parameter in pruned.parameters())


def test_the_dense_network_does_not_change(images):
    dense = Small()
    kept = copy.deepcopy(dense.state_dict())
    pruned = prune(copy.deepcopy(dense), 0.5)
    reconstruct(pruned, dense, images, dense.importance, settings=ReconstructionSettings(steps=2))
    assert all(torch.equal(kept[name], value) for name, value in dense.state_dict().items())
    assert not any(module._forward_hooks for module in (*dense.modules(), *pruned.modules()))


@pytest.mark.parametrize("rate", [1e4, 1e30])
def test_a_reconstruction_that_harms_is_discarded(images, rate):
    dense = Small()
    pruned = prune(copy.deepcopy(dense), 0.5)
    before = copy.deepcopy(pruned.state_dict())
    settings = ReconstructionSettings(steps=5, rate=rate)
    reconstruct(pruned, dense, images, dense.importance, settings=settings)
    assert all(torch.equal(before[name], value) for name, value in pruned.state_dict().items())


def test_a_rate_that_is_too_high_is_lowered(images):
    dense = Small()
    pruned = prune(copy.deepcopy(dense), 0.6)
    before = loss(pruned, dense, images)
    settings = ReconstructionSettings(steps=40, rate=0.8)
    reconstruct(pruned, dense, images, dense.importance, settings=settings)
    assert loss(pruned, dense, images) < before


def test_it_is_the_same_by_seed(images):
    dense = Small()
    made = [
        reconstruct(
            prune(copy.deepcopy(dense), 0.5),
            dense,
            images,
            dense.importance,
            settings=ReconstructionSettings(steps=6, seed=seed),
        )[0][0].weight
        for seed in (3, 3, 4)
    ]
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_errors_by_hand():
    wanted = torch.tensor([[[[0.0, 2.0]], [[1.0, 5.0]]]])
    found = wanted + torch.tensor([[[[1.0, 0.0]], [[0.0, 2.0]]]])
    weights = torch.tensor([[[[1.0, 1.0]], [[0.0, 1.0]]]])
    # Errors: 1 and 4. Spread: 1 + 1 about the mean 1; of the second channel, 0 about 5.
    assert outputs_error([found], [wanted], [weights]) == pytest.approx(5 / 2)
    # Squared errors 1, 0, 0, 4: mean 1.25. Variance of 0, 2, 1, 5: 14 / 3.
    assert blocks_error([found], [wanted]) == pytest.approx(1.25 / (14 / 3))
    assert blocks_error([], []) == 0


def test_blocks_are_those_of_the_network_with_batch_norms_too(images):
    fused = Small()
    norms = copy.deepcopy(fused)
    norms[0].insert(1, nn.BatchNorm2d(16, eps=0).eval())
    with BlockOutputs(fused) as ours, BlockOutputs(norms) as theirs, torch.no_grad():
        fused(images[0]), norms(images[0])
        pairs = list(zip(ours.take(), theirs.take(), strict=True))
    assert [one.shape[1] for one, _ in pairs] == [16, 8]
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in pairs)


@pytest.mark.parametrize("criterion", ["l1", "obs"])
def test_as_a_criterion_it_keeps_the_counts_of_the_inner_one(images, criterion):
    dense = Small()
    settings = ReconstructionSettings(steps=30)
    pruner = Pruner(dense, calibration=images)
    plain, method = Method(criterion, "layer"), Method(Reconstructed(criterion, settings), "layer")
    assert method.label == plain.label.replace(criterion, f"{criterion}+reconstruct") or criterion == "l1"
    one, other = pruner.prune(plain, 0.6), pruner.prune(method, 0.6)
    for before, after in zip(one.parameters(), other.parameters(), strict=True):
        if before.dim() == 4:
            assert torch.equal(before == 0, after == 0)
    assert loss(other, dense, images) < loss(one, dense, images)
    assert pruner.identity([method]) != pruner.identity([plain])
    more = Method(Reconstructed(criterion, ReconstructionSettings(steps=31)), "layer")
    assert pruner.identity([method]) != pruner.identity([more])


def test_what_can_not_be_used(images):
    with pytest.raises(InputError, match="`steps` of a reconstruction is 0; at least 1 is expected"):
        ReconstructionSettings(steps=0)
    with pytest.raises(InputError, match="`rate` of a reconstruction is nan"):
        ReconstructionSettings(rate=float("nan"))
    with pytest.raises(InputError, match="criterion is 'l2'"):
        Reconstructed("l2")
    dense = Small()
    with pytest.raises(InputError, match="needs images"):
        reconstruct(copy.deepcopy(dense), dense, [], dense.importance)
    with pytest.raises(InputError, match=r"criterion` l1\+reconstruct learns from images"):
        Pruner(dense).check(Reconstructed("l1"), 0.5)
    plain = nn.Sequential(nn.Conv2d(3, 4, 1)).eval()
    with pytest.raises(InputError, match="no method `importance`"):
        Pruner(plain, calibration=images).check(Reconstructed("l1"), 0.5)


def test_blocks_are_recorded_in_turns(few_layers):
    network = fuse(few_layers())
    images = torch.rand(1, 3, 64, 64)

    def recorded(**which) -> list[torch.Tensor]:
        with BlockOutputs(network, **which) as blocks, torch.no_grad():
            network(images)
            return blocks.take()

    every, even, odd = recorded(), recorded(every=2, turn=0), recorded(every=2, turn=3)
    assert len(every) == len(even) + len(odd)
    assert all(any(torch.equal(one, other) for other in every) for one in (*even, *odd))
    assert {one.shape for one in every} == {one.shape for one in (*even, *odd)}
    assert abs(len(even) - len(odd)) <= 1


def test_the_variance_of_a_large_map_comes_from_a_quarter_of_it():
    torch.manual_seed(0)
    large, small = torch.randn(2, 4, 64, 64) * 3, torch.randn(2, 4, 4, 4) * 3
    for wanted in (large, small):
        found = blocks_error([wanted + 1], [wanted])
        assert float(found) == pytest.approx(1 / float(wanted.var()), rel=0.05 if wanted is large else 1e-4)
