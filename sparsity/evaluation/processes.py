"""pycocotools in a separate process, so that several evaluations can run at the same time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparsity.base.files import replacing
from sparsity.evaluation import coco

BYTES_PER_RESULT = 800
"""Memory that an evaluation takes for a detection, in bytes. Measured with 300,000 detections; rounded up."""
MOST_BYTES = 3 * 2**30
"""Memory for all evaluations together, in bytes, if one of them does not take more."""
BYTES_PER_PROCESS = 200 * 2**20
"""Memory that a process takes without detections, in bytes."""


def evaluate_files(
    annotations: Path,
    predictions: Path,
    *,
    image_ids: Sequence[int],
    category_ids: Sequence[int],
    matched: Path | None = None,
) -> coco.CocoFigures:
    """Evaluate files as coco.evaluate does: COCO annotations, and a predictions.json or saved Results.

    matched: an .npz file for the matches of coco.evaluate_matched. It is written completely or not at all;
    bootstrap.load reads it.
    Raises RuntimeError where the process fails.
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
    places = (str(Path(coco.__file__).parents[2]), os.environ.get("PYTHONPATH"))
    done = subprocess.run(
        [sys.executable, "-m", coco.__name__],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, places))},
    )
    if done.returncode:
        name = request["predictions"]
        raise RuntimeError(f"evaluating {name} ended with exit code {done.returncode}:\n{done.stderr}")
    return coco.CocoFigures(**json.loads(done.stdout))
