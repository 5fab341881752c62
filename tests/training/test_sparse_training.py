"""Sparse training: gradients by the formulas, what could be cut, and going on."""

from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from sparsity import ValidationSettings, load
from sparsity.formats.saving import save
from sparsity.training.preparation import Material, make_run
from sparsity.training.run import Run
from sparsity.training.settings import TrainingSettings
from sparsity.training.sparse_training import BINS, ScalePenalty, histogram
from sparsity.yolo.network import Network, build
from sparsity.yolo.yolov5 import architectures
from sparsity.yolo.yolov5.architectures import Scale, yolov5

TIED = {"model.2.cv1.bn", "model.2.m.0.cv2.bn", "model.8.cv1.bn", "model.8.m.0.cv2.bn"} | {
    f"model.{block}.{name}.bn"
    for block, count in ((4, 2), (6, 3))
    for name in ("cv1", *(f"m.{i}.cv2" for i in range(count)))
}
VALIDATION = ValidationSettings(imgsz=64, device="cpu", workers=1)


@pytest.fixture
def network(monkeypatch) -> Network:
    """A narrow yolov5n with batch norms, scales and shifts of both signs."""
    monkeypatch.setitem(architectures.SCALES, "tiny", Scale(0.33, 1 / 16))
    torch.manual_seed(0)
    network = build(yolov5("tiny", nc=3), ("cat", "dog", "bird")).requires_grad_(False)
    network.head.anchors.copy_(torch.tensor([[2.0, 3.0], [4.0, 4.0], [8.0, 6.0]]).expand(3, 3, 2))
    for norm in norms(network).values():
        norm.weight.uniform_(-1.5, 1.5)
        norm.bias.uniform_(-1, 1)
    return network


def norms(network: nn.Module) -> dict[str, nn.BatchNorm2d]:
    return {name: one for name, one in network.named_modules() if isinstance(one, nn.BatchNorm2d)}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    ("recipe", "epoch", "scale", "shift"),
    [
        pytest.param("yolov5", 0, 0.0025, 0.025, id="yolov5, first epoch"),
        pytest.param("yolov5", 35, 0.0025 * (1 - 0.9 * 35 / 70), 0.025, id="yolov5, half way"),
        pytest.param("yolov8", 0, 0.0025, 0.0025, id="yolov8, first epoch"),
        pytest.param("yolov8", 69, 0.0025 * (1 - 0.9 * 69 / 70), 0.0025, id="yolov8, last epoch"),
    ],
)
def test_gradients_are_those_of_the_recipes(network, recipe, epoch, scale, shift, tied):
    for norm in norms(network).values():
        norm.weight.grad, norm.bias.grad = torch.full_like(norm.weight, 0.5), torch.zeros_like(norm.bias)
    penalty = ScalePenalty(network, 0.0025, recipe, tied=tied, epochs=70)
    penalty.add_to_gradients(network, epoch)
    assert set(norms(network)) > TIED
    for name, norm in norms(network).items():
        left_out = name in TIED and not tied
        expected = 0.5 + scale * norm.weight.sign() * (not left_out)
        torch.testing.assert_close(norm.weight.grad, expected)
        torch.testing.assert_close(norm.bias.grad, shift * norm.bias.sign() * (not left_out))


def test_small_scales_are_counted_by_layer_and_together_where_tied(network):
    for norm in norms(network).values():
        norm.weight.fill_(1.0)
    network.model[3].bn.weight[:3] = torch.tensor([0.0099, -0.0099, 0.0101])
    network.model[3].bn.weight[-1] = -1.0
    network.model[5].bn.weight.fill_(1e-3)  # small, but not beside one another
    network.model[2].cv1.bn.weight[:2] = 0
    network.model[2].m[0].cv2.bn.weight[1] = 0
    assert ScalePenalty(network, 1, "yolov5", tied=False, epochs=1).count_small(network) == 2
    penalty = ScalePenalty(network, 1, "yolov5", tied=True, epochs=1)
    assert penalty.count_small(network) == 3
    scales = penalty.scales(network)
    assert len(scales) == penalty.free
    assert (scales == 0).sum() == 1, "of those that are tied the largest"


