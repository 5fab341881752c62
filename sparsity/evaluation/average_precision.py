"""The metric of the detector families: P and R at the best F1, mAP50 and mAP50-95."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from sparsity.base.boxes import box_iou_xyxy

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_POINTS = 101
CONFIDENCE_POINTS = 1000
SMOOTHING = 101
"""The width of the moving average over the F1 curve, in points."""


@dataclass(frozen=True)
class ClassPrecision:
    """One class: its number of true boxes, P and R at the best mean F1, AP at IoU 0.5 and at 0.5:0.95."""

    label: int
    instances: int
    P: float
    R: float
    AP50: float
    AP: float


@dataclass(frozen=True)
class AveragePrecision:
    """Means over the classes that have true boxes, and these classes. The means are 0 without detections."""

    P: float
    R: float
    mAP50: float
    mAP50_95: float
    instances: int
    classes: tuple[ClassPrecision, ...] = field(repr=False)


@dataclass(frozen=True)
class Rules:
    """The differences between the metrics of the families.

    second_choice: whether a detection can claim its next best label if its best label is already claimed.
    steep_end: whether precision falls to 0 at the last recall; otherwise it falls along a line to recall 1.
    """

    second_choice: bool
    steep_end: bool


YOLOV5 = Rules(second_choice=False, steep_end=False)
YOLOV8 = Rules(second_choice=True, steep_end=True)


class AveragePrecisionMeter:
    """Collects detections and labels. Call update() for each image, then compute()."""

    def __init__(self, rules: Rules = YOLOV5) -> None:
        self._rules = rules
        self._correct: list[np.ndarray] = []
        self._scores: list[np.ndarray] = []
        self._classes: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []

    def update(
        self,
        boxes_xyxy: np.ndarray,
        scores: np.ndarray,
        classes: np.ndarray,
        true_boxes_xyxy: np.ndarray,
        true_classes: np.ndarray,
    ) -> None:
        """Add one image: detections [n], best score first, and labels [m]. Both have the same pixel units."""
        correct = match(boxes_xyxy, classes, true_boxes_xyxy, true_classes, self._rules)
        # Small copies: ten bits a detection, and arrays that hold on to no larger memory.
        self._correct.append(np.packbits(correct, axis=1))
        self._scores.append(scores.copy())
        self._classes.append(classes.astype(np.int32))
        self._labels.append(true_classes)

    def compute(self) -> AveragePrecision:
        """Return the figures over all images that were added."""
        labels = np.concatenate(self._labels) if self._labels else np.zeros(0, np.int64)
        if not self._scores or not len(labels):
            return AveragePrecision(0.0, 0.0, 0.0, 0.0, len(labels), ())
        return average_precision(
            np.unpackbits(np.concatenate(self._correct), axis=1, count=len(IOU_THRESHOLDS)).astype(bool),
            np.concatenate(self._scores),
            np.concatenate(self._classes),
            labels,
            self._rules,
        )


def match(
    boxes_xyxy: np.ndarray,
    classes: np.ndarray,
    true_boxes_xyxy: np.ndarray,
    true_classes: np.ndarray,
    rules: Rules = YOLOV5,
) -> np.ndarray:
    """Return which detections are right at each IoU threshold: bool [n, 10].

    Each detection claims the label of its class with which it has the largest IoU; with second_choice, only
    among the labels that are still free. At each threshold, a label is given to the first detection that
    claims it with at least that IoU.
    """
    correct = np.zeros((len(boxes_xyxy), len(IOU_THRESHOLDS)), bool)
    if not len(boxes_xyxy) or not len(true_boxes_xyxy):
        return correct
    iou = box_iou_xyxy(torch.from_numpy(boxes_xyxy), torch.from_numpy(true_boxes_xyxy)).numpy()
    iou = np.where(classes[:, None] == true_classes[None], iou, -1)
    if rules.second_choice:
        return np.stack([_claim_in_turn(iou, threshold) for threshold in IOU_THRESHOLDS], 1)
    claimed = iou.argmax(1)
    overlap = iou[np.arange(len(iou)), claimed]
    for column, threshold in enumerate(IOU_THRESHOLDS):
        claims = np.flatnonzero(overlap >= threshold)
        first = np.unique(claimed[claims], return_index=True)[1]
        correct[claims[first], column] = True
    return correct


def _claim_in_turn(iou: np.ndarray, threshold: float) -> np.ndarray:
    """Return which detections get a free label: bool [n]. iou: [n, m]; detections are sorted, best first."""
    correct, free = np.zeros(len(iou), bool), np.ones(iou.shape[1], bool)
    for row in np.flatnonzero((iou >= threshold).any(1)):
        label = np.where(free, iou[row], -1).argmax()
        if free[label] and iou[row, label] >= threshold:
            correct[row], free[label] = True, False
    return correct


def average_precision(
    correct: np.ndarray,
    scores: np.ndarray,
    classes: np.ndarray,
    true_classes: np.ndarray,
    rules: Rules = YOLOV5,
) -> AveragePrecision:
    """Return the figures of the detections of all images.

    correct: bool [n, 10]. scores, classes: [n]. true_classes: of all labels, [m], at least one.
    """
    order = np.argsort(-scores, kind="stable")
    correct, scores, classes = correct[order], scores[order], classes[order]
    labels, instances = np.unique(true_classes, return_counts=True)
    grid = np.linspace(0, 1, CONFIDENCE_POINTS)
    precision = np.zeros((len(labels), len(grid)))
    recall = np.zeros_like(precision)
    ap = np.zeros((len(labels), len(IOU_THRESHOLDS)))
    for row, (label, count) in enumerate(zip(labels, instances, strict=True)):
        of_class = classes == label
        if not of_class.any():
            continue
        hits = correct[of_class].cumsum(0)
        recalls = hits / count
        precisions = hits / np.arange(1, len(hits) + 1)[:, None]
        confidence = -scores[of_class].astype(np.float64)
        recall[row] = np.interp(-grid, confidence, recalls[:, 0], left=0)
        precision[row] = np.interp(-grid, confidence, precisions[:, 0], left=1)
        ap[row] = [_area(recalls[:, i], precisions[:, i], rules.steep_end) for i in range(ap.shape[1])]
    best = _best_f1(precision, recall)
    rows = zip(labels, instances, precision[:, best], recall[:, best], ap[:, 0], ap.mean(1), strict=True)
    per_class = tuple(ClassPrecision(int(c), int(n), *map(float, rest)) for c, n, *rest in rows)
    return AveragePrecision(
        P=float(precision[:, best].mean()),
        R=float(recall[:, best].mean()),
        mAP50=float(ap[:, 0].mean()),
        mAP50_95=float(ap.mean()),
        instances=int(instances.sum()),
        classes=per_class,
    )


def _area(recall: np.ndarray, precision: np.ndarray, steep_end: bool) -> float:
    """Return the area under the precision envelope, by the trapezoidal rule over 101 recall points."""
    drop = recall[-1:] if steep_end else []
    recall = np.concatenate(([0.0], recall, drop, [1.0]))
    precision = np.concatenate(([1.0], precision, np.zeros(len(drop)), [0.0]))
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    points = np.linspace(0, 1, RECALL_POINTS)
    values = np.interp(points, recall, envelope)
    return float(((values[1:] + values[:-1]) / 2 * np.diff(points)).sum())


def _best_f1(precision: np.ndarray, recall: np.ndarray) -> int:
    """Return the grid index at which the smoothed F1, averaged over the classes, is highest."""
    f1 = (2 * precision * recall / (precision + recall + 1e-16)).mean(0)
    ends = np.ones(SMOOTHING // 2)
    padded = np.concatenate((f1[0] * ends, f1, f1[-1] * ends))
    return int(np.convolve(padded, np.ones(SMOOTHING) / SMOOTHING, mode="valid").argmax())
