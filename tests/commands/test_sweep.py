"""sweep.py as its user runs it: what it says, writes and refuses."""

import json

import pandas as pd
import pytest
import torch
import yaml

from sparsity import TrainingSettings
from sparsity.commands import sweep
from sparsity.commands.parsers import finetune_parser, sweep_parser
from sparsity.formats.loading import load
from sparsity.formats.saving import save
from sparsity.timing.latency import Rounds
from sparsity.yolo.network import Network

FILES = {
    *(
        "sweep.csv",
        "sweep.md",
        "sweep.tex",
        "examples.json",
        "sweep.json",
        "sweep.png",
        "sweep.svg",
        "layers.png",
        "report.html",
    ),
    *("settings.json", "latency.json", "levels", "annotations.json", ".lock"),
}


@pytest.fixture
def network(slight) -> Network:
    """What stand_in stands for: few layers, since what a level takes grows with them."""
    return slight


@pytest.fixture
def run(tmp_path, monkeypatch, run_script, stand_in):
    """Run the script in this process on the small network; gives exit code, stdout, stderr."""
    monkeypatch.setattr(Rounds.__init__, "__defaults__", (0.0, 2, 2))

    def call(*flags: object) -> tuple[int, str, str]:
        project = [] if "--project" in flags else ["--project", tmp_path / "results"]
        weights_flag = [] if "--weights" in flags else ["--weights", stand_in]
        return run_script(sweep, *flags, *weights_flag, *project, "--imgsz", 64, "--device", "cpu")

    return call


def test_a_sweep_from_end_to_end(run, shapes, tmp_path):
    flags = ("--data", shapes, "--scope", "layer,global", "--batch-sizes", "1,2", "--title", "Shapes <&>")
    code, out, err = run("0.3:0.6:0.3", *flags)
    assert code == 0, err
    folder = tmp_path / "results" / "sweep"
    assert {path.name for path in folder.iterdir()} == FILES
    frame = pd.read_csv(folder / "sweep.csv")
    assert frame.amount.tolist() == [0.0, 0.3, 0.6] * 2
    table = [
        line.replace("l1 global", "l1_global").split()[:3]
        for line in out[out.index("method  sparsity") :].splitlines()[1:6]
    ]
    rows = frame.drop(index=3)
    expected = [
        [row.method.replace(" ", "_") if row.amount else "dense", f"{row.amount:g}", f"{row.AP:.3f}"]
        for row in rows.itertuples()
    ]
    assert table == expected
    saved = json.loads((folder / "sweep.json").read_text())
    assert saved["title"] == "Shapes <&>"
    assert saved["command"].startswith("sparsity sweep 0.3:0.6:0.3 --data")
    assert {"device", "threads", "torch", "python"} <= set(saved["environment"])
    assert [row["AP"] for row in saved["rows"]] == frame.AP.tolist()
    assert "Shapes &lt;&amp;&gt;" in (folder / "report.html").read_text()
    assert out.count("Pruning (l1") == 4
    assert f"Results saved to {folder}" in out


def test_sweeps_are_numbered_and_resume_reads_a_finished_one(run, shapes, tmp_path):
    assert run("0.5", "--data", shapes, "--batch-sizes", "none")[0] == 0
    assert run("0.5", "--data", shapes, "--batch-sizes", "none")[0] == 0
    first, second = tmp_path / "results" / "sweep", tmp_path / "results" / "sweep2"
    before = {
        name: (first / name).read_bytes() for name in ("sweep.csv", "sweep.svg", "layers.png", "sweep.png")
    }
    assert second.is_dir()
    code, out, _ = run("0.5", "--data", shapes, "--batch-sizes", "none", "--resume", first)
    assert code == 0
    assert "2 of 2 levels are already finished" in out
    assert {name: (first / name).read_bytes() for name in before} == before
    assert not (tmp_path / "results" / "sweep3").exists()


def test_unknown_engines_are_refused(run, shapes):
    code, _, err = run("0.5", "--data", shapes, "--engines", "torch,tensorrt")
    assert code == 2
    assert (
        "'tensorrt'; one of torch, onnxruntime, openvino, openvino-bf16, sparse, sparse-bf16, sparse-int8"
        in err
    )


def test_class_tables_when_verbose(run, shapes):
    code, out, _ = run("0.5", "--data", shapes, "--verbose", "--batch-sizes", "none")
    assert code == 0
    assert out.count("mAP50-95") == 3
    assert out.count("  bird ") == 2


