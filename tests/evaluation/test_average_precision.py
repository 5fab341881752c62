"""YOLOv5's own metric on cases that can be worked out by hand."""

import numpy as np
import pytest

from sparsity.evaluation.average_precision import AveragePrecisionMeter, average_precision, match

UNIT = [0, 0, 10, 10]


def boxes(*rows):
    return np.array(rows, np.float32).reshape(-1, 4)


def labels(*classes):
    return np.array(classes, np.int64)


def shifted(iou: float) -> list[float]:
    """A box as large as UNIT whose IoU with it is iou."""
    offset = 10 * (1 - iou) / (1 + iou)
    return [offset, 0, 10 + offset, 10]


@pytest.mark.parametrize(
    ("found", "classes", "true", "true_classes", "right"),
    [
        pytest.param([], [], [UNIT], [0], [], id="nothing found"),
        pytest.param([UNIT], [0], [], [], [0], id="no labels"),
        pytest.param([UNIT], [0], [UNIT], [0], [10], id="exact"),
        pytest.param([UNIT], [1], [UNIT], [0], [0], id="another class"),
        pytest.param([shifted(0.72)], [0], [UNIT], [0], [5], id="IoU 0.72 passes 0.50 to 0.70"),
        pytest.param([shifted(0.49)], [0], [UNIT], [0], [0], id="IoU 0.49"),
        pytest.param([UNIT, UNIT], [0, 0], [UNIT], [0], [10, 0], id="one label serves one"),
        pytest.param(
            [shifted(0.62), UNIT], [0, 0], [UNIT], [0], [3, 7], id="the first that claims it, by threshold"
        ),
        pytest.param(
            [UNIT, shifted(0.8)],
            [0, 0],
            [UNIT, shifted(0.6)],
            [0, 0],
            [10, 0],
            id="a label that is not its best is never claimed",
        ),
    ],
)
def test_match(found, classes, true, true_classes, right):
    correct = match(boxes(*found), labels(*classes), boxes(*true), labels(*true_classes))
    assert correct.shape == (len(found), 10)
    assert correct.sum(1).tolist() == right


def test_perfect_detections_score_one():
    meter = AveragePrecisionMeter()
    for label in (0, 1):
        meter.update(boxes(UNIT), np.array([0.9], np.float32), labels(label), boxes(UNIT), labels(label))
    found = meter.compute()
    assert (found.P, found.R, found.instances) == (1, 1, 2)
    assert found.mAP50 == pytest.approx(0.995)  # the envelope falls to 0 at recall 1, its last sentinel
    assert found.mAP50_95 == pytest.approx(0.995)


def test_false_positive_first_halves_precision():
    correct = np.repeat([[False], [True]], 10, 1)
    found = average_precision(correct, np.array([0.9, 0.8]), labels(0, 0), labels(0))
    # Precision 0 then 1/2: the envelope is (1 at recall 0), 1/2 up to recall 1, 0 at the end.
    assert found.mAP50 == pytest.approx((0.75 + 0.5 * 98 + 0.25) / 100, abs=0.003)
    assert pytest.approx(0.5, abs=0.01) == found.P
    assert found.R == 1


def test_classes_without_labels_do_not_count_and_missed_classes_count_zero():
    correct = np.ones((2, 10), bool)
    found = average_precision(correct, np.array([0.9, 0.8]), labels(0, 7), labels(0, 1))
    assert [one.label for one in found.classes] == [0, 1]
    assert found.mAP50 == pytest.approx(0.995 / 2)
    assert [one.instances for one in found.classes] == [1, 1]
    assert found.classes[1].AP == 0


def test_no_detection_anywhere_gives_zeros_and_counts_labels():
    meter = AveragePrecisionMeter()
    meter.update(boxes(), np.zeros(0, np.float32), labels(), boxes(UNIT, UNIT), labels(0, 1))
    found = meter.compute()
    assert (found.P, found.R, found.mAP50, found.mAP50_95, found.instances) == (0, 0, 0, 0, 2)


def test_order_of_detections_does_not_matter():
    rng = np.random.default_rng(0)
    correct, scores = rng.random((50, 10)) < 0.5, rng.permutation(50) / 50
    classes, true = rng.integers(0, 3, 50), rng.integers(0, 3, 40)
    order = rng.permutation(50)
    one = average_precision(correct, scores, classes, true)
    assert average_precision(correct[order], scores[order], classes[order], true) == one
