"""A comparison of techniques: the commands of each, and a run from end to end."""

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pandas as pd
import pytest
import torch

from sparsity.base.errors import InputError
from sparsity.commands import compare
from sparsity.commands.table import COMMANDS
from sparsity.comparing import running as module
from sparsity.comparing.asked import Asked, Command
from sparsity.comparing.journal import Journal, Ran
from sparsity.comparing.table import TECHNIQUES
from sparsity.comparing.techniques import plan, validation
from sparsity.formats.loading import load
from sparsity.formats.saving import save
from sparsity.pruning.layers import convolutions
from sparsity.report import advice
from sparsity.timing.latency import Rounds

ASKED = Asked(
    "best.pt",
    "my.yaml",
    calib="images",
    sparsity=0.3,
    percent=0.8,
    epochs=5,
    training=("--lr0", "0.002"),
    slimming=("--round-to", "8"),
    sparse_training=("--sparse-train", "0.01", "--epochs", "9"),
    shared=("--imgsz", "64"),
    making=("--device", "0", "--half"),
    validating=("--device", "cpu", "--batch-size", "4"),
)
PEAK = 1234.0
"""The peak memory, in MB, that is recorded for a command in this process."""


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_every_technique_has_a_file_for_each_engine_and_says_what_it_is(technique, tmp_path):
    made = plan(technique, ASKED, tmp_path)
    assert made.note
    assert made.runs
    said = [word for command in made.commands for word in command]
    for engine, file in made.runs.items():
        assert file == "best.pt" or file in said, "a command writes it"
        assert file.endswith(".onnx") == (engine == "onnxruntime")
        command = validation(ASKED, engine, file, tmp_path)
        assert command[:3] == ("val", "--weights", file)
        assert ("--engine" in command) == (engine != "torch")
        assert "--imgsz 64 --device cpu --batch-size 4" in shlex.join(command)
    for command in made.commands:
        assert command[0] in ("val", "finetune", "slim")
        assert shlex.split(shlex.join(command)) == list(command)
        assert "--imgsz 64 --device 0 --half" in shlex.join(command)


@pytest.mark.parametrize(
    ("technique", "flags"),
    [
        pytest.param("prune", ["--sparsity 0.3 --criterion l1 --scope layer"], id="prune"),
        pytest.param("prune+finetune", ["--sparsity 0.3", "--epochs 5", "train/best.pt"], id="finetune"),
        pytest.param("distill", ["--teacher best.pt", "--epochs 5"], id="distill"),
        pytest.param(
            "slim",
            [
                "--epochs 5 --lr0 0.002 --sparse-train 0.01 --epochs 9",
                "sparse/last.pt --percent 0.8 --round-to 8",
                "slim/slimmed.pt",
                "--epochs 5 --lr0 0.002 --project",
            ],
            id="slim",
        ),
        pytest.param("int8-static", ["--int8 onnxruntime --calib images"], id="int8"),
    ],
)
def test_commands_say_what_was_asked(technique, flags, tmp_path):
    said = "; ".join(shlex.join(command) for command in plan(technique, ASKED, tmp_path).commands)
    for flag in flags:
        assert flag in said


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_the_command_that_makes_a_file_can_be_pasted(technique, tmp_path):
    """Two engines that run graphs: int8-static makes a file for each, by a command of its own."""
    folder = tmp_path / "with a space"
    one = plan(technique, replace(ASKED, engines=("torch", "onnxruntime", "openvino")), folder)
    for engine, file in one.runs.items():
        line = " && ".join(
            map(module.shown, module.Made(technique, engine, one, {}, 0.0, 0.0, (), folder).making)
        )
        for words in _commands_of(line):
            args = COMMANDS[words[0]].make_parser("").parse_args(words[1:])
            assert args.project.parent == folder or args.project == folder
        assert (file in shlex.split(line)) == (technique != "dense"), "the last command saves it"
        assert ("openvino" in line) == (technique == "int8-static" and engine == "openvino")


def _commands_of(line: str) -> list[list[str]]:
    """Split a line for a shell into commands, without what starts the program."""
    groups = groupby(shlex.split(line), lambda word: word == "&&")
    commands = [list(words) for is_and, words in groups if not is_and]
    assert all(tuple(words[:3]) == module.PROGRAM for words in commands)
    return [words[3:] for words in commands]