def test_resume_with_other_settings_says_which(run, shapes, tmp_path):
    run("0.5", "--data", shapes)
    code, _, err = run("0.4,0.5", "--data", shapes, "--resume", tmp_path / "results" / "sweep")
    assert code == 2
    assert "amounts was [0.0, 0.5], now is [0.0, 0.4, 0.5]" in err
    assert len(err.strip().splitlines()) == 1


BAD = {
    "reversed": (["0.9:0.1"], "from 0.9 down to 0.1"),
    "empty": ([""], "is no number"),
    "an empty part": (["0.1,,0.3"], "is no number"),
    "step 0": (["0.1:0.9:0"], "the step is 0"),
    "step negative": (["0.1:0.9:-0.1"], "the step is -0.1"),
    "1.0": (["1.0"], "1.0 is outside"),
    "above 1": (["0.5:1.5"], "is outside"),
    "nan": (["nan"], "is no number"),
    "inf": (["0.1:inf"], "is no number"),
    "words": (["dense"], "'dense' is no number"),
    "percent": (["30%"], "is no number"),
    "no levels": ([], "the following arguments are required: levels"),
    "scope": (["0.5", "--scope", "model"], "'model' is none of layer, global"),
    "criterion": (["0.5", "--criterion", "l1,l2"], "'l2' is none of l1, obs, lamp, erk"),
    "no criterion": (["0.5", "--criterion", ""], "'' is none of l1"),
    "lamp with a scope": (["0.5", "--criterion", "lamp", "--scope", "global"], "leave out --scope"),
    "bootstrap": (["0.5", "--bootstrap", "-1"], "--bootstrap is -1"),
    "batch sizes 0": (["0.5", "--batch-sizes", "0"], "--batch-sizes: 0"),
    "batch sizes word": (["0.5", "--batch-sizes", "one"], "--batch-sizes is 'one'"),
    "resume nowhere": (["0.5", "--resume", "no/such/folder"], "holds no sweep to go on with"),
    "weights missing": (["0.5", "--weights", "no.pt"], "no.pt: no such file"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_line_and_leaves_nothing(run, shapes, tmp_path, case):
    flags, words = BAD[case]
    code, _, err = run(*flags, "--data", shapes)
    assert words in err
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "results").exists()


def test_data_that_cannot_be_used_leaves_nothing(run, tmp_path):
    code, _, err = run("0.5", "--data", tmp_path / "no.yaml")
    assert code == 2
    assert "no such data yaml" in err
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("flags", "has_numba", "criterion", "engines", "batch_sizes"),
    [
        pytest.param([], True, "l1", "torch", "1,32", id="without --demo nothing changes"),
        pytest.param(["--demo"], True, "l1,obs", "torch,sparse", "1", id="demo"),
        pytest.param(["--demo"], False, "l1,obs", "torch", "1", id="demo without numba"),
        pytest.param(["--demo", "--device", "0"], True, "l1,obs", "torch", "1", id="demo on a GPU"),
        pytest.param(["--demo", "--half"], True, "l1,obs", "torch", "1", id="demo in half precision"),
        pytest.param(
            ["--demo", "--criterion", "lamp"], True, "lamp", "torch,sparse", "1", id="own criterion"
        ),
        pytest.param(["--demo", "--engines", "torch"], True, "l1,obs", "torch", "1", id="own engines"),
        pytest.param(["--demo", "--batch-sizes", "4"], True, "l1,obs", "torch,sparse", "4", id="own sizes"),
    ],
)
def test_defaults_of_the_demo(monkeypatch, flags, has_numba, criterion, engines, batch_sizes):
    monkeypatch.setattr(sweep, "find_spec", lambda name: object() if name == "numba" and has_numba else None)
    args = sweep_parser("sweep.py").parse_args(["0.5", *flags])
    chosen = sweep.resolve(args)
    assert (args.criterion, args.engines, args.batch_sizes) == (criterion, engines, batch_sizes)
    given = {flag for flag in flags if flag.startswith("--")}
    assert (args.calib_images, args.seconds) == ((16, 8.0) if "--demo" in flags else (64, 20.0))
    expected = (
        {"--criterion", "--engines", "--batch-sizes", "--calib-images", "--seconds"} - given
        if "--demo" in flags
        else set()
    )
    assert {line.split()[0] for line in chosen} == expected


