"""A comparison on a real Ray cluster of two machines, both this one: the rows are those without it."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from sparsity.cluster import comparing
from sparsity.cluster.runner import Runner
from sparsity.commands import compare
from sparsity.timing.latency import Rounds
from tests.cluster.processes import killing

pytest.importorskip("ray")
pytestmark = pytest.mark.slow
THREADS = str(torch.get_num_threads())
SAME = ["technique", "engine", "AP", "AP50", "file_mb", "parameters", "gflops", "sparsity", "note"]


@pytest.fixture
def flags(weights, shapes, monkeypatch) -> list[object]:
    monkeypatch.setattr(Rounds.__init__, "__defaults__", (0.0, 2, 2))
    monkeypatch.setenv("OMP_NUM_THREADS", THREADS)
    given = ["--weights", weights, "--data", shapes, "--imgsz", 64, "--workers", 1, "--seconds", 0]
    return [*given, "--techniques", "prune,dense", "--engines", "torch", "--bootstrap", 10, "--device", "cpu"]


@pytest.fixture
def on_ray() -> list[str]:
    return ["--ray", "auto", "--ray-cpus", THREADS]


def test_a_comparison_gives_the_same_rows_also_where_a_worker_dies(
    cluster, flags, on_ray, tmp_path, run_script, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    code, _, err = run_script(compare, *flags, "--project", "here")
    assert code == 0, err
    with killing("make_technique", 1) as killer:
        code, out, err = run_script(compare, *flags, "--project", "there", *on_ray)
        killer.wait(timeout=10)
    assert code == 0, err
    assert killer.returncode == 0, "one was killed"
    assert "Ray: 2 machines, " in out
    assert "it is computed again from where it stood" in out
    frames = [pd.read_csv(Path(name, "compare", "compare.csv"))[SAME] for name in ("here", "there")]
    pd.testing.assert_frame_equal(*frames, check_exact=True)
    assert list(frames[0].technique) == ["prune", "dense"], "the order that was asked for"
    log = Path("there", "compare", "prune", "log.txt").read_text(encoding="utf-8")
    assert f"{THREADS} thread" in log, "a command computes with the cores of its task"

    code, out, err = run_script(compare, "--resume", Path("there", "compare"))
    assert code == 0, err
    assert out.count("(ran before)") == 3
    about = json.loads(Path("there", "compare", "compare.json").read_text(encoding="utf-8"))
    assert about["failed"] == {}


def test_a_technique_that_fails_costs_the_others_nothing(cluster, flags, on_ray, tmp_path, run_script):
    more = ["--techniques", "slim,dense", "--training=--lr0 1e30", "--epochs", 1, *on_ray]
    code, out, err = run_script(compare, *flags, *more, "--project", tmp_path)
    assert code == 2
    assert "slim: FAILED: finetune failed with exit code 2" in out
    assert "1 of 2 techniques failed: slim: " in err
    assert list(pd.read_csv(tmp_path / "compare" / "compare.csv").technique) == ["dense"]


def test_what_a_machine_does_not_see_is_refused(cluster, flags, on_ray, tmp_path, run_script, monkeypatch):
    asked: list[Path] = []

    def missing(_runner: Runner, paths: list[Path]) -> list[Path]:
        asked.extend(paths)
        return paths[-1:]

    monkeypatch.setattr(comparing.Runner, "missing", missing)
    code, _, err = run_script(compare, *flags, "--project", tmp_path / "r", *on_ray)
    assert code == 2
    assert f"{asked[-1]}: not every machine of the cluster sees this path; a comparison needs" in err
    names = {path.name for path in asked}
    assert {"compare", "dense.pt", "shapes.yaml", "0.png", "5.png"} <= names
    assert all(path.is_absolute() for path in asked)
