"""Each family's images, boxes and curves are counted as its own validation counts them."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sparsity import ValidationSettings, choose_head, validate
from sparsity.base.errors import InputError
from sparsity.data import letterbox as boxes
from sparsity.data.letterbox import Placement, letterbox, place
from sparsity.engines.making import make_engine
from sparsity.evaluation.average_precision import YOLOV5, YOLOV8, average_precision, match
from sparsity.formats.onnx_file import OnnxNetwork
from sparsity.validation.counting import COUNTING, counting_of
from sparsity.validation.detector import Lanes, make_detector
from sparsity.validation.inputs import fit, make_loader
from sparsity.validation.setup import describe_setup
from sparsity.yolo.families import DIALECTS


def test_every_family_counts_somehow():
    assert COUNTING.keys() == DIALECTS.keys()
    assert [counting.name for counting in COUNTING.values()] == [one.name for one in DIALECTS.values()]


# --- settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "yolov5", "yolov8"),
    [
        pytest.param({}, (32, 0.65), (16, 0.7), id="the family's own"),
        pytest.param({"batch_size": 8}, (8, 0.65), (8, 0.7), id="one is given"),
        pytest.param({"batch_size": 32, "iou_thres": 0.65}, (32, 0.65), (32, 0.65), id="the other family's"),
        pytest.param({"iou_thres": 0.0}, (32, 0.0), (16, 0.0), id="0 is given, too"),
    ],
)
def test_defaults_are_the_familys(tiny, tiny_yolov8, given, yolov5, yolov8):
    for network, expected in ((tiny, yolov5), (tiny_yolov8, yolov8)):
        settings = fit(ValidationSettings(**given), network)
        assert (settings.batch_size, settings.iou_thres) == expected
        assert fit(settings, network) == settings


@pytest.mark.parametrize(
    "wrong", [{"batch_size": 0}, {"batch_size": 1.5}, {"iou_thres": 1.0}, {"imgsz": None}]
)
def test_what_is_given_is_checked(wrong):
    with pytest.raises(InputError, match=f"`{next(iter(wrong))}` is"):
        ValidationSettings(**wrong)


def test_what_is_counted_with_is_in_the_row(tiny_yolov8, shapes):
    metrics = validate(tiny_yolov8, shapes, ValidationSettings(imgsz=64, conf_thres=0.4)).metrics
    assert (metrics.batch_size, metrics.iou_thres) == (16, 0.7)
    assert "YOLOv8" in counting_of(tiny_yolov8).describe(16, 0.7)
    assert "batch size 16, NMS above IoU 0.7" in counting_of(tiny_yolov8).describe(16, 0.7)


@pytest.mark.parametrize(
    ("family", "name"),
    [("yolov5", "YOLOv5"), ("yolov8", "YOLOv8"), ("yolo11", "YOLO11"), ("yolo12", "YOLO12")],
)
def test_the_line_names_the_networks_own_family(few_layers, family, name):
    assert counting_of(few_layers(family=family)).describe(16, 0.7).startswith(f"Counting as {name} does (")


def test_a_file_that_can_be_of_several_families_names_them_all():
    file = OnnxNetwork(Path("n.onnx"), ["cat"], 32, {}, "yolov8")
    assert counting_of(file).describe(16, 0.7).startswith("Counting as YOLOv8/YOLO11/YOLO12 does (")


@pytest.mark.parametrize(
    ("head", "rule"), [("one2many", "head one2many, NMS above IoU 0.7"), ("one2one", "head one2one, no NMS")]
)
def test_the_head_that_is_counted_is_in_the_row_and_in_the_setup(tiny_yolo26, head, rule, shapes):
    network = choose_head(tiny_yolo26, head)
    settings = fit(ValidationSettings(imgsz=64, conf_thres=0.3), network)
    assert rule in counting_of(network).describe(16, 0.7)
    done = validate(network, shapes, settings)
    assert done.metrics.head == head
    assert describe_setup(network, done.dataset, settings)["head"] == head


def test_the_one_to_one_branch_keeps_what_nms_removes(tiny_yolo26):
    """Both branches get the same weights."""
    network = tiny_yolo26
    for branch in network.head.cv2:
        branch[-1].bias.fill_(2)  # boxes of four strides, which overlap
    for kept, name in (("cv2", "one2one_cv2"), ("cv3", "one2one_cv3")):
        getattr(network.head, name).load_state_dict(getattr(network.head, kept).state_dict())
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    found = []
    with Lanes(torch.device("cpu")) as lanes:
        for head in ("one2many", "one2one"):
            settings = fit(ValidationSettings(imgsz=64, conf_thres=0.0, iou_thres=0.5), network)
            detector = make_detector(choose_head(network, head), lanes, settings, make_engine("torch"))
            found.append(detector.detect(pixels)[0])
    many, one = found
    assert len(many) < len(one) == (64 + 16 + 4) * 3
    assert torch.isin(many.scores, one.scores).all()


# --- images and boxes ------------------------------------------------------------------------------


def test_yolov8_shrinks_linearly():
    image = np.random.default_rng(0).integers(0, 256, (100, 200, 3), np.uint8)
    out = np.empty((32, 64, 3), np.uint8)
    letterbox(image, 64, out, boxes.YOLOV8)
    assert np.array_equal(out, cv2.resize(image, (64, 32), interpolation=cv2.INTER_LINEAR))
    area = np.empty_like(out)
    letterbox(image, 64, area)
    assert not np.array_equal(out, area)


def test_no_side_is_above_the_networks_size():
    """49 / 49 x 640 comes out a little above 640 in floats, and would be rounded up."""
    sizes = [n for n in range(10, 2000) if n * (640 / n) > 640]
    assert sizes
    for size in sizes:
        assert place((size, size), 640, (704, 704)).resized == (641, 641)
        assert place((size, size), 640, (704, 704), boxes.YOLOV8).resized == (640, 640)


def test_boxes_go_by_whole_pixels_and_each_directions_gain():
    """427 x 640 is resized to 214 x 320, by 0.5012 and 0.5, with 21 of 42 pixels, or 5 of 11, above."""
    assert place((427, 640), 320, (256, 320), boxes.YOLOV8) == Placement((427, 640), (214, 320), 0, 21, True)
    placement = place((426, 640), 320, (224, 320), boxes.YOLOV8)
    assert (placement.top, place((426, 640), 320, (224, 320)).top) == (5, 5.5)
    placement = place((427, 640), 320, (256, 320), boxes.YOLOV8)
    box = np.array([[10.0, 31.0, 330.0, 235.0]])
    expected = [[20, 10 * 427 / 214, 640, 427]]
    np.testing.assert_allclose(placement.to_image_xyxy(box), expected)
    unclipped = [[20, 10 * 427 / 214, 660, 214 * 427 / 214]]
    np.testing.assert_allclose(placement.to_image_xyxy(box, clip=False), unclipped)


def test_labels_go_there_and_back():
    placement = place((426, 639), 320, (224, 320), boxes.YOLOV8)
    label = np.array([[0.5, 0.4, 0.2, 0.6]])
    back = placement.to_image_xyxy(placement.to_letterbox_xyxy(label))
    np.testing.assert_allclose(back, [[0.4 * 639, 0.1 * 426, 0.6 * 639, 0.7 * 426]])


def test_a_family_reads_images_in_its_way(tiny, tiny_yolov8, shapes):
    for network, way in ((tiny, boxes.YOLOV5), (tiny_yolov8, boxes.YOLOV8)):
        dataset = validate(network, shapes, ValidationSettings(imgsz=64, conf_thres=0.9)).dataset
        loader = make_loader(dataset.images, network, fit(ValidationSettings(imgsz=64), network))
        assert loader.resizing == way
        placements = [placement for batch in loader for placement in batch.placements]
        assert {placement.own_gains for placement in placements} == {way.to_the_pixel}


# --- the own metric --------------------------------------------------------------------------------


def column_boxes(*edges):
    """Boxes of height 10 from 0 to each edge."""
    return np.array([[0, 0, 10, edge] for edge in edges], np.float32)


def test_a_detection_may_claim_its_second_choice():
    """The second detection overlaps the first label most, which is taken; the second label is left."""
    found, labels = column_boxes(10, 10.5), column_boxes(10, 12)
    classes = np.zeros(2, np.int64)
    assert match(found, classes, labels, classes, YOLOV5)[:, 0].tolist() == [True, False]
    assert match(found, classes, labels, classes, YOLOV8)[:, 0].tolist() == [True, True]
    # 10.5 / 12 is 0.875: at 0.90 and 0.95 there is no second choice.
    assert match(found, classes, labels, classes, YOLOV8)[1].tolist() == [True] * 8 + [False] * 2


@pytest.mark.parametrize(
    ("found", "classes", "labels", "true", "expected"),
    [
        pytest.param((10, 10), (0, 0), (10,), (0,), [True, False], id="a label is claimed once"),
        pytest.param((10,), (1,), (10,), (0,), [False], id="another class"),
        pytest.param((4, 10), (0, 0), (10,), (0,), [False, True], id="too little overlap claims nothing"),
        pytest.param((), (), (10,), (0,), [], id="nothing found"),
        pytest.param((10,), (0,), (), (), [False], id="no label"),
    ],
)
def test_claims_in_turn(found, classes, labels, true, expected):
    found, labels = column_boxes(*found).reshape(-1, 4), column_boxes(*labels).reshape(-1, 4)
    classes, true = np.array(classes, np.int64), np.array(true, np.int64)
    assert match(found, classes, labels, true, YOLOV8)[:, 0].tolist() == expected


def test_precision_falls_at_the_last_recall():
    """One of two labels is found at once: precision 1 up to recall 0.5, then 0, or a line down to 0."""
    correct, scores = np.ones((1, 10), bool), np.array([0.9], np.float32)
    classes, true = np.zeros(1, np.int64), np.zeros(2, np.int64)
    steep = average_precision(correct, scores, classes, true, YOLOV8)
    slope = average_precision(correct, scores, classes, true, YOLOV5)
    # Of 101 points those from 0 to 0.5; the one at 0.5 itself is on the edge.
    assert steep.mAP50 == pytest.approx(0.5, abs=0.0051)
    assert slope.mAP50 == pytest.approx(0.75)
    assert (steep.P, steep.R) == (slope.P, slope.R) == (1.0, 0.5)
