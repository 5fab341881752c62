"""The printed text and the files of a run."""

import csv
import json
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from sparsity.data.annotations import Annotations
from sparsity.data.scan import Scan
from sparsity.evaluation.average_precision import AveragePrecision, ClassPrecision
from sparsity.evaluation.results import Results
from sparsity.pruning.zeros import LayerSparsity
from sparsity.report.guide import GUIDE
from sparsity.report.validation import format_guide, format_scan, format_speed, format_table
from sparsity.validation.metrics import Metrics
from sparsity.validation.run_files import write_run

KEYS = [
    *(
        "weights",
        "data",
        "criterion",
        "scope",
        "pattern",
        "keep",
        "amount",
        "budget",
        "channels_removed",
        "conv_layers",
        "conv_weights",
        "conv_zeros",
        "parameters",
    ),
    *("sparsity_conv", "sparsity_model", "macs_left", "gmacs_left", "predicted_ms"),
    *("images", "instances", "P", "R", "mAP50", "mAP50_95"),
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large"),
    *("preprocess_ms", "inference_ms", "nms_ms", "engine", "device", "precision", "imgsz", "batch_size"),
    *("conf_thres", "iou_thres", "torch", "head", "depthwise"),
]


def guide_run(amount: float = 0.3) -> Metrics:
    """Return a run that repeats the guide's, with every figure 0.001 above its row at 0.3."""
    with GUIDE.open() as file:
        row = next(r for r in csv.DictReader(file) if float(r["amount"]) == 0.3)
    values = {f.name: 0 for f in fields(Metrics)} | {"device": "", "precision": "float16", "torch": "2"}
    values |= {name: float(v) + 0.001 for name, v in row.items() if name[:2] in ("P", "R", "mA", "AP", "AR")}
    setup = {"weights": "some/where/yolov5x.pt", "data": "coco.yaml", "amount": amount}
    setup |= {"criterion": "l1", "scope": "layer", "pattern": "unstructured", "keep": ""}
    counts = {"images": 5000, "instances": 36335, "imgsz": 640, "batch_size": 32}
    return Metrics(**values | setup | counts | {"conf_thres": 0.001, "iou_thres": 0.65})


def test_the_guides_row_stands_beside_a_run_that_repeats_it():
    lines = format_guide(guide_run(), GUIDE).splitlines()
    assert lines[5].split() == ["AP", "0.489", "0.490", "+0.001"]
    assert [line.split()[-1] for line in lines[1:17]] == ["+0.001"] * 16


def test_the_dense_row_is_compared_with_the_dense_run():
    lines = format_guide(guide_run(0.0), GUIDE).splitlines()
    assert lines[5].split() == ["AP", "0.507", "0.490", "-0.017"]


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "yolov5l.pt"},
        {"amount": 0.4},
        {"scope": "global"},
        {"criterion": "obs"},
        {"pattern": "2:4"},
        {"keep": "model.0.conv"},
        {"images": 4999},
        {"instances": 36334},
        {"imgsz": 1280},
        {"batch_size": 1},
        {"conf_thres": 0.25},
        {"iou_thres": 0.6},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_runs_are_not_compared_with_the_guide(change):
    assert format_guide(replace(guide_run(), **change), GUIDE) == ""


def test_without_the_guides_file_nothing_is_compared(tmp_path):
    assert format_guide(guide_run(), tmp_path / "none.csv") == ""


def test_metrics_have_the_promised_keys_in_order():
    assert [f.name for f in fields(Metrics)] == KEYS


def test_files_of_a_run(tmp_path):
    layers = [LayerSparsity("model.0.conv", (16, 3, 6, 6), 1728, 518)]
    found = [{"image_id": 1, "category_id": 1, "bbox": [0.0, 0.0, 1.0, 1.0], "score": 0.5}]
    write_run(tmp_path, guide_run(), layers, Results.of_rows(found), Annotations({"images": []}))
    assert json.loads((tmp_path / "metrics.json").read_text()) == asdict(guide_run())
    assert json.loads((tmp_path / "predictions.json").read_text()) == found
    assert json.loads((tmp_path / "annotations.json").read_text()) == {"images": []}
    assert (tmp_path / "layers.csv").read_text() == (
        "name,shape,weights,zeros,sparsity\nmodel.0.conv,16x3x6x6,1728,518,0.299769\n"
    )


def test_given_annotations_are_not_written_again(tmp_path):
    write_run(tmp_path, guide_run(), [], Results.of_rows([]), Annotations({}, Path("instances.json")))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["layers.csv", "metrics.json", "predictions.json"]


def test_table():
    dog = ClassPrecision(label=1, instances=3, P=0.5, R=0.25, AP50=0.4, AP=0.2)
    own = AveragePrecision(P=0.123456, R=0.2, mAP50=0.3, mAP50_95=0.4, instances=3, classes=(dog,))
    assert len(format_table(own, 9, ["cat", "dog"]).splitlines()) == 2
    lines = [line.split() for line in format_table(own, 9, ["cat", "dog"], verbose=True).splitlines()]
    assert lines[1:] == [
        ["all", "9", "3", "0.123", "0.2", "0.3", "0.4"],
        ["dog", "9", "3", "0.5", "0.25", "0.4", "0.2"],
    ]


def test_scan_names_what_was_left_out():
    text = format_scan(Scan(found=7, missing=1, empty=2, problems=("a.jpg: is no image",)))
    assert text.splitlines() == ["7 found, 1 missing, 2 empty, 1 corrupt", "  left out: a.jpg: is no image"]


def test_speed():
    metrics = replace(guide_run(), preprocess_ms=0.14, inference_ms=5.2, nms_ms=1.66)
    assert format_speed(metrics).startswith("Speed: 0.1ms pre-process, 5.2ms inference, 1.7ms NMS per image")
