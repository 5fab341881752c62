"""What decays, and how the learning rate goes."""

import pytest
import torch

from sparsity.base.errors import InputError
from sparsity.training.optimizer import make_optimizer, set_rates
from sparsity.training.recipes import complete
from sparsity.training.settings import TrainingSettings


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_only_weights_of_convolutions_decay(network, name):
    settings = complete(TrainingSettings(optimizer=name, decay=0.1), 64, pruned=False)
    free, decaying = make_optimizer(network, settings).param_groups
    assert (free["weight_decay"], decaying["weight_decay"]) == (0.0, 0.1)
    assert all(p.ndim == 4 for p in decaying["params"])
    assert all(p.ndim == 1 for p in free["params"])
    assert len(free["params"]) + len(decaying["params"]) == len(list(network.parameters()))


def test_gamma_of_yolo12_does_not_decay(few_layers):
    network = few_layers(family="yolo12")
    named = {id(parameter): name for name, parameter in network.named_parameters()}
    free, _ = make_optimizer(network, complete(TrainingSettings(decay=0.1), 64, pruned=False)).param_groups
    assert any(named[id(parameter)].endswith("gamma") for parameter in free["params"])


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [
        pytest.param(0, 0.0, id="the warm-up begins at 0"),
        pytest.param(1, (0.01 + 0.99 * 0.97553) / 2, id="half warm"),
        pytest.param(2, 0.01 + 0.99 * 0.90451, id="warm: on the cosine"),
        pytest.param(5, 0.505, id="half-way"),
        pytest.param(10, 0.01, id="the end"),
    ],
)
def test_learning_rate(epoch, rate):
    settings = TrainingSettings(epochs=10, lr0=1.0, lrf=0.01, warmup=2)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=9, momentum=0.5)
    assert set_rates(optimizer, settings, epoch) == pytest.approx(rate, abs=1e-4)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(rate, abs=1e-4)


def test_momentum_warms_up():
    settings = complete(TrainingSettings(warmup=2, momentum=0.9), 64, pruned=False)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1, momentum=0.9)
    seen = []
    for epoch in (0, 1, 2, 3):
        set_rates(optimizer, settings, epoch)
        seen.append(optimizer.param_groups[0]["momentum"])
    assert seen == pytest.approx([0.8, 0.85, 0.9, 0.9])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epochs": 0}, "`epochs` is 0"),
        ({"batch_size": 0}, "`batch_size` is 0"),
        ({"nominal_batch": 0.5}, "`nominal_batch` is 0.5"),
        ({"lr0": float("nan")}, "`lr0` is nan"),
        ({"lr0": -1.0}, "`lr0` is -1.0"),
        ({"lrf": 2.0}, "`lrf` is 2.0"),
        ({"optimizer": "Lion"}, "SGD, AdamW or ScaledAdam"),
        ({"blocks": -1.0}, "`blocks` is -1.0"),
        ({"amount": 1.0}, "`amount` is 1.0"),
        ({"scope": "model"}, "`scope` is 'model'"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_settings_out_of_range_are_refused(change, words):
    with pytest.raises(InputError, match=words):
        TrainingSettings(**change)
