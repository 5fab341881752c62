"""Prints the boxes that a network finds in a picture: python detect.py picture.jpg [confidence [IoU]]

It calls net.so by ctypes. It needs NumPy and Pillow, and neither torch nor this package.
"""

import ctypes
import sys
from pathlib import Path

import numpy as np
from PIL import Image

LIBRARY = Path(__file__).with_name("net.so")
HEADER = Path(__file__).with_name("net.h")
MOST = 300


class Box(ctypes.Structure):
    """struct net_box."""

    _fields_ = (
        *((name, ctypes.c_float) for name in ("x1", "y1", "x2", "y2", "score")),
        ("label", ctypes.c_int),
    )


class Fit(ctypes.Structure):
    """struct net_fit."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("width", "height")),
        ("gain", ctypes.c_float),
        *((name, ctypes.c_int) for name in ("left", "top")),
    )


def size_of(name: str) -> int:
    """Return a number that the header defines, such as HEIGHT."""
    lines = [line.split() for line in HEADER.read_text().splitlines()]
    (number,) = (line[2] for line in lines if line[:2] == ["#define", f"NET_{name}"] and len(line) > 2)
    return int(number)


def main(name: str, conf: float = 0.25, iou: float = 0.45) -> None:
    """Print a line for each box: class, score, corners in pixels."""
    net = ctypes.CDLL(str(LIBRARY.resolve()))
    pixels = np.ctypeslib.ndpointer(np.uint8, flags="C")
    numbers = np.ctypeslib.ndpointer(np.float32, flags="C")
    boxes = (Box * MOST)()
    net.net_letterbox.argtypes = [pixels, ctypes.c_int, ctypes.c_int, numbers]
    net.net_letterbox.restype = Fit
    net.net_detect.argtypes = [numbers, ctypes.c_float, ctypes.c_float, ctypes.POINTER(Box), ctypes.c_int]
    picture = np.ascontiguousarray(Image.open(name).convert("RGB"))
    image = np.empty((3, size_of("HEIGHT"), size_of("WIDTH")), np.float32)
    fit = net.net_letterbox(picture, picture.shape[1], picture.shape[0], image)
    found = net.net_detect(image, conf, iou, boxes, MOST)
    net.net_to_picture(ctypes.byref(fit), boxes, found)
    names = (ctypes.c_char_p * size_of("CLASSES")).in_dll(net, "net_names")
    for box in boxes[:found]:
        corners = " ".join(f"{corner:.1f}" for corner in (box.x1, box.y1, box.x2, box.y2))
        print(f"{names[box.label].decode()} {box.score:.3f} {corners}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} picture.jpg [confidence [IoU]]")
    main(sys.argv[1], *map(float, sys.argv[2:4]))
