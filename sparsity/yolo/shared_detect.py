"""Which head a Detect of the ultralytics package is. Its families share the class, so the content decides."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sparsity.yolo.yolo26.branches import BRANCHES, CHOSEN, KIND_OF, ONE2MANY, ONE2ONE
from sparsity.yolo.yolov8.detect import CHILDREN


def choose_head(children: Collection[str], attributes: Mapping[str, Any]) -> str:
    """Return the kind of a Detect. YOLOv8, YOLO11 and YOLO12 have the same kind.

    Of a YOLO26 with both branches, it is the one that runs the one-to-many branch, as the package counts by
    default from 8.4.150 on, unless our own files say otherwise. Raises ValueError for a head that is not
    supported.
    """
    if attributes.get("reg_max") == 1:
        _check_children(children, (*BRANCHES[ONE2MANY], *BRANCHES[ONE2ONE], "dfl"))
        held = [branch for branch, names in BRANCHES.items() if set(names) <= set(children)] or [ONE2MANY]
        chosen = attributes.get(CHOSEN)
        return KIND_OF[chosen if chosen in held else held[0]]
    one_to_one = [name for name in children if name.startswith("one2one_")]
    if one_to_one:
        raise ValueError(
            f"holds {one_to_one[0]}, a one-to-one branch, and has a reg_max that is not 1, as in YOLOv10; "
            "this head is not supported"
        )
    _check_children(children, CHILDREN)
    return "AnchorFreeDetect"


def _check_children(children: Collection[str], known: tuple[str, ...]) -> None:
    if not set(children) <= set(known):
        more = ", ".join(sorted(set(children) - set(known)))
        raise ValueError(f"holds {more} besides {', '.join(known)}; this head is not supported")
