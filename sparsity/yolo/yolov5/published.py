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

DETECTION_MODELS = {("models.yolo", "Model"): "Model", ("models.yolo", "DetectionModel"): "Model"}

CLASS_NAMES: dict[tuple[str, str], str] = {
    **{(module, name): name for module, names in _TORCH.items() for name in names},
    ("torch.nn.modules.linear", "NonDynamicallyQuantizableLinear"): "Linear",
    ("torch.nn.modules.linear", "_LinearWithBias"): "Linear",
    **{("models.common", name): kind for name, kind in _COMMON.items()},
    ("models.experimental", "CrossConv"): "Bottleneck",
    ("models.yolo", "Detect"): "Detect",
    **DETECTION_MODELS,
}
"""(module, name) as pickled -> a key of registry.KINDS, or "Model" for the whole network."""

LEGACY_BUFFERS = frozenset({"anchor_grid"})
"""Buffers of old files that repeat what others hold: the anchors times the stride."""

OTHER_TASKS: dict[str, str] = {
    "models.yolo.ClassificationModel": "a YOLOv5 classification checkpoint",
    "models.common.Classify": "a YOLOv5 classification checkpoint",
    "models.yolo.SegmentationModel": "a YOLOv5 segmentation checkpoint",
    "models.yolo.Segment": "a YOLOv5 segmentation checkpoint",
}
"""Globals that occur only in unsupported checkpoints -> what to call such a checkpoint."""