@pytest.mark.parametrize(
    ("technique", "words"),
    [
        pytest.param(
            "quantum", "`techniques` names 'quantum'; one or more of dense, fuse, prune", id="unknown"
        ),
        pytest.param(
            "int8-static",
            "int8-static needs calibration images; give a folder as `calibration`",
            id="without images",
        ),
    ],
)
def test_what_cannot_be_planned(technique, words, tmp_path):
    with pytest.raises(InputError, match=words):
        plan(technique, Asked("best.pt", "my.yaml"), tmp_path)


def test_each_engine_runs_the_form_that_it_reads(tmp_path):
    engines = ("openvino", "sparse", "torch", "onnxruntime")
    runs = plan("prune", Asked("best.pt", "my.yaml", engines=engines), tmp_path).runs
    assert {engine: Path(file).suffix for engine, file in runs.items()} == {
        **{"openvino": ".onnx", "onnxruntime": ".onnx"},
        **{"sparse": ".safetensors", "torch": ".safetensors"},
    }
    made = plan("prune", Asked("best.pt", "my.yaml", engines=("sparse",)), tmp_path)
    assert ".onnx" not in shlex.join(made.commands[0])


def test_obs_needs_images_to_prune_by_and_none_to_train_with(tmp_path):
    asked = Asked("best.pt", "my.yaml", criterion="obs", scope="measured")
    with pytest.raises(
        InputError,
        match="`criterion` obs with `scope` measured needs calibration images; "
        "give a folder as `calibration`",
    ):
        plan("prune", asked, tmp_path)
    assert "--criterion obs --scope measured" in shlex.join(plan("distill", asked, tmp_path).commands[0])


@pytest.mark.parametrize(
    ("fused", "words"),
    [pytest.param(False, "separate", id="separate"), pytest.param(True, "already", id="folded")],
)
def test_the_dense_row_says_what_the_checkpoint_is(fused, words, tmp_path):
    assert words in plan("dense", Asked("best.pt", "my.yaml", fused=fused), tmp_path).note


def test_a_command_that_fails_is_told_with_its_last_words(tmp_path):
    command = ("val", "--weights", "missing.pt", "--data", "missing.yaml")
    with pytest.raises(InputError, match=r"val failed with exit code 2: .*missing.*log.txt"):
        module.run(command, tmp_path)


def test_a_command_does_not_outlive_who_is_interrupted(tmp_path, monkeypatch):
    started = []

    def interrupt(pid: int, _options: int) -> None:
        started.append(pid)
        raise KeyboardInterrupt

    monkeypatch.setattr(module.os, "wait4", interrupt)
    with pytest.raises(KeyboardInterrupt):
        module.run(("val", "--demo"), tmp_path)
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)


RUN = """
import sys
from pathlib import Path
from sparsity.comparing import running
sys.executable = sys.argv[1]
running.run(("val",), Path(sys.argv[2]))
"""
STUB = """#!/bin/sh
echo $$ > "$(dirname "$0")/pid.part" && mv "$(dirname "$0")/pid.part" "$(dirname "$0")/pid"
exec sleep 60
"""


@pytest.mark.skipif(sys.platform != "linux", reason="another system has no signal for it")
def test_a_command_does_not_outlive_who_is_killed(tmp_path):
    stub, told = tmp_path / "stub", tmp_path / "pid"
    stub.write_text(STUB)
    stub.chmod(0o755)
    root = Path(__file__).parents[2]
    words = [sys.executable, "-c", RUN, stub, tmp_path / "run"]
    driver = subprocess.Popen(words, env=os.environ | {"PYTHONPATH": str(root)})
    wait_for(lambda: told.exists() or driver.poll() is not None)
    command = Path("/proc", told.read_text().strip(), "stat")
    assert is_alive(command)
    driver.kill()
    driver.wait()
    wait_for(lambda: not is_alive(command))
    assert not is_alive(command)


def is_alive(stat: Path) -> bool:
    """Whether a process lives, by its file in /proc: one that nobody waited for stays there as a zombie."""
    try:
        return ") Z " not in stat.read_text()
    except OSError:
        return False


