"""An example of what levels of a sweep detect: one image, its true boxes, and the boxes of each level."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sparsity.base.files import write_json

FILE = "examples.json"
"""The file of the examples in a sweep's folder."""
Corners = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels of the image."""


@dataclass(frozen=True)
class Box:
    """A true box or a detection. number: of its class. name: of its class."""

    corners_xyxy: Corners
    number: int
    name: str


@dataclass(frozen=True)
class Panel:
    """What one level detects in the image.

    title: of the level. true: the number of true boxes that it finds. found: its detections.
    lost: the true boxes that the dense network finds and this level does not.
    """

    title: str
    true: int
    found: tuple[Box, ...]
    lost: tuple[Box, ...]


@dataclass(frozen=True)
class Example:
    """One image. true: its true boxes. panels: the dense network first."""

    path: str
    true: tuple[Box, ...]
    panels: tuple[Panel, ...]


def write_examples(folder: Path, examples: Sequence[Example]) -> None:
    """Write the examples of a sweep into its folder. Raises OSError where they can't be written."""
    write_json(folder / FILE, [asdict(example) for example in examples])


def read_examples(folder: Path) -> list[Example]:
    """Read the examples of a sweep; [] where its folder has none, or a damaged file."""
    try:
        rows = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return [
            Example(
                row["path"],
                _boxes(row["true"]),
                tuple(
                    Panel(one["title"], one["true"], _boxes(one["found"]), _boxes(one["lost"]))
                    for one in row["panels"]
                ),
            )
            for row in rows
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _boxes(rows: Sequence[dict[str, object]]) -> tuple[Box, ...]:
    return tuple(Box(tuple(row["corners_xyxy"]), row["number"], row["name"]) for row in rows)
