"""What a worker does, in this process."""

from dataclasses import replace

import pytest
import torch

from sparsity import Method, Pruner, ValidationSettings
from sparsity.cluster import tasks
from sparsity.cluster.files import Shipment
from sparsity.cluster.tasks import Work
from sparsity.sweeping.level import Level
from sparsity.sweeping.settings import SweepSettings
from sparsity.validation.detector import RanIn
from sparsity.validation.inputs import fit, read_data

VALIDATION = ValidationSettings(imgsz=64, batch_size=2, device="cpu", workers=0)
LEVEL = Level(Method(), 0.5)


@pytest.fixture
def work(slight, shapes):
    settings = fit(VALIDATION, slight)
    images = read_data(shapes, slight, settings).images
    return Work(SweepSettings((0.5,), validation=settings), settings, images, Shipment(), 1)


@pytest.mark.parametrize(("asked", "here"), [("cpu", "cpu"), ("", ""), ("0", ""), ("cuda:3", "")])
def test_a_task_computes_on_the_gpu_that_it_is_given(work, asked, here):
    assert replace(work, settings=replace(work.settings, device=asked)).device == here


def test_known_batches_are_left_out(work, slight):
    pruner, threads = Pruner(slight), torch.get_num_threads()
    try:
        pruned, (facts, lines) = tasks.prune(work, pruner, LEVEL, None, None)
        every = list(tasks.detect(work, pruner, pruned, LEVEL, frozenset()))
        some = list(tasks.detect(work, pruner, pruned, LEVEL, frozenset({0, 2})))
    finally:
        torch.set_num_threads(threads)
    assert isinstance(every[0], RanIn)
    assert every[0] == some[0]
    numbers = [number for number, _ in every[1:]]
    assert [number for number, _ in some[1:]] == [n for n in numbers if n not in (0, 2)]
    assert sum(len(found.detections) for _, found in every[1:]) == len(work.images)
    assert facts.counted.sparsity.conv == pytest.approx(0.5, abs=0.01)
    assert [line.split(")")[0] for line in lines] == ["Pruning (l1, 0.5"]
    _, found = some[1]
    _, same = every[2]
    for one, other in zip(found.detections, same.detections, strict=True):
        assert torch.equal(one.boxes_xyxy, other.boxes_xyxy)


def test_a_learned_pruner_prunes_as_one_that_learns_itself(work, slight):
    images = [torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))]
    pruner, threads, method = Pruner(slight, calibration=images), torch.get_num_threads(), Method("obs")
    wanted = replace(work.wanted, methods=(method,))
    try:
        learned = tasks.learn(replace(work, wanted=wanted), pruner)
        expected = pruner.prune(method, 0.5)
    finally:
        torch.set_num_threads(threads)
    assert replace(work, wanted=wanted).calibrates
    assert not work.calibrates
    found = learned.prune(method, 0.5)
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)
