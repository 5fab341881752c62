"""What a published checkpoint tells of its own training: numbers, by the names that both families use.

YOLOv5 keeps them with the model (hyp), the ultralytics package at the root of the file (train_args).
"""

from __future__ import annotations

AUGMENTATION = ("hsv_h", "hsv_s", "hsv_v", "translate", "scale", "fliplr", "mosaic")
"""The strengths and probabilities of the augmentation, from 0 to 1."""
IMGSZ = "imgsz"
"""The side of the training images, in pixels; YOLOv5's checkpoints do not tell it."""
LARGEST_IMGSZ = 2**15


def read_arguments(*stored: object) -> dict[str, float]:
    """Return the known numbers of the first dict among the values; {} where there is none.

    A value that is no number, or out of range, is left out: no file is refused for it.
    """
    found = next((one for one in stored if isinstance(one, dict)), {})
    read = {name: float(found[name]) for name in AUGMENTATION if _within(found.get(name), 0, 1)}
    if _within(found.get(IMGSZ), 1, LARGEST_IMGSZ):
        read[IMGSZ] = int(found[IMGSZ])
    return read


def _within(value: object, least: float, most: float) -> bool:
    """Whether value is a number of this range; a bool is none, and nan is in no range."""
    return type(value) in (int, float) and least <= value <= most
