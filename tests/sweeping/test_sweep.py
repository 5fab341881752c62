"""A sweep gives the figures of single validations, in one pass, and resumes after a stop."""

import copy
import json
import random
import time
from dataclasses import asdict
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from sparsity import Method, Pruner, ValidationSettings, prune, sweep, validate
from sparsity.base.errors import InputError
from sparsity.formats.half import round_to_half
from sparsity.formats.loading import load
from sparsity.formats.saving import save
from sparsity.sweeping import copies as copies_module
from sparsity.sweeping import job
from sparsity.sweeping import store as store_module
from sparsity.sweeping.level import Level
from sparsity.sweeping.networks import best_level
from sparsity.sweeping.settings import SweepSettings
from sparsity.sweeping.sweep import run_sweep
from sparsity.timing.latency import Rounds
from sparsity.validation.detector import Detector
from sparsity.validation.validate import Origin
from sparsity.yolo.network import Network, build, fuse
from sparsity.yolo.yolov5.architectures import yolov5

SETTINGS = ValidationSettings(imgsz=64, batch_size=2, device="cpu", workers=1)
QUICK = Rounds(0, 2, 2)
METHODS = (Method(), Method("l1", "global"))


def wanted(*amounts: float, **changes) -> SweepSettings:
    values = {"methods": METHODS, "batch_sizes": (1, 2), "validation": SETTINGS, "rounds": QUICK}
    return SweepSettings(amounts, **values | changes)


@pytest.fixture
def network(slight) -> Network:
    """Return a network of few layers, so that levels are quick; no test here needs all layers."""
    return slight


def same_figures(one: pd.DataFrame, other: pd.DataFrame) -> None:
    """Check that all columns but the measured times are equal."""
    clocked = [
        name
        for name in one.columns
        if "_ms" in name or name.startswith(("speedup", "seconds", "prune_seconds", "started"))
    ]
    pd.testing.assert_frame_equal(one.drop(columns=clocked), other.drop(columns=clocked), check_exact=True)


def test_every_level_is_what_validate_gives(network, shapes, tmp_path):
    frame = run_sweep(network, shapes, wanted(0.3, 0.6), tmp_path / "s", weights="n.pt").frame
    assert list(zip(frame.scope, frame.amount, strict=True)) == [
        *(("layer", amount) for amount in (0.0, 0.3, 0.6)),
        *(("global", amount) for amount in (0.0, 0.3, 0.6)),
    ]
    assert (frame.AP > 0.001).all(), "levels that find nothing show nothing"
    found = {path.read_bytes() for path in (tmp_path / "s").glob("levels/*/predictions.json")}
    assert len(found) == 5, "levels that differ in nothing show nothing"
    for row in frame.to_dict("records"):
        pruned = prune(copy.deepcopy(network), row["amount"], row["scope"])
        origin = Origin("n.pt", row["scope"], row["amount"], "l1", "unstructured")
        single = validate(pruned, shapes, SETTINGS, origin=origin)
        for name, value in asdict(single.metrics).items():
            if not name.endswith("_ms"):
                assert row[name] == value, (name, row["scope"], row["amount"])
        key = f"{row['scope']}_{row['amount']}" if row["amount"] else "dense"
        predictions = json.loads((tmp_path / "s" / "levels" / key / "predictions.json").read_text())
        assert predictions == single.predictions


def test_the_network_itself_is_left_alone(network, shapes):
    before = copy.deepcopy(network.state_dict())
    sweep(network, shapes, [0.5], settings=SETTINGS, batch_sizes=())
    assert all((before[name] == tensor).all() for name, tensor in network.state_dict().items())


def test_latency_columns(network, shapes, tmp_path):
    frame = run_sweep(network, shapes, wanted(0.5, methods=(Method(),)), tmp_path).frame
    for size in (1, 2):
        median, p10, p90 = (frame[f"latency{part}_ms_b{size}"] for part in ("", "_p10", "_p90"))
        assert (p10 > 0).all()
        assert (p10 <= median).all()
        assert (median <= p90).all()
        assert frame[f"speedup_b{size}"][1] == median[0] / median[1]
        assert (frame[f"latency_runs_b{size}"] == 2).all()
    assert frame.AP_drop.tolist() == [0.0, frame.AP[0] - frame.AP[1]]
    assert (frame.seconds > 0).all()


