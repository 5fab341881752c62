"""Times the pruning of a YOLOv5 with random weights, and what memory it takes.

python benchmarks/prune.py --model yolov5x --amount 0.3 --scope layer
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sparsity import count_sparsity, prune
from sparsity.base.devices import device_name
from sparsity.base.memory import peak_memory
from sparsity.yolo.network import build, fuse
from sparsity.yolo.yolov5.architectures import SCALES, yolov5


def main() -> None:
    """Parse the flags, prune, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="yolov5x", choices=SCALES)
    parser.add_argument("--amount", type=float, default=0.3)
    parser.add_argument("--scope", default="layer", choices=["layer", "global"])
    args = parser.parse_args()
    torch.manual_seed(0)
    network = fuse(build(yolov5(args.model), [str(label) for label in range(80)]))
    start = time.perf_counter()
    prune(network, args.amount, args.scope)
    seconds = time.perf_counter() - start
    peak = peak_memory() / 2**30
    print(
        f"{args.model} {args.scope} {args.amount}: {seconds:.1f} s, peak memory of the process "
        f"{peak:.2f} GiB, {count_sparsity(network).conv:.6f} of the Conv2d weights are 0, "
        f"{device_name(torch.device('cpu'))}"
    )


if __name__ == "__main__":
    main()