def wait_for(happened: Callable[[], bool]) -> None:
    """Wait a minute at most."""
    end = time.monotonic() + 60
    while not happened() and time.monotonic() < end:
        time.sleep(0.05)


def test_a_journal_recalls_commands_up_to_the_first_that_is_another(tmp_path):
    first, second, third = (Ran((name, "--x"), 1.5, 200.0) for name in ("a.py", "b.py", "c.py"))
    journal = Journal(tmp_path, resume=False)
    for ran in (first, second, third):
        assert journal.recall(ran.command) is None
        journal.add(ran)
    later = Journal(tmp_path, resume=True)
    assert later.recall(first.command) == first
    assert later.recall(("other.py",)) is None
    assert later.recall(third.command) is None, "what came before it was another"
    again = Journal(tmp_path, resume=True)
    assert again.recall(first.command) == first
    assert again.recall(second.command) is None, "the other one may have begun to write over its files"
    assert Journal(tmp_path, resume=False).recall(first.command) is None
    assert Journal(tmp_path, resume=True).recall(first.command) is None


def test_a_journal_knows_its_folder_by_another_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("prune").mkdir()
    Journal(Path("prune"), resume=False).add(Ran(("val_sparse.py", "--save", "prune/n.onnx"), 1.5, 200.0))
    command = ("val_sparse.py", "--save", str(tmp_path / "prune" / "n.onnx"))
    assert Journal(tmp_path / "prune", resume=True).recall(command) == Ran(command, 1.5, 200.0)


def test_a_journal_leaves_words_that_only_look_like_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("slim").mkdir()
    command = ("slim.py", "--weights", "slimmed.pt", "--project", "slim", "--name", "slim")
    Journal(Path("slim"), resume=False).add(Ran(command, 1.5, 200.0))
    elsewhere = (*command[:4], str(tmp_path / "slim"), *command[5:])
    assert Journal(tmp_path / "slim", resume=True).recall(elsewhere)
    assert Journal(tmp_path / "slim", resume=True).recall(("FOLDER.py", *elsewhere[1:])) is None


def test_files_that_went_missing_are_named(tmp_path):
    with pytest.raises(InputError, match=r"metrics.json: cannot be read .*delete .*ran.json"):
        module.read_json(tmp_path / "val_torch" / "metrics.json")


def test_a_journal_that_is_none_is_named(tmp_path):
    (tmp_path / "ran.json").write_text('[{"command": 3}]', encoding="utf-8")
    with pytest.raises(InputError, match=r"ran.json: is not a list of commands"):
        Journal(tmp_path, resume=True)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        pytest.param(["--training", "'--lr0"], "--training .*No closing quotation", id="quote"),
        pytest.param(["--training=--lr9 1"], "compare --training: unrecognized arguments", id="unknown"),
        pytest.param(["--training=--lrf 9"], "--lrf is 9.0; 0 to 1", id="value"),
        pytest.param(["--training=--epo 9"], "--training: --epochs: the comparison says", id="own"),
        pytest.param(["--slimming=--percent 0.9"], "--slimming: --percent: the comparison", id="percent"),
        pytest.param(["--slimming=--round-to 0"], "--round-to is 0", id="round to"),
        pytest.param(["--sparse-training=--epochs 3"], "--sparse-train RATE is expected", id="no rate"),
        pytest.param(["--percent", "1.5"], "--percent is 1.5", id="share"),
        pytest.param(["--bootstrap", "-1"], "--bootstrap is -1; a number of resamples", id="resamples"),
        pytest.param(["--seconds", "nan"], "--seconds is nan; a finite number from 0 on", id="seconds"),
        pytest.param(["--epochs", "0"], "--epochs is 0", id="epochs"),
        pytest.param(["--techniques", "fuse,"], "--techniques names ''", id="no name"),
        pytest.param(["--engines", "torch,x"], "--engines is 'x'", id="engine"),
        pytest.param(["--criterion", "l2"], "'l2' is none of l1, obs, lamp, erk", id="criterion"),
    ],
)
def test_flags_that_cannot_be_used_are_refused_before_anything_runs(
    flags, words, run_script, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "run", None)
    code, _, err = run_script(compare, "--calib", "images", *flags)
    assert code == 2
    assert re.search(words, err)
    assert not (tmp_path / "results").exists()


