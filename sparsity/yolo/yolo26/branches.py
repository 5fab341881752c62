"""The names of the two branches of YOLO26's head. Importing this does not import torch."""

from __future__ import annotations

from collections.abc import Mapping

ONE2MANY, ONE2ONE = "one2many", "one2one"
BRANCHES: Mapping[str, tuple[str, str]] = {
    ONE2MANY: ("cv2", "cv3"),
    ONE2ONE: ("one2one_cv2", "one2one_cv3"),
}
"""Name of a branch -> its children that give boxes and classes."""
KIND_OF: Mapping[str, str] = {ONE2MANY: "OneToManyDetect", ONE2ONE: "OneToOneDetect"}
"""Name of a branch -> the kind of head that runs it."""
CHOSEN = "_branch"
"""The attribute that names the branch that runs, in .pt files of this package. Others ignore it."""
