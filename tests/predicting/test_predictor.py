"""Detections in pictures of every kind: those of a validation, in pixels of the picture."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from sparsity import (
    Detections,
    PredictionSettings,
    Predictor,
    ValidationSettings,
    choose_head,
    predict,
    validate,
)
from sparsity.base.errors import InputError
from sparsity.predicting import predictor as predictor_module
from sparsity.yolo.network import fuse

SETTINGS = PredictionSettings(imgsz=64, conf_thres=0.3, iou_thres=0.6, max_det=50, device="cpu")
VALIDATION = ValidationSettings(
    imgsz=64, batch_size=1, conf_thres=0.3, iou_thres=0.6, max_det=50, device="cpu", workers=0
)


def same(one: Detections, other: Detections) -> bool:
    names = ("boxes_xyxy", "scores", "classes")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


@pytest.fixture
def picture(shapes):
    return shapes.parent / "images" / "0.png"


@pytest.mark.parametrize(
    ("family", "head"),
    [("yolov5", ""), ("yolov8", ""), ("yolo26", "one2many"), ("yolo26", "one2one")],
)
def test_detections_are_those_of_a_validation(few_layers, shapes, family, head):
    network = fuse(few_layers(family=family)).requires_grad_(False)
    if head:
        choose_head(network, head)
    conf = 0.02 if family == "yolov5" else 0.3
    done = validate(network, shapes, replace(VALIDATION, conf_thres=conf))
    images = done.dataset.images
    found = predict(network, [image.path for image in images], replace(SETTINGS, conf_thres=conf))
    ours = [row for image, one in zip(images, found, strict=True) for row in one.to_coco(image.image_id)]
    order = {image.image_id: number for number, image in enumerate(images)}
    assert ours == sorted(done.predictions, key=lambda row: order[row["image_id"]])
    assert len(ours) > 50


def test_every_form_of_a_picture_gives_the_same(slight, picture):
    bgr = cv2.imread(str(picture))
    rgb = np.ascontiguousarray(bgr[:, :, ::-1])
    tensor = torch.from_numpy(rgb).permute(2, 0, 1)
    with Predictor(slight, SETTINGS) as predictor:
        wanted = predictor(picture)
        assert len(wanted) > 5
        for image in (str(picture), rgb, Image.open(picture), tensor, tensor.float() / 255):
            assert same(predictor(image), wanted)
        assert same(predictor(bgr, channels="bgr"), wanted)
        for several in ([rgb, picture], np.stack([rgb] * 2), torch.stack([tensor] * 2), (tensor, rgb)):
            found = predictor(several)
            assert isinstance(found, list)
            assert [same(one, wanted) for one in found] == [True, True]
        assert predictor([]) == []


def test_pictures_do_not_depend_on_others(slight, shapes, monkeypatch):
    monkeypatch.setattr(predictor_module, "TOGETHER", 4)
    files = sorted((shapes.parent / "images").iterdir())
    alone = [predict(slight, file, SETTINGS) for file in files]
    assert all(same(*pair) for pair in zip(predict(slight, files, SETTINGS), alone, strict=True))


@pytest.mark.parametrize("size", [(1, 1), (2, 1000), (1000, 2), (9, 7), (3000, 40)])
def test_boxes_lie_in_pictures_of_any_size(slight, size):
    width, height = size
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    found = predict(slight, pixels, PredictionSettings(imgsz=64, conf_thres=0.01, device="cpu"))
    assert len(found) > 0
    assert found.size == size
    assert (found.boxes_xyxy >= 0).all()
    assert (found.boxes_xyxy <= [width, height] * 2).all()


def test_a_thin_picture_has_its_own_gains():
    """With the gain of the height alone, 1 instead of 0.64, boxes at the right would end at 640 of 1000."""
    thin = predictor_module.place((2, 1000), 640, (32, 640))
    corrected = predictor_module._in_proportion(thin)
    right = np.array([[600.0, 15, 640, 17]], np.float32)
    assert corrected.to_image_xyxy(right)[0, 2] == 1000
    usual = predictor_module.place((480, 640), 640, (480, 640))
    assert predictor_module._in_proportion(usual) is usual


def test_some_classes_alone(slight, picture):
    everything = predict(slight, picture, SETTINGS)
    assert {"cat", "dog", "bird"} == set(everything.found)
    for classes, names in (((0,), {"cat"}), (("dog", "2"), {"dog", "bird"})):
        some = PredictionSettings(
            imgsz=64, conf_thres=0.3, iou_thres=0.6, max_det=50, device="cpu", classes=classes
        )
        assert set(predict(slight, picture, some).found) == names
    for bad in ("cow", 3, -1):
        with pytest.raises(
            InputError, match=r"`classes` has .*; a number from 0 to 2 is expected, or a name"
        ):
            predict(slight, picture, PredictionSettings(classes=(bad,), device="cpu"))


def test_boxes_of_other_classes_are_suppressed_if_asked(slight, picture):
    common = {"imgsz": 64, "conf_thres": 0.1, "iou_thres": 0.1, "device": "cpu"}
    plain, agnostic = (
        len(predict(slight, picture, PredictionSettings(**common, agnostic_nms=agnostic)))
        for agnostic in (False, True)
    )
    assert agnostic < plain


def test_lanes_end_with_the_predictor(slight, picture):
    before = torch.get_num_threads()
    with Predictor(slight, SETTINGS) as predictor:
        predictor(picture)
        assert predictor.seconds.images == 1
    assert torch.get_num_threads() == before
    with pytest.raises(InputError, match="`classes` has 'cow'"):
        Predictor(slight, PredictionSettings(classes=("cow",)))
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"imgsz": 0}, "`imgsz` is 0"),
        ({"conf_thres": 1.5}, "`conf_thres` is 1.5"),
        ({"max_det": 0}, "`max_det` is 0"),
        ({"engine": "tensorrt"}, "`engine` is 'tensorrt'"),
        ({"engine": "onnxruntime", "half": True}, "computes in float32 on the CPU"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        PredictionSettings(**settings)


def test_an_engine_that_needs_images_says_so(slight, picture):
    pytest.importorskip("numba")
    with pytest.raises(InputError, match="`engine` sparse-int8 needs images; give some as `calibration`"):
        predict(slight, picture, PredictionSettings(engine="sparse-int8"))
