"""val_sparse.py as its user runs it: what it says, writes and refuses."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sparsity.commands import val as val_sparse

ROOT = Path(__file__).parents[2]


@pytest.fixture
def data(shapes) -> Path:
    return shapes


@pytest.fixture
def run(tmp_path, run_script, stand_in):
    """Run the script in this process on the small network; gives exit code, stdout, stderr."""

    def call(*flags: object) -> tuple[int, str, str]:
        given = [] if "--weights" in flags else ["--weights", stand_in]
        project = [] if "--project" in flags else ["--project", tmp_path / "results"]
        small = [] if "--imgsz" in flags else ["--imgsz", 64]
        return run_script(val_sparse, *given, *project, *small, "--device", "cpu", *flags)

    return call


def test_a_run_from_end_to_end(run, data, tmp_path):
    code, out, _ = run("--data", data, "--sparsity", 0.3, "--verbose")
    assert code == 0
    for words in (
        "Fusing layers",
        "Pruning (l1, 0.3)... 0.302 global sparsity (527520 of 1758400",
        "6 found, 0 missing, 0 empty, 0 corrupt",
        "mAP50-95",
        "model.0.conv         16x3x6x6       1728        518      0.300",
    ):
        assert words in out, out
    assert out.count("Average Precision") + out.count("Average Recall") == 12
    folder = tmp_path / "results" / "exp"
    assert f"Results saved to {folder}" in out
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["conv_zeros"] == pytest.approx(0.3 * metrics["conv_weights"], abs=30)
    assert (metrics["images"], metrics["instances"], metrics["imgsz"], metrics["amount"]) == (6, 6, 64, 0.3)
    found = json.loads((folder / "predictions.json").read_text())
    assert found
    assert set(found[0]) == {"image_id", "category_id", "bbox", "score"}
    assert len((folder / "layers.csv").read_text().splitlines()) == 61
    assert {p.name for p in folder.iterdir()} == {
        "annotations.json",
        "layers.csv",
        "metrics.json",
        "predictions.json",
    }


def test_runs_are_numbered_up_unless_told(run, data, tmp_path):
    for _ in range(2):
        assert run("--data", data, "--name", "mine")[0] == 0
    assert run("--data", data, "--name", "mine", "--exist-ok")[0] == 0
    assert sorted(p.name for p in (tmp_path / "results").iterdir()) == ["mine", "mine2"]


def test_a_network_that_finds_nothing_is_a_result(run, data, network, tmp_path):
    with torch.no_grad():
        for conv in network.head.m:
            conv.bias.fill_(-20)
    code, _, _ = run("--data", data, "--sparsity", "0.9")
    assert code == 0
    metrics = json.loads((tmp_path / "results" / "exp" / "metrics.json").read_text())
    assert [metrics[k] for k in ("P", "R", "mAP50", "mAP50_95", "AP", "AR_large")] == [0] * 6
    assert json.loads((tmp_path / "results" / "exp" / "predictions.json").read_text()) == []


def test_single_cls_counts_all_classes_as_one(run, data, tmp_path):
    assert run("--data", data, "--single-cls", "--verbose")[0] == 0
    found = json.loads((tmp_path / "results" / "exp" / "predictions.json").read_text())
    assert {row["category_id"] for row in found} == {1}


def test_image_size_is_rounded_up_to_the_stride(run, data, tmp_path):
    code, out, _ = run("--data", data, "--imgsz", 50)
    assert code == 0
    assert json.loads((tmp_path / "results" / "exp" / "metrics.json").read_text())["imgsz"] == 64
    assert "image size 50 is rounded up to 64" in out


def test_corrupt_files_are_counted_named_and_skipped(run, data):
    (data.parent / "images" / "0.png").write_bytes(b"no image")
    (data.parent / "labels" / "1.txt").write_text("0 0.5 0.5 2 2\n")
    code, out, _ = run("--data", data)
    assert code == 0
    assert "2 corrupt" in out
    assert "0.png" in out
    assert "1.txt: line 1" in out


def with_text(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def with_annotations(data: Path, text: str) -> Path:
    with_text(data.parent / "a.json", text)
    return with_text(data, "val: images\nannotations: a.json\nnames: [cat, dog, bird]\n")


OTHER = '{"images":[],"annotations":[],"categories":[{"id":1,"name":"cat"}]}'

BAD = {
    "sparsity 1": (lambda d, t: ["--data", d, "--sparsity", "1.0"], "sparsity is 1.0"),
    "sparsity negative": (lambda d, t: ["--data", d, "--sparsity=-0.1"], "sparsity is -0.1"),
    "sparsity 30": (lambda d, t: ["--data", d, "--sparsity", "30"], "0.3 for 30%"),
    "sparsity nan": (lambda d, t: ["--data", d, "--sparsity", "nan"], "'nan'"),
    "sparsity abc": (lambda d, t: ["--data", d, "--sparsity", "abc"], "'abc'"),
    "scope": (lambda d, t: ["--data", d, "--scope", "model"], "'model' is none of layer, global"),
    "criterion": (lambda d, t: ["--data", d, "--criterion", "l2"], "'l2' is none of l1, obs, lamp, erk"),
    "several criteria": (
        lambda d, t: ["--data", d, "--criterion", "l1,lamp"],
        "2 methods (l1, lamp); one is expected",
    ),
    "flag": (lambda d, t: ["--data", d, "--banana"], "unrecognized arguments"),
    "batch size 0": (lambda d, t: ["--data", d, "--batch-size", "0"], "--batch-size is 0"),
    "batch size word": (lambda d, t: ["--data", d, "--batch-size", "x"], "invalid int value: 'x'"),
    "iou 1.5": (lambda d, t: ["--data", d, "--iou-thres", "1.5"], "--iou-thres is 1.5"),
    "conf nan": (lambda d, t: ["--data", d, "--conf-thres", "nan"], "--conf-thres is nan"),
    "max_det 0": (lambda d, t: ["--data", d, "--max-det", "0"], "--max-det is 0"),
    "device": (lambda d, t: ["--data", d, "--device", "banana"], "--device is 'banana'"),
    "name": (lambda d, t: ["--data", d, "--name", "../up"], "--name is '../up'"),
    "name of the parent": (lambda d, t: ["--data", d, "--name", ".."], "--name is '..'"),
    "name too long": (lambda d, t: ["--data", d, "--name", "n" * 300], "--name has 300 characters"),
    "name that moves the cursor": (lambda d, t: ["--data", d, "--name", "a\x1b[2J"], r"--name is 'a\x1b[2J'"),
    "weights missing": (lambda d, t: ["--weights", t / "no.pt", "--data", d], "no.pt: no such file"),
    "weights empty": (lambda d, t: ["--weights", with_text(t / "e.pt", ""), "--data", d], "empty"),
    "weights text": (
        lambda d, t: ["--weights", with_text(t / "t.pt", "hello"), "--data", d],
        "not a checkpoint",
    ),
    "data missing": (lambda d, t: ["--data", t / "no.yaml"], "no.yaml: no such data yaml"),
    "data keys": (lambda d, t: ["--data", with_text(t / "k.yaml", "train: x\n")], "no key 'val'"),
    "class count": (lambda d, t: ["--data", with_text(d, "val: images\nnames: [cat]\n")], "has 1 classes"),
    "class names": (
        lambda d, t: ["--data", with_text(d, "val: images\nnames: [cat, cow, bird]\n")],
        "class 1 is 'cow', but the checkpoint calls it 'dog'",
    ),
    "no images": (
        lambda d, t: ["--data", with_text(d, "val: labels\nnames: [cat, dog, bird]\n")],
        "no images",
    ),
    "other annotations": (
        lambda d, t: ["--data", with_annotations(d, OTHER)],
        "annotates other images",
    ),
    "annotations cut off": (lambda d, t: ["--data", with_annotations(d, '{"images":[')], "is not JSON"),
    "project is a file": (lambda d, t: ["--data", d, "--project", with_text(t / "file", "")], "--project"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_line_and_leaves_nothing(run, data, tmp_path, case):
    flags, words = BAD[case]
    code, _, err = run(*flags(data, tmp_path))
    assert code == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "results").exists()


def test_interrupted_run_leaves_nothing(run, data, tmp_path, monkeypatch):
    def interrupt(*_args, **_kw):
        raise KeyboardInterrupt

    monkeypatch.setattr(val_sparse, "validate", interrupt)
    code, _, err = run("--data", data)
    assert code == 130
    assert "Interrupted" in err
    assert not (tmp_path / "results").exists()


def restore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
@pytest.mark.assets
def test_ctrl_c_stops_a_real_run(assets, tmp_path):
    flags = ["--weights", assets / "yolov5n.pt", "--data", assets / "coco250", "--project", tmp_path / "r"]
    command = [sys.executable, ROOT / "val_sparse.py", *flags, "--device", "cpu"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # A shell lets what it starts in the background ignore Ctrl-C.
    process = subprocess.Popen(command, **pipes, preexec_fn=restore_interrupts)
    for line in process.stdout:
        if line.startswith("Scanning"):
            break
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert not (tmp_path / "r").exists()
