"""A batch on lanes gives the same detections as the network in one piece."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from sparsity.base.devices import cpu_has_bfloat16, select_device, select_precision
from sparsity.base.errors import InputError
from sparsity.engines.pytorch import TorchEngine
from sparsity.engines.table import ENGINES
from sparsity.validation.detector import Detector, Lanes, PhaseSeconds, Thresholds
from sparsity.validation.nms import non_maximum_suppression

CPU = torch.device("cpu")


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 64, 96, 3), np.uint8)


def test_lanes_give_what_one_batch_gives(network, pixels):
    with torch.inference_mode():
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        found = network.candidates(network(images), 0.2)
        whole = non_maximum_suppression(
            found.image,
            found.boxes_xyxy,
            found.scores,
            found.classes,
            images=5,
            iou_thres=0.65,
            max_det=20,
        )
    with Lanes(CPU) as lanes:
        detector = Detector(network, lanes, thresholds=Thresholds(0.2, 0.65, 20))
        pieces = detector.detect(pixels)
    assert [len(piece) for piece in pieces] == [20] * 5
    for piece, one in zip(pieces, whole, strict=True):
        torch.testing.assert_close(piece.boxes_xyxy, one.boxes_xyxy, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(piece.scores, one.scores, rtol=1e-4, atol=1e-6)


def test_onednn_computes_what_pytorch_computes(network, pixels):
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    with Lanes(CPU) as lanes, torch.inference_mode():
        ours = Detector(network, lanes).runner.network
        assert {type(m) for m in ours.modules() if isinstance(m, torch.nn.Conv2d)} != {torch.nn.Conv2d}
        for one, other in zip(ours(images), network(images), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_detections_repeat_to_the_last_bit(network, pixels):
    with Lanes(CPU) as lanes:
        detector = Detector(network, lanes)
        first, second = detector.detect(pixels), detector.detect(pixels)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.boxes_xyxy, other.boxes_xyxy)
        assert torch.equal(one.scores, other.scores)


def test_every_phase_is_timed(network, pixels):
    with Lanes(CPU) as lanes:
        detector = Detector(network, lanes)
        detector.detect(pixels)
        detector.detect(pixels)
    assert detector.seconds.images == 10
    assert all(ms > 0 for ms in detector.seconds.per_image_ms())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pixels_are_floats_from_0_to_1_whatever_was_in_their_memory(dtype):
    lanes, random = Lanes(torch.device("cpu"), most=1), np.random.default_rng(0)
    for side in (64, 64, 32, 64):
        for form in (torch.channels_last, torch.contiguous_format):
            pixels = torch.from_numpy(random.integers(0, 256, (1, side, 96, 3), np.uint8))
            found = lanes.to_floats(pixels, dtype, form)
            assert found.is_contiguous(memory_format=form)
            assert torch.equal(found, pixels.permute(0, 3, 1, 2).to(dtype).div(255))
            again = lanes.to_floats(255 - pixels, dtype, form)
            assert torch.equal(again, (255 - pixels).permute(0, 3, 1, 2).to(dtype).div(255))
            assert again.data_ptr() == found.data_ptr()
    with ThreadPoolExecutor(1) as other:
        elsewhere = other.submit(lanes.to_floats, pixels, dtype, form).result()
    assert elsewhere.data_ptr() != again.data_ptr()


def test_an_error_in_a_lane_comes_out_and_threads_end():
    def fail(_piece):
        raise RuntimeError("in a lane")

    with Lanes(CPU) as lanes, pytest.raises(RuntimeError, match="in a lane"):
        lanes.map(fail, [1, 2, 3])


def test_lanes_leave_the_callers_threads_alone():
    before = torch.get_num_threads()
    with Lanes(CPU) as lanes:
        assert sum(lanes.map(lambda _: torch.get_num_threads(), range(1))) <= before
    assert torch.get_num_threads() == before
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == before


def test_low_precision_boxes_are_decoded_in_float32(network, pixels):
    with Lanes(CPU) as lanes:
        detections = Detector(network, lanes, dtype=torch.bfloat16).detect(pixels)
    assert all(one.boxes_xyxy.dtype == torch.float32 for one in detections)
    fractions = torch.cat([one.boxes_xyxy for one in detections])
    assert not torch.equal(fractions, fractions.bfloat16().float())


def test_anchors_keep_their_precision(network):
    network.head.anchors.fill_(11.65625)  # one of the published anchors; bfloat16 would make it 11.625
    with Lanes(CPU) as lanes:
        copy = Detector(network, lanes, dtype=torch.bfloat16).runner.network
    assert copy.head.m[0].weight.dtype == torch.bfloat16
    assert copy.head.anchors.unique().item() == 11.65625


def test_the_network_itself_is_left_as_it_was(network):
    network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with Lanes(CPU) as lanes:
        copy = Detector(network, lanes, dtype=torch.bfloat16).runner.network
    assert not copy.training
    assert network.training
    for name, tensor in network.state_dict().items():
        assert tensor.dtype == torch.float32
        assert tensor.is_contiguous()
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(torch.cuda.OutOfMemoryError("CUDA out of memory"), id="GPU"),
        pytest.param(RuntimeError("could not create a primitive"), id="oneDNN"),
        pytest.param(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9"), id="CPU"),
        pytest.param(MemoryError("Unable to allocate 9 GiB"), id="NumPy"),
    ],
)
def test_a_batch_that_does_not_fit_is_named(network, pixels, error):
    def out_of_memory(_images):
        raise error

    with Lanes(CPU) as lanes:
        detector = Detector(network, lanes)
        detector.runner.network.forward = out_of_memory
        with pytest.raises(InputError, match=r"`batch_size`: .*cpu does not hold 5 images of 64 x 96"):
            detector.detect(pixels)
        with pytest.raises(InputError, match=r"`batch_sizes`: .*cpu does not hold 1 images of 64 x 96"):
            detector.forward(torch.zeros(1, 3, 64, 96))


def test_an_engine_that_compiles_is_warmed_up_before_the_clock(network):
    class Compiling(TorchEngine):
        compiles = True

    with Lanes(CPU) as lanes:
        for engine, calls in ((Compiling(), 1), (TorchEngine(), 0)):
            detector, seen = Detector(network, lanes, engine=engine), []
            detector.runner.network.register_forward_hook(lambda *given, seen=seen: seen.append(given))
            detector.warm_up((64, 96))
            assert len(seen) == calls
            assert detector.seconds == PhaseSeconds()


@pytest.mark.parametrize("name", ENGINES)
def test_engines_that_compile_say_so(name):
    assert ENGINES[name].compiles == (name != "torch")


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        pytest.param("banana", "cpu, the number of a GPU", id="a word"),
        pytest.param("99", "CUDA devices", id="no such GPU"),
        pytest.param("cuda:99", "CUDA devices", id="no such GPU, by name"),
        pytest.param("-1", "cpu, the number of a GPU", id="negative"),
        pytest.param("meta", "cpu, the number of a GPU", id="a device that computes nothing"),
    ],
)
def test_unknown_devices_are_refused(wanted, words):
    with pytest.raises(InputError, match=words):
        select_device(wanted)


def test_precision():
    assert select_precision(torch.device("cuda:0"), half=True) == torch.float16
    assert select_precision(torch.device("cuda:0"), half=False) == torch.float32
    expected = torch.bfloat16 if cpu_has_bfloat16() else torch.float32
    assert select_precision(CPU, half=True) == expected
