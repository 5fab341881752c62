"""Times one sweep of ten levels against ten val_sparse.py processes, by turns, in one run.

    python benchmarks/sweep.py --weights yolov5n.pt --data coco50 coco250

Both do everything from start to written files. Latency is measured by a sweep alone, so it is left
out first (--batch-sizes none) and then timed apart. --big weighs the memory of a sweep of ten levels
of yolov5x with random weights over one image.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from sparsity.base.memory import peak_memory  # noqa: E402
from sparsity.sweeping.settings import SweepSettings  # noqa: E402
from sparsity.sweeping.sweep import run_sweep  # noqa: E402
from sparsity.validation.settings import ValidationSettings  # noqa: E402
from sparsity.yolo.network import build, fuse  # noqa: E402
from sparsity.yolo.yolov5.architectures import yolov5  # noqa: E402

LEVELS = [round(0.1 * i, 1) for i in range(10)]
TO_REACH = 0.6
SINGLE = "val_sparse.py"


def main() -> None:
    """Parse the flags, time, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="yolov5n.pt")
    parser.add_argument("--data", nargs="+", default=[])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--big", action="store_true")
    args = parser.parse_args()
    print(f"{os.cpu_count()} cores, torch {torch.__version__}")
    for data in args.data:
        compare(args.weights, data, args.rounds)
    if args.big:
        weigh_big()


def compare(weights: str, data: str, rounds: int) -> None:
    """Ten processes and one sweep, which also give the same detections."""
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--weights", weights, "--data", data, "--project", folder, "--device", "cpu"]
        read_once(weights, data)
        singles, sweeps, with_latency, peak = [], [], [], 0.0
        for number in range(rounds):
            # Half of the processes before the sweep and half after, so that drift hits both alike.
            halves = LEVELS[:5], LEVELS[5:]
            spent = timed(lambda half=halves[0]: single_runs(flags, half))
            name = f"sweep{number}"
            sweep = ["sweep.py", *flags, "0.1:0.9", "--name"]
            sweeps.append(timed(lambda call=(*sweep, name, "--batch-sizes", "none"): run(*call)))
            peak = max(peak, children_gib())
            singles.append(spent + timed(lambda half=halves[1]: single_runs(flags, half)))
            with_latency.append(timed(lambda call=(*sweep, f"{name}_latency"): run(*call)))
            check_same(Path(folder), name)
    ratio = statistics.median(sweeps) / statistics.median(singles)
    print(f"\n{Path(data).name}, ten levels, seconds (median of {rounds}):")
    print(f"  ten val_sparse.py processes  {statistics.median(singles):7.1f}")
    print(f"  one sweep, without latency   {statistics.median(sweeps):7.1f}")
    print(f"  one sweep, with latency      {statistics.median(with_latency):7.1f}")
    print(f"  ratio, without latency       {ratio:7.2f} (to reach: {TO_REACH:.2f})")
    print(f"  largest process              {peak:7.2f} GiB")


def read_once(weights: str, data: str) -> None:
    """Read the data set once, so that neither side's first scan counts."""
    with tempfile.TemporaryDirectory() as folder:
        run(SINGLE, "--weights", weights, "--data", data, "--project", folder, "--imgsz", "64")


def single_runs(flags: list[str], levels: list[float]) -> None:
    """A val_sparse.py process for each level."""
    for level in levels:
        run(SINGLE, *flags, "--sparsity", str(level), "--name", f"single_{level}", "--exist-ok")


def check_same(folder: Path, name: str) -> None:
    """Both ways must give the same detections and figures."""
    for level in LEVELS:
        one, other = folder / f"single_{level}", folder / name / "levels"
        other = other / (f"layer_{level}" if level else "dense")
        assert (one / "predictions.json").read_bytes() == (other / "predictions.json").read_bytes(), level
        ours, theirs = (json.loads((place / "metrics.json").read_text()) for place in (one, other))
        differing = {key for key, value in ours.items() if not key.endswith("_ms") and theirs[key] != value}
        assert not differing, (level, differing)


def run(script: str, *flags: str) -> None:
    """Run one of the scripts in a process of its own."""
    subprocess.run([sys.executable, str(ROOT / script), *flags], check=True, stdout=subprocess.DEVNULL)


def weigh_big() -> None:
    """The peak memory of a sweep of ten levels of yolov5x over one image, in this process."""
    torch.manual_seed(0)
    names = [f"class {i}" for i in range(80)]
    network = fuse(build(yolov5("yolov5x", nc=len(names)), names)).requires_grad_(False)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for part in ("images", "labels"):
            (root / "data" / part).mkdir(parents=True)
        pixels = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
        cv2.imwrite(str(root / "data" / "images" / "1.png"), pixels)
        (root / "data" / "labels" / "1.txt").write_text("0 0.5 0.5 0.4 0.4\n")
        wanted = SweepSettings(LEVELS, batch_sizes=(1,), validation=ValidationSettings(device="cpu"))
        start = time.perf_counter()
        run_sweep(network, root / "data", wanted, root / "sweep", say=print)
        print(f"\nyolov5x, random weights, ten levels, one image: {time.perf_counter() - start:.0f} s")
        print(f"  peak memory  {peak_memory() / 2**30:.2f} GiB (to stay under: 12)")


def children_gib() -> float:
    """The most memory that any process started here has taken."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20


def timed(function: Callable[[], object]) -> float:
    """Seconds."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
