"""pycocotools in a process of its own, so that several evaluations run side by side."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from sparsity.evaluation import coco

BYTES_PER_RESULT = 2500
"""What pycocotools takes for a detection, measured at 150,000 of them, rounded up."""
BYTES_PER_PROCESS = 200 * 2**20


def evaluate_files(
    annotations: Path, predictions: Path, *, image_ids: Sequence[int], category_ids: Sequence[int]
) -> coco.CocoFigures:
    """As coco.evaluate, from files: COCO annotations, and a predictions.json."""
    request = {
        "annotations": str(annotations),
        "predictions": str(predictions),
        "image_ids": list(image_ids),
        "category_ids": list(category_ids),
    }
    # By its path and not as a module of the package, which would import torch in every process.
    command = [sys.executable, str(Path(coco.__file__))]
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"evaluating {predictions} ended with {done.returncode}:\n{done.stderr}")
    return coco.CocoFigures(**json.loads(done.stdout))
