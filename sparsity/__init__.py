"""Unstructured sparsity for YOLO detectors: load, prune, validate, sweep, save.

from sparsity import load, prune, validate
network = prune(load("yolov5n.pt"), 0.3)
print(validate(network, "coco.yaml").metrics.AP)

Each name is imported when it is used first, so that importing the package, as the command line does, is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sparsity.base.errors import InputError
    from sparsity.base.version import installed_version
    from sparsity.channels.compacting import compact
    from sparsity.channels.slimming import Slimmed, slim
    from sparsity.channels.slimming_settings import SlimmingSettings
    from sparsity.cluster.opening import ray_workers
    from sparsity.cluster.settings import ClusterSettings
    from sparsity.engines.engine import Engine
    from sparsity.engines.table import ENGINES
    from sparsity.formats.loading import load
    from sparsity.formats.saved_form import SavedForm
    from sparsity.formats.saving import save
    from sparsity.formats.table import FORMS
    from sparsity.predicting.detections import Detections
    from sparsity.predicting.predict import predict
    from sparsity.predicting.predictor import Predictor
    from sparsity.predicting.settings import PredictionSettings
    from sparsity.pruning.criteria import CRITERIA
    from sparsity.pruning.criterion import Criterion, PruningContext, ScoreCriterion
    from sparsity.pruning.magnitude import prune
    from sparsity.pruning.method import Method
    from sparsity.pruning.price_curves import PriceCurve
    from sparsity.pruning.pruner import Pruner
    from sparsity.pruning.reconstructed import Reconstructed
    from sparsity.pruning.reconstruction import ReconstructionSettings
    from sparsity.pruning.zeros import count_sparsity, layer_sparsity
    from sparsity.sweeping.finetuning import Finetuning
    from sparsity.sweeping.layer_sensitivity import sensitivity
    from sparsity.sweeping.search import FoundLevel, Search, find_level
    from sparsity.sweeping.sweep import sweep
    from sparsity.training.finetune import finetune
    from sparsity.training.preparation import Material
    from sparsity.training.settings import TrainingSettings
    from sparsity.validation.inputs import read_calibration
    from sparsity.validation.metrics import Metrics
    from sparsity.validation.settings import ValidationSettings
    from sparsity.validation.validate import Origin, Validation, validate
    from sparsity.yolo.heads import choose_head, keep_head
    from sparsity.yolo.network import Network

    __version__ = installed_version()

_PLACES = {
    "CRITERIA": "pruning.criteria",
    "ClusterSettings": "cluster.settings",
    "Criterion": "pruning.criterion",
    "Detections": "predicting.detections",
    "ENGINES": "engines.table",
    "Engine": "engines.engine",
    "FORMS": "formats.table",
    "Finetuning": "sweeping.finetuning",
    "FoundLevel": "sweeping.search",
    "InputError": "base.errors",
    "Material": "training.preparation",
    "Method": "pruning.method",
    "Metrics": "validation.metrics",
    "Network": "yolo.network",
    "Origin": "validation.validate",
    "PredictionSettings": "predicting.settings",
    "Predictor": "predicting.predictor",
    "PriceCurve": "pruning.price_curves",
    "Pruner": "pruning.pruner",
    "Reconstructed": "pruning.reconstructed",
    "ReconstructionSettings": "pruning.reconstruction",
    "PruningContext": "pruning.criterion",
    "SavedForm": "formats.saved_form",
    "ScoreCriterion": "pruning.criterion",
    "Search": "sweeping.search",
    "Slimmed": "channels.slimming",
    "SlimmingSettings": "channels.slimming_settings",
    "TrainingSettings": "training.settings",
    "Validation": "validation.validate",
    "ValidationSettings": "validation.settings",
    "choose_head": "yolo.heads",
    "compact": "channels.compacting",
    "count_sparsity": "pruning.zeros",
    "find_level": "sweeping.search",
    "finetune": "training.finetune",
    "keep_head": "yolo.heads",
    "layer_sparsity": "pruning.zeros",
    "load": "formats.loading",
    "predict": "predicting.predict",
    "prune": "pruning.magnitude",
    "ray_workers": "cluster.opening",
    "read_calibration": "validation.inputs",
    "save": "formats.saving",
    "sensitivity": "sweeping.layer_sensitivity",
    "slim": "channels.slimming",
    "sweep": "sweeping.sweep",
    "validate": "validation.validate",
}
"""Public name -> the module of the package that defines it."""

__all__ = [
    "CRITERIA",
    "ENGINES",
    "FORMS",
    "ClusterSettings",
    "Criterion",
    "Detections",
    "Engine",
    "Finetuning",
    "FoundLevel",
    "InputError",
    "Material",
    "Method",
    "Metrics",
    "Network",
    "Origin",
    "PredictionSettings",
    "Predictor",
    "PriceCurve",
    "Pruner",
    "PruningContext",
    "Reconstructed",
    "ReconstructionSettings",
    "SavedForm",
    "ScoreCriterion",
    "Search",
    "Slimmed",
    "SlimmingSettings",
    "TrainingSettings",
    "Validation",
    "ValidationSettings",
    "__version__",
    "choose_head",
    "compact",
    "count_sparsity",
    "find_level",
    "finetune",
    "keep_head",
    "layer_sparsity",
    "load",
    "predict",
    "prune",
    "ray_workers",
    "read_calibration",
    "save",
    "sensitivity",
    "slim",
    "sweep",
    "validate",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        return import_module("sparsity.base.version").installed_version()
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
