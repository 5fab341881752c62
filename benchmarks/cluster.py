"""Times a sweep on a Ray cluster of two machines, which share this one's cores, against one process on them.

    python benchmarks/cluster.py --rounds 2

Both sweep the demo at ten levels, by turns, in one run, and must give the same figures. The cluster runs
already when the clock starts, as one that `ray start` made does; the workers start within the time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from sparsity import ValidationSettings, load  # noqa: E402
from sparsity.base.devices import usable_cores  # noqa: E402
from sparsity.base.optional import optional_module  # noqa: E402
from sparsity.cluster.opening import ray_workers  # noqa: E402
from sparsity.cluster.settings import ClusterSettings  # noqa: E402
from sparsity.data.downloads import ensure_data, ensure_weights  # noqa: E402
from sparsity.demo import data as demo  # noqa: E402
from sparsity.sweeping.settings import SweepSettings  # noqa: E402
from sparsity.sweeping.sweep import run_sweep  # noqa: E402

LEVELS = [round(0.1 * i, 1) for i in range(1, 10)]
MACHINES = 2


def timed(*, on_ray: bool, cpus: int) -> tuple[float, pd.DataFrame]:
    """Sweep once; return the seconds and the rows."""
    network, data = load(ensure_weights(demo.NAME), fused=True), ensure_data(demo.NAME)
    settings = ValidationSettings(imgsz=demo.IMGSZ, device="cpu")
    wanted = SweepSettings(LEVELS, batch_sizes=(), validation=settings)
    hire = ray_workers(ClusterSettings("auto", cpus=cpus)) if on_ray else None
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        done = run_sweep(network, data, wanted, Path(folder) / "sweep", hire=hire)
        return time.perf_counter() - start, done.frame


def main() -> None:
    """Start the cluster, sweep by turns, print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    places = (str(ROOT), os.environ.get("PYTHONPATH"))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, places))
    ray, utils = optional_module("ray", "`ray`"), optional_module("ray.cluster_utils", "`ray`")
    cpus = max(1, usable_cores() // MACHINES)
    head = {"num_cpus": 0, "include_dashboard": False}
    cluster = utils.Cluster(initialize_head=True, head_node_args=head)
    for _ in range(MACHINES):
        cluster.add_node(num_cpus=cpus)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    seconds: dict[bool, list[float]] = {False: [], True: []}
    rows: dict[bool, pd.DataFrame] = {}
    for _ in range(args.rounds):
        for on_ray in (False, True):
            spent, rows[on_ray] = timed(on_ray=on_ray, cpus=cpus)
            seconds[on_ray].append(spent)
            print(f"{'Ray' if on_ray else 'one process'}: {spent:.1f} s", flush=True)
    assert rows[False].AP.tolist() == rows[True].AP.tolist(), "the same figures"
    one, several = (statistics.median(seconds[on_ray]) for on_ray in (False, True))
    print(f"{usable_cores()} cores, torch {torch.__version__}, ray {ray.__version__}")
    print(
        f"{len(LEVELS) + 1} levels, {int(rows[True].images.iloc[0])} images: one process {one:.1f} s", end=""
    )
    print(f", {MACHINES} machines of {cpus} core {several:.1f} s: {several / one - 1:+.1%}")
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