def test_the_help_names_both_defaults():
    text = " ".join(sweep_parser("sweep.py").format_help().split())
    for words in (
        "(default: l1; with --demo l1,obs)",
        "(default: torch; with --demo torch,sparse where numba is installed)",
        "(default: 1,32; with --demo 1)",
        "(default: 64; with --demo 16)",
    ):
        assert words in text
    assert sweep.CRITERION == "l1"
    assert sweep.BATCH_SIZES == "1,32"
    assert sweep.CALIB_IMAGES == 64


def test_networks_are_kept_where_asked(run, shapes, tmp_path):
    code, _, err = run(
        "0.3,0.5", "--data", shapes, "--batch-sizes", "none", "--bootstrap", 0, "--save-networks", "all"
    )
    assert code == 0, err
    for amount in (0.3, 0.5):
        path = tmp_path / "results" / "sweep" / "levels" / f"layer_{amount}" / "network.safetensors"
        weights = [m.weight for m in load(path, fused=True).modules() if isinstance(m, torch.nn.Conv2d)]
        zeros = sum(int((weight == 0).sum()) for weight in weights)
        assert zeros / sum(map(torch.numel, weights)) == pytest.approx(amount, abs=0.01)


def test_a_time_for_latency_that_is_none_is_refused(run_script, tmp_path):
    code, _, err = run_script(sweep, "0.5", "--demo", "--seconds", "nan", "--project", tmp_path / "r")
    assert code == 2
    assert "--seconds is nan; a finite number from 0 on is expected" in err
    assert not (tmp_path / "r").exists()


@pytest.fixture
def trained(shapes, slight_unfused, tmp_path) -> tuple:
    """The flags of a checkpoint with batch norms, and of data with training images."""
    shapes.write_text(yaml.safe_dump(yaml.safe_load(shapes.read_text()) | {"train": "images"}))
    save(slight_unfused, tmp_path / "w.pt")
    return ("--weights", tmp_path / "w.pt", "--data", shapes, "--batch-sizes", "1", "--workers", 0)


def test_levels_are_trained_on_request(run, trained, tmp_path):
    flags = ("--finetune", 1, "--train-batch-size", 2, "--nominal-batch", 2, "--lr0", 0.001)
    code, out, err = run("0.5", *trained, *flags, "--teacher", tmp_path / "w.pt", "--bootstrap", 9)
    assert code == 0, err
    folder = tmp_path / "results" / "sweep"
    assert "Training (l1, 0.5) starts" in out
    assert "epoch 1/1: box" in out
    assert "distil" in out
    frame = pd.read_csv(folder / "sweep.csv")
    assert frame.stage.tolist() == ["one-shot", "one-shot", "fine-tuned", "fine-tuned"]
    assert frame.method.unique().tolist() == ["l1"], "the stage has a column of its own"
    assert any(line.split()[:3] == ["l1,", "fine-tuned", "0.5"] for line in out.splitlines())
    saved = json.loads((folder / "sweep.json").read_text())
    assert [row["stage"] for row in saved["rows"]] == frame.stage.tolist()
    assert saved["settings"]["finetune_epochs"] == 1
    page = (folder / "report.html").read_text()
    assert "l1: fine-tuning changes AP by" in page
    assert "l1, fine-tuned" in page


BAD_TRAININGS = {
    "no epoch": (["--finetune", "0"], "--finetune is 0; a whole number from 1 on is expected"),
    "negative": (["--finetune", "-2"], "--finetune is -2"),
    "batch": (["--finetune", "1", "--train-batch-size", "0"], "--train-batch-size is 0"),
    "rate": (["--finetune", "1", "--lr0", "nan"], "--lr0 is nan"),
    "no training": (["--lr0", "0.5"], "--lr0 is for training; give --finetune, too"),
    "no training, batch": (["--train-batch-size", "5"], "--train-batch-size is for training"),
    "no training, below": (["--prune-from", "below"], "--prune-from is for training"),
    "no training images": (["--finetune", "1", "--data", "VAL"], "no key 'train'"),
    "folded": (["--finetune", "1", "--weights", "FUSED"], "its batch norms are already folded in"),
    "exported": (["--finetune", "1", "--weights", "n.onnx"], "an exported network, which val_sparse.py"),
}