def test_levels_run_in_several_engines(network, shapes, tmp_path):
    engines = ("torch", "onnxruntime", "openvino")
    asked = wanted(0.5, methods=(Method(),), batch_sizes=(1,), engines=engines)
    said = []
    frame = run_sweep(network, shapes, asked, tmp_path / "s", say=said.append).frame
    assert frame.engine.tolist() == [name for name in engines for _ in range(2)]
    assert frame.amount.tolist() == [0.0, 0.5] * 3
    assert sum("Pruning" in line for line in said) == 1, "engines share a pruned copy"
    assert {path.name for path in (tmp_path / "s" / "levels").iterdir()} == {
        *("dense", "layer_0.5", "dense_onnxruntime", "layer_0.5_onnxruntime"),
        *("dense_openvino", "layer_0.5_openvino"),
    }
    assert frame.AP.nunique() == 2, "by amount, not by engine"
    best = frame[frame.amount == 0].latency_ms_b1.min()
    assert frame.speedup_over_best_dense_b1.tolist() == (best / frame.latency_ms_b1).tolist()
    for _, rows in frame.groupby("engine"):
        assert rows.AP_drop.tolist() == [0.0, rows.AP.iloc[0] - rows.AP.iloc[1]]
        dense, pruned = rows.latency_ms_b1
        assert rows.speedup_b1.tolist() == [1.0, dense / pruned]
    again = run_sweep(network, shapes, asked, tmp_path / "s").frame
    pd.testing.assert_frame_equal(again, frame)
    with pytest.raises(InputError, match="engines"):
        run_sweep(network, shapes, wanted(0.5, methods=(Method(),), batch_sizes=(1,)), tmp_path / "s")


def test_sizes_and_dead_channels(network, shapes, tmp_path):
    with torch.no_grad():
        network.get_submodule("model.1.conv").weight[:3] = 0
    asked = {"methods": (Method(),), "batch_sizes": (), "bootstrap": 0}
    whole = run_sweep(network, shapes, wanted(0.5, 0.9, **asked), tmp_path / "w").frame
    smaller = run_sweep(network, shapes, wanted(0.5, 0.9, **asked, compact=True), tmp_path / "c").frame
    for amount, row in zip((0.0, 0.5, 0.9), whole.itertuples(), strict=True):
        pruned = prune(copy.deepcopy(network), amount)
        for form in ("pt", "safetensors"):
            save(pruned, tmp_path / f"n.{form}")
        assert row.size_dense_mb == pytest.approx((tmp_path / "n.pt").stat().st_size / 1e6, rel=0.001)
        assert row.size_safetensors_mb == (tmp_path / "n.safetensors").stat().st_size / 1e6
    assert whole.size_safetensors_mb.is_monotonic_decreasing
    assert (whole.channels_removed == 0).all()
    assert (smaller.channels_removed >= 3).all()
    assert (smaller.conv_weights < whole.conv_weights).all()
    assert (smaller.size_pt_mb < whole.size_pt_mb).all()
    assert (smaller.AP - whole.AP).abs().max() < 1e-6
    assert smaller.size_dense_mb.nunique() == 1
    with pytest.raises(InputError, match="compact"):
        run_sweep(network, shapes, wanted(0.5, 0.9, **asked), tmp_path / "c")


def test_without_latency_or_folder(network, shapes):
    frame = sweep(network, shapes, [0.5], settings=SETTINGS, batch_sizes=())
    assert frame.amount.tolist() == [0.0, 0.5]
    assert not [name for name in frame.columns if name.startswith(("latency", "speedup"))]


def test_the_dense_baseline_alone(network, shapes):
    frame = sweep(network, shapes, [], settings=SETTINGS, batch_sizes=(1,))
    assert frame.amount.tolist() == [0.0]
    assert frame.speedup_b1.tolist() == [1.0]


def test_copies_that_do_not_fit_take_several_passes(network, shapes, tmp_path, monkeypatch):
    quick = wanted(0.2, 0.6, batch_sizes=(1,))
    together = run_sweep(network, shapes, quick, tmp_path / "one").frame
    monkeypatch.setattr(copies_module, "free_memory", lambda _device: 1)
    said: list[str] = []
    apart = run_sweep(network, shapes, quick, tmp_path / "two", say=said.append).frame
    assert "2 networks in memory at a time" in said[0]
    assert "3 passes over 6 images" in said[0]
    same_figures(together, apart)
    groups = json.loads((tmp_path / "two" / "latency.json").read_text())["1"]
    assert [list(group) for group in groups][:2] == [["dense", "layer_0.2"], ["dense", "layer_0.6"]]


