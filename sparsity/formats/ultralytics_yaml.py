"""An architecture in the form of the ultralytics package's yaml, if rows can describe it."""

from __future__ import annotations

from typing import Any

from sparsity.formats.yaml_rows import SHARED, Described, describe_rows, sizes, width
from sparsity.yolo.parts import sppf
from sparsity.yolo.spec import Architecture, ModuleSpec
from sparsity.yolo.yolo11.architectures import c2psa, c3k2, c3k2_of, light_detect
from sparsity.yolo.yolo12.architectures import DEEP_MLP_RATIO, aggregating, attending
from sparsity.yolo.yolo26.architectures import attentive, two_branch_detect
from sparsity.yolo.yolo26.branches import BRANCHES, KIND_OF, ONE2ONE
from sparsity.yolo.yolov8.architectures import c2f, detect

SCALE, MOST_CHANNELS = "n", 2**20
"""The size that rows are written for: at others, the package changes arguments of C3k2 and A2C2f.

Channels and repeats are the actual ones, so its factors are 1, and its limit of channels is far above them.
The oldest versions read the factors by other names.
"""


def describe(architecture: Architecture) -> dict[str, Any]:
    """Return the yaml's dict, with backbone and head if rows can describe them (see describe_rows)."""
    head = architecture[-1].module
    described = {
        **{"nc": head.attributes["nc"], "ch": 3, "channels": 3},
        **{"depth_multiple": 1.0, "width_multiple": 1.0},
        **{"scale": SCALE, "scales": {SCALE: [1.0, 1.0, MOST_CHANNELS]}},
        **describe_rows(architecture, _DESCRIBERS),
    }
    if head.kind in KIND_OF.values():
        described |= {"reg_max": 1, "end2end": set(BRANCHES[ONE2ONE]) <= set(head.children)}
    return described


def _describe_c2f(spec: ModuleSpec) -> Described:
    blocks = spec.children["m"].children
    shortcut = all(block.attributes.get("add", True) for block in blocks.values())
    c1, c2 = sizes(spec.children["cv1"])[0], width(spec)
    n = max(1, len(blocks))
    return c2f(c1, c2, n, shortcut), n, "C2f", [c2, shortcut]


def _describe_c3k2(spec: ModuleSpec) -> Described:
    blocks = list(spec.children["m"].children.values())
    c1, twice, *_ = sizes(spec.children["cv1"])
    c2, n = width(spec), max(1, len(blocks))
    e = twice // 2 / max(c2, 1)
    kinds = {block.kind for block in blocks}
    arguments = [c2, "C3k" in kinds, e]
    if "Sequential" not in kinds:
        return c3k2(c1, c2, n, e=e, c3k="C3k" in kinds), n, "C3k2", arguments
    hidden = int(c2 * e)
    return c3k2_of(c1, c2, hidden, [attentive(hidden)] * n), n, "C3k2", [*arguments, True]


def _describe_c2psa(spec: ModuleSpec) -> Described:
    channels, n = width(spec), max(1, len(spec.children["m"].children))
    return c2psa(channels, n), n, "C2PSA", [channels]


def _describe_a2c2f(spec: ModuleSpec) -> Described:
    blocks = list(spec.children["m"].children.values())
    c1, c2, n = sizes(spec.children["cv1"])[0], width(spec), max(1, len(blocks))
    if all(block.kind == "C3k" for block in blocks):
        return aggregating(c1, c2, n), n, "A2C2f", [c2, False, -1]
    attention = blocks[0].children["0"].children["attn"]
    area, large = attention.attributes.get("area", 1), spec.attributes["residual"]
    arguments = [c2, True, area, *((True, DEEP_MLP_RATIO) if large else ())]
    return attending(c2, n, area, large), n, "A2C2f", arguments


def _describe_sppf(spec: ModuleSpec) -> Described:
    """Return the row of an SPPF. The package has no activation in those whose row has all arguments."""
    c1, c2, k = sizes(spec.children["cv1"])[0], width(spec), spec.children["m"].attributes["kernel_size"]
    if spec.children["cv1"].children["act"].kind == "SiLU":
        return sppf(c1, c2, k), 1, "SPPF", [c2, k]
    n, add = spec.attributes["n"], spec.attributes["add"]
    return sppf(c1, c2, k, n, add=add, act="Identity"), 1, "SPPF", [c2, k, n, add]


def _describe_detect(spec: ModuleSpec) -> Described:
    branches = spec.children["cv2"].children.values()
    classes = spec.children["cv3"].children.values()
    channels = tuple(sizes(branch.children["0"])[0] for branch in branches)
    light = all(branch.children["0"].kind == "Sequential" for branch in classes)
    made = (light_detect if light else detect)(channels, spec.attributes["nc"], spec.attributes["strides"])
    return made, 1, "Detect", ["nc"]


def _describe_two_branches(spec: ModuleSpec) -> Described:
    """Return the row of a YOLO26's head. It builds both branches, or, by end2end, the one-to-many branch."""
    boxes, _ = next(names for names in BRANCHES.values() if set(names) <= set(spec.children))
    channels = tuple(sizes(branch.children["0"])[0] for branch in spec.children[boxes].children.values())
    made = two_branch_detect(channels, spec.attributes["nc"], spec.attributes["strides"])
    held = {name: made.children[name] for name in spec.children}
    return ModuleSpec(spec.kind, made.attributes, held), 1, "Detect", ["nc"]


_DESCRIBERS = {
    **SHARED,
    "SPPF": _describe_sppf,
    "C2f": _describe_c2f,
    "C3k2": _describe_c3k2,
    "C2PSA": _describe_c2psa,
    "A2C2f": _describe_a2c2f,
    "AnchorFreeDetect": _describe_detect,
    **dict.fromkeys(KIND_OF.values(), _describe_two_branches),
}
