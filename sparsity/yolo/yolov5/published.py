"""The classes that published YOLOv5 checkpoints name, and the kinds of module that they become here."""

from __future__ import annotations

_TORCH = {
    "torch.nn.modules.container": ("Sequential", "ModuleList"),
    "torch.nn.modules.linear": ("Identity", "Linear"),
    "torch.nn.modules.activation": ("SiLU", "Hardswish", "ReLU", "LeakyReLU", "MultiheadAttention"),
    "torch.nn.modules.conv": ("Conv2d",),
    "torch.nn.modules.batchnorm": ("BatchNorm2d",),
    "torch.nn.modules.pooling": ("MaxPool2d",),
    "torch.nn.modules.upsampling": ("Upsample",),
}
_COMMON = {
    "Conv": "Conv",
    "DWConv": "Conv",
    "Bottleneck": "Bottleneck",
    "CrossConv": "Bottleneck",
    "BottleneckCSP": "BottleneckCSP",
    "C3": "C3",
    "C3x": "C3",
    "C3TR": "C3",
    "C3SPP": "C3",
    "C3Ghost": "C3",
    "SPP": "SPP",
    "SPPF": "SPPF",
    "Focus": "Focus",
    "Concat": "Concat",
    "Contract": "Contract",
    "Expand": "Expand",
    "GhostConv": "GhostConv",
    "GhostBottleneck": "GhostBottleneck",
    "TransformerLayer": "TransformerLayer",
    "TransformerBlock": "TransformerBlock",
}

ROOTS = ("", "yolov5.")
"""What stands before the names of YOLOv5's modules: nothing, or the pip package that has them."""

DETECTION_MODELS = {
    (f"{root}models.yolo", name): "Model" for root in ROOTS for name in ("Model", "DetectionModel")
}

CLASS_NAMES: dict[tuple[str, str], str] = {
    **{(module, name): name for module, names in _TORCH.items() for name in names},
    ("torch.nn.modules.linear", "NonDynamicallyQuantizableLinear"): "Linear",
    ("torch.nn.modules.linear", "_LinearWithBias"): "Linear",
    ("torch.nn.modules.batchnorm", "SyncBatchNorm"): "BatchNorm2d",
    **{(f"{root}models.common", name): kind for root in ROOTS for name, kind in _COMMON.items()},
    **{(f"{root}models.experimental", "CrossConv"): "Bottleneck" for root in ROOTS},
    **{(f"{root}models.yolo", "Detect"): "Detect" for root in ROOTS},
    **DETECTION_MODELS,
}
"""(module, name) as pickled -> a key of registry.KINDS, or "Model" for the whole network."""

LEGACY_BUFFERS = frozenset({"anchor_grid"})
"""Buffers of old files that repeat what others hold: the anchors times the stride."""

OTHER_TASKS: dict[str, str] = {
    f"{root}models.{name}": f"a YOLOv5 {task} checkpoint"
    for root in ROOTS
    for name, task in (
        ("yolo.ClassificationModel", "classification"),
        ("common.Classify", "classification"),
        ("yolo.SegmentationModel", "segmentation"),
        ("yolo.Segment", "segmentation"),
    )
}
"""Globals that occur only in unsupported checkpoints -> what to call such a checkpoint."""
