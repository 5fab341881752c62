"""The classes that YOLO11 checkpoints name besides those of YOLOv8, and the kinds that they become here."""

from __future__ import annotations

from sparsity.yolo.yolov8.published import blocks_of

CLASS_NAMES = blocks_of("C3k2", "C3k", "C2PSA", "PSABlock", "Attention")
"""(module, name) as pickled -> a kind."""
