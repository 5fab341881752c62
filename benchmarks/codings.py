"""Bytes that each way of coding the zeros and the values takes, summed over a pruned YOLOv5's layers.

python benchmarks/codings.py --weights yolov5n.pt --amounts 0 0.3 0.6 0.9 --levels 0 1 3 19
python benchmarks/codings.py --model yolov5x --amounts 0.5 0.9 --levels 0 1
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sparsity import load, prune
from sparsity.base.optional import optional_module
from sparsity.formats import coding
from sparsity.formats.half import round_to_half
from sparsity.pruning.layers import convolutions
from sparsity.yolo.network import build, fuse
from sparsity.yolo.yolov5.architectures import SCALES, yolov5

ORDERS = {
    "as stored": (0, 1, 2, 3),
    "in channels last": (0, 2, 3, 1),
    "in channels first": (1, 0, 2, 3),
    "kernel places first": (2, 3, 0, 1),
}


def main() -> None:
    """Parse the flags, prune, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--weights", type=Path, help="a checkpoint")
    source.add_argument("--model", choices=SCALES, help="random weights")
    parser.add_argument("--amounts", type=float, nargs="+", default=[0.3, 0.6, 0.9])
    parser.add_argument("--levels", type=int, nargs="+", default=[0], help="zstandard's; 0: as files are")
    parser.add_argument("--pattern", help="N:M, in place of amounts as they come")
    args = parser.parse_args()
    torch.manual_seed(0)
    names = [str(label) for label in range(80)]
    network = load(args.weights) if args.weights else fuse(build(yolov5(args.model), names))
    network.requires_grad_(False)
    for amount in args.amounts:
        pruned = copy.deepcopy(network)
        round_to_half(prune(pruned, amount, pattern=args.pattern) if amount else pruned)
        sizes: Counter[tuple[str, int]] = Counter()
        seconds: Counter[tuple[str, int]] = Counter()
        for _, conv in convolutions(pruned):
            for name, planes in codings(conv.weight.half().numpy().view(np.uint16)):
                for level in args.levels:
                    start = time.perf_counter()
                    sizes[name, level] += sum(compressed_size(plane, level) for plane in planes)
                    seconds[name, level] += time.perf_counter() - start
        print(f"amount {amount}; bytes (seconds) at zstandard's levels {args.levels} (0: as files are):")
        for name in dict.fromkeys(name for name, _ in sizes):
            cells = [f"{sizes[name, n]:>12} ({seconds[name, n]:5.2f})" for n in args.levels]
            print(f"  {name:32}", *cells, flush=True)


def codings(bits: NDArray[np.uint16]) -> Iterator[tuple[str, list[NDArray]]]:
    """The weights' bits [out, in, height, width] -> each way to code mask or values, as streams of bytes."""
    for name, order in ORDERS.items():
        kept = bits.transpose(order).reshape(-1) != 0
        yield f"mask: bits, {name}", [coding.MASKS["bits"].pack(kept, kept.shape)]
        yield f"mask: gaps, {name}", [coding.MASKS["gaps"].pack(kept, kept.shape)]
    values = bits[bits != 0]
    magnitudes, signs = values & 0x7FFF, values >> 15
    above = magnitudes - magnitudes.min(initial=0x7FFF)
    yield "values: as they are", [values.view(np.uint8)]
    yield "values: planes", planes(values)
    yield "values: planes, sign last", planes((magnitudes << 1) | signs)
    yield "values: planes, above least", planes((signs << 15) | above)
    yield "values: planes, above least, sign last", planes((above << 1) | signs)
    values = bits.reshape(-1)
    merged = ((values & 0x7FFF) << 1) | (values >> 15)
    yield "mask in high plane, and low plane", [planes(merged)[0], planes(merged[merged != 0])[1]]


def planes(numbers: NDArray[np.uint16]) -> list[NDArray]:
    """High bytes and low bytes apart."""
    return [(numbers >> 8).astype(np.uint8), (numbers & 0xFF).astype(np.uint8)]


def compressed_size(plane: NDArray, level: int) -> int:
    """Through zstandard, or as it is."""
    zstandard = optional_module("zstandard", "benchmarks/codings.py")
    compress = zstandard.ZstdCompressor(level=level).compress if level else coding.compress
    return min(plane.nbytes, len(compress(plane.tobytes())))


if __name__ == "__main__":
    main()
