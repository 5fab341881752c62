"""What runs on a GPU, run on a fake one: no tensor is on another device, and types are as they must be.

test_gpu_path.py runs these tests in a process of their own (see fake_gpu).
"""

from functools import partial

import pytest
import torch
from torch import nn

from sparsity.engines.engine import Engine
from sparsity.pruning import imitation, least_squares, obs
from sparsity.pruning.channel_costs import channel_costs
from sparsity.pruning.least_squares import find_support, refit
from sparsity.pruning.magnitude import prune
from sparsity.pruning.moments import gather_moments
from sparsity.pruning.reconstruction import ReconstructionSettings, reconstruct
from sparsity.pruning.scaled_adam import scaled_adam
from sparsity.training.ema import Average
from sparsity.training.lessons import lesson_of
from sparsity.training.masks import Masks
from sparsity.validation import detector
from sparsity.validation.nms import best_detections, non_maximum_suppression
from sparsity.yolo.network import Network, build, fuse
from sparsity.yolo.spec import Architecture
from tests import small_networks
from tests.fake_gpu import FOUND, GPU, assert_on_gpu, fake_gpu, to_gpu

FAMILIES = ("yolov5", "yolov8", "yolo12", "yolo26")
SIDE = 64


def on_gpu(family: str, dtype: torch.dtype = torch.float32, *, fused: bool = True) -> Network:
    """A small network of random weights on the fake GPU, to be made inside fake_gpu."""
    architecture: Architecture = getattr(small_networks, family)()
    network = build(architecture, small_networks.NAMES).eval()
    network = fuse(network) if fused else network
    return to_gpu(network, dtype)