def test_the_note_of_slim_says_what_really_went(tmp_path):
    one = plan("slim", ASKED, tmp_path)
    (tmp_path / "slim").mkdir()
    cut = {"removed": 30, "free": 40, "percent": 0.8}
    (tmp_path / "slim" / "slim.json").write_text(json.dumps(cut), encoding="utf-8")
    made = module.Made("slim", "torch", one, {}, 0.0, 0.0, (), tmp_path)
    said = module._note(made, linear=0)
    assert said.startswith("75% of the 40 free channels cut, then trained; sparse-trained before")
    assert said.endswith("(80% requested)")


def test_the_demo_stands_by_its_name_in_commands_and_is_found(tmp_path):
    one = plan("dense", Asked("demo", "demo"), tmp_path)
    command = validation(Asked("demo", "demo"), "torch", one.runs["torch"], tmp_path)
    assert command[:3] == ("val", "--weights", "demo")
    assert module.Made("dense", "torch", one, {}, 0.0, 0.0, (command,), tmp_path).file.is_file()


@pytest.fixture
def all_here(monkeypatch, run_script, capsys) -> None:
    """Run all commands in this process, to save imports."""

    def run(command: Command, _folder: Path) -> Ran:
        said = capsys.readouterr().out
        _run_here(run_script, command)
        print(said, end="")
        return Ran(command, 1.0, PEAK)

    monkeypatch.setattr(module, "run", run)


def _run_here(run_script, words: Sequence[str]) -> None:
    code, _, err = run_script(importlib.import_module(f"sparsity.commands.{words[0]}"), *words[1:])
    if code:
        raise InputError(err.strip())


def test_a_comparison_ends_in_words_and_the_pasted_command_makes_the_same_file(
    slight, shapes, tmp_path, run_script, all_here, monkeypatch
):
    monkeypatch.setattr(Rounds.__init__, "__defaults__", (0.0, 2, 2))
    monkeypatch.setattr(advice, "LEAST_AP", 0.0)
    save(slight, tmp_path / "n.pt")
    flags = ["--weights", tmp_path / "n.pt", "--data", shapes, "--imgsz", 64, "--workers", 1, "--seconds", 0]
    flags += ["--techniques", "dense,prune", "--sparsity", 0.2, "--engines", "torch", "--project", tmp_path]
    code, out, err = run_script(compare, *flags, "--bootstrap", 20)
    assert code == 0, err
    about = json.loads((tmp_path / "compare" / "compare.json").read_text(encoding="utf-8"))
    frame = pd.read_csv(tmp_path / "compare" / "compare.csv")
    assert (frame.AP_change_low[0], frame.AP_change_high[0]) == (0, 0)
    assert frame.AP_change_low[1] <= frame.AP[1] - frame.AP[0] <= frame.AP_change_high[1]
    file, line = Path(frame.path[1]), frame.made_by[1]
    assert (about["bootstrap"], about["failed"]) == (20, {})
    assert about["advice"]["choices"]
    for one in about["advice"]["choices"]:
        assert one["text"] in out
        assert one["path"] in (str(file), str(tmp_path / "n.pt"))
    assert "For this data and this CPU (n.pt on shapes.yaml, 64 px, " in out

    zeros = [one.weight == 0 for _, one in convolutions(load(file))]
    file.unlink()
    (words,) = _commands_of(line)
    _run_here(run_script, words)
    again = [one.weight == 0 for _, one in convolutions(load(file))]
    assert sum(map(torch.count_nonzero, zeros)) > 0
    assert all(map(torch.equal, zeros, again))


@pytest.fixture
def run_here(monkeypatch, run_script, capsys) -> list[Command]:
    """Run all commands but the first in this process, to save imports. Return a list that collects them."""
    real, here, first = module.run, [], []

    def run(command: Command, folder: Path) -> Ran:
        if not first:
            first.append(command)
            return real(command, folder)
        said = capsys.readouterr().out
        _run_here(run_script, command)
        print(said, end="")
        here.append(command)
        return Ran(command, 1.0, PEAK)

    monkeypatch.setattr(module, "run", run)
    return here


