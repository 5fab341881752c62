"""The classes that published YOLOv8 checkpoints name, and the kinds of module that they become here."""

from __future__ import annotations

_MODULES = "ultralytics.nn.modules"
BLOCK = f"{_MODULES}.block"
"""The module that has the blocks."""
DETECT = "ultralytics Detect"
"""The class that several families use for their heads. The content of the module decides its kind."""

DETECTION_MODELS = {("ultralytics.nn.tasks", "DetectionModel"): "Model"}

_CLASSES = {
    "Conv": ("conv", "Conv"),
    "DWConv": ("conv", "Conv"),
    "Concat": ("conv", "Concat"),
    "C2f": ("block", "C2f"),
    "C3": ("block", "C3"),
    "Bottleneck": ("block", "Bottleneck"),
    "SPPF": ("block", "SPPF"),
    "DFL": ("block", "DFL"),
    "Detect": ("head", DETECT),
}
"""Name of a class -> the module that has it, and its kind.

YOLOv5u has C3, and YOLO11, YOLO12 and YOLO26 have DWConv. YOLOv8 has the others.
"""
ONE_FILE = {(_MODULES, name): kind for name, (_, kind) in _CLASSES.items()}
"""The classes as the first releases, up to 8.0.9x, named them: their modules were one file."""

CLASS_NAMES: dict[tuple[str, str], str] = {
    **ONE_FILE,
    **{(f"{_MODULES}.{module}", name): kind for name, (module, kind) in _CLASSES.items()},
    **DETECTION_MODELS,
}
"""(module, name) as pickled -> a kind, "Model" for the whole network, or DETECT."""


def blocks_of(*kinds: str) -> dict[tuple[str, str], str]:
    """Return the classes of blocks as pickled -> their kinds, which have the same names."""
    return {(BLOCK, kind): kind for kind in kinds}


OTHER_TASKS: dict[str, str] = {
    **{
        f"ultralytics.nn.tasks.{name}Model": f"a YOLOv8 (or later) {task} checkpoint"
        for name, task in (
            ("Segmentation", "segmentation"),
            ("Classification", "classification"),
            ("Pose", "pose"),
            ("OBB", "oriented boxes"),
        )
    },
    **{
        f"{_MODULES}.head.{name}": f"a {family} {task} checkpoint"
        for name, family, task in (
            ("Segment", "YOLOv8 (or later)", "segmentation"),
            ("Segment26", "YOLO26", "segmentation"),
            ("Classify", "YOLOv8 (or later)", "classification"),
            ("Pose", "YOLOv8 (or later)", "pose"),
            ("Pose26", "YOLO26", "pose"),
            ("OBB", "YOLOv8 (or later)", "oriented boxes"),
            ("OBB26", "YOLO26", "oriented boxes"),
        )
    },
    **{
        f"{_MODULES}.{name}": f"a checkpoint of {family}"
        for name, family in (
            ("block.SCDown", "YOLOv10"),
            ("block.C2fCIB", "YOLOv10"),
            ("block.PSA", "YOLOv10"),
            ("head.v10Detect", "YOLOv10"),
            ("block.RepNCSPELAN4", "YOLOv9"),
            ("head.RTDETRDecoder", "RT-DETR"),
            ("head.WorldDetect", "YOLO-World"),
        )
    },
    "ultralytics.nn.tasks.YOLOv10DetectionModel": "a checkpoint of YOLOv10",
    "ultralytics.nn.tasks.RTDETRDetectionModel": "a checkpoint of RT-DETR",
    "ultralytics.nn.tasks.WorldModel": "a checkpoint of YOLO-World",
}
"""Globals that occur only in unsupported checkpoints -> what to call such a checkpoint."""
