"""Times the whole of validate() against a plain forward of the same network, in one run.

    python benchmarks/validate.py --weights yolov5n.pt --data coco250

The plain forward is what eager PyTorch users write: NCHW, float32, batches of 32, raw maps only, on
images that were letterboxed and made float beforehand. validate() is everything: reading and decoding
the files, letterboxing, the network, boxes, NMS, YOLOv5's metric and pycocotools'. The two take
turns; the ratio is of medians. Then it says what each choice inside validate() gives.
"""

from __future__ import annotations

import argparse
import copy
import io
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sparsity import Network, Validation, ValidationSettings, load, validate
from sparsity.base.devices import device_name
from sparsity.base.memory import peak_memory
from sparsity.data.dataset import Dataset
from sparsity.evaluation import coco
from sparsity.validation.detector import Lanes
from sparsity.validation.inputs import fit, make_loader, read_data

SETTINGS = ValidationSettings(device="cpu")
TO_REACH = 0.5


def main() -> None:
    """Parse the flags, time, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="yolov5n.pt")
    parser.add_argument("--data", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    network = load(args.weights)
    dataset = read_data(args.data, network, SETTINGS)
    count = len(dataset.images)
    print(f"{count} images, {device_name(torch.device('cpu'))}, torch {torch.__version__}")
    done = validate(copy.deepcopy(network), dataset, SETTINGS)
    peak = peak_memory() / 2**30
    print(f"peak memory of the process after one validate(): {peak:.2f} GiB\n")
    pixels = [batch.pixels for batch in make_loader(dataset.images, network, fit(SETTINGS, network))]
    compare(network, dataset, pixels, args.rounds)
    print("\nThe forward, step by step, ms/image (each step keeps those before it):")
    time_forwards(network, pixels[:: max(1, len(pixels) // 2)], args.rounds)
    print("\nThe rest, ms/image:")
    time_decoding(network, dataset, args.rounds)
    time_pycocotools(done, args.rounds)


def compare(network: Network, dataset: Dataset, pixels: list[np.ndarray], rounds: int) -> None:
    """validate() as a whole against the plain forward alone, in turns."""
    fast, plain, count = copy.deepcopy(network), plain_network(network), len(dataset.images)
    whole, forward = [], []
    for _ in range(rounds):
        whole.append(timed(lambda: validate(fast, dataset, SETTINGS)) / count)
        forward.append(sum(forward_ms(plain, batch) for batch in pixels) / count)
    ratios = [a / b for a, b in zip(whole, forward, strict=True)]
    print(f"validate(), whole    {describe(whole)}")
    print(f"plain forward alone  {describe(forward)}")
    print(
        f"ratio of medians     {statistics.median(whole) / statistics.median(forward):.2f} "
        f"(by round {min(ratios):.2f} to {max(ratios):.2f}; to reach: {TO_REACH:.2f})"
    )


def time_forwards(network: Network, pixels: list[np.ndarray], rounds: int) -> None:
    """The network alone, from the plain way to that of validate()."""
    plain, in_place = plain_network(network), copy.deepcopy(network)
    last = copy.deepcopy(network).to(memory_format=torch.channels_last)
    count = sum(map(len, pixels))
    with Lanes(torch.device("cpu")) as lanes:
        steps: dict[str, Callable[[torch.Tensor], object]] = {
            "plain: NCHW, batches of 32": plain,
            "activations in place": in_place,
            "one image at a time": lambda x: [in_place(one) for one in x.split(1)],
            "channels_last": lambda x: [last(one) for one in x.split(1)],
            "an image to each core": lambda x: lanes.map(last, x.split(1)),
        }
        spent: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(rounds):
            for number, (name, step) in enumerate(steps.items()):
                layout = torch.channels_last if number >= 3 else torch.contiguous_format
                spent[name].append(sum(forward_ms(step, b, layout) for b in pixels) / count)
    for name, times in spent.items():
        print(f"  {name:<32}{describe(times)}")


def time_decoding(network: Network, dataset: Dataset, rounds: int) -> None:
    """Files to letterboxed pixels, on one core."""
    settings = fit(ValidationSettings(device="cpu", workers=0), network)
    times = [timed(lambda: list(make_loader(dataset.images, network, settings))) for _ in range(rounds)]
    print(f"  {'decode and letterbox':<32}{describe([ms / len(dataset.images) for ms in times])}")


def time_pycocotools(done: Validation, rounds: int) -> None:
    """pycocotools as it is, and with a class matched and accumulated at once."""
    images = done.dataset.image_ids
    truth = done.dataset.annotations.content
    ours = {"image_ids": images, "category_ids": done.dataset.category_ids}
    ways = {
        "pycocotools as it is": lambda: plain_pycocotools(truth, done.predictions, images),
        "pycocotools in validate()": lambda: coco.evaluate(truth, done.results, **ours),
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            spent[name].append(timed(way) / len(images))
    for name, times in spent.items():
        print(f"  {name:<32}{describe(times)}")


def plain_pycocotools(truth: dict, results: list[dict], image_ids: list[int]) -> None:
    """What its documentation shows."""
    with redirect_stdout(io.StringIO()):
        annotations = COCO()
        annotations.dataset = truth
        annotations.createIndex()
        found = annotations.loadRes([dict(row) for row in results])
        evaluation = COCOeval(annotations, found, "bbox")
        evaluation.params.imgIds = image_ids
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()


def plain_network(network: Network) -> Network:
    """The network with activations that leave their input alone, as PyTorch makes them by default."""
    plain = copy.deepcopy(network)
    for module in plain.modules():
        if isinstance(module, nn.SiLU):
            module.inplace = False
    return plain


def forward_ms(
    forward: Callable[[torch.Tensor], object],
    batch: np.ndarray,
    layout: torch.memory_format = torch.contiguous_format,
) -> float:
    """Milliseconds of forward alone over one batch of uint8 pixels, made float beforehand."""
    images = torch.from_numpy(batch).permute(0, 3, 1, 2).float().div_(255)
    images = images.contiguous(memory_format=layout)
    with torch.inference_mode():
        return timed(lambda: forward(images))


def timed(function: Callable[[], object]) -> float:
    """Milliseconds."""
    start = time.perf_counter()
    function()
    return (time.perf_counter() - start) * 1e3


def describe(values: list[float]) -> str:
    """Median and spread."""
    return f"{statistics.median(values):6.1f} (min {min(values):.1f}, max {max(values):.1f})"


if __name__ == "__main__":
    main()
