"""Runs a network in an engine: batches of pixels -> detections, with the time of each phase."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import InitVar, astuple, dataclass, field, fields
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from sparsity.base.devices import device_name, select_precision, synchronize
from sparsity.base.errors import InputError
from sparsity.base.memory import is_out_of_memory
from sparsity.base.threads import one_thread
from sparsity.engines.engine import Engine
from sparsity.engines.pytorch import TorchEngine
from sparsity.validation.counting import counting_of
from sparsity.validation.inputs import Detectable
from sparsity.validation.nms import KeptBoxes, best_detections, non_maximum_suppression
from sparsity.validation.settings import ValidationSettings
from sparsity.yolo.head import Candidates

Item = TypeVar("Item")
Result = TypeVar("Result")
MOST_CPU_LANES = 4
"""Maximum number of images that a CPU computes at the same time. Each needs memory for its activations."""


@dataclass
class PhaseSeconds:
    """The wall time of each phase in seconds, also where lanes run in parallel, and the number of images.

    preprocess: copying to the device, and conversion to floating point. inference: the network, and the
    decoding of the boxes above the threshold. nms: non-maximum suppression.
    """

    preprocess: float = 0.0
    inference: float = 0.0
    nms: float = 0.0
    images: int = 0

    def add(self, images: int, wall: float, pieces: list[list[float]]) -> None:
        """Add a batch. Its wall time is divided in proportion to the time that the lanes spent in each phase.

        pieces: for each piece of the batch, the times at which it began and each phase ended.
        """
        spent = np.diff(pieces, axis=1).sum(0)
        preprocess, inference, nms = (wall * spent / spent.sum()).tolist()
        self.images += images
        self.preprocess += preprocess
        self.inference += inference
        self.nms += nms

    def include(self, other: PhaseSeconds) -> None:
        """Add the seconds and images of other."""
        for field_ in fields(self):
            setattr(self, field_.name, getattr(self, field_.name) + getattr(other, field_.name))

    def since(self, before: PhaseSeconds) -> PhaseSeconds:
        """Return the difference to an earlier copy of this."""
        return PhaseSeconds(*(now - then for now, then in zip(astuple(self), astuple(before), strict=True)))

    @property
    def total(self) -> float:
        """The seconds of all phases together."""
        return self.preprocess + self.inference + self.nms

    def per_image_ms(self) -> tuple[float, float, float]:
        """Return preprocess, inference and NMS, in milliseconds per image."""
        return tuple(1e3 * s / self.images for s in (self.preprocess, self.inference, self.nms))


@dataclass(frozen=True)
class Thresholds:
    """The thresholds of detection.

    conf: the minimum confidence. iou: NMS suppresses boxes above this IoU.
    max_det: the maximum number of detections per image.
    """

    conf: float = 0.001
    iou: float = 0.65
    max_det: int = 300


@dataclass(frozen=True)
class RanIn:
    """What ran a network: the names of the engine, the device and the data type that it computed in."""

    engine: str
    device: str
    precision: str


class Lanes:
    """Runs a function on the images of a batch: on a CPU several at the same time, each on its own cores.

    Cores that share one image wait for each other at every layer. With separate
    images they do not wait, and an image's maps stay in the cache. A GPU computes the batch in one piece.
    most: the maximum number of images that a CPU computes at the same time.
    """

    def __init__(self, device: torch.device, most: int = MOST_CPU_LANES) -> None:
        self.device, self.device_name = device, device_name(device)
        threads = self._threads = torch.get_num_threads()
        self.count = min(most, threads) if device.type == "cpu" else 1
        self._own = threading.local()
        self._pool: ThreadPoolExecutor | None = None
        if self.count > 1:
            # Each thread has its own count. New threads start with the count that was set last: see close.
            self._pool = ThreadPoolExecutor(
                self.count,
                thread_name_prefix="lane",
                initializer=torch.set_num_threads,
                initargs=(threads // self.count,),
            )

    def split(self, batch: Tensor) -> tuple[Tensor, ...]:
        """Return the pieces of a batch: single images on a CPU, the whole batch on a GPU."""
        return batch.split(1 if self.device.type == "cpu" else len(batch))

    def to_floats(self, pixels: Tensor, dtype: torch.dtype, memory_format: torch.memory_format) -> Tensor:
        """Return a piece of a batch on the device: [images, 3, height, width] in 0 to 1.

        pixels: uint8 [images, height, width, 3]. On a CPU, the result holds until the lane's next call: to
        get memory for it from the system takes longer than to fill it.
        """
        # From pinned memory, as a BatchLoader gives it for a GPU, no copy in between is made.
        images = pixels.to(self.device, non_blocking=True).permute(0, 3, 1, 2)
        if self.device.type != "cpu":
            return images.to(dtype, memory_format=memory_format).div_(255)
        wanted = images.shape, dtype, memory_format
        if getattr(self._own, "form", None) != wanted:
            self._own.form = wanted
            self._own.images = torch.empty(images.shape, dtype=dtype, memory_format=memory_format)
        return self._own.images.copy_(images).div_(255)

    def map(self, function: Callable[[Item], Result], pieces: Iterable[Item]) -> list[Result]:
        """Call function on every piece, without gradients, and return the results in order."""

        def call(piece: Item) -> Result:
            with torch.inference_mode():
                return function(piece)

        return list(map(call, pieces) if self._pool is None else self._pool.map(call, pieces))

    def close(self) -> None:
        """End the threads. Calls that have not begun are dropped."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            torch.set_num_threads(self._threads)

    def __enter__(self) -> Lanes:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


