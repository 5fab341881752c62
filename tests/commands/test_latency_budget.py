"""--budget latency and --speedup as users of val_sparse.py, sweep.py and finetune.py give them."""

import json

import pandas as pd
import pytest
from torch import nn

pytest.importorskip("numba")

from sparsity import save
from sparsity.commands import finetune, sweep
from sparsity.commands import val as val_sparse
from sparsity.sparse_engine import stored_times
from sparsity.sparse_engine.layer_times import LayerTimes
from sparsity.sweeping.store import PRICES, SETTINGS
from sparsity.timing.latency import Latency

BY_TIME = ("--budget", "latency", "--scope", "global")


@pytest.fixture
def network(slight):
    """The scripts' network: four layers."""
    return slight


@pytest.fixture
def times(monkeypatch):
    """Each layer takes 1 to 3 ms, all else together 2 ms; a list of the measurements that were asked for."""
    asked = []

    def find(network, imgsz, threads, *, tick):
        asked.append(imgsz)
        names = [name for name, one in network.named_modules() if isinstance(one, nn.Conv2d)]
        factor = 1 + 0.01 * len(asked)
        return LayerTimes((0.0, 0.5, 1.0), dict.fromkeys(names, (0.001, 0.002, 0.003 * factor)), 0.002)

    monkeypatch.setattr(stored_times, "find_layer_times", find)
    return asked


@pytest.fixture
def run(tmp_path, run_script, stand_in, times):
    """Run a script in this process on the slight network; gives exit code, stdout, stderr."""

    def call(script, *flags: object) -> tuple[int, str, str]:
        weights = () if "--weights" in flags else ("--weights", stand_in)
        project = ("--project", tmp_path / "results", "--imgsz", 64, "--device", "cpu")
        return run_script(script, *flags, *weights, *project)

    return call


def test_val_prunes_a_share_of_the_time(run, shapes, tmp_path, times):
    code, out, err = run(val_sparse, "--data", shapes, "--sparsity", 0.3, *BY_TIME)
    assert code == 0, err
    assert times == [64]
    assert "Pruning (l1 global, latency, 0.3)..." in out
    metrics = json.loads((tmp_path / "results" / "exp" / "metrics.json").read_text())
    assert (metrics["budget"], metrics["amount"]) == ("latency", 0.3)
    assert metrics["predicted_ms"] == pytest.approx(0.7 * 14.12, rel=0.01)
    assert f"{metrics['predicted_ms']:.2f} ms, before pruning 14.12 ms" in out


def test_blocks_go_with_a_budget_of_time(run, shapes, tmp_path):
    code, _, err = run(val_sparse, "--data", shapes, "--sparsity", 0.3, *BY_TIME, "--pattern", "pair")
    assert code == 0, err
    metrics = json.loads((tmp_path / "results" / "exp" / "metrics.json").read_text())
    assert (metrics["pattern"], metrics["budget"]) == ("pair", "latency")
    assert metrics["predicted_ms"] == pytest.approx(0.7 * 14.12, rel=0.01)


def test_other_budgets_predict_nothing(run, shapes, tmp_path, times):
    assert run(val_sparse, "--data", shapes, "--sparsity", 0.3, "--budget", "flops")[0] == 0
    assert times == []
    assert json.loads((tmp_path / "results" / "exp" / "metrics.json").read_text())["predicted_ms"] is None


def test_speedup_is_asked_predicted_and_measured(run, shapes, tmp_path, monkeypatch):
    asked = []

    def measure(networks, engines, imgsz, _rounds):
        asked.append((engines, imgsz))
        return [Latency(15, 14, 16, 9), Latency((12, 10)[len(asked) - 1], 9, 13, 9)]

    monkeypatch.setattr(val_sparse, "time_networks", measure)
    code, out, err = run(
        val_sparse, "--data", shapes, "--speedup", 1.5, "--scope", "global", "--engine", "sparse"
    )
    assert code == 0, err
    assert asked == [(["sparse", "sparse"], 64)] * 2
    assert "Speedup: 1.5 asked, 1.50 predicted, 1.25 measured (dense 15.0 ms, pruned 12.0 ms; 33.3%" in out
    assert "1.50 measured (dense 15.0 ms, pruned 10.0 ms" in out
    metrics = json.loads((tmp_path / "results" / "exp" / "metrics.json").read_text())
    assert metrics["budget"] == "latency"
    assert 0.333 < metrics["amount"] < 0.6
    assert metrics["predicted_ms"] == pytest.approx((1 - metrics["amount"]) * 14.12, rel=0.01)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        pytest.param(["--speedup", 1], "--speedup is 1.0; a number above 1 is expected", id="1"),
        pytest.param(["--speedup", "nan"], "--speedup is nan; a number above 1", id="nan"),
        pytest.param(["--speedup", "inf"], "--speedup is inf; a number above 1", id="inf"),
        pytest.param(["--speedup", "fast"], "argument --speedup: invalid float value: 'fast'", id="word"),
        pytest.param(["--speedup", 2, "--sparsity", 0.5], "leave --sparsity 0.5 out", id="sparsity"),
        pytest.param(["--speedup", 2, "--budget", "flops"], "leave --budget flops out", id="flops"),
        pytest.param(["--speedup", 2, "--engine", "torch"], "leave --engine torch out", id="engine"),
        pytest.param(
            ["--speedup", 9, "--scope", "global"],
            "--speedup is 9, but 6 of 14.1 ms are left where every layer that can be pruned is zero; 2.35 at",
            id="unreachable",
        ),
        pytest.param(
            ["--speedup", 2, "--pattern", "2:4"], "--pattern 2:4 goes with --budget weights", id="pattern"
        ),
        pytest.param(["--sparsity", 0.9, *BY_TIME], "0.575 at most is expected", id="too much"),
        pytest.param(
            ["--sparsity", 0.3, "--criterion", "obs", "--budget", "latency"],
            "--calib is missing",
            id="images",
        ),
    ],
)
def test_bad_input_gets_one_line_and_leaves_nothing(run, shapes, tmp_path, flags, words):
    code, _, err = run(val_sparse, "--data", shapes, *flags)
    assert words in err
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("script", "flags"),
    [
        (val_sparse, ["--sparsity", 0.3, "--budget", "latency"]),
        (val_sparse, ["--speedup", 1.5]),
        (sweep, [0.3, "--budget", "weights,latency"]),
        (finetune, ["--sparsity", 0.3, "--budget", "latency"]),
    ],
)
def test_without_numba_one_line_says_so(run, shapes, tmp_path, monkeypatch, script, flags):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr("sparsity.base.optional.import_module", missing)
    code, _, err = run(script, *flags, "--data", shapes)
    assert code == 2
    assert "--budget latency needs the package numba (No module named 'numba'): pip install numba" in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "results").exists()


