"""Detects in pictures of any size with a network that is prepared once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from torch import Tensor

from sparsity.base.arguments import require_kind
from sparsity.base.devices import select_device, select_precision
from sparsity.data.letterbox import Placement, batch_shapes, letterbox, place
from sparsity.engines.making import make_engine
from sparsity.engines.table import check_images
from sparsity.predicting.detections import Detections
from sparsity.predicting.pictures import Channels, Picture, PictureLike, as_pictures, is_one
from sparsity.predicting.settings import PredictionSettings
from sparsity.validation.counting import counting_of
from sparsity.validation.detector import MOST_CPU_LANES, Detector, Lanes, PhaseSeconds, Thresholds
from sparsity.validation.inputs import Detectable, fit

Item = TypeVar("Item")
TOGETHER = 8
"""The number of pictures that are detected in together."""
MOST_GAIN_ERROR = 0.005
"""The relative difference of a picture's gains up to which its boxes are mapped as in validation."""


class Predictor:
    """Detects in pictures, as a validation with single images in its batches does.

    network: from load, or an ONNX file from formats.onnx_file.read. A copy of it is prepared by the engine
    of the settings, once. settings: None for the defaults.
    calibration: images, for an engine that needs some (see read_calibration).
    lanes: the maximum number of pictures that a CPU computes at the same time; 1 for the lowest latency of
    single pictures.
    Close it after use, or use it in a with statement.
    Raises InputError where the settings can't be used with the network.
    """

    def __init__(
        self,
        network: Detectable,
        settings: PredictionSettings | None = None,
        *,
        calibration: Sequence[Tensor] = (),
        lanes: int = MOST_CPU_LANES,
    ) -> None:
        settings = settings or PredictionSettings()
        require_kind(settings, PredictionSettings, "settings", "a PredictionSettings")
        fitted = fit(settings.as_validation(), network)
        self.imgsz, self.names, self.stride = fitted.imgsz, tuple(network.names), network.largest_stride
        chosen = settings.class_numbers(self.names)
        check_images([fitted.engine], bool(calibration))
        engine, device = make_engine(fitted.engine, calibration), select_device(fitted.device)
        self._counting = counting_of(network)
        self._lanes = Lanes(device, lanes)
        try:
            self._detector = Detector(
                network,
                self._lanes,
                dtype=select_precision(device, fitted.half),
                thresholds=Thresholds(fitted.conf_thres, fitted.iou_thres, fitted.max_det),
                agnostic=settings.agnostic_nms,
                nms=self._counting.nms,
                engine=engine,
                classes=chosen,
            )
        except BaseException:
            self.close()
            raise

    def __call__(
        self, images: PictureLike | Sequence[PictureLike], *, channels: Channels = "rgb"
    ) -> Detections | list[Detections]:
        """Return the detections in one picture, or a list of them for several.

        The arguments are those of predict. Raises InputError where a picture can't be read.
        """
        found = [
            detections
            for some in chunks(as_pictures(images, channels), TOGETHER)
            for detections in self.find([one.read() for one in some], some)
        ]
        return found[0] if is_one(images) else found

    def find(self, pixels: Sequence[np.ndarray], pictures: Sequence[Picture] = ()) -> list[Detections]:
        """Detect in some pictures together. What is found in one does not depend on the others.

        pixels: of each picture, uint8 [height, width, 3] RGB. pictures: what the detections refer to; () for
        the pixels themselves.
        """
        pictures = pictures or [Picture(pixels=one) for one in pixels]
        boxed = [self._letterboxed(one) for one in pixels]
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for index, (image, _) in enumerate(boxed):
            by_shape.setdefault(image.shape, []).append(index)
        found: dict[int, Detections] = {}
        for indices in by_shape.values():
            rows = self._detector.detect(np.stack([boxed[i][0] for i in indices]))
            for i, row in zip(indices, rows, strict=True):
                found[i] = Detections(
                    boxes_xyxy=boxed[i][1].to_image_xyxy(row.boxes_xyxy.numpy()),
                    scores=row.scores.numpy(),
                    classes=row.classes.numpy(),
                    names=self.names,
                    size=(pixels[i].shape[1], pixels[i].shape[0]),
                    picture=pictures[i],
                )
        return [found[i] for i in range(len(pixels))]

    def warm_up(self) -> None:
        """Run the network once, where a first run takes longer than later ones."""
        self._detector.warm_up((self.imgsz, self.imgsz))

    @property
    def seconds(self) -> PhaseSeconds:
        """The time of each phase so far, and the number of pictures."""
        return self._detector.seconds

    def close(self) -> None:
        """End the threads."""
        self._lanes.close()

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _letterboxed(self, pixels: np.ndarray) -> tuple[np.ndarray, Placement]:
        """Return the picture as the network takes it, and its place in there."""
        original, resizing = (pixels.shape[0], pixels.shape[1]), self._counting.resizing
        (shape,) = batch_shapes([original[0] / original[1]], 1, self.imgsz, self.stride)
        out = np.empty((*shape, 3), np.uint8)
        letterbox(pixels, self.imgsz, out, resizing)
        return out, _in_proportion(place(original, self.imgsz, shape, resizing))


def chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Yield the items in pieces of at most size."""
    return (items[start : start + size] for start in range(0, len(items), size))


def _in_proportion(placement: Placement) -> Placement:
    """Return the placement; that of a thin picture with its own gain in each direction.

    YOLOv5's validation uses the gain of the height for both directions. Where the shorter side is a few
    pixels in the network, rounding makes the two differ, and boxes would be off by up to half the picture.
    """
    across = placement.resized[1] / placement.original[1]
    differ = abs(across / placement.gain - 1) > MOST_GAIN_ERROR
    return replace(placement, own_gains=True) if differ else placement
