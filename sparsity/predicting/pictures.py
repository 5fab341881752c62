"""What a caller gives as pictures -> RGB pixels: files, arrays, PIL images, tensors, and lists of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from sparsity.base.errors import InputError
from sparsity.data.images import read_complete_image

Channels: TypeAlias = Literal["rgb", "bgr"]
"""The order of the channels of an array."""
PictureLike: TypeAlias = "str | PathLike[str] | np.ndarray | Image.Image | Tensor"
"""One picture, as a caller may give it."""
_SIXTEEN_BITS = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_EXPECTED = (
    "a path, a uint8 array [height, width, 3], a PIL image, a tensor [3, height, width], or a list of these"
)


@dataclass(frozen=True)
class Picture:
    """One picture: pixels in memory, or a file that is read whenever its pixels are needed.

    path: the file; None for pixels in memory. pixels: uint8 [height, width, 3] RGB; None for a file.
    """

    path: Path | None = None
    pixels: np.ndarray | None = field(default=None, repr=False)

    def read(self) -> np.ndarray:
        """Return uint8 [height, width, 3] RGB. Raises InputError where the file can't be read."""
        if self.pixels is not None:
            return self.pixels
        assert self.path is not None, "a picture has a file or pixels"
        if self.path.is_dir():
            raise InputError(f"{self.path}: a folder; the path of a picture, or a list of them, is expected")
        return read_complete_image(self.path)


def is_one(images: object) -> bool:
    """Whether images is one picture, and not several."""
    if isinstance(images, np.ndarray | Tensor):
        return images.ndim < 4
    return isinstance(images, str | PathLike | Image.Image)


def as_pictures(images: PictureLike | Sequence[PictureLike], channels: Channels = "rgb") -> list[Picture]:
    """Return the pictures. Files are not read yet. channels: the order of the channels of arrays.

    Raises InputError for anything that is no picture.
    """
    if channels not in ("rgb", "bgr"):
        raise InputError(f"`channels` is {channels!r}; 'rgb' or 'bgr' is expected")
    several = [images] if is_one(images) else images
    if not isinstance(several, Sequence | np.ndarray | Tensor):
        raise InputError(f"`images` is of type {type(images).__name__}; {_EXPECTED} is expected")
    return [_as_picture(one, channels) for one in several]


def _as_picture(image: object, channels: Channels) -> Picture:
    if isinstance(image, str | PathLike):
        return Picture(path=Path(image))
    if isinstance(image, Image.Image):
        return Picture(pixels=_of_pil(image))
    if isinstance(image, Tensor):
        return Picture(pixels=_of_tensor(image))
    if isinstance(image, np.ndarray):
        return Picture(pixels=_of_array(image, channels))
    raise InputError(f"`images` holds a {type(image).__name__}; {_EXPECTED} is expected")


def _of_array(array: np.ndarray, channels: Channels) -> np.ndarray:
    grey = array.ndim == 2
    pixels = array[:, :, None] if grey else array
    if array.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or not array.size:
        raise InputError(
            f"`images` holds an array of {array.dtype} {list(array.shape)}; uint8 [height, width, 3] is "
            "expected (or 4 channels, or none for grey)"
        )
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    pixels = pixels[:, :, :3]
    return np.ascontiguousarray(pixels if channels == "rgb" else pixels[:, :, ::-1])


def _of_pil(image: Image.Image) -> np.ndarray:
    """Return the pixels as read_complete_image gives those of a file: upright, 8 bits, without alpha."""
    image = ImageOps.exif_transpose(image)
    if image.mode in _SIXTEEN_BITS:
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return _of_array(grey, "rgb")
    if image.mode == "F":
        raise InputError(
            "`images` holds a PIL image of floats (mode F); one of 8 bits is expected, such as RGB"
        )
    return _of_array(np.array(image.convert("RGB")), "rgb")


def _of_tensor(tensor: Tensor) -> np.ndarray:
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 3) or not tensor.numel():
        raise InputError(
            f"`images` holds a tensor {list(tensor.shape)}; [3, height, width] is expected, in RGB"
        )
    if tensor.dtype != torch.uint8:
        tensor = _to_bytes(tensor)
    return _of_array(tensor.permute(1, 2, 0).cpu().numpy(), "rgb")


def _to_bytes(tensor: Tensor) -> Tensor:
    kind = str(tensor.dtype).removeprefix("torch.")
    wanted = "uint8, or floating-point numbers from 0 to 1, are expected"
    if not tensor.is_floating_point():
        raise InputError(f"`images` holds a tensor of {kind}; {wanted}")
    low, high = (float(end) for end in tensor.aminmax())
    if not (low >= 0 and high <= 1):
        raise InputError(f"`images` holds a tensor of {kind} from {low:g} to {high:g}; {wanted}")
    return tensor.detach().float().mul(255).round().to(torch.uint8)
