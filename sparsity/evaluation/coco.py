"""The twelve COCO figures and the matches that they are computed from.

The IoU, the matching and the summary are pycocotools'. What lies between is done for all detections of a
class at once, with the same result to the bit: pycocotools makes several objects of each detection, and most
are near no true box.
"""

from __future__ import annotations

import io
import json
import sys
import threading
import zipfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from pycocotools.cocoeval import COCOeval

from sparsity.evaluation.accumulating import Accumulated
from sparsity.evaluation.matching import ALL, THRESHOLDS, TrueBoxes, match, rank
from sparsity.evaluation.results import Results


@dataclass(frozen=True)
class CocoFigures:
    """AP at IoU 0.50:0.95, 0.50, 0.75, and by area; AR at 1, 10, 100 detections, and by area.

    A figure is -1 where the data have no true box of that size, as in pycocotools.
    """

    AP: float
    AP50: float
    AP75: float
    AP_small: float
    AP_medium: float
    AP_large: float
    AR1: float
    AR10: float
    AR100: float
    AR_small: float
    AR_medium: float
    AR_large: float


@dataclass(frozen=True)
class Matched:
    """What AP is computed from, for area "all" and at most 100 detections of a class and image.

    image_ids [images], category_ids [categories]: sorted. The only category is -1 where all boxes count as
    one class. true_boxes [images, categories]: the number of true boxes to find, without crowds.

    The other arrays describe the detections. They are sorted by category, then by score, best first. Equal
    scores are in the order of pycocotools' accumulate (images by id).
    image [n], category [n]: indices into the ids.
    matched [n, 10]: whether the detection matches a true box at each IoU threshold from 0.50 to 0.95.
    ignored [n, 10]: whether it counts neither as right nor as wrong there, for example because it matches a
    crowd.
    Detections that are ignored at every threshold are left out, because they change no figure.
    """

    image_ids: np.ndarray
    category_ids: np.ndarray
    true_boxes: np.ndarray
    image: np.ndarray
    category: np.ndarray
    matched: np.ndarray
    ignored: np.ndarray

    def save(self, path: Path) -> None:
        """Write the arrays to path, as a compressed .npz file that bootstrap.load reads.

        NumPy's savez_compressed takes five times as long, for a file that is a tenth smaller.
        """
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for field in fields(self):
                with archive.open(f"{field.name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, np.asarray(getattr(self, field.name)))


AnyResults: TypeAlias = "Results | Sequence[dict[str, Any]]"
_ONE_AT_A_TIME = threading.Lock()
"""Muting pycocotools affects the whole process."""
_LINES = (
    ("Average Precision", "AP", "0.50:0.95", "all", 100),
    ("Average Precision", "AP", "0.50", "all", 100),
    ("Average Precision", "AP", "0.75", "all", 100),
    ("Average Precision", "AP", "0.50:0.95", "small", 100),
    ("Average Precision", "AP", "0.50:0.95", "medium", 100),
    ("Average Precision", "AP", "0.50:0.95", "large", 100),
    ("Average Recall", "AR", "0.50:0.95", "all", 1),
    ("Average Recall", "AR", "0.50:0.95", "all", 10),
    ("Average Recall", "AR", "0.50:0.95", "all", 100),
    ("Average Recall", "AR", "0.50:0.95", "small", 100),
    ("Average Recall", "AR", "0.50:0.95", "medium", 100),
    ("Average Recall", "AR", "0.50:0.95", "large", 100),
)


def format_figures(figures: CocoFigures) -> str:
    """Return the twelve lines as pycocotools prints them."""
    lines = [
        f" {title:<18} ({short}) @[ IoU={iou:<9} | area={area:>6} | maxDets={most:>3} ] = {value:0.3f}"
        for (title, short, iou, area, most), value in zip(_LINES, astuple(figures), strict=True)
    ]
    return "\n".join(lines)


def evaluate(
    annotations: dict[str, Any],
    results: AnyResults,
    *,
    image_ids: Sequence[int],
    category_ids: Sequence[int],
) -> CocoFigures:
    """Evaluate COCO results, as Results or as dicts, against COCO annotations on these images.

    category_ids: the classes to count; if it is empty, all boxes count as one class.
    Results of other images and classes do not count. Without any result, all figures are 0. Raises ValueError
    for a result of an image that the annotations do not have.
    """
    return evaluate_matched(annotations, results, image_ids=image_ids, category_ids=category_ids)[0]


def evaluate_matched(
    annotations: dict[str, Any],
    results: AnyResults,
    *,
    image_ids: Sequence[int],
    category_ids: Sequence[int],
) -> tuple[CocoFigures, Matched]:
    """Evaluate as evaluate does. Return the figures, and the matches for resampling the images."""
    results = results if isinstance(results, Results) else Results.of_rows(results)
    if not np.isin(results.image_ids, [one["id"] for one in annotations["images"]]).all():
        raise ValueError("some results are of images that the annotations do not have")
    truth = TrueBoxes.of(annotations, image_ids, category_ids)
    ranked = rank(results, truth)
    shape = len(truth.images), len(truth.categories)
    accumulated = Accumulated.empty(len(truth.categories))
    parts: list[list[np.ndarray]] = [[np.zeros(0, np.int32)] * 2 + [np.zeros((0, THRESHOLDS), bool)] * 2]
    for category in range(shape[1]):
        ours = ranked.of_category(category)
        found = match(ours, truth, category)
        accumulated.add(category, ours, found, truth.counts[category])
        kept = ~found.ignored[ALL].all(0)
        order = ours.best_first[kept[ours.best_first]]
        columns = found.matched[ALL].T[order], found.ignored[ALL].T[order]
        parts.append([ours.image[order], np.full(len(order), category, np.int32), *columns])
    arrays = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    matched = Matched(truth.images, truth.categories, truth.per_image, *arrays)
    return (_summary(accumulated) if len(results) else CocoFigures(*[0.0] * 12)), matched


def _summary(accumulated: Accumulated) -> CocoFigures:
    """Return the figures, by pycocotools' summarize."""
    with _ONE_AT_A_TIME, redirect_stdout(io.StringIO()):
        evaluation = COCOeval(iouType="bbox")
        evaluation.eval = {"precision": accumulated.precision, "recall": accumulated.recall}
        evaluation.summarize()
    return CocoFigures(*(float(value) for value in evaluation.stats))


def _answer() -> None:
    """Evaluate the files that standard input names (see evaluation.processes). Print the figures as JSON."""
    request = json.load(sys.stdin)
    annotations = json.loads(Path(request["annotations"]).read_text(encoding="utf-8"))
    results = Results.read(Path(request["predictions"]))
    ids = {name: request[name] for name in ("image_ids", "category_ids")}
    if request.get("matched"):
        figures, matched = evaluate_matched(annotations, results, **ids)
        matched.save(Path(request["matched"]))
    else:
        figures = evaluate(annotations, results, **ids)
    json.dump(asdict(figures), sys.stdout)


if __name__ == "__main__":
    _answer()