@dataclass
class Detector:
    """Detects with a copy of a network, prepared by an engine on the device of the lanes.

    dtype: the precision of the network. Boxes are always decoded in float32.
    agnostic: whether NMS ignores classes. nms: whether there is any.
    engine: the engine that prepares the copy. classes: those that are detected; () for all.
    """

    network: InitVar[nn.Module]
    lanes: Lanes
    dtype: torch.dtype = torch.float32
    thresholds: Thresholds = field(default_factory=Thresholds)
    agnostic: bool = False
    nms: bool = True
    engine: Engine = field(default_factory=TorchEngine)
    classes: tuple[int, ...] = ()

    def __post_init__(self, network: nn.Module) -> None:
        self.seconds = PhaseSeconds()
        self.runner = self.engine.prepare(network, self.lanes.device, self.dtype)

    @property
    def ran_in(self) -> RanIn:
        """What runs the network."""
        precision = str(self.engine.computes_in or self.dtype).removeprefix("torch.")
        return RanIn(engine=self.engine.name, device=self.lanes.device_name, precision=precision)

    def detect(self, pixels: np.ndarray) -> list[KeptBoxes]:
        """Return the detections of each image, in letterbox pixels.

        pixels: uint8 [batch, height, width, 3] RGB. Raises InputError where memory does not hold them.
        """
        start = time.perf_counter()
        with self._fitting("batch_size", len(pixels), pixels.shape[1:3]):
            pieces = self.lanes.map(self._detect, self.lanes.split(torch.from_numpy(pixels)))
        self.seconds.add(len(pixels), time.perf_counter() - start, [piece.times for piece in pieces])
        return [one for piece in pieces for one in piece.detections]

    def place(self, images: Tensor) -> Tensor:
        """Return images on the device, in dtype. images: float [batch, 3, height, width] in 0 to 1."""
        return images.to(self.lanes.device, self.dtype).contiguous(memory_format=self.runner.memory_format)

    def settle(self, images: Tensor) -> None:
        """Let the engine prepare for many calls of forward with these images, as place returns them."""
        pieces = self.lanes.split(images)
        if len(pieces) < self.lanes.count:
            self.runner.settle(images)
        else:
            self.lanes.map(self.runner.settle, pieces[:1])

    def forward(self, images: Tensor) -> None:
        """Run the network and decode the boxes above the threshold, to be timed.

        images: as place returns them. Fewer images than lanes run in one piece. Raises InputError where
        memory does not hold them.
        """
        pieces = self.lanes.split(images)
        with self._fitting("batch_sizes", len(images), images.shape[2:]):
            if len(pieces) < self.lanes.count:
                with torch.inference_mode():
                    self._candidates(images)
            else:
                self.lanes.map(self._candidates, pieces)

    @contextmanager
    def _fitting(self, argument: str, images: int, shape: Sequence[int]) -> Iterator[None]:
        """Turn a lack of memory into an InputError. argument: sets the number of images in a batch."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            device, fewer = self.lanes.device.type, f"give a smaller `{argument}`"
            if device == "cpu":
                fewer = "free some memory, or give a smaller `imgsz`"  # it computes few images at a time
            raise InputError(
                f"`{argument}`: the memory of {device} does not hold {images} images of {shape[0]} x "
                f"{shape[1]}; {fewer} (it changes AP)"
            ) from error

    def warm_up(self, shape: tuple[int, int]) -> None:
        """Run the network once, so that one-time costs are not counted. shape: height and width.

        These are the costs of a GPU, and of an engine that compiles.
        """
        if self.lanes.device.type != "cpu" or self.engine.compiles:
            self.detect(np.zeros((1, *shape, 3), np.uint8))
            self.seconds = PhaseSeconds()

    def _detect(self, pixels: Tensor) -> _Piece:
        """Detect on some images of a batch, on one lane."""
        times = [time.perf_counter()]
        images = self.lanes.to_floats(pixels, self.dtype, self.runner.memory_format)
        self._mark(times)
        candidates = self._candidates(images)
        self._mark(times)
        detections = [one.cpu() for one in self._suppress(candidates, len(pixels))]
        self._mark(times)
        return _Piece(detections, times)

    def _candidates(self, images: Tensor) -> Candidates:
        maps = self.runner(images)
        with one_thread():
            found = self.runner.candidates(maps, self.thresholds.conf)
            return found.of_classes(self.classes) if self.classes else found

    def _mark(self, times: list[float]) -> None:
        synchronize(self.lanes.device)
        times.append(time.perf_counter())

    def _suppress(self, found: Candidates, images: int) -> list[KeptBoxes]:
        if not self.nms:
            return best_detections(
                found.image,
                found.boxes_xyxy,
                found.scores,
                found.classes,
                images=images,
                max_det=self.thresholds.max_det,
            )
        return non_maximum_suppression(
            found.image,
            found.boxes_xyxy,
            found.scores,
            found.classes,
            images=images,
            iou_thres=self.thresholds.iou,
            max_det=self.thresholds.max_det,
            agnostic=self.agnostic,
        )


@dataclass(frozen=True)
class _Piece:
    """The detections of one lane in some images of a batch.

    times: when it began, and when each phase ended.
    """

    detections: list[KeptBoxes]
    times: list[float]


def make_detector(
    network: Detectable, lanes: Lanes, settings: ValidationSettings, engine: Engine
) -> Detector:
    """Return a detector on the lanes' device, with the precision and thresholds of the settings.

    The rules of the network's dialect say whether there is NMS.
    """
    return Detector(
        network,
        lanes,
        engine=engine,
        dtype=select_precision(lanes.device, settings.half),
        thresholds=Thresholds(settings.conf_thres, settings.iou_thres, settings.max_det),
        agnostic=settings.single_cls,
        nms=counting_of(network).nms,
    )
