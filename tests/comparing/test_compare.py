"""Techniques side by side: the commands of each, and a comparison from end to end."""

import importlib
import shlex
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from sparsity import compare
from sparsity.comparing import compare as module
from sparsity.comparing.techniques import TECHNIQUES, Asked, Command, plan, validation
from sparsity.errors import InputError
from sparsity.latency import Rounds
from sparsity.saving import save

ASKED = Asked(
    "best.pt", "my.yaml", calib="images", sparsity=0.3, percent=0.8, epochs=5, shared=("--imgsz", "64")
)
PEAK = 1234.0
"""MB that a command in this process is said to have taken at most."""


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
        assert command[:3] == ("val_sparse.py", "--weights", file)
        assert ("--engine" in command) == (engine != "torch")
    for command in made.commands:
        assert command[0] in ("val_sparse.py", "finetune.py", "slim.py")
        assert shlex.split(shlex.join(command)) == list(command)


@pytest.mark.parametrize(
    ("technique", "flags"),
    [
        pytest.param("prune", ["--sparsity 0.3 --criterion l1"], id="prune"),
        pytest.param("prune+finetune", ["--sparsity 0.3", "--epochs 5", "train/best.pt"], id="finetune"),
        pytest.param("distill", ["--teacher best.pt", "--epochs 5"], id="distill"),
        pytest.param("slim", ["--percent 0.8", "slim/slimmed.pt", "--epochs 5"], id="slim"),
        pytest.param("int8-static", ["--int8 --calib images"], id="int8"),
    ],
)
def test_commands_say_what_was_asked(technique, flags, tmp_path):
    said = "; ".join(shlex.join(command) for command in plan(technique, ASKED, tmp_path).commands)
    for flag in flags:
        assert flag in said


@pytest.mark.parametrize(
    ("technique", "words"),
    [
        pytest.param("quantum", "'quantum'; dense, fuse, prune", id="unknown"),
        pytest.param("int8-static", "--calib FOLDER", id="without images"),
    ],
)
def test_what_cannot_be_planned(technique, words, tmp_path):
    with pytest.raises(InputError, match=words):
        plan(technique, Asked("best.pt", "my.yaml"), tmp_path)


def test_a_command_that_fails_is_told_with_its_last_words(tmp_path):
    command = ("val_sparse.py", "--weights", "missing.pt", "--data", "missing.yaml")
    with pytest.raises(InputError, match=r"val_sparse.py ended with 2: .*missing.*log.txt"):
        module.run(command, tmp_path, lambda _line: None)


def test_the_demo_stands_by_its_name_in_commands_and_is_found(tmp_path):
    one = plan("dense", Asked("demo", "demo"), tmp_path)
    command = validation(Asked("demo", "demo"), "torch", one.runs["torch"], tmp_path)
    assert command[:3] == ("val_sparse.py", "--weights", "demo")
    assert module.Made("dense", "torch", one, {}, 0.0, 0.0, (command,)).file.is_file()


@pytest.fixture
def run_here(monkeypatch, run_script) -> list[Command]:
    """Run all commands but the first in this process, which spares them imports; gives those that did."""
    real, here, first = module.run, [], []

    def run(command: Command, folder: Path, say: Callable[[str], None]) -> float:
        if not first:
            first.append(command)
            return real(command, folder, say)
        script = importlib.import_module(command[0].removesuffix(".py"))
        code, _, err = run_script(script, *command[1:])
        assert code == 0, err
        here.append(command)
        return PEAK

    monkeypatch.setattr(module, "run", run)
    return here


@pytest.mark.slow
def test_a_comparison_from_end_to_end(shallow, shapes, tmp_path, run_script, run_here, monkeypatch):
    monkeypatch.setattr(Rounds.__init__, "__defaults__", (0.0, 2, 2))
    save(shallow, tmp_path / "n.pt")
    flags = ["--data", shapes, "--imgsz", 64, "--workers", 1, "--calib", shapes.parent / "images"]
    techniques = "dense,fuse,prune,int8-dynamic,int8-static"
    code, out, err = run_script(
        compare,
        "--weights",
        tmp_path / "n.pt",
        *flags,
        "--techniques",
        techniques,
        "--project",
        tmp_path / "r",
    )
    assert code == 0, err
    frame = pd.read_csv(tmp_path / "r" / "compare" / "compare.csv")
    assert list(zip(frame.technique, frame.engine, strict=True)) == [
        *(("dense", "torch"), ("fuse", "torch"), ("fuse", "onnxruntime")),
        *(("prune", "torch"), ("prune", "onnxruntime")),
        *(("int8-dynamic", "torch"), ("int8-static", "onnxruntime")),
    ]
    assert (frame.latency_ms > 0).all()
    assert frame.peak_memory_mb[0] > 100
    assert (frame.peak_memory_mb[1:] == PEAK).all()
    assert len(run_here) == 10
    assert "Results saved to" in (tmp_path / "r" / "compare" / "dense" / "log.txt").read_text()
    by = frame.set_index(["technique", "engine"])
    assert by.AP["fuse", "torch"] == pytest.approx(by.AP["dense", "torch"], abs=1e-3)
    assert by.sparsity["prune", "torch"] == pytest.approx(0.5, abs=0.01)
    assert by.file_mb["prune", "torch"] < by.file_mb["fuse", "torch"]
    assert frame.commands.str.startswith("python val_sparse.py").all()
    assert "(0 here)" in out
    assert (tmp_path / "r" / "compare" / "compare.png").stat().st_size > 5000
