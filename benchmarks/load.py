"""Measures a sweep as large as COCO without its network: memory, and CPU time for each image and level.

    python benchmarks/load.py --images 5000 --levels 20 --out results/load
    python benchmarks/load.py --images 250 --parts

A stand-in takes the network's place: it gives each image about 1300 candidate boxes, near the true ones and
elsewhere. All else is real: decoding, NMS, both metrics, resampling, the report. The time of the stand-in is
left out, and that of measuring memory. Images are those of --data, or of the demo, resized to 640 x 480 and
repeated. --parts times each part by itself, on one thread, for one level.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
import torch
from torch import Tensor, nn

mpl.use("agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from sparsity.data.dataset import Dataset, read_dataset  # noqa: E402
from sparsity.data.downloads import ensure_data  # noqa: E402
from sparsity.data.sources import find_source  # noqa: E402
from sparsity.engines.engine import Engine, Runner  # noqa: E402
from sparsity.engines.table import ENGINES  # noqa: E402
from sparsity.evaluation.bootstrap import bootstrap  # noqa: E402
from sparsity.evaluation.coco import evaluate_matched  # noqa: E402
from sparsity.pruning.zeros import count_sparsity  # noqa: E402
from sparsity.report.sweep import write_sweep  # noqa: E402
from sparsity.sweeping.defaults import BOOTSTRAP  # noqa: E402
from sparsity.sweeping.settings import SweepSettings  # noqa: E402
from sparsity.sweeping.sweep import run_sweep  # noqa: E402
from sparsity.validation.detector import Lanes  # noqa: E402
from sparsity.validation.evaluator import make_evaluator  # noqa: E402
from sparsity.validation.inputs import fit, make_loader  # noqa: E402
from sparsity.validation.nms import non_maximum_suppression  # noqa: E402
from sparsity.validation.run_files import write_predictions  # noqa: E402
from sparsity.validation.settings import ValidationSettings  # noqa: E402
from sparsity.yolo.head import Candidates  # noqa: E402
from sparsity.yolo.network import Network, build, fuse  # noqa: E402
from sparsity.yolo.yolov5.architectures import yolov5  # noqa: E402

WIDTH, HEIGHT, BITS, BLOCK = 640, 480, 16, 24
COPIES, BACKGROUND = 30, 1200
"""The candidates near each true box, and those elsewhere."""
CLASSES = 80
NAMES = [f"class {number}" for number in range(CLASSES)]
GIB = 2**30
LAST = torch.channels_last


def make_data(source: str, count: int, folder: Path) -> Path:
    """Write count images of 640 x 480, whose first blocks say their number, with labels; return the yaml."""
    place = ensure_data(source)
    found = read_dataset(place, find_source(Path(place), "val").names)
    for name in ("images", "labels"):
        (folder / name).mkdir()
    pictures = [cv2.resize(cv2.imread(str(one.path)), (WIDTH, HEIGHT)) for one in found.images[:250]]
    pairs = zip(pictures, found.images[:250], strict=True)
    for number, (picture, image) in zip(range(count), itertools.cycle(list(pairs)), strict=False):
        marked = picture.copy()
        for bit in range(BITS):
            marked[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 255 * (number >> bit & 1)
        cv2.imwrite(str(folder / "images" / f"{number:06d}.jpg"), marked)
        rows = zip(image.labels.classes, image.labels.boxes_cxcywhn, strict=True)
        text = "".join(f"{label} {' '.join(f'{value:.6f}' for value in box)}\n" for label, box in rows)
        (folder / "labels" / f"{number:06d}.txt").write_text(text)
    (folder / "data.yaml").write_text(f"val: images\nnames: {NAMES}\n")
    return folder / "data.yaml"


class StandIn(Engine):
    """Gives candidates instead of running a network. The more zeros, the fewer true boxes are found."""

    name, title, package, memory = "stand-in", "Stand-in", "torch", 1.0
    data: Dataset
    seconds = 0.0
    _lock = threading.Lock()

    def prepare(self, network: nn.Module, device: torch.device, dtype: torch.dtype) -> Runner:
        """Return a runner for a level."""
        return StandInRunner(count_sparsity(network).conv)

    @classmethod
    def count(cls, seconds: float) -> None:
        """Add CPU time that is left out."""
        with cls._lock:
            cls.seconds += seconds


class StandInRunner:
    """The stand-in of a network with this share of zeros."""

    memory_format = torch.contiguous_format

    def __init__(self, zeros: float) -> None:
        self._zeros = zeros

    def __call__(self, images: Tensor) -> Sequence[Tensor]:
        """Return the images: candidates reads their numbers."""
        return [images]

    def settle(self, images: Tensor) -> None:
        """Do nothing."""

    def candidates(self, maps: Sequence[Tensor], conf_thres: float) -> Candidates:
        """Return boxes near the true ones, and others."""
        start = time.thread_time()
        parts = [self._of(image, at) for at, image in enumerate(maps[0])]
        found = Candidates(*(torch.cat(columns) for columns in zip(*parts, strict=True)))
        StandIn.count(time.thread_time() - start)
        return found

    def _of(self, image: Tensor, at: int) -> tuple[Tensor, ...]:
        top, left = (image.shape[1] - HEIGHT) // 2, (image.shape[2] - WIDTH) // 2
        middles = [left + bit * BLOCK + BLOCK // 2 for bit in range(BITS)]
        bits = image[0, top + BLOCK // 2, middles] > 0.5 if image.shape[1] >= HEIGHT else torch.zeros(BITS)
        number = int((bits.long() << torch.arange(BITS)).sum()) % len(StandIn.data.images)
        labels = StandIn.data.images[number].labels
        random = np.random.default_rng([number, int(self._zeros * 1000)])
        seen = random.random(len(labels)) > self._zeros * 0.8
        true, classes = labels.boxes_cxcywhn[seen], labels.classes[seen]
        near = np.repeat(true, COPIES, 0)
        near = near * random.normal(1, 0.03 + 0.1 * self._zeros, near.shape)
        away = random.random((BACKGROUND, 4)) * [1, 1, 0.4, 0.4]
        boxes = np.concatenate((near, away)) * [WIDTH, HEIGHT, WIDTH, HEIGHT]
        corners = np.concatenate((boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2), 1)
        scores = np.concatenate((random.beta(2, 4, len(near)), random.beta(0.3, 30, BACKGROUND) + 0.001))
        labelled = np.concatenate((np.repeat(classes, COPIES), random.integers(0, CLASSES, BACKGROUND)))
        return (
            torch.full((len(boxes),), at),
            torch.from_numpy((corners + np.array([left, top] * 2)).astype(np.float32)),
            torch.from_numpy(scores.clip(0.001, 1).astype(np.float32)),
            torch.from_numpy(labelled.astype(np.int64)),
        )


def resident(process: str = "self") -> int:
    """Return the memory of a process and its children, in bytes, without what they share with files."""
    total = 0
    for place in (Path("/proc") / process / "smaps_rollup",):
        try:
            lines = place.read_text().splitlines()
        except OSError:
            return 0
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss_Anon"))
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            total += sum(resident(child) for child in children.read_text().split())
        except OSError:
            continue
    return total


@contextmanager
def sampled(levels: list[int]) -> Iterator[list[tuple[float, int, int]]]:
    """Sample the memory twice a second: (seconds, finished levels, bytes). levels: grows with each level."""
    samples: list[tuple[float, int, int]] = []
    stop, start = threading.Event(), time.perf_counter()

    def sample() -> None:
        while not stop.wait(0.5):
            samples.append((time.perf_counter() - start, len(levels), resident()))
        StandIn.count(time.thread_time())

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()


def cpu_seconds() -> float:
    """Return the CPU time of this process and its finished children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def measure_parts(data: Dataset, network: Network, folder: Path) -> dict[str, float]:
    """Return the CPU time of each part of a validation, in milliseconds for an image, on one thread."""
    torch.set_num_threads(1)
    settings = fit(ValidationSettings(device="cpu", workers=0), network)
    seconds: dict[str, float] = {}

    def timed(part: str, call: Callable[[], Any]) -> Any:
        start = time.process_time()
        result = call()
        seconds[part] = seconds.get(part, 0.0) + time.process_time() - start
        return result

    loader = make_loader(data.images, network, settings)
    batches = timed("decoding", lambda: list(loader))
    evaluator, runner, limits = make_evaluator(data, network, settings), StandInRunner(0.3), settings.max_det
    lanes = Lanes(torch.device("cpu"))
    for batch in batches:
        found = []
        for pixels in lanes.split(torch.from_numpy(batch.pixels)):
            image = timed("pixels to float32", lambda one=pixels: lanes.to_floats(one, torch.float32, LAST))
            boxes = runner.candidates([image], settings.conf_thres)
            columns = boxes.image, boxes.boxes_xyxy, boxes.scores, boxes.classes
            options = {"images": 1, "iou_thres": settings.iou_thres, "max_det": limits}
            found += timed("NMS", lambda c=columns, o=options: non_maximum_suppression(*c, **o))
        timed("own metric", lambda b=batch, f=found: evaluator.update(b.images, b.placements, f))
    timed("own metric", evaluator.own)
    results = timed("predictions.json", evaluator.results)
    timed("predictions.json", lambda: write_predictions(folder, results))
    ids = {"image_ids": data.image_ids, "category_ids": data.category_ids}
    _, matched = timed("pycocotools", lambda: evaluate_matched(data.annotations.content, results, **ids))
    timed("intervals", lambda: bootstrap({"": matched}, samples=BOOTSTRAP))
    return {part: 1e3 * spent / len(data.images) for part, spent in seconds.items()}