def test_histograms_hold_every_channel():
    scales = torch.tensor([0.0, 0.5, 1.0, 1.0])
    first = histogram(scales, 1)
    assert len(first) == BINS
    assert first[-1].high == pytest.approx(1.1)
    assert histogram(torch.cat((torch.rand(999), torch.tensor([50.0]))), 1)[-1].high < 1.2
    later = histogram(torch.tensor([0.0, 0.0, 2.0, 0.3]), 2, first[-1].high)
    assert [one.low for one in later] == [one.low for one in first]
    assert (later[0].channels, later[-1].channels) == (2, 1), "what is above is in the last"
    assert sum(one.channels for one in later) == 4
    assert histogram(torch.zeros(3), 1)[0].channels == 3


@pytest.fixture
def material(few_layers, shapes, tmp_path) -> Material:
    """To train a network of few layers, whose scales are positive; two of them are tied."""
    network = few_layers().requires_grad_(False)
    shapes.write_text(yaml.safe_dump(yaml.safe_load(shapes.read_text()) | {"train": "images"}))
    for norm in norms(network).values():
        norm.weight.uniform_(0, 1.5)
        norm.bias.uniform_(-1, 1)
    save(network, tmp_path / "dense.pt")
    return Material(tmp_path / "dense.pt", data=shapes)


def make(material: Material, folder: Path, **changes) -> Run:
    folder.mkdir(exist_ok=True)
    small = {"epochs": 3, "batch_size": 2, "nominal_batch": 2, "imgsz": 64, "workers": 0, "lr0": 0.01}
    return make_run(material, TrainingSettings(**small | changes), VALIDATION, folder)


def test_scales_shrink_those_that_are_tied_do_not(material, tmp_path):
    before = load(material.weights, fused=False)
    runs = [make(material, tmp_path / str(rate), sparse_train=rate, warmup=0.0) for rate in (0.0, 0.3)]
    for run in runs:
        run.run()
    plain, sparse = (norms(run.trainer.network) for run in runs)
    tied = {"model.3.cv1.bn", "model.3.m.0.cv2.bn"}
    assert tied < set(plain)
    for name, norm in norms(before).items():
        change = (sparse[name].weight.abs() - plain[name].weight.abs())[norm.weight > 0.1].mean()
        assert (change < -0.01) if name not in tied else (change.abs() < 0.01), name
    assert [row.small_scales for row in runs[0].rows] == [-1] * 3
    assert all(0 <= row.small_scales <= runs[1].trainer.penalty.free for row in runs[1].rows)
    assert not runs[0].scales
    assert not (tmp_path / "0.0" / "scales.csv").exists()


def test_a_batch_cut_in_two_is_pulled_as_often(material, tmp_path):
    pulls = []
    for batch, nominal in ((6, 6), (2, 6)):
        run = make(material, tmp_path / str(batch), sparse_train=0.1, batch_size=batch, nominal_batch=nominal)
        real, seen = run.trainer.penalty.add_to_gradients, []
        run.trainer.penalty.add_to_gradients = lambda *given, seen=seen, real=real: seen.append(real(*given))
        run.run()
        pulls.append(len(seen))
    assert pulls == [3, 3]


def test_resume_gives_what_an_uninterrupted_run_gives(material, tmp_path):
    sparse = {"sparse_train": 0.1, "sparse_recipe": "yolov8", "tied": True}
    whole = make(material, tmp_path / "whole", **sparse)
    whole.run()
    stopped = make(material, tmp_path / "stopped", **sparse)
    real, calls = stopped.trainer.run_epoch, []

    def two_epochs(epoch, **more):
        calls.append(epoch)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return real(epoch, **more)

    stopped.trainer.run_epoch = two_epochs
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    again = make(material, tmp_path / "stopped", **sparse)
    again.resume()
    assert len(again.scales) == 3 * BINS
    again.run()
    assert len(again.scales) == 4 * BINS
    theirs = again.trainer.average.network.state_dict()
    for name, tensor in whole.trainer.average.network.state_dict().items():
        torch.testing.assert_close(theirs[name], tensor, rtol=1e-4, atol=1e-5)
    for one, other in zip(whole.scales, again.scales, strict=True):
        assert (one.epoch, one.low, one.high) == (other.epoch, other.low, other.high)
