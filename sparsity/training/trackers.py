"""The trackers of experiments that a training can log to. Importing this imports none."""

from __future__ import annotations

from collections.abc import Mapping

TRACKERS: Mapping[str, str] = {
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "mlflow": "mlflow",
    "trackio": "trackio",
}
"""Name, as accelerate knows it -> the package that it needs."""