def test_what_stays_in_the_folder(network, shapes, tmp_path):
    run_sweep(network, shapes, wanted(0.5), tmp_path / "s")
    assert {path.name for path in (tmp_path / "s").iterdir()} == {
        *("settings.json", "latency.json", "levels", "annotations.json", ".lock")
    }
    for level in ("dense", "layer_0.5", "global_0.5"):
        files = {path.name for path in (tmp_path / "s" / "levels" / level).iterdir()}
        assert files == {"metrics.json", "layers.csv", "predictions.json", "matched.npz"}


class StoppedError(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("batches", [0, 1, 4, 7])
def test_a_stopped_pass_goes_on_where_it_was(network, shapes, tmp_path, monkeypatch, batches):
    whole = run_sweep(network, shapes, wanted(0.5), tmp_path / "whole").frame
    detect, calls = Detector.detect, [0]

    def failing(detector, pixels):
        calls[0] += 1
        if calls[0] > batches:
            raise StoppedError
        return detect(detector, pixels)

    with monkeypatch.context() as patch:
        patch.setattr("sparsity.validation.detector.Detector.detect", failing)
        with pytest.raises(StoppedError):
            run_sweep(network, shapes, wanted(0.5), tmp_path / "s")
    kept = len(list((tmp_path / "s").glob("partial/*/*.npz")))
    assert kept == batches

    calls[0] = -1000
    with monkeypatch.context() as patch:
        patch.setattr("sparsity.validation.detector.Detector.detect", failing)
        again = run_sweep(network, shapes, wanted(0.5), tmp_path / "s").frame
    assert calls[0] + 1000 == 3 * 3 - batches, "what was done is not done again"
    same_figures(whole, again)
    assert not (tmp_path / "s" / "partial").exists()


def test_a_finished_sweep_is_only_read(network, shapes, tmp_path, monkeypatch):
    first = run_sweep(network, shapes, wanted(0.5), tmp_path).frame
    monkeypatch.setattr(job, "run_pass", None)
    monkeypatch.setattr(job, "time_levels", None)
    said: list[str] = []
    pd.testing.assert_frame_equal(
        first, run_sweep(network, shapes, wanted(0.5), tmp_path, say=said.append).frame
    )
    assert said == ["3 of 3 levels are already finished"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(
            {"methods": (Method(),)}, "methods was ['l1', 'l1 global'], now is ['l1']", id="methods"
        ),
        pytest.param({"batch_sizes": (1,)}, "batch_sizes was [1, 2], now is [1]", id="latency"),
        pytest.param(
            {"validation": ValidationSettings(imgsz=64, device="cpu")}, "batch_size was 2", id="batch"
        ),
    ],
)
def test_other_settings_are_refused(network, shapes, tmp_path, change, words):
    run_sweep(network, shapes, wanted(0.5), tmp_path)
    with pytest.raises(InputError) as error:
        run_sweep(network, shapes, wanted(0.5, **change), tmp_path)
    assert words in str(error.value)


def test_another_network_or_other_labels_are_refused(network, shapes, tmp_path):
    run_sweep(network, shapes, wanted(0.5), tmp_path)
    with pytest.raises(InputError, match="weights was sha256"):
        run_sweep(prune(copy.deepcopy(network), 0.1), shapes, wanted(0.5), tmp_path)
    (shapes.parent / "labels" / "0.txt").write_text("0 0.5 0.5 0.3 0.3\n")
    with pytest.raises(InputError, match="data was 6 images"):
        run_sweep(network, shapes, wanted(0.5), tmp_path)


def test_generators_and_numpy_will_do(network, shapes):
    amounts, scopes = (np.float32(x) / 10 for x in (5,)), (scope for scope in ("global",))
    frame = sweep(network, shapes, amounts, scopes=scopes, settings=SETTINGS, batch_sizes=np.array([1]))
    assert frame.scope.tolist() == ["global"] * 2
    assert frame.amount.tolist() == [0.0, 0.5]


def test_one_amount_that_is_no_list_is_refused(network, shapes):
    with pytest.raises(InputError, match="a list of fractions"):
        sweep(network, shapes, 0.3)


@pytest.mark.parametrize("sizes", [(0,), (10**9,), (1, 1), (-1,), (1.5,)])
def test_batch_sizes_out_of_range_are_refused(sizes):
    with pytest.raises(InputError, match="`batch_sizes`"):
        wanted(0.5, batch_sizes=sizes)


def test_a_failing_evaluation_is_an_error(network, shapes, tmp_path, monkeypatch):
    monkeypatch.setattr(job.processes.coco, "__name__", "sparsity.evaluation.none")
    with pytest.raises(RuntimeError, match=r"No module named sparsity\.evaluation\.none"):
        run_sweep(network, shapes, wanted(0.5), tmp_path / "s")
    assert store_module.Store(tmp_path / "s").finished(Level(Method(), 0.0)) is None


