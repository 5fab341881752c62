"""Damages small files in every way that comes to mind, and reads and runs each: refused or read, never worse.

python -m tests.fuzz --files 10000 --format safetensors
python -m tests.fuzz --files 10000 --format pt

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
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from sparsity.base.errors import InputError
from sparsity.base.memory import peak_memory
from sparsity.formats import loading
from tests.mutations import make_pt, make_safetensors, mutate_pt, mutate_safetensors

SECONDS = 10
MOST_RESIDENT = 2**30
MOST_ADDRESSES = 2 * 2**30
"""Beyond what the process has once everything is imported."""
FORMATS = {"safetensors": (make_safetensors, mutate_safetensors), "pt": (make_pt, mutate_pt)}
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
        return type(error).__name__, str(error)
    return "read", ""


def read_and_run(path: Path) -> None:
    """Read a network, and run it on the smallest image that it takes."""
    network = loading.load(path)
    network(torch.zeros(1, 3, network.largest_stride, network.largest_stride))


READERS: dict[str, Callable[[Path], object]] = {"safetensors": read_and_run, "pt": read_and_run}

if __name__ == "__main__":
    main()