SWEEP = ("0.3", "--criterion", "l1", "--scope", "global", "--batch-sizes", "none", "--bootstrap", 0)


def test_a_sweep_over_budgets(run, shapes, tmp_path, times):
    code, _, err = run(sweep, *SWEEP, "--budget", "weights,latency", "--data", shapes)
    assert code == 0, err
    assert times == [64]
    folder = tmp_path / "results" / "sweep"
    frame = pd.read_csv(folder / "sweep.csv")
    assert frame.method.tolist() == ["l1 global"] * 2 + ["l1 global, latency"] * 2
    assert frame.predicted_ms.isna().tolist() == [True, True, False, False]
    assert frame.predicted_ms[2:].tolist() == pytest.approx([14.12, 0.7 * 14.12], rel=0.01)
    rows = json.loads((folder / "sweep.json").read_text())["rows"]
    assert [row["predicted_ms"] is None for row in rows] == [True, True, False, False]
    assert "predicted ms" in (folder / "report.html").read_text()
    assert "predicted ms" in (folder / "sweep.md").read_text()


def test_a_resumed_sweep_measures_nothing_again(run, shapes, tmp_path, times):
    flags = (*SWEEP, "--budget", "latency", "--data", shapes)
    assert run(sweep, *flags)[0] == 0
    folder = tmp_path / "results" / "sweep"
    before = (folder / "sweep.csv").read_bytes()
    code, out, err = run(sweep, *flags, "--resume", folder)
    assert code == 0, err
    assert "2 of 2 levels are already finished" in out
    assert times == [64]
    assert (folder / "sweep.csv").read_bytes() == before


def test_a_resumed_sweep_notices_other_times(run, shapes, tmp_path, times):
    flags = (*SWEEP, "--budget", "latency", "--data", shapes)
    assert run(sweep, *flags)[0] == 0
    file = tmp_path / "results" / "sweep" / SETTINGS
    content = json.loads(file.read_text())
    del content["about"][PRICES]
    file.write_text(json.dumps(content))
    code, _, err = run(sweep, *flags, "--resume", tmp_path / "results" / "sweep")
    assert code == 2
    assert "price_curves was sha256" in err
    assert times == [64, 64]


def test_a_resumed_sweep_notices_another_budget(run, shapes, tmp_path):
    assert run(sweep, *SWEEP, "--budget", "latency", "--data", shapes)[0] == 0
    folder = tmp_path / "results" / "sweep"
    code, _, err = run(sweep, *SWEEP, "--budget", "flops", "--data", shapes, "--resume", folder)
    assert code == 2
    assert "methods was ['l1 global, latency'], now is ['l1 global, flops']" in err


@pytest.mark.parametrize("more", [[], ["--gradual", 1]])
def test_finetune_prunes_a_share_of_the_time(run, few_layers, shapes, tmp_path, times, more):
    save(few_layers(), tmp_path / "dense.pt")
    text = shapes.read_text() + f"train: {shapes.parent / 'images'}\n"
    shapes.write_text(text.replace("val: images", f"val: {shapes.parent / 'images'}"))
    flags = ("--weights", tmp_path / "dense.pt", "--data", shapes, "--criterion", "l1", "--scope", "global")
    flags += ("--sparsity", 0.3, "--budget", "latency", "--epochs", 1, "--batch-size", 6, "--workers", 0)
    code, _, err = run(finetune, *flags, *more)
    assert code == 0, err
    assert times == [64]
    folder = tmp_path / "results" / "train"
    found = pd.read_csv(folder / "epochs.csv").sparsity_conv.iloc[0]
    assert (0.01 if more else 0.3) < found < 0.9
    code, _, err = run(finetune, *flags, *more, "--resume", folder)
    if more:
        assert "price_curves was sha256" in err, "the times differ"
    else:
        assert code == 0, err
