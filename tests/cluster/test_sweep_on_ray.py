"""A sweep on a real Ray cluster of two machines, which both are this one: the files are those without it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from sparsity import InputError, Method, Pruner, TrainingSettings, ValidationSettings, load
from sparsity.cluster.opening import ray_workers
from sparsity.cluster.settings import ClusterSettings
from sparsity.sweeping.defaults import BELOW
from sparsity.sweeping.finetuning import Finetuning
from sparsity.sweeping.search import SearchSettings, run_search
from sparsity.sweeping.settings import SweepSettings
from sparsity.sweeping.sweep import run_sweep
from sparsity.sweeping.workers import HireWorkers
from sparsity.timing.latency import Rounds
from sparsity.training.preparation import Material
from tests.cluster.processes import CPUS, killing

pytest.importorskip("ray")
pytestmark = pytest.mark.slow
VALIDATION = ValidationSettings(imgsz=64, batch_size=2, device="cpu", workers=0)
TRAINING = TrainingSettings(epochs=2, batch_size=2, nominal_batch=2, imgsz=64, workers=0, lr0=0.001)
CLOCKED = ("_ms", "seconds", "started", "speedup", "latency")
"""Parts of the names of columns that are times, or come from times."""


def hired(**settings) -> HireWorkers:
    """Workers of the cluster, with as many threads as this process has."""
    return ray_workers(ClusterSettings("auto", cpus=torch.get_num_threads(), **settings))


@pytest.fixture
def sweep(weights, data, tmp_path) -> Callable[..., pd.DataFrame]:
    """Sweep into a folder, on the cluster or here. images: of the calibration."""

    def call(name: str, wanted: SweepSettings, *, on_ray: bool, **more) -> pd.DataFrame:
        network = load(weights)
        generator = torch.Generator().manual_seed(0)
        pruner = Pruner(network, calibration=[torch.rand(2, 3, 64, 64, generator=generator)])
        hire = hired() if on_ray else None
        return run_sweep(network, data, wanted, tmp_path / name, pruner=pruner, hire=hire, **more).frame

    return call


def wanted(*amounts: float, **changes) -> SweepSettings:
    values = {"batch_sizes": (), "validation": VALIDATION, "rounds": Rounds(0, 2, 2), "bootstrap": 20}
    return SweepSettings(amounts, **values | changes)


def trained(weights: Path, data: Path, training=TRAINING, **how) -> Finetuning:
    return Finetuning(Material(weights, data=data), training, device=VALIDATION, **how)


def assert_same_files(one: Path, other: Path) -> None:
    """The files are the same, byte for byte; those with times are the same without them."""
    names = {path.relative_to(one) for path in one.rglob("*") if path.is_file()}
    assert names == {path.relative_to(other) for path in other.rglob("*") if path.is_file()}
    for name in sorted(names):
        ours, theirs = one / name, other / name
        if name.name == "metrics.json":
            assert _untimed(json.loads(ours.read_text())) == _untimed(json.loads(theirs.read_text())), name
        elif name.name == "epochs.csv":
            frames = [pd.read_csv(file).drop(columns="seconds") for file in (ours, theirs)]
            pd.testing.assert_frame_equal(*frames)
        elif name.name not in ("settings.json", "latency.json", ".lock", "last.pt"):
            assert ours.read_bytes() == theirs.read_bytes(), name


def _untimed(row: dict) -> dict:
    return {key: value for key, value in row.items() if not any(part in key for part in CLOCKED)}


def assert_same_rows(one: pd.DataFrame, other: pd.DataFrame) -> None:
    kept = [name for name in one if not any(part in name for part in CLOCKED)]
    assert list(one.columns) == list(other.columns)
    pd.testing.assert_frame_equal(one[kept], other[kept], check_exact=True)


def test_a_sweep_gives_the_same_files(cluster, sweep, tmp_path):
    asked = wanted(0.3, 0.6, methods=(Method("l1"), Method("obs")), batch_sizes=(1,), save="all")
    said: list[str] = []
    here = sweep("here", asked, on_ray=False)
    there = sweep("there", asked, on_ray=True, say=said.append)
    assert_same_rows(here, there)
    assert_same_files(tmp_path / "here", tmp_path / "there")
    assert there.speedup_b1.gt(0).all()
    assert there.latency_device_b1.str.contains("threads").all()
    assert sum(line.startswith("Pruning (") for line in said) == 4, said
    assert any(line.startswith("Ray: 2 machines, ") for line in said), said
    again = sweep("there", asked, on_ray=False)
    pd.testing.assert_frame_equal(again, there)


@pytest.mark.parametrize("prune_from", ["dense", BELOW])
def test_trained_levels_give_the_same_files(cluster, sweep, weights, data, tmp_path, prune_from):
    asked = wanted(0.3, 0.6, finetune=trained(weights, data, prune_from=prune_from), bootstrap=0)
    here, there = sweep("here", asked, on_ray=False), sweep("there", asked, on_ray=True)
    assert_same_rows(here, there)
    assert_same_files(tmp_path / "here", tmp_path / "there")
    for key in ("layer_0.3_finetuned", "layer_0.6_finetuned"):
        ours, theirs = (
            load(tmp_path / name / "levels" / key / "train" / "last.pt", fused=False).state_dict()
            for name in ("here", "there")
        )
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_relative_paths_are_read_from_another_folder(cluster, weights, data, tmp_path, monkeypatch):
    """The workers run in the folder in which the cluster was started."""
    monkeypatch.chdir(tmp_path)
    near, yaml_file = weights.relative_to(tmp_path), data.relative_to(tmp_path)
    asked = wanted(0.5, finetune=trained(near, yaml_file), bootstrap=0)
    rows = [
        run_sweep(load(near), yaml_file, asked, tmp_path / name, hire=hire).frame
        for name, hire in (("here", None), ("there", hired()))
    ]
    assert_same_rows(*rows)
    assert_same_files(tmp_path / "here", tmp_path / "there")


def test_a_search_gives_the_same_level(cluster, weights, data, tmp_path):
    found = []
    for hire in (None, hired()):
        asked, folder = SearchSettings(0.5, 0.1), tmp_path / ("there" if hire else "here")
        done = run_search(load(weights), data, asked, wanted(), folder, hire=hire)
        found.append(done.found["l1"].amount)
    assert found[0] == found[1]
    assert_same_files(tmp_path / "here", tmp_path / "there")


@pytest.mark.parametrize("work", ["learn", "prune", "detect", "_measure_time", "train"])
def test_a_killed_worker_is_replaced(cluster, sweep, weights, data, tmp_path, work):
    more = {"finetune": trained(weights, data), "bootstrap": 0} if work == "train" else {}
    asked = wanted(0.3, 0.6, methods=(Method("l1" if more else "obs"),), batch_sizes=(1,), **more)
    here = sweep("here", asked, on_ray=False)
    with killing(work, 1) as killer:
        there = sweep("there", asked, on_ray=True)
        killer.wait(timeout=10)
    assert killer.returncode == 0, "one was killed"
    assert_same_rows(here, there)
    assert_same_files(tmp_path / "here", tmp_path / "there")


def test_a_killed_machine_is_done_without(cluster, sweep, weights, data, tmp_path):
    asked = wanted(0.3, 0.6, finetune=trained(weights, data, replace(TRAINING, epochs=3)), bootstrap=0)
    here = sweep("here", asked, on_ray=False)
    node = cluster.add_node(num_cpus=CPUS)
    gone = []

    def say(line: str) -> None:
        if ": epoch 1/3" in line and not gone:
            gone.append(line)
            cluster.remove_node(node, allow_graceful=False)

    there = sweep("there", asked, on_ray=True, say=say)
    assert gone
    assert_same_rows(here, there)
    assert_same_files(tmp_path / "here", tmp_path / "there")


def test_a_level_whose_worker_always_dies_is_given_up(cluster, weights, data, tmp_path):
    asked = wanted(0.5, finetune=trained(weights, data, replace(TRAINING, epochs=10_000)), bootstrap=0)
    hire, words = hired(retries=1), "without progress .*`resume` goes on"
    with killing("train", 1000), pytest.raises(InputError, match=rf"its worker died 2 times {words}"):
        run_sweep(load(weights), data, asked, tmp_path / "s", hire=hire)


SWEEP = """
import sys
from tests.cluster.test_sweep_on_ray import *
weights, data, folder = map(Path, sys.argv[1:])
asked = wanted(0.3, 0.6, finetune=trained(weights, data), bootstrap=0)
run_sweep(load(weights), data, asked, folder, hire=ray_workers(ClusterSettings()), say=print)
"""


def test_a_killed_driver_goes_on_without_a_cluster(sweep, weights, data, tmp_path):
    """Killed once while it detects, and once while it trains."""
    asked, root = wanted(0.3, 0.6, finetune=trained(weights, data), bootstrap=0), Path(__file__).parents[2]
    here = sweep("here", asked, on_ray=False)
    levels = tmp_path / "there" / "levels"
    for mark in ("layer_0.3/metrics.json", "*/train/state.pt"):
        given = [weights, data, tmp_path / "there"]
        environment = os.environ | {"PYTHONPATH": str(root)}
        driver = subprocess.Popen([sys.executable, "-c", SWEEP, *given], env=environment, cwd=root)
        while not list(levels.glob(mark)) and driver.poll() is None:
            time.sleep(0.01)
        driver.kill()
        driver.wait()
        assert list(levels.glob(mark)), "it was killed midway"
    there = sweep("there", asked, on_ray=False)
    assert_same_rows(here, there)
    assert_same_files(tmp_path / "here", tmp_path / "there")


def test_an_error_in_a_worker_is_one_line(cluster, weights, data, tmp_path):
    network = load(weights)
    asked = wanted(0.3, methods=(Method("l1"),), validation=replace(VALIDATION, batch_size=2))
    images = sorted((data.parent / "images").iterdir())

    def say(line: str) -> None:
        if line.startswith("Ray:"):
            images[0].write_bytes(b"no image")

    with pytest.raises(InputError, match=r"0\.png"):
        run_sweep(network, data, asked, tmp_path / "s", hire=hired(), say=say)