@pytest.mark.parametrize("case", BAD_TRAININGS)
def test_bad_trainings_get_one_line_and_leave_nothing(run, trained, shapes, slight, tmp_path, case):
    val = tmp_path / "val.yaml"
    val.write_text(f"val: {shapes.parent / 'images'}\nnames: [cat, dog, bird]\n")
    save(slight, tmp_path / "fused.pt")
    (tmp_path / "n.onnx").touch()
    places = {"VAL": val, "FUSED": tmp_path / "fused.pt", "n.onnx": tmp_path / "n.onnx"}
    flags, words = BAD_TRAININGS[case]
    code, _, err = run("0.5", *trained, *(places.get(flag, flag) for flag in flags))
    assert words in err
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "results").exists()


def test_the_flags_of_training_are_those_of_finetune():
    ours, theirs = sweep_parser("p").flags("training"), finetune_parser("p").flags("training")
    shared = {dest for dest in ours if dest not in ("epochs", "prune_from", "train_batch_size")}
    for dest in shared:
        assert ours[dest].option_strings == theirs[dest].option_strings
        assert ours[dest].default == theirs[dest].default
    assert {"lr0", "optimizer", "distil", "seed", "mosaic", "nominal_batch"} <= shared
    assert ours["train_batch_size"].default == theirs["batch_size"].default == TrainingSettings.batch_size


def test_a_search_from_end_to_end(run, trained, tmp_path):
    flags = ("--keep-ap", 0.001, "--resolution", 0.5, "--bootstrap", 9, "--search-images", 5)
    code, out, err = run(*trained, *flags, "--save", tmp_path / "found.pt")
    assert code == 0, err
    folder = tmp_path / "results" / "sweep"
    assert "l1: the largest sparsity found that keeps 0.001 of the dense AP is 0.5: AP 0." in out
    assert "(95% interval " in out
    assert {path.name for path in folder.iterdir()} == FILES - {"examples.json"} | {"search"}
    assert {path.name for path in (folder / "search").iterdir()} == FILES - {"examples.json", "latency.json"}
    weights = [m.weight for m in load(tmp_path / "found.pt").modules() if isinstance(m, torch.nn.Conv2d)]
    assert sum(int((weight == 0).sum()) for weight in weights) / sum(map(torch.numel, weights)) > 0.49
    code, out, err = run(*trained, *flags, "--save", tmp_path / "found.pt", "--resume", folder)
    assert code == 0, err
    assert "already finished" in out


BAD_SEARCHES = {
    "share 0": (["--keep-ap", "0"], "--keep-ap is 0.0; above 0 and at most 1 is expected"),
    "share above 1": (["--keep-ap", "1.5"], "--keep-ap is 1.5"),
    "levels too": (["0.5", "--keep-ap", "0.9"], "--keep-ap searches for the level; leave LEVELS 0.5 out"),
    "resolution": (["--keep-ap", "0.9", "--resolution", "1"], "--resolution is 1.0"),
    "images": (["--keep-ap", "0.9", "--search-images", "-1"], "--search-images is -1"),
    "saved without": (["0.5", "--save", "p.pt"], "--save goes with --keep-ap"),
    "saved of two": (
        ["--keep-ap", "0.9", "--save", "p.pt", "--criterion", "l1,lamp"],
        "--save takes the network of one method, but l1, lamp are searched",
    ),
    "resolution without": (["0.5", "--resolution", "0.1"], "--resolution goes with --keep-ap"),
    "from below": (
        ["--keep-ap", "0.9", "--finetune", "1", "--prune-from", "below"],
        "--keep-ap prunes each level from the dense network",
    ),
}


@pytest.mark.parametrize("case", BAD_SEARCHES)
def test_bad_searches_get_one_line_and_leave_nothing(run, trained, tmp_path, case):
    flags, words = BAD_SEARCHES[case]
    code, _, err = run(*flags, *trained)
    assert words in err
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "results").exists()


def test_a_share_that_cannot_be_kept_is_one_line(run, trained, tmp_path):
    code, _, err = run(*trained, "--keep-ap", 1, "--resolution", 0.5, "--bootstrap", 0)
    assert code == 2
    assert "--keep-ap is 1, but the smallest sparsity, 0.5, keeps" in err
    assert len(err.strip().splitlines()) == 1
    assert (tmp_path / "results" / "sweep" / "report.html").exists(), "what was tried is reported"
