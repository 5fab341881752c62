"""A network as C code against the engines, interleaved in one run: latency and sizes by share of zeros.

The dense engines run the dense network. --instructions also counts the instructions of one image on an
aarch64 that qemu-user emulates: an estimate of what zeros save on such a CPU.
"""

from __future__ import annotations

import argparse
import ctypes
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.engine import CONFIDENCE, CPU, can_be_made, dense, pruned, run
from sparsity import save
from sparsity.base.devices import describe_environment
from sparsity.engines.making import make_engines
from sparsity.timing.latency import Rounds, summarize, take_turns
from sparsity.yolo.network import Network

NATIVE = "-O3 -march=native"
MB = 1e6
BOXES, IOU = 300, 0.45
NUMBERS = np.ctypeslib.ndpointer(np.float32, flags="C")
PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "net.h"
static float image[3 * NET_HEIGHT * NET_WIDTH];
static struct net_box boxes[300];
int main(void)
{
    char line[256];
    const int count = net_detect(image, 0.25f, 0.45f, boxes, 300);
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, "VmHWM:", 6))
            printf("%ld\\n", strtol(line + 6, NULL, 10));
    return count < 0;
}
"""
"""Runs a black image, and prints the process's peak memory in KiB."""
PLUGIN = """
#include <stdint.h>
#include <stddef.h>
#include <stdio.h>
typedef uint64_t id;
struct block;
extern void qemu_plugin_register_vcpu_tb_trans_cb(id, void (*)(id, struct block *));
extern size_t qemu_plugin_tb_n_insns(const struct block *);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct block *, int, void *, uint64_t);
extern void qemu_plugin_register_atexit_cb(id, void (*)(id, void *), void *);
int qemu_plugin_version = 1;
static uint64_t count;
static void translated(id i, struct block *one)
{
    qemu_plugin_register_vcpu_tb_exec_inline(one, 0, &count, qemu_plugin_tb_n_insns(one));
}
static void ended(id i, void *nothing) { fprintf(stderr, "%llu\\n", (unsigned long long)count); }
int qemu_plugin_install(id i, const void *info, int n, char **arguments)
{
    qemu_plugin_register_vcpu_tb_trans_cb(i, translated);
    qemu_plugin_register_atexit_cb(i, ended, NULL);
    return 0;
}
"""
"""Counts the instructions that qemu-user executes, by version 1 of its plugin interface."""
COLUMNS = (
    *("model", "engine", "amount", "threads", "imgsz", "ms", "p10", "p90", "runs"),
    *("over_sparse_engine", "source_mb", "binary_mb", "process_mb"),
)


@dataclass(frozen=True)
class Code:
    """A network's C code, compiled. source, binary: sizes in MB. process: peak memory of a program, in MB."""

    detect: Callable[[np.ndarray], int]
    source: float
    binary: float
    process: float


def main() -> None:
    """Time them and print a table; write it as CSV."""
    options = parse()
    networks = {amount: pruned(options, amount) for amount in options.amounts}
    with tempfile.TemporaryDirectory() as folder:
        codes = {
            (cc, amount): compile_code(network, Path(folder) / f"{cc}{amount}", cc, options.imgsz[0])
            for amount, network in networks.items()
            for cc in options.compilers
        }
        rows = [row for threads in options.threads for row in timed(options, networks, codes, threads)]
        frame = pd.DataFrame(rows, columns=COLUMNS)
        print(describe_environment(CPU)["cpu"], f"torch {torch.__version__}")
        print(frame.round(3).to_string(index=False))
        if options.instructions:
            print_instructions(options, Path(folder), networks)
    if options.csv:
        options.csv.parent.mkdir(parents=True, exist_ok=True)
        frame.round(4).to_csv(options.csv, index=False)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", help="a checkpoint; random weights of --model where it is left out")
    parser.add_argument("--model", default="yolov5n", help="a published size; with --weights, its label")
    parser.add_argument("--amounts", type=float, nargs="+", default=[0, 0.5, 0.7, 0.8, 0.9])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--imgsz", type=int, nargs=1, default=[640])
    parser.add_argument("--compilers", nargs="+", default=["gcc"])
    parser.add_argument("--seconds", type=float, default=30, help="about so long for each number of threads")
    parser.add_argument("--instructions", action="store_true")
    parser.add_argument("--csv", type=Path)
    return parser.parse_args()