def sweep_into(folder: Path, data: Path) -> None:
    """Sweep in a process of its own, which is killed."""
    torch.manual_seed(0)
    network = fuse(build(yolov5("yolov5n", nc=3), ("cat", "dog", "bird"))).requires_grad_(False)
    network.head.anchors.copy_(torch.tensor([[2.0, 3.0], [4.0, 4.0], [8.0, 6.0]]).expand(3, 3, 2))
    validation = ValidationSettings(imgsz=192, batch_size=2, device="cpu", workers=1)
    levels = {"amounts": [0.2, 0.4, 0.6, 0.8], "batch_sizes": (1,)}
    asked = SweepSettings(**levels, validation=validation, rounds=QUICK)
    frame = run_sweep(network, data, asked, folder, weights="n.pt").frame
    frame.to_csv(folder / "sweep.csv", index=False)


@pytest.mark.slow
def test_kill_9_at_random_moments_loses_nothing(processes, shapes, tmp_path):
    def start(folder: str) -> BaseProcess:
        process = processes.Process(target=sweep_into, args=(tmp_path / folder, shapes))
        process.start()
        return process

    began = time.perf_counter()
    whole = start("whole")
    whole.join()
    assert whole.exitcode == 0
    seconds = time.perf_counter() - began
    moments = random.Random()
    killed, progress = 0, []
    while killed < 5:
        process = start("killed")
        process.join(moments.uniform(0.5, 0.9) * seconds / (1 + killed / 2))
        process.kill()
        process.join()
        killed += 1
        folder = tmp_path / "killed"
        done = {path.name for path in folder.glob("levels/*") if (path / "metrics.json").exists()}
        assert set(progress) <= done, "a finished level stays"
        progress = done
        for path in folder.rglob("*.json"):
            if not path.name.startswith("."):
                json.loads(path.read_text())
    last = start("killed")
    last.join()
    assert last.exitcode == 0
    one, other = (pd.read_csv(tmp_path / folder / "sweep.csv") for folder in ("whole", "killed"))
    same_figures(one, other)
    assert not (tmp_path / "killed" / "partial").exists()
    for level in (tmp_path / "whole" / "levels").iterdir():
        for name in ("predictions.json", "layers.csv"):
            other_file = tmp_path / "killed" / "levels" / level.name / name
            assert (level / name).read_bytes() == other_file.read_bytes()


def test_methods_and_a_pruner_as_a_library(tiny, shapes):
    methods = [Method("l1", "lamp"), Method("l1", "erk")]
    pruner = Pruner(tiny, keep=["model.24.*"], pattern="2:4")
    frame = sweep(
        tiny, shapes, [0.5], methods=methods, pruner=pruner, settings=SETTINGS, batch_sizes=(), bootstrap=9
    )
    assert frame.method.tolist() == ["lamp", "lamp", "erk", "erk"]
    assert (frame.pattern == "2:4").all()
    assert (frame.keep == "model.24.*").all()
    assert (frame.bootstrap == 9).all()


def test_a_pruner_of_another_network_is_refused(tiny, shapes):
    with pytest.raises(InputError, match="`pruner` is a pruner of another network"):
        sweep(tiny, shapes, [0.5], pruner=Pruner(copy.deepcopy(tiny)), settings=SETTINGS)


def test_what_cannot_be_pruned_is_said_before_anything_is_written(network, shapes, tmp_path):
    with pytest.raises(InputError, match="learns from images"):
        run_sweep(network, shapes, wanted(0.5, methods=(Method("obs", "layer"),)), tmp_path / "s")
    assert not (tmp_path / "s").exists()


def kept_networks(folder: Path) -> dict[str, Path]:
    return {path.parent.name: path for path in folder.glob("levels/*/network.safetensors")}


def test_all_networks_are_kept_and_give_the_figures_of_their_rows(network, shapes, tmp_path):
    asked = {"batch_sizes": (), "bootstrap": 0, "save": "all", "engines": ("torch", "onnxruntime")}
    frame = run_sweep(network, shapes, wanted(0.3, 0.6, **asked), tmp_path / "s").frame
    kept = kept_networks(tmp_path / "s")
    assert set(kept) == {"layer_0.3", "layer_0.6", "global_0.3", "global_0.6"}, "engines share a network"
    for row in frame[(frame.engine == "torch") & (frame.amount > 0)].itertuples():
        saved = load(kept[f"{row.scope}_{row.amount}"], fused=True)
        expected = round_to_half(prune(copy.deepcopy(network), row.amount, row.scope))
        for name, tensor in expected.state_dict().items():
            assert torch.equal(saved.state_dict()[name], tensor), name
        assert abs(validate(saved, shapes, SETTINGS).metrics.AP - row.AP) < 0.01


