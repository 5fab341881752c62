"""Times torch.compile against eager PyTorch as the engine runs it, by turns; says what compiling took.

python benchmarks/compile.py --weights yolov5n.pt
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sparsity import load
from sparsity.base.devices import device_name
from sparsity.engines.pytorch import TorchEngine
from sparsity.timing.latency import Rounds, summarize, take_turns

CPU = torch.device("cpu")


def main() -> None:
    """Parse the flags, compile, time, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="yolov5n.pt")
    parser.add_argument("--imgsz", type=int, default=640)
    args = parser.parse_args()
    network = load(args.weights)
    images = torch.rand(1, 3, args.imgsz, args.imgsz).contiguous(memory_format=torch.channels_last)
    eager = TorchEngine().prepare(network, CPU, torch.float32)
    compiled = torch.compile(network.to(memory_format=torch.channels_last))
    start = time.perf_counter()
    run(compiled, images)
    print(f"{device_name(CPU)}, torch {torch.__version__}, compiled in {time.perf_counter() - start:.0f} s")
    runs = [lambda: run(eager, images), lambda: run(compiled, images)]
    for name, spent in zip(("eager", "compiled"), take_turns(runs, Rounds()), strict=True):
        taken = summarize(spent)
        print(f"{name}: {taken.median:.1f} ms ({taken.p10:.1f} to {taken.p90:.1f})")


def run(network: nn.Module | object, images: Tensor) -> None:
    """One batch, without gradients."""
    with torch.inference_mode():
        network(images)


if __name__ == "__main__":
    main()
