"""Unstructured sparsity for YOLOv5 and YOLOv8 detectors: load, prune, validate, sweep, save.

from sparsity import load, prune, validate
network = prune(load("yolov5n.pt"), 0.3)
print(validate(network, "coco.yaml").metrics.AP)
"""

from sparsity.calibration import read_calibration
from sparsity.checkpoint import load
from sparsity.compacting import compact
from sparsity.errors import InputError
from sparsity.metrics import Metrics
from sparsity.pruner import Pruner
from sparsity.pruning.apply import count_sparsity, layer_sparsity, prune
from sparsity.pruning.method import Method
from sparsity.saving import save
from sparsity.slimming.settings import SlimmingSettings
from sparsity.slimming.slim import Slimmed, slim
from sparsity.sweeping.sweep import sweep
from sparsity.validation import Origin, Validation, ValidationSettings, validate
from sparsity.yolo.network import Network

__all__ = [
    "InputError",
    "Method",
    "Metrics",
    "Network",
    "Origin",
    "Pruner",
    "Slimmed",
    "SlimmingSettings",
    "Validation",
    "ValidationSettings",
    "compact",
    "count_sparsity",
    "layer_sparsity",
    "load",
    "prune",
    "read_calibration",
    "save",
    "slim",
    "sweep",
    "validate",
]
