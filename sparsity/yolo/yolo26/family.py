"""The family YOLO26. Its dialects are those of its head's two branches."""

from __future__ import annotations

from sparsity.yolo.family import Dialect, Family
from sparsity.yolo.kind import Kind
from sparsity.yolo.yolo26 import architectures
from sparsity.yolo.yolo26.branches import KIND_OF
from sparsity.yolo.yolo26.detect import OneToManyDetect, OneToOneDetect, TwoBranchDetect
from sparsity.yolo.yolov8.family import ATTRIBUTES, NOTES


def _kind(head: type[TwoBranchDetect]) -> Kind:
    absent = {name: (None,) for branch in KIND_OF for name in head.children_of(branch)}
    return Kind(head, ATTRIBUTES, fixed=absent, notes=(*NOTES, "end2end"))


YOLO26 = Family(
    key="yolo26",
    name="YOLO26",
    dialects=(
        Dialect(OneToManyDetect.dialect, "YOLO26", OneToManyDetect),
        Dialect(OneToOneDetect.dialect, "YOLO26", OneToOneDetect),
    ),
    sizes=architectures.SCALES,
    architecture=architectures.yolo26,
    kinds={KIND_OF[head.branch]: _kind(head) for head in (OneToManyDetect, OneToOneDetect)},
    class_names={},
)
