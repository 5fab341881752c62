"""Sizes of a pruned YOLOv5 by amount: as .pt, as .pt through zstd -19, as our .safetensors, and the bound.

python benchmarks/sizes.py --weights yolov5n.pt --out sizes.csv
python benchmarks/sizes.py --model yolov5x --quick
"""

from __future__ import annotations

import argparse
import copy
import csv
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sparsity import load, prune
from sparsity.base.optional import optional_module
from sparsity.formats import compressed, yolov5_pt
from sparsity.formats.half import round_to_half
from sparsity.yolo.network import Network, build, fuse
from sparsity.yolo.yolov5.architectures import SCALES, yolov5

AMOUNTS = tuple(tenth / 10 for tenth in range(10))
LEVEL = 19
COLUMNS = {
    "amount": "amount",
    "dense_pt": "dense .pt",
    "dense_pt_zstd": "zstd -19",
    "pt_zstd": "pruned, zstd",
    "ours": "ours",
    "bound": "bound",
    "to_bound": "ours/bound",
    "to_zstd": "/dense zstd",
    "to_dense": "/dense",
    "encode_s": "encode s",
    "decode_s": "decode s",
}


def main() -> None:
    """Parse the flags, prune, write, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--weights", type=Path, help="a checkpoint")
    source.add_argument("--model", choices=SCALES, help="random weights")
    parser.add_argument("--amounts", type=float, nargs="+", default=AMOUNTS)
    parser.add_argument("--quick", action="store_true", help="spare zstd -19 the pruned .pt: minutes each")
    parser.add_argument("--out", type=Path, help="write the table as CSV")
    args = parser.parse_args()
    torch.manual_seed(0)
    network = load(args.weights) if args.weights else random_network(args.model)
    dense = yolov5_pt.encode(network)
    dense_zstd = len(zstd(dense))
    rows = []
    print("  ".join(f"{title:>12}" for title in COLUMNS.values()))
    for amount in args.amounts:
        row = {"amount": amount, "dense_pt": len(dense), "dense_pt_zstd": dense_zstd}
        rows.append(row | measured(network, amount, dense_zstd, len(dense), args.quick))
        print("  ".join(f"{shown(rows[-1][column]):>12}" for column in COLUMNS), flush=True)
    if args.out:
        with args.out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows({name: shown(value) for name, value in row.items()} for row in rows)


def measured(network: Network, amount: float, dense_zstd: int, dense: int, quick: bool) -> dict[str, object]:
    """What the row of one amount has beside the dense sizes; with quick no pt_zstd."""
    pruned = copy.deepcopy(network)
    round_to_half(prune(pruned, amount) if amount else pruned)
    start = time.perf_counter()
    content = compressed.encode(pruned)
    encode_s = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.safetensors"
        path.write_bytes(content)
        start = time.perf_counter()
        _, weights, _ = compressed.read(path)
        decode_s = time.perf_counter() - start
    if not all(torch.equal(weights[name], tensor) for name, tensor in pruned.state_dict().items()):
        raise SystemExit("what was read is not what was written")
    ours, bound = len(content), compressed.entropy_bound_bytes(pruned)
    return {
        "pt_zstd": "" if quick else len(zstd(yolov5_pt.encode(pruned))),
        "ours": ours,
        "bound": bound,
        "to_bound": ours / bound,
        "to_zstd": ours / dense_zstd,
        "to_dense": ours / dense,
        "encode_s": encode_s,
        "decode_s": decode_s,
    }


def random_network(name: str) -> Network:
    """A fused network with PyTorch's random weights and 80 classes."""
    return fuse(build(yolov5(name), [str(label) for label in range(80)])).requires_grad_(False)


def zstd(content: memoryview) -> bytes:
    """As zstd -19 compresses it."""
    zstandard = optional_module("zstandard", "benchmarks/sizes.py")
    return zstandard.ZstdCompressor(level=LEVEL).compress(content)


def shown(number: object) -> str:
    """Bytes whole, all else to three places."""
    return f"{number:.3f}" if isinstance(number, float) else str(number)


if __name__ == "__main__":
    main()
