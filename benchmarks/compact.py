"""Times a pruned YOLOv5 against the same one without its dead channels, by turns.

    python benchmarks/compact.py --weights yolov5n.pt --amounts 0.5 0.7 0.8 0.9 --image street.jpg

Without --amounts a network is taken as it is: --weights of finetune.py, say. Beside other work,
OMP_NUM_THREADS=1 gives steadier figures.
"""

from __future__ import annotations

import argparse
import copy
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sparsity import InputError, count_sparsity, load, prune
from sparsity.base.devices import device_name
from sparsity.channels.compacting import Compacted, compact
from sparsity.data.letterbox import letterbox
from sparsity.pruning.multiply_adds import count_gflops
from sparsity.timing.latency import Latency, Rounds, summarize
from sparsity.timing.networks import time_detectors
from sparsity.validation.detector import Detector, Lanes
from sparsity.yolo.network import Network


def main() -> None:
    """Parse the flags; prune, compact, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", nargs="+", default=["yolov5n.pt"])
    parser.add_argument("--amounts", nargs="*", type=float, default=[])
    parser.add_argument("--scope", default="global", choices=["layer", "global", "lamp", "erk"])
    parser.add_argument("--image", help="a real image; random pixels without")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--seconds", type=float, default=30.0, help="of timing for each pair")
    args = parser.parse_args()
    pixels = Path(args.image).name if args.image else "random pixels"
    print(f"{device_name(torch.device('cpu'))}, torch {torch.__version__}")
    print(f"{args.imgsz} x {args.imgsz}, batch 1, {pixels}")
    images = read_image(args.image, args.imgsz)
    for weights in args.weights:
        dense = load(weights)
        for amount in args.amounts or [None]:
            network = dense if amount is None else prune(copy.deepcopy(dense), amount, args.scope)
            title = "as it is" if amount is None else f"l1 {args.scope} {amount}"
            print(f"\n{Path(weights).name}, {title}: {count_sparsity(network).conv:.4f} of the weights are 0")
            report(network, compact(network), images, Rounds(args.seconds, least=10, most=200))


def read_image(file: str | None, imgsz: int) -> Tensor:
    """float32 [1, 3, imgsz, imgsz] in 0 to 1: the file, letterboxed, or random pixels."""
    if file is None:
        return torch.rand(1, 3, imgsz, imgsz, generator=torch.Generator().manual_seed(0))
    image, out = cv2.imread(file), np.empty((imgsz, imgsz, 3), np.uint8)
    if image is None:
        raise InputError(f"--image: {file} is no image that OpenCV reads")
    letterbox(image, imgsz, out)
    return torch.from_numpy(out[None, ..., ::-1].copy()).permute(0, 3, 1, 2).float() / 255


def report(network: Network, found: Compacted, images: Tensor, rounds: Rounds) -> None:
    """Print what went, what that changed, and how long both take."""
    parameters = [sum(p.numel() for p in one.parameters()) for one in (network, found.network)]
    gflops = [count_gflops(one, images.shape[2:]) for one in (network, found.network)]
    print_pair("channels", found.channels_before, found.channels_after, "d")
    print_pair("weights", found.weights_before, found.weights_after, "d")
    print_pair("parameters", *parameters, "d")
    print_pair("GFLOPs", *gflops, ".3f")
    before, again, after = time_pair(network, found.network, images, rounds)
    print_pair("median ms", before.median, after.median, ".2f")
    print_pair("p10 ms", before.p10, after.p10, ".2f")
    print_pair("p90 ms", before.p90, after.p90, ".2f")
    print(
        f"  of {before.runs} runs each; a copy of the first took x {again.median / before.median:.3f}", end=""
    )
    print(f" (median), x {again.p10 / before.p10:.3f} (p10): closer than that is noise")
    print(f"  largest difference, of a raw map's largest number: {difference(network, found, images):.1e}")


def print_pair(title: str, before: float, after: float, form: str) -> None:
    """One line: before, after, and their ratio."""
    print(f"  {title:<12}{before:>12{form}}{after:>12{form}}   x {after / before:.3f}")


def difference(network: Network, found: Compacted, images: Tensor) -> float:
    """The largest difference of the raw maps, relative to the largest number of each."""
    with torch.inference_mode():
        pairs = list(zip(found.network(images), network(images), strict=True))
    return max(float((ours - theirs).abs().max() / theirs.abs().max()) for ours, theirs in pairs)


def time_pair(one: Network, other: Network, images: Tensor, rounds: Rounds) -> list[Latency]:
    """Latency of the first, of a copy of it and of the other, taking turns, as a sweep measures it."""
    with Lanes(torch.device("cpu")) as lanes:
        detectors = [Detector(network, lanes) for network in (one, one, other)]
        spent = time_detectors(detectors, images, rounds)
    return [summarize(times) for times in spent]


if __name__ == "__main__":
    main()
