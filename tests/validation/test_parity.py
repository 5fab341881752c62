"""YOLOv5's own figures for the real checkpoint on real images, dense and pruned."""

import json
import zlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from sparsity import Origin, load, prune, sweep, validate
from sparsity.pruning.pruner import UNSTRUCTURED

SWEPT = {"coco50": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5), "coco250": (0.0, 0.1, 0.3, 0.9)}
"""Data -> amounts: of coco250's ten, those where the figures differ most, and one without detections."""
REFERENCE_TIE_ORDER = 595805190
TWELVE = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large"),
)

pytestmark = [pytest.mark.slow, pytest.mark.assets]


def ties_sort_as_in_the_reference() -> bool:
    """Whether numpy's default sort orders equal values on this CPU as in the reference."""
    ratios = np.random.default_rng(0).choice([0.5, 0.667, 0.75, 1.0, 1.333, 1.5], 250)
    return zlib.crc32(np.argsort(ratios).astype(np.int64).tobytes()) == REFERENCE_TIE_ORDER


def reference_rows(assets, data):
    path = assets.parent / "reference" / f"yolov5n_{data}.json"
    if not path.is_file():
        pytest.skip(f"{path.name} is not beside the assets")
    nothing = {"P": 0.0, "R": 0.0, "mAP50": 0.0, "mAP": 0.0, "coco_stats": [0.0] * 12, "detections": 0}
    rows = json.loads(path.read_text())["rows"]
    return [row if row["detections"] else row | nothing for row in rows]


def differences(ours, row) -> str:
    pairs = {"P": row["P"], "R": row["R"], "mAP50": row["mAP50"], "mAP50_95": row["mAP"]}
    pairs |= dict(zip(TWELVE[:2], row["coco_stats"], strict=False))
    return ", ".join(f"{name} {ours[name] - value:+.5f}" for name, value in pairs.items())


SINGLE = {"coco50": (0.3,), "coco250": ()}
"""Data -> amounts that are also validated alone; the result must be the same."""


@pytest.mark.parametrize("data", ["coco50", "coco250"])
def test_figures_are_those_of_yolov5(assets, data, tmp_path):
    # Images of equal ratio that swap batches get other padding, which moves AP by up to 0.003.
    exact = ties_sort_as_in_the_reference()
    near, near_pr = (0.001, 0.005) if exact else (0.005, 0.02)
    rows = [row for row in reference_rows(assets, data) if row["amount"] in SWEPT[data]]
    assert tuple(row["amount"] for row in rows) == SWEPT[data]
    network, amounts = load(assets / "yolov5n.pt"), [row["amount"] for row in rows]
    frame = sweep(network, assets / data, amounts, batch_sizes=(), folder=tmp_path)
    for row, ours in zip(rows, frame.to_dict("records"), strict=True):
        assert ours["amount"] == row["amount"]
        assert ours["conv_zeros"] == row["conv_zeros"]
        where = f"amount {row['amount']}"
        print(f"{data} {where}: ours - YOLOv5's: {differences(ours, row)}")  # shown by pytest -s
        assert ours["mAP50"] == pytest.approx(row["mAP50"], abs=near), where
        assert ours["mAP50_95"] == pytest.approx(row["mAP"], abs=near), where
        assert [ours[name] for name in TWELVE[:2]] == pytest.approx(row["coco_stats"][:2], abs=near), where
        assert [ours[name] for name in TWELVE] == pytest.approx(row["coco_stats"], abs=5 * near), where
        assert [ours["P"], ours["R"]] == pytest.approx([row["P"], row["R"]], abs=near_pr), where
        assert ours["sparsity_model"] == pytest.approx(row["global_sparsity"], abs=1e-6), where
        if exact:
            found = predictions(tmp_path, row["amount"])
            assert len(found) == pytest.approx(row["detections"], rel=0.001), where
        if row["amount"] in SINGLE[data]:
            assert_validation_finds_the_same(assets / data, ours, tmp_path)


def assert_validation_finds_the_same(data: Path, row: dict, folder: Path) -> None:
    """row: of a pruned level of the sweep in folder."""
    amount, network = row["amount"], load(data.parent / "yolov5n.pt")
    origin = Origin(amount=amount, scope="layer", criterion="l1", pattern=UNSTRUCTURED)
    single = validate(prune(network, amount), data, origin=origin)
    assert predictions(folder, amount) == single.predictions
    for name, value in asdict(single.metrics).items():
        if not name.endswith("_ms"):
            assert row[name] == value, name


def predictions(folder: Path, amount: float) -> list:
    level = f"layer_{amount}" if amount else "dense"
    return json.loads((folder / "levels" / level / "predictions.json").read_text())
