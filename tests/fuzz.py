"""Damages small files in every way that comes to mind, and reads and runs each: refused or read, never worse.

python -m tests.fuzz --files 10000 --format safetensors
python -m tests.fuzz --files 10000 --format pt
python -m tests.fuzz --files 10000 --format onnx

Each file is read in a process of its own kind, with a limit on memory and a timer. Exit code 1 where a
reader raised anything but InputError, crashed, hung or took over 1 GiB; such files are kept.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

from sparsity.base.errors import InputError
from sparsity.base.memory import peak_memory
from sparsity.engines.making import make_engine
from sparsity.formats import loading, onnx_file
from sparsity.pruning.zeros import count_sparsity, layer_sparsity
from sparsity.report.validation import format_layers, format_model
from sparsity.validation.detector import Detector, Lanes
from sparsity.validation.inputs import Detectable
from tests.mutations import make_pt, make_safetensors, mutate_pt, mutate_safetensors
from tests.onnx_mutations import make_onnx, mutate_onnx
from tests.tree_mutations import mutate_tree

SECONDS = 10
MOST_RESIDENT = 2**30
MOST_ADDRESSES = 2 * 2**30
"""Beyond what the process has once everything is imported."""
FORMATS = {
    "safetensors": (make_safetensors, mutate_safetensors),
    "pt": (make_pt, lambda originals, rng: rng.choice((mutate_pt, mutate_tree))(originals, rng)),
    "onnx": (make_onnx, mutate_onnx),
}
GOOD = ("refused", "read")


def main() -> None:
    """Parse the flags, read the files, print; exit with 1 where a reader failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="index of the first file, to repeat one")
    parser.add_argument("--keep", type=Path, help="where files that make a reader fail go")
    args = parser.parse_args()
    keep = args.keep or Path(tempfile.mkdtemp(prefix="fuzz-"))
    found = fuzz(args.format, range(args.first, args.first + args.files), args.seed, keep)
    print(f"{args.format}, seed {args.seed}, {sum(found.values())} files:")
    for kind, count in found.most_common():
        print(f"  {kind}: {count}")
    sys.exit(any(kind not in GOOD for kind in found))


def fuzz(name: str, indices: range, seed: int, keep: Path) -> Counter[str]:
    """Read a damaged file for each index; gives how many ended how. What fails is kept and printed."""
    make, mutate = FORMATS[name]
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        originals = make(Path(folder))
        reader = Reader(name, Path(folder) / f"damaged.{name}")
        for index in indices:
            content = mutate(originals, random.Random(f"{name} {seed} {index}"))
            kind, said = reader.read(content)
            found[kind] += 1
            if kind not in GOOD:
                keep.mkdir(parents=True, exist_ok=True)
                kept = keep / f"{kind}_{seed}_{index}.{name}"
                kept.write_bytes(content)
                print(f"{kept} (--seed {seed} --first {index} --files 1): {said}", flush=True)
        reader.stop()
    return found


class Reader:
    """A process that reads files, started anew whenever one has been its last."""

    def __init__(self, name: str, path: Path) -> None:
        self._name, self._path = name, path
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(self._name, self._path, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._connection.recv()

    def read(self, content: bytes) -> tuple[str, str]:
        """How reading that content ended, and what was said."""
        self._path.write_bytes(content)
        self._connection.send(None)
        try:
            if not self._connection.poll(SECONDS):
                return self._restarted("hang", f"over {SECONDS} s")
            kind, said, resident = self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            return self._restarted("crash", f"exit code {self._process.exitcode}")
        if resident > MOST_RESIDENT:
            return self._restarted("memory", f"{resident / 2**30:.2f} GiB resident; {kind}: {said}")
        return kind, said

    def _restarted(self, kind: str, said: str) -> tuple[str, str]:
        self.stop()
        self._start()
        return kind, said

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._connection.close()


def serve(name: str, path: Path, connection: Connection) -> None:
    """Read path whenever asked, and say how it ended and what memory this process has ever taken."""
    torch.set_num_threads(1)
    status = Path("/proc/self/statm")
    if status.exists():
        limit = int(status.read_text().split()[0]) * resource.getpagesize() + MOST_ADDRESSES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    connection.send("ready")
    while True:
        connection.recv()
        kind, said = outcome(READERS[name], path)
        connection.send((kind, said, peak_memory()))


def outcome(read: Callable[[Path], object], path: Path) -> tuple[str, str]:
    """How reading ends: read, refused (in one line), or the exception's name."""
    try:
        read(path)
    except InputError as error:
        return ("refused" if "\n" not in str(error) else "lines"), str(error)
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return type(error).__name__, f"{str(error)[:300]} ({Path(last.filename).name}:{last.lineno})"
    return "read", ""


def read_and_run(path: Path) -> None:
    """Read a network, as the commands do, and detect on the smallest image that it takes."""
    run(loading.load(path), "torch")


def read_and_run_onnx(path: Path) -> None:
    """Read an ONNX file, as the command val does, and detect on the smallest image that it takes."""
    run(onnx_file.read(path), "onnxruntime")


def run(network: Detectable, engine: str) -> None:
    """Count a network's zeros, print its layers, and detect on a black image."""
    format_model(count_sparsity(network))
    format_layers(layer_sparsity(network))
    side = network.largest_stride
    with Lanes(torch.device("cpu")) as lanes:
        detector = Detector(network, lanes, engine=make_engine(engine))
        (found,) = detector.detect(np.zeros((1, side, side, 3), np.uint8))
    labels = [network.names[label] for label in found.classes.tolist()]
    if found.boxes_xyxy.shape != (len(labels), 4):
        raise TypeError(f"boxes of shape {tuple(found.boxes_xyxy.shape)} for {len(labels)} labels")


READERS: dict[str, Callable[[Path], object]] = {
    "safetensors": read_and_run,
    "pt": read_and_run,
    "onnx": read_and_run_onnx,
}

if __name__ == "__main__":
    main()