def compile_code(network: Network, folder: Path, cc: str, imgsz: int) -> Code:
    """Write the code of a network, tuned for this machine, and build a library and a program of it."""
    folder.mkdir()
    save(network, folder / "net.c", imgsz=imgsz)
    (folder / "main.c").write_text(PROGRAM)
    library = folder / "net.so"
    for sources, more, out in (("net.c", "-fopenmp -shared -fPIC", "net.so"), ("net.c main.c", "", "main")):
        command = f"{cc} {NATIVE} {more} {sources} -o {out} -lm"
        subprocess.run(shlex.split(command), check=True, cwd=folder)
    kib = int(subprocess.run([folder / "main"], check=True, capture_output=True, text=True).stdout)
    sizes = [(folder / name).stat().st_size / MB for name in ("net.c", "main")]
    return Code(detector(ctypes.CDLL(str(library))), *sizes, kib * 1024 / MB)


def detector(library: ctypes.CDLL) -> Callable[[np.ndarray], int]:
    """A function that detects in an image. It suppresses, too, which the engines' calls do not."""
    boxes = ctypes.create_string_buffer(24 * BOXES)
    library.net_detect.argtypes = [NUMBERS, ctypes.c_float, ctypes.c_float, ctypes.c_void_p, ctypes.c_int]
    return lambda image: library.net_detect(image, CONFIDENCE, IOU, boxes, BOXES)


def timed(
    options: argparse.Namespace,
    networks: dict[float, Network],
    codes: dict[tuple[str, float], Code],
    threads: int,
) -> list[tuple]:
    """Rows of the table for a number of threads."""
    torch.set_num_threads(threads)
    ctypes.CDLL("libgomp.so.1").omp_set_num_threads(threads)
    images = torch.rand(1, 3, *options.imgsz * 2)
    calls = engine_calls(options, networks, images)
    pixels = images.numpy()
    calls |= {(f"C, {cc}", amount): partial(one.detect, pixels) for (cc, amount), one in codes.items()}
    spent = take_turns(list(calls.values()), Rounds(options.seconds, 5, 100))
    times = {key: summarize(one) for key, one in zip(calls, spent, strict=True)}
    rows = []
    for (engine, amount), one in times.items():
        code = codes.get((engine.removeprefix("C, "), amount))
        sizes = (code.source, code.binary, code.process) if code else (None, None, None)
        ours = times.get(("sparse", amount))
        ratio = one.median / ours.median if ours else None
        setup = (options.model, engine, amount, threads, options.imgsz[0])
        rows.append((*setup, one.median, one.p10, one.p90, one.runs, ratio, *sizes))
    return rows


def engine_calls(
    options: argparse.Namespace, networks: dict[float, Network], images: Tensor
) -> dict[tuple[str, float], Callable[[], None]]:
    """The dense engines with the dense network, and the sparse engine with every network, prepared."""
    engines = make_engines([*filter(can_be_made, ("onnxruntime", "openvino", "sparse"))])
    tried = {(name, 0.0): dense(options) for name in engines if name != "sparse"}
    tried |= {("sparse", amount): network for amount, network in networks.items()}
    calls = {}
    for (name, amount), network in tried.items():
        runner = engines[name].prepare(network, CPU, torch.float32)
        runner.settle(images)
        calls[name, amount] = partial(run, runner, images)
    return calls


def print_instructions(options: argparse.Namespace, folder: Path, networks: dict[float, Network]) -> None:
    """Print the instructions of one image on an emulated aarch64, by amount."""
    (folder / "plugin.c").write_text(PLUGIN)
    subprocess.run(["gcc", "-shared", "-fPIC", "plugin.c", "-o", "plugin.so"], check=True, cwd=folder)
    first = None
    for amount, network in networks.items():
        save(network, folder / "net.c", imgsz=options.imgsz[0], target="cortex-a76")
        (folder / "main.c").write_text(PROGRAM)
        command = "aarch64-linux-gnu-gcc -O3 -static net.c main.c -o main -lm"
        subprocess.run(shlex.split(command), check=True, cwd=folder)
        command = "qemu-aarch64 -plugin ./plugin.so ./main"
        done = subprocess.run(shlex.split(command), check=True, cwd=folder, capture_output=True, text=True)
        count = int(done.stderr)
        first = first or count
        millions = f"{count / 1e6:.0f} million instructions"
        print(f"aarch64, {amount:.0%} zeros: {millions}, {first / count:.2f}x fewer")


if __name__ == "__main__":
    main()