def main() -> None:
    """Parse the flags, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="demo", help="images and labels")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--levels", type=int, default=20)
    parser.add_argument("--parts", action="store_true", help="time each part by itself instead")
    parser.add_argument("--out", type=Path, help="a folder for memory.csv, memory.png and figures.csv")
    args = parser.parse_args()
    amounts = [round(0.9 * (i + 1) / args.levels, 6) for i in range(args.levels - 1)]
    torch.manual_seed(0)
    network = fuse(build(yolov5("yolov5n", nc=CLASSES), NAMES)).requires_grad_(False)
    ENGINES.register("stand-in", StandIn)
    with tempfile.TemporaryDirectory() as place:
        data = read_dataset(make_data(args.data, args.images, Path(place)), NAMES)
        StandIn.data = data
        if args.parts:
            for part, spent in measure_parts(data, network, Path(place)).items():
                print(f"{part:<20}{spent:6.2f} ms")
            return
        wanted = SweepSettings(
            amounts, batch_sizes=(), engines=("stand-in",), validation=ValidationSettings(device="cpu")
        )
        finished: list[int] = []
        before, start = cpu_seconds(), time.perf_counter()
        with sampled(finished) as samples:
            run_sweep(
                network,
                data,
                wanted,
                Path(place) / "sweep",
                say=print,
                on_level=lambda *_: finished.append(1),
                then=lambda done: write_sweep(Path(place) / "sweep", done, title="load"),
            )
        wall, spent = time.perf_counter() - start, cpu_seconds() - before - StandIn.seconds
    report(args, samples, wall, spent)


def report(
    args: argparse.Namespace, samples: Sequence[tuple[float, int, int]], wall: float, spent: float
) -> None:
    """Print the figures; write them and a plot where --out says."""
    work = args.images * args.levels
    figures = {
        "images": args.images,
        "levels": args.levels,
        "peak_gib": round(max(size for _, _, size in samples) / GIB, 2),
        "cpu_ms_per_image_and_level": round(1e3 * spent / work, 2),
        "wall_seconds": round(wall, 1),
        "cores": os.cpu_count(),
    }
    print(figures)
    if args.out is None:
        return
    memory = [(round(t, 1), n, round(size / GIB, 3)) for t, n, size in samples]
    args.out.mkdir(parents=True, exist_ok=True)
    for name, columns, rows in (
        ("figures.csv", list(figures), [list(figures.values())]),
        ("memory.csv", ["seconds", "finished_levels", "gib"], memory),
    ):
        with (args.out / name).open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([columns, *rows])
    figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    axes.plot([t for t, _, _ in samples], [size / GIB for _, _, size in samples], label="memory, GiB")
    levels = axes.twinx()
    levels.step([t for t, _, _ in samples], [n for _, n, _ in samples], color="C1", label="levels finished")
    axes.set(xlabel="seconds", ylabel="GiB", ylim=(0, None))
    axes.set_title(f"{args.images} images, {args.levels} levels")
    levels.set(ylabel="levels finished", ylim=(0, None))
    figure.legend(loc="outside lower center", ncols=2)
    figure.savefig(args.out / "memory.png", dpi=120)


if __name__ == "__main__":
    main()
