"""The function predict: detect in a picture, or in several."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import overload

import numpy as np
from PIL import Image
from torch import Tensor

from sparsity.base.arguments import require_network
from sparsity.formats.onnx_file import OnnxNetwork
from sparsity.predicting.detections import Detections
from sparsity.predicting.pictures import Channels, PictureLike, is_one
from sparsity.predicting.predictor import Predictor
from sparsity.predicting.settings import PredictionSettings
from sparsity.validation.detector import MOST_CPU_LANES
from sparsity.validation.inputs import Detectable
from sparsity.yolo.network import Network


@overload
def predict(
    network: Detectable,
    images: str | PathLike[str] | Image.Image,
    settings: PredictionSettings | None = ...,
    *,
    channels: Channels = ...,
    calibration: Sequence[Tensor] = ...,
) -> Detections: ...


@overload
def predict(
    network: Detectable,
    images: Sequence[PictureLike],
    settings: PredictionSettings | None = ...,
    *,
    channels: Channels = ...,
    calibration: Sequence[Tensor] = ...,
) -> list[Detections]: ...


@overload
def predict(
    network: Detectable,
    images: np.ndarray | Tensor,
    settings: PredictionSettings | None = ...,
    *,
    channels: Channels = ...,
    calibration: Sequence[Tensor] = ...,
) -> Detections | list[Detections]: ...


def predict(
    network: Detectable,
    images: PictureLike | Sequence[PictureLike],
    settings: PredictionSettings | None = None,
    *,
    channels: Channels = "rgb",
    calibration: Sequence[Tensor] = (),
) -> Detections | list[Detections]:
    """Detect in one picture, or in several.

    network: from load, or an ONNX file from formats.onnx_file.read.
    images: a path; an array, uint8 [height, width, 3] (4 channels, or none for grey, too); a PIL image; a
    tensor [3, height, width], RGB, uint8 or from 0 to 1; a batch of arrays or tensors in one; or a list of
    these. Files are turned as their EXIF data require, alpha is dropped, and 16 bits become 8.
    settings: None for the defaults. channels: "rgb" or "bgr", the order of the channels of arrays; cv2.imread
    gives "bgr". calibration: images, for an engine that needs some (see read_calibration).
    Returns the detections of the picture, and a list of them for a batch or a list. To call it often, make a
    Predictor, which prepares the network once.
    Raises InputError for images that are none of these, and where a file can't be read.
    """
    require_network(network, Network | OnnxNetwork)
    lanes = 1 if is_one(images) else MOST_CPU_LANES
    with Predictor(network, settings, calibration=calibration, lanes=lanes) as predictor:
        return predictor(images, channels=channels)