def images(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(2, 3, SIDE, SIDE, device=GPU, dtype=dtype)


class AsItIs(Engine):
    """Runs a network as it is, without a copy, which fake tensors don't allow."""

    name = "as it is"
    memory_format = torch.channels_last

    def prepare(self, network, device, dtype):
        self.network = network
        return self

    def __call__(self, images):
        return self.network(images)

    def candidates(self, maps, conf_thres):
        return self.network.candidates(maps, conf_thres)


def targets() -> torch.Tensor:
    """Three boxes: image, class, and the box, normalised."""
    return torch.empty(3, 6, device=GPU)


MIXED = {
    "sum": lambda: images() + torch.empty(2, 3, SIDE, SIDE),
    "convolution of images elsewhere": lambda: to_gpu(nn.Conv2d(3, 4, 1))(torch.empty(2, 3, SIDE, SIDE)),
    "convolution, weights elsewhere": lambda: nn.Conv2d(3, 4, 1)(images()),
    "indices on the GPU of a tensor elsewhere": lambda: torch.empty(2)[torch.empty(1, device=GPU).long()],
    "setting by such indices": lambda: torch.empty(2).__setitem__(torch.empty(1, device=GPU).long(), 0),
}


@pytest.mark.parametrize("mix", MIXED.values(), ids=MIXED)
def test_devices_do_not_mix(mix):
    with fake_gpu(), pytest.raises(RuntimeError, match="same device"):
        mix()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("family", FAMILIES)
def test_networks_and_decoding(family, dtype):
    with fake_gpu(), torch.inference_mode():
        network = on_gpu(family, dtype)
        raw = network(images(dtype))
        assert_on_gpu(raw, dtype=dtype)
        assert_on_gpu(network.head.decode(raw), dtype=torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("family", FAMILIES)
def test_candidates(family, dtype):
    with fake_gpu(), torch.inference_mode():
        network = on_gpu(family, dtype)
        found = network.head.candidates(network(images(dtype)), 0.25)
        assert_on_gpu(found.image, found.classes, dtype=torch.int64)
        assert_on_gpu(found.boxes_xyxy, found.scores, dtype=torch.float32)


@pytest.mark.parametrize("agnostic", [False, True])
def test_suppression(agnostic):
    with fake_gpu(), torch.inference_mode():
        boxes, scores = torch.empty(FOUND, 4, device=GPU), torch.empty(FOUND, device=GPU)
        image, classes = (torch.empty(FOUND, dtype=torch.int64, device=GPU) for _ in range(2))
        limits = {"iou_thres": 0.65, "max_det": 2, "agnostic": agnostic}
        found = non_maximum_suppression(image, boxes, scores, classes, images=2, **limits)
        best = best_detections(image, boxes, scores, classes, images=2, max_det=2)
        for one in (*found, *best):
            assert_on_gpu(one.boxes_xyxy, one.scores, dtype=torch.float32)
            assert_on_gpu(one.classes, dtype=torch.int64)
        assert [len(one) for one in (*found, *best)] == [2, 2, 2, 2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_detector_from_pixels_to_main_memory(family, dtype, monkeypatch):
    monkeypatch.setattr(detector, "synchronize", lambda _device: None)
    with fake_gpu(), torch.inference_mode():
        network = on_gpu(family, dtype)
        ours = detector.Detector(network, detector.Lanes(GPU), dtype, nms=family != "yolo26", engine=AsItIs())
        pixels = torch.empty(FOUND, SIDE, SIDE, 3, dtype=torch.uint8)
        found = ours._detect(pixels).detections
        assert len(found) == FOUND
        for one in found:
            assert {one.boxes_xyxy.device.type, one.scores.device.type, one.classes.device.type} == {"cpu"}


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_and_gradients(family):
    with fake_gpu(truth=True):
        network = on_gpu(family, fused=False).train()
        parts = lesson_of(network).losses(network.head, SIDE)(network(images()), targets())
        assert_on_gpu(parts)
        torch.stack(list(parts.values())).sum().backward()
        assert_on_gpu([one.grad for one in network.parameters() if one.grad is not None])


@pytest.mark.parametrize("family", FAMILIES)
def test_distillation(family):
    with fake_gpu():
        network, teacher = on_gpu(family, fused=False).train(), on_gpu(family, torch.float16)
        with torch.no_grad():
            wanted = teacher.every_output(images(torch.float16))
        loss = lesson_of(network).distil(network.head)(network(images()), wanted)
        assert_on_gpu(loss)
        loss.backward()


def test_the_error_of_blocks():
    with fake_gpu():
        network = on_gpu("yolov5")
        with imitation.BlockOutputs(network) as blocks:
            network(images())
            maps = blocks.take()
        assert_on_gpu(imitation.blocks_error(maps, [one.half() for one in maps]))


def test_masks_and_the_average_of_weights():
    with fake_gpu():
        network = on_gpu("yolov5", fused=False).train()
        average = Average(network)
        keep = {
            f"{name}.weight": torch.ones(one.weight.shape, dtype=torch.bool)
            for name, one in convolutions(network)
        }
        masks = Masks(keep)
        network(images())[0].sum().backward()
        masks.apply_to_gradients(network)
        optimizer = scaled_adam(list(network.parameters()), 0.01)
        optimizer.step()
        masks.apply(network)
        average.update(network)
        masks.apply(average.network)
        assert_on_gpu(*masks._placed.values())
        assert_on_gpu(network.state_dict(), average.network.state_dict())


def test_moments_of_inputs():
    generator = torch.Generator().manual_seed(0)
    with fake_gpu():
        conv = to_gpu(nn.Conv2d(8, 16, 3, padding=1))
        moments = gather_moments(conv, [torch.empty(4, 8, 16, 16, device=GPU)], 500, generator)
        assert_on_gpu(moments.xx, moments.yx, moments.x, moments.y)


@pytest.mark.parametrize("family", FAMILIES)
def test_obs(family, monkeypatch):
    monkeypatch.setattr(least_squares, "find_support", partial(find_support, steps=3))
    monkeypatch.setattr(least_squares, "refit", partial(refit, steps=2))
    with fake_gpu(), torch.no_grad():
        network = on_gpu(family)
        counts = dict.fromkeys((name for name, _ in convolutions(network)), FOUND)
        assert_on_gpu(obs.prune_obs(network, counts, [images()]).state_dict())


def test_costs_of_channels():
    with fake_gpu():
        network = on_gpu("yolov5")
        assert_on_gpu(channel_costs(network, [images()], network.head.importance))


def test_reconstruction():
    with fake_gpu():
        network, dense = on_gpu("yolov5"), on_gpu("yolov5")
        settings = ReconstructionSettings(steps=2)
        reconstruct(network, dense, [images()] * (FOUND + 1), dense.head.importance, settings=settings)
        assert_on_gpu(network.state_dict())


def test_least_squares():
    with fake_gpu():
        target, h = torch.empty(1, 4, 9, device=GPU), torch.empty(1, 9, 9, device=GPU)
        support = find_support(target, h, lambda sizes: sizes > 1)
        assert_on_gpu(support, refit(target, h, support, target))


def test_pruning_by_magnitude():
    with fake_gpu():
        assert_on_gpu(prune(on_gpu("yolov5"), 0.5).state_dict())


def convolutions(network: nn.Module) -> list[tuple[str, nn.Conv2d]]:
    return [(name, one) for name, one in network.named_modules() if isinstance(one, nn.Conv2d)]