def test_networks_of_a_finished_sweep_are_added_on_request(network, shapes, tmp_path, monkeypatch):
    asked = {"methods": (Method(),), "batch_sizes": (), "bootstrap": 0}
    run_sweep(network, shapes, wanted(0.3, 0.6, **asked), tmp_path / "s")
    assert not kept_networks(tmp_path / "s")
    monkeypatch.setattr(job, "run_pass", None)
    run_sweep(network, shapes, wanted(0.3, 0.6, **asked, save="all"), tmp_path / "s")
    kept = kept_networks(tmp_path / "s")
    assert set(kept) == {"layer_0.3", "layer_0.6"}
    before = {name: path.stat().st_mtime_ns for name, path in kept.items()}
    kept["layer_0.6"].unlink()
    run_sweep(network, shapes, wanted(0.3, 0.6, **asked, save="all"), tmp_path / "s")
    after = {name: path.stat().st_mtime_ns for name, path in kept_networks(tmp_path / "s").items()}
    assert after["layer_0.3"] == before["layer_0.3"], "what is there is not written again"
    assert after["layer_0.6"] > before["layer_0.6"]


def test_the_kept_network_has_no_dead_channels_where_they_are_removed(network, shapes, tmp_path):
    with torch.no_grad():
        network.get_submodule("model.1.conv").weight[:3] = 0
    asked = {"methods": (Method(),), "batch_sizes": (), "bootstrap": 0, "compact": True, "save": "all"}
    run_sweep(network, shapes, wanted(0.5, **asked), tmp_path / "s")
    saved = load(kept_networks(tmp_path / "s")["layer_0.5"], fused=True)
    assert saved.get_submodule("model.1.conv").weight.shape[0] < 32


BEST = {
    "the largest that keeps 95%": ({("l1", 0.3): 0.49, ("l1", 0.5): 0.475, ("l1", 0.7): 0.47}, ("l1", 0.5)),
    "of two methods, the larger sparsity": ({("l1", 0.3): 0.5, ("erk", 0.5): 0.48}, ("erk", 0.5)),
    "at the same sparsity, the higher AP": ({("l1", 0.5): 0.48, ("erk", 0.5): 0.49}, ("erk", 0.5)),
    "none keeps enough": ({("l1", 0.3): 0.4}, None),
}


@pytest.mark.parametrize("case", BEST)
def test_the_best_level(case):
    aps, expected = BEST[case]
    methods = {"l1": Method(), "erk": Method("l1", "erk")}
    levels = [Level(Method(), 0.0), *(Level(methods[name], amount) for name, amount in aps)]
    rows = [{"method": "l1", "amount": 0.0, "AP": 0.5}]
    rows += [{"method": name, "amount": amount, "AP": ap} for (name, amount), ap in aps.items()]
    best = best_level(pd.DataFrame(rows).assign(engine="torch"), levels)
    assert (best and (best.method.label, best.amount)) == expected


def test_there_is_no_best_level_of_a_network_that_finds_nothing():
    levels = [Level(Method(), 0.0), Level(Method(), 0.5)]
    frame = pd.DataFrame({"method": "l1", "amount": [0.0, 0.5], "AP": [0.004, 0.004], "engine": "torch"})
    assert best_level(frame, levels) is None


def test_the_best_network_is_kept(network, shapes, tmp_path):
    asked = {"methods": (Method(),), "batch_sizes": (), "bootstrap": 0, "save": "best"}
    frame = run_sweep(network, shapes, wanted(0.001, 0.9, **asked), tmp_path / "s").frame
    kept = [row.amount for row in frame.itertuples() if row.amount and row.AP / frame.AP[0] >= 0.95]
    assert frame.AP[0] > 0.01
    assert set(kept_networks(tmp_path / "s")) == {f"layer_{amount}" for amount in kept[-1:]}
    assert kept


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"save": "some", "folder": "s"}, "`save` is 'some'; best, all, or nothing is expected"),
        ({"save": "all"}, "`save` is 'all', but `folder` is None"),
    ],
)
def test_networks_that_cannot_be_kept(network, shapes, tmp_path, monkeypatch, values, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=words):
        sweep(network, shapes, [0.5], settings=SETTINGS, **values)