@pytest.fixture
def comparing(shallow, shapes, tmp_path, monkeypatch) -> list[object]:
    """Return the flags of a small comparison, in tmp_path/r, of a checkpoint with folded batch norms."""
    monkeypatch.setattr(Rounds.__init__, "__defaults__", (0.0, 2, 2))
    save(shallow, tmp_path / "n.pt")
    flags = ["--weights", tmp_path / "n.pt", "--data", shapes, "--imgsz", 50, "--workers", 1]
    return [
        *flags,
        "--calib",
        shapes.parent / "images",
        "--project",
        tmp_path / "r",
        "--max-det",
        40,
        "--seconds",
        0,
    ]


@pytest.mark.slow
def test_a_comparison_from_end_to_end(comparing, tmp_path, run_script, run_here):
    techniques = "dense,fuse,prune,int8-dynamic,int8-static"
    code, out, err = run_script(compare, *comparing, "--techniques", techniques)
    assert code == 0, err
    assert "WARNING: image size 50 is rounded up to 64" in out
    assert "YOLOv5" in out
    folder = tmp_path / "r" / "compare"
    frame = pd.read_csv(folder / "compare.csv")
    assert list(zip(frame.technique, frame.engine, strict=True)) == [
        *(("dense", "torch"), ("fuse", "torch"), ("fuse", "onnxruntime")),
        *(("prune", "torch"), ("prune", "onnxruntime")),
        *(("int8-dynamic", "torch"), ("int8-static", "onnxruntime")),
    ]
    assert (frame.latency_ms > 0).all()
    assert frame.peak_memory_mb[0] > 100
    assert (frame.peak_memory_mb[1:] == PEAK).all()
    assert len(run_here) == 10
    assert "Results saved to" in (folder / "dense" / "log.txt").read_text()
    by = frame.set_index(["technique", "engine"])
    assert by.AP["fuse", "torch"] == pytest.approx(by.AP["dense", "torch"], abs=1e-3)
    assert by.sparsity["prune", "torch"] == pytest.approx(0.5, abs=0.01)
    assert by.file_mb["prune", "torch"] < by.file_mb["fuse", "torch"]
    assert frame.commands.str.startswith("python -m sparsity val").all()
    assert frame.commands.str.contains("--imgsz 64 --workers 1 --max-det 40").all()
    assert "(0 in this network)" in out
    assert "already folded" in out
    assert (folder / "compare.png").stat().st_size > 5000
    about = json.loads((folder / "compare.json").read_text(encoding="utf-8"))
    assert about["settings"]["imgsz"] == 64
    assert about["failed"] == {}


@pytest.mark.slow
def test_what_fails_costs_the_rest_nothing_and_what_ran_is_not_run_again(
    comparing, tmp_path, run_script, run_here, monkeypatch
):
    code, out, err = run_script(compare, *comparing, "--techniques", "slim,dense")
    assert code == 2
    assert "1 of 2 techniques failed: slim:" in err
    assert "batch norm" in err
    folder = tmp_path / "r" / "compare"
    before = pd.read_csv(folder / "compare.csv")
    assert list(before.technique) == ["dense"]
    assert "slim" in json.loads((folder / "compare.json").read_text(encoding="utf-8"))["failed"]

    monkeypatch.setattr(module, "run", None)
    again = ["--techniques", "dense", "--resume", folder]
    code, out, err = run_script(compare, *comparing, *again)
    assert code == 0, err
    assert "(ran before) python -m sparsity val" in out
    after = pd.read_csv(folder / "compare.csv")
    for column in ("AP", "peak_memory_mb", "seconds", "commands"):
        assert list(after[column]) == list(before[column])

    code, _, err = run_script(compare, *comparing, *again, "--max-det", 30)
    assert code == 2
    assert "max_det was 40, now is 30" in err
    code, _, err = run_script(compare, *comparing, "--techniques", "dense", "--resume", tmp_path)
    assert code == 2
    assert "holds no comparison to go on with (no valid compare.json)" in err
