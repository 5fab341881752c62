"""What must hold on a machine with a GPU: one command, about ten minutes, no network.

python benchmarks/gpu.py

The real yolov5n.pt and images are used where SPARSITY_ASSETS names them, the demo otherwise. It prints PASS
or FAIL for each check, and writes checks.csv and latency.csv into results/gpu_NAME. --device cpu --quick runs
the same code on a CPU, to try the script.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sparsity import Pruner, TrainingSettings, ValidationSettings, finetune, load, prune, sweep, validate
from sparsity.base.devices import device_name, select_device, synchronize
from sparsity.commands.running import run_command
from sparsity.demo.data import IMGSZ as DEMO_IMGSZ
from sparsity.demo.data import WEIGHTS as DEMO_WEIGHTS
from sparsity.demo.data import ensure_demo_data, training_images
from sparsity.pruning.zeros import count_sparsity
from sparsity.timing.latency import Rounds, summarize, take_turns
from sparsity.validation.inputs import read_calibration
from sparsity.yolo.families import published_architecture
from sparsity.yolo.network import Network, build, fuse

ROOT = Path(__file__).resolve().parents[1]
FLOAT32_GAP, HALF_GAP = 0.001, 0.002
"""The largest difference of AP from that of the CPU."""
AMOUNTS = (0.0, 0.5, 0.7, 0.9)
GIB = 2**30
SHARING = "--train-on-a-shared-gpu"
"""The first flag of a process that two_processes starts; those of finetune follow."""


@dataclass(frozen=True)
class Material:
    """The network and the data of the checks. calibration: a folder of images. train: training data."""

    weights: Path
    data: Path
    calibration: Path
    train: Path
    imgsz: int


@dataclass(frozen=True)
class Setup:
    """Where the checks run, and how large they are."""

    device: torch.device
    material: Material
    quick: bool
    folder: Path

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def settings(self, **more: Any) -> ValidationSettings:
        common = {"device": str(self.device), "imgsz": self.material.imgsz}
        return ValidationSettings(**(common | more))


Found = tuple[bool, str]
"""Whether a check passed, and what it measured."""


def main() -> None:
    """Run all checks, print a line for each, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="", help="the first GPU where it is left out")
    parser.add_argument("--quick", action="store_true", help="small networks and few steps")
    parser.add_argument("--project", type=Path, default=ROOT / "results")
    options = parser.parse_args()
    device = select_device(options.device)
    if device.type == "cpu" and not options.device:
        sys.exit("gpu.py: torch finds no GPU here; --device cpu --quick tries the script on the CPU")
    name = "".join(letter if letter.isalnum() else "_" for letter in device_name(device)).strip("_").lower()
    folder = options.project / f"gpu_{name}"
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{device_name(device)}, torch {torch.__version__}, CUDA {torch.version.cuda}", flush=True)
    setup = Setup(device, find_material(), options.quick, folder)
    rows = [(check.__name__, *timed(check, setup)) for check in CHECKS]
    with (folder / "checks.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("check", "passed", "measured", "seconds"))
        writer.writerows(rows)
    sys.exit(not all(row[1] for row in rows))


def timed(check: Callable[[Setup], Found], setup: Setup) -> tuple[bool, str, float]:
    """Run a check. An error is a failure, and its last line what was measured."""
    begun = time.perf_counter()
    try:
        passed, text = check(setup)
    except Exception as error:
        traceback.print_exc()
        passed, text = False, f"{type(error).__name__}: {error}".splitlines()[0]
    seconds = time.perf_counter() - begun
    print(f"{'PASS' if passed else 'FAIL'}  {check.__name__}: {text} ({seconds:.0f} s)", flush=True)
    return passed, text, round(seconds, 1)


def find_material() -> Material:
    """Return the real files where there are any, else the demo's."""
    assets = os.environ.get("SPARSITY_ASSETS")
    if assets and (Path(assets) / "yolov5n.pt").is_file():
        root = Path(assets)
        return Material(root / "yolov5n.pt", root / "coco50", root / "calib200/images", root / "train50", 640)
    data = ensure_demo_data()
    return Material(DEMO_WEIGHTS, data, training_images(data), data, DEMO_IMGSZ)


def parity(setup: Setup) -> Found:
    """AP in float32 and in half precision against the CPU's."""
    network = load(setup.material.weights)
    found = {
        name: validate(network, setup.material.data, settings).figures.AP
        for name, settings in (
            ("CPU", setup.settings(device="cpu")),
            ("float32", setup.settings()),
            ("half", setup.settings(half=True)),
        )
    }
    gaps = abs(found["float32"] - found["CPU"]), abs(found["half"] - found["CPU"])
    text = ", ".join(f"{name} {ap:.4f}" for name, ap in found.items())
    return gaps[0] <= FLOAT32_GAP and gaps[1] <= HALF_GAP, f"AP: {text}"


def latency(setup: Setup) -> Found:
    """Milliseconds of the dense network and of pruned ones, by batch size; written to latency.csv."""
    rows = []
    for batch in (1, 2) if setup.quick else (1, 8, 32):
        images = torch.rand(batch, 3, setup.material.imgsz, setup.material.imgsz)
        dtype = torch.float16 if setup.on_gpu else torch.float32
        images = images.to(setup.device, dtype).contiguous(memory_format=torch.channels_last)
        networks = [place(prune(load(setup.material.weights), amount), setup, dtype) for amount in AMOUNTS]
        calls = [partial(forward, network, images, setup.device) for network in networks]
        spent = take_turns(calls, Rounds(2 if setup.quick else 15, 3, 200))
        for amount, one in zip(AMOUNTS, map(summarize, spent), strict=True):
            rows.append((amount, batch, one.median, one.p10, one.p90, one.runs))
    with (setup.folder / "latency.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("amount", "batch", "ms", "p10", "p90", "runs"))
        writer.writerows((*row[:2], *(round(number, 4) for number in row[2:])) for row in rows)
    dense = [row for row in rows if not row[0]]
    text = ", ".join(f"batch {row[1]}: {row[2]:.2f} ms" for row in dense)
    pruned = ", ".join(f"{row[2]:.2f}" for row in rows if row[0] == AMOUNTS[-1])
    return all(row[2] > 0 for row in rows), f"dense {text}; {AMOUNTS[-1]:.0%} zeros {pruned} ms"


def obs_of_a_large_network(setup: Setup) -> Found:
    """Obs of yolov5x with random weights: its time and its memory on the device."""
    torch.manual_seed(0)
    size, side = ("yolov5n", 64) if setup.quick else ("yolov5x", 640)
    network = fuse(build(published_architecture(size, 80), [str(i) for i in range(80)])).requires_grad_(False)
    images = [torch.rand(1, 3, side, side) for _ in range(2 if setup.quick else 8)]
    if setup.on_gpu:
        torch.cuda.reset_peak_memory_stats(setup.device)
    begun = time.perf_counter()
    pruner = Pruner(network, "obs", calibration=images, device=setup.device, imgsz=side)
    sparsity = count_sparsity(pruner.prune(amount=0.5)).conv
    seconds = time.perf_counter() - begun
    peak = torch.cuda.max_memory_allocated(setup.device) / GIB if setup.on_gpu else math.nan
    text = f"{size}, {len(images)} images: {seconds:.0f} s, peak {peak:.1f} GiB, sparsity {sparsity:.3f}"
    return abs(sparsity - 0.5) < 0.01, text


def sweep_speed(setup: Setup) -> Found:
    """Images a second of a sweep of magnitude pruning, all levels counted."""
    amounts = (0.3, 0.6) if setup.quick else tuple(number / 10 for number in range(1, 10))
    begun = time.perf_counter()
    settings = setup.settings(half=setup.on_gpu)
    network = load(setup.material.weights)
    frame = sweep(network, setup.material.data, amounts, settings=settings, batch_sizes=(), bootstrap=0)
    seconds = time.perf_counter() - begun
    images = int(frame["images"].iloc[0]) * len(frame)
    falling = frame["AP"].iloc[0] >= frame["AP"].iloc[-1]
    return bool(falling), f"{len(frame)} levels, {images / seconds:.0f} images a second"


def two_of_four(setup: Setup) -> Found:
    """1x1 convolutions as products by torch's kernels for 2:4 sparsity, and the AP that the pattern keeps."""
    network = load(setup.material.weights)
    calibration = read_calibration(
        setup.material.calibration, 16, network=network, imgsz=setup.material.imgsz
    )
    pruner = Pruner(network, "obs", calibration=calibration, pattern="2:4", device=setup.device)
    kept = pruner.prune(amount=0.5)
    settings = setup.settings(half=setup.on_gpu)
    dense, pruned = (validate(one, setup.material.data, settings).figures.AP for one in (network, kept))
    text = f"AP {pruned:.3f} of {dense:.3f}"
    if not setup.on_gpu:
        return dense > 0, f"{text}; the kernels need a GPU"
    times = list(semi_structured_times(setup.device))
    error = max(one[3] for one in times)
    shown = ", ".join(f"{size} channels {full:.3f} -> {half:.3f} ms" for size, full, half, _ in times)
    return error < 0.02, f"{text}; 6400 cells, {shown}; largest relative difference {error:.4f}"


def semi_structured_times(device: torch.device) -> Iterator[tuple[int, float, float, float]]:
    """Yield channels, the milliseconds of the dense and the 2:4 product, and their relative difference."""
    for channels in (256, 512, 1024, 1280):
        weight = torch.randn(channels, channels, device=device, dtype=torch.float16)
        weight = weight * (torch.arange(channels, device=device) % 4 < 2)
        cells = torch.randn(channels, 6400, device=device, dtype=torch.float16)
        sparse = torch.sparse.to_sparse_semi_structured(weight)
        calls = [partial(product, one, cells, device) for one in (weight, sparse)]
        full, half = (summarize(one).median for one in take_turns(calls, Rounds(3, 10, 500)))
        apart = (torch.mm(sparse, cells) - torch.mm(weight, cells)).norm() / torch.mm(weight, cells).norm()
        yield channels, full, half, float(apart)


def product(weight: torch.Tensor, cells: torch.Tensor, device: torch.device) -> None:
    """One product, waited for."""
    torch.mm(weight, cells)
    synchronize(device)


def training_in_half_precision(setup: Setup) -> Found:
    """A short training with masks: the loss is finite, and the zeros stay."""
    with tempfile.TemporaryDirectory() as folder:
        frame = finetune(
            setup.material.weights,
            setup.material.train,
            TrainingSettings(amount=0.5, criterion="l1", epochs=1, imgsz=setup.material.imgsz, lr0=0.003),
            folder=Path(folder) / "run",
            validation=setup.settings(half=setup.on_gpu),
        )
        sparsity = count_sparsity(load(Path(folder) / "run" / "last.pt")).conv
    text = f"AP {frame['AP'].iloc[-1]:.3f}, sparsity {sparsity:.3f}"
    return bool(frame["box"].notna().all()) and sparsity > 0.49, text


def two_processes(setup: Setup) -> Found:
    """Two processes train one network for an epoch, on two GPUs, or on one that they share."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        shared = setup.on_gpu and torch.cuda.device_count() == 1
        command += [__file__, SHARING] if shared else [str(ROOT / "finetune.py")]
        command += ["--weights", str(setup.material.weights), "--data", str(setup.material.train)]
        command += ["--imgsz", str(setup.material.imgsz), "--device", "" if setup.on_gpu else "cpu"]
        command += ["--sparsity", "0.5", "--criterion", "l1", "--epochs", "1", "--lr0", "0.003", "--noval"]
        command += ["--teacher", "none", "--project", folder, "--name", "run"]
        done = subprocess.run(command, capture_output=True, text=True)
        trained = done.returncode == 0 and (Path(folder) / "run" / "last.pt").is_file()
        last = (done.stdout if trained else done.stdout + done.stderr).strip().splitlines()[-1:]
    return trained and ", 2 processes\n" in done.stdout, last[0] if last else "nothing was printed"


def train_on_a_shared_gpu(flags: Sequence[str]) -> None:
    """Run finetune in one of two processes on the first GPU. NCCL refuses that; gloo does not."""
    os.environ["LOCAL_RANK"] = "0"
    torch.distributed.init_process_group("gloo")
    run_command("finetune", flags)


CHECKS = (
    parity,
    latency,
    sweep_speed,
    two_of_four,
    training_in_half_precision,
    obs_of_a_large_network,
    two_processes,
)


def place(network: Network, setup: Setup, dtype: torch.dtype) -> nn.Module:
    """The network on the device, in this precision and in the layout of the torch engine."""
    return network.eval().to(setup.device, dtype, memory_format=torch.channels_last)


def forward(network: nn.Module, images: torch.Tensor, device: torch.device) -> None:
    """One forward pass, waited for."""
    with torch.inference_mode():
        network(images)
    synchronize(device)


if __name__ == "__main__":
    if sys.argv[1:2] == [SHARING]:
        train_on_a_shared_gpu(sys.argv[2:])
    main()
