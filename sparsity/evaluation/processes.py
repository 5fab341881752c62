"""pycocotools in a process of its own, so that several evaluations run side by side."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparsity.base.files import replacing
from sparsity.evaluation import coco

BYTES_PER_RESULT = 2500
"""What pycocotools takes for a detection, measured at 150,000 of them, rounded up."""
BYTES_PER_PROCESS = 200 * 2**20


def evaluate_files(
    annotations: Path,
    predictions: Path,
    *,
    image_ids: Sequence[int],
    category_ids: Sequence[int],
    matched: Path | None = None,
) -> coco.CocoFigures:
    """As coco.evaluate, from files: COCO annotations, and a predictions.json.

    matched: an .npz file to write coco.evaluate_matched's matches to, whole or not at all; bootstrap.load
    reads it.
    """
    request = {
        "annotations": str(annotations),
        "predictions": str(predictions),
        "image_ids": list(image_ids),
        "category_ids": list(category_ids),
    }
    if matched is None:
        return _ask(request)
    with replacing(matched) as temporary:
        return _ask(request | {"matched": str(temporary)})


def _ask(request: dict[str, Any]) -> coco.CocoFigures:
    # By its path and not as a module of the package, which would import torch in every process.
    command = [sys.executable, str(Path(coco.__file__))]
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, check=False)
    if done.returncode:
        name = request["predictions"]
        raise RuntimeError(f"evaluating {name} ended with {done.returncode}:\n{done.stderr}")
    return coco.CocoFigures(**json.loads(done.stdout))
