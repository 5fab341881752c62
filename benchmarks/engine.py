"""The sparse engine against the dense ones, interleaved in one run: latency by share of zeros.

Dense engines run the dense network, since zeros change nothing for them (docs/engines.md). With --calib, they
run it in int8, too, as NNCF quantises it for each. With --data, each network is validated in its engine, and
--plot draws AP against latency. An engine that can't run on this machine is named and left out.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from sparsity import InputError, ValidationSettings, load, prune, save, validate
from sparsity.base.devices import describe_environment
from sparsity.base.memory import peak_memory
from sparsity.base.threads import one_thread
from sparsity.engines.engine import Engine, Runner
from sparsity.engines.making import make_engines
from sparsity.engines.table import ENGINES
from sparsity.formats import onnx_file
from sparsity.formats.int8_runtimes import RUNTIMES
from sparsity.formats.onnx_file import OnnxNetwork
from sparsity.pruning.zeros import count_sparsity
from sparsity.timing.latency import Rounds, summarize, take_turns
from sparsity.training.lessons import lesson_of
from sparsity.validation.inputs import read_calibration
from sparsity.yolo.families import published_architecture, sizes
from sparsity.yolo.network import Network, build, fuse

CPU = torch.device("cpu")
DENSE = ("torch", "onnxruntime", "openvino", "openvino-bf16")
OURS = ("sparse", "sparse-bf16", "sparse-int8")
BLOCKS = {"sparse-bf16": "pair", "sparse-int8": "quad"}
"""The pattern whose zeros an engine skips."""
COCO_CLASSES = 80
INT8_IMAGES = 64
CONFIDENCE = 0.25
QUANTISED: list[tempfile.TemporaryDirectory] = []
MIB = 2**20


def main() -> None:
    """Time them and print a table; write it as CSV."""
    options = parse()
    networks = read_networks(options)
    calibration = read_images(options)
    ours = [name for name in OURS if calibration or not ENGINES[name].needs_images]
    engines = make_engines([*filter(can_be_made, (*DENSE, *ours))], calibration)
    rows, accuracy = [], {}
    for threads, batch, imgsz in itertools.product(options.threads, options.batches, options.imgsz):
        torch.set_num_threads(threads)
        images = torch.rand(batch, 3, imgsz, imgsz)
        runners, seconds = prepare(options, networks, engines, images)
        spent = take_turns(
            [partial(run, one, images) for one in runners.values()], Rounds(options.seconds, 3, 40)
        )
        times = {key: summarize(one) for key, one in zip(runners, spent, strict=True)}
        rivals = {key[0]: one.median for key, one in times.items() if key[0] not in OURS}
        fastest = min(rivals, key=rivals.__getitem__)
        best = rivals[fastest]
        float32 = min(rivals[name] for name in engines if name in rivals and not engines[name].computes_in)
        print(
            f"{threads} threads, batch {batch}, {imgsz} px: the best dense one is {fastest}, {best:.1f} ms",
            flush=True,
        )
        for (engine, criterion, amount), one in times.items():
            setup = (options.model, engine, criterion, amount, threads, batch, imgsz)
            speed = (one.median, one.p10, one.p90, one.runs, float32 / one.median, best / one.median)
            rows.append((*setup, *speed, seconds.get((engine, criterion, amount))))
    torch.set_num_threads(max(options.threads))
    if options.data:
        accuracy = accuracies(options, networks, engines)
    frame = pd.DataFrame(rows, columns=COLUMNS)
    frame["AP"] = [accuracy.get(row[1:4]) for row in rows]
    print(describe_environment(CPU)["cpu"], f"torch {torch.__version__}")
    print(frame.round(3).to_string(index=False))
    if options.memory:
        print_memory(options)
    if options.csv:
        options.csv.parent.mkdir(parents=True, exist_ok=True)
        frame.round(4).to_csv(options.csv, index=False)
    if options.plot:
        draw(frame, options)


COLUMNS = (
    *("model", "engine", "criterion", "amount", "threads", "batch", "imgsz"),
    *("ms", "p10", "p90", "runs", "speedup_over_best_float32", "speedup_over_best_dense", "compile_s"),
)


def can_be_made(name: str) -> bool:
    """Whether an engine runs on this machine; why not is printed."""
    try:
        make_engines([name])
    except InputError as error:
        print(error)
        return False
    return True


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", help="a checkpoint; random weights of --model where it is left out")
    parser.add_argument("--model", default="yolov5n", help="a published size; with --weights, its label")
    parser.add_argument(
        "--files",
        nargs="*",
        default=[],
        help="pruned networks of that model, for every sparse engine or, as ENGINE=FILE, for one",
    )
    parser.add_argument("--data", help="validates the networks on it; AP at the first --imgsz")
    parser.add_argument("--plot", type=Path, help="a picture of AP against latency, with --data")
    parser.add_argument("--amounts", type=float, nargs="+", default=[0, 0.5, 0.7, 0.8, 0.9])
    parser.add_argument(
        "--blocks", action="store_true", help="prunes in the blocks that bfloat16 and int8 skip, too"
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--imgsz", type=int, nargs="+", default=[640])
    parser.add_argument("--calib", help="images; with them, int8 is timed, too")
    parser.add_argument("--seconds", type=float, default=30, help="about so long for each setup")
    parser.add_argument("--memory", action="store_true", help="peak memory of a process for each engine, too")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    if not options.weights and options.model not in sizes():
        parser.error(f"--model is {options.model!r}; one of {', '.join(sizes())} is expected")
    if options.peak_of:
        print_peak(options)
        sys.exit()
    return options


def dense(options: argparse.Namespace) -> Network:
    """The dense network, fused."""
    if options.weights:
        return load(options.weights)
    torch.manual_seed(0)
    names = [str(number) for number in range(COCO_CLASSES)]
    network = build(published_architecture(options.model, COCO_CLASSES), names)
    # Without the initial biases, most cells detect something, and decoding takes longer than the network.
    lesson_of(network).initialise(network.head, options.imgsz[0])
    return fuse(network).requires_grad_(False)


def read_networks(options: argparse.Namespace) -> dict[tuple[str, str, float], Network]:
    """The sparse engine ("" for all), criterion or name of the file, and sparsity -> the network."""
    networks = {("", "l1" if amount else "", amount): pruned(options, amount) for amount in options.amounts}
    for engine, pattern in BLOCKS.items() if options.blocks else ():
        for amount in filter(None, options.amounts):
            networks[engine, f"l1 {pattern}", amount] = pruned(options, amount, pattern)
    for given in options.files:
        engine, _, file = given.rpartition("=")
        network = load(file)
        networks[engine, Path(file).stem, round(count_sparsity(network).conv, 3)] = network
    return networks


def setups(
    networks: dict[tuple[str, str, float], Network], engines: dict[str, Engine]
) -> dict[tuple[str, str, float], Network]:
    """The sparse engine that runs a network, criterion or name, and sparsity -> the network."""
    pairs = itertools.product(filter(engines.__contains__, OURS), networks.items())
    return {(name, *key[1:]): network for name, (key, network) in pairs if key[0] in ("", name)}


def prepare(
    options: argparse.Namespace,
    networks: dict[tuple[str, str, float], Network],
    engines: dict[str, Engine],
    images: Tensor,
) -> tuple[dict[tuple[str, str, float], Runner], dict[tuple[str, str, float], float]]:
    """Runners by engine, criterion and amount; and the seconds that each sparse one took to be made."""
    one = dense(options)
    runners = {
        (name, "", 0.0): engine.prepare(one, CPU, torch.float32)
        for name, engine in engines.items()
        if name not in OURS
    }
    runners |= {
        (f"{name}-int8", "", 0.0): engines[name].prepare(quantised, CPU, torch.float32)
        for name, quantised in int8_networks(options, tuple(filter(engines.__contains__, RUNTIMES)))
    }
    seconds = {}
    for key, network in setups(networks, engines).items():
        start = time.perf_counter()
        runner = engines[key[0]].prepare(network, CPU, torch.float32)
        runner.settle(images)
        run(runner, images)
        seconds[key] = time.perf_counter() - start
        runners[key] = runner
    return runners, seconds


def int8_networks(options: argparse.Namespace, names: tuple[str, ...]) -> list[tuple[str, OnnxNetwork]]:
    """The dense network in int8, quantised for each of these engines; none without --calib."""
    if not options.calib:
        return []
    folder = quantised_folder(options, names)
    return [(name, onnx_file.read(folder / f"{name}.onnx")) for name in names]


def quantised_folder(options: argparse.Namespace, names: tuple[str, ...]) -> Path:
    """Write the int8 networks once into a folder that the end of this process removes."""
    if not QUANTISED:
        QUANTISED.append(tempfile.TemporaryDirectory())
        network, calibration = dense(options), read_images(options)
        for name in names:
            save(network, Path(QUANTISED[0].name) / f"{name}.onnx", int8_images=calibration, int8=name)
    return Path(QUANTISED[0].name)


def accuracies(
    options: argparse.Namespace,
    networks: dict[tuple[str, str, float], Network],
    engines: dict[str, Engine],
) -> dict[tuple[str, str, float], float]:
    """The AP of each network in its engine, on --data."""
    one, runtimes = dense(options), tuple(filter(engines.__contains__, RUNTIMES))
    tried = {(name, "", 0.0): (name, one) for name in engines if name not in OURS}
    tried |= {
        (f"{name}-int8", "", 0.0): (name, quantised) for name, quantised in int8_networks(options, runtimes)
    }
    tried |= {key: (key[0], network) for key, network in setups(networks, engines).items()}
    found = {}
    for key, (engine, network) in tried.items():
        settings = ValidationSettings(engine=engine, imgsz=options.imgsz[0])
        result = validate(network, options.data, settings, calibration=read_images(options))
        found[key] = result.figures.AP
    return found


def draw(frame: pd.DataFrame, options: argparse.Namespace) -> None:
    """Plot AP against latency: a panel for each number of threads, at the first batch and image size."""
    figure = Figure(figsize=(5.6 * len(options.threads), 5), layout="constrained")
    panels = figure.subplots(1, len(options.threads), sharey=True, squeeze=False)
    for panel, threads in zip(panels[0], options.threads, strict=True):
        shown = (frame.threads == threads) & (frame.batch == options.batches[0])
        shown &= frame.imgsz == options.imgsz[0]
        for number, (engine, part) in enumerate(frame[shown].groupby("engine", sort=False)):
            part = part.sort_values("AP")
            style = "o-" if engine in OURS else "D"
            panel.plot(part.ms, part.AP, style, color=f"C{number}", label=engine, markersize=5)
        panel.set(title=f"{threads} thread{'s' if threads > 1 else ''}", xlabel="milliseconds for one image")
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("AP")
    panels[0][-1].legend(fontsize=8, title="diamonds: the dense network")
    figure.suptitle(f"{options.model}: AP against latency at {options.imgsz[0]} pixels")
    figure.savefig(options.plot, dpi=110)


def read_images(options: argparse.Namespace) -> list[Tensor]:
    """The images of --calib, none without it."""
    if not options.calib:
        return []
    return read_calibration(options.calib, INT8_IMAGES, network=dense(options), imgsz=options.imgsz[0])


def pruned(options: argparse.Namespace, amount: float, pattern: str = "") -> Network:
    """The network pruned by magnitude, the same share of each layer."""
    return prune(dense(options), amount, pattern=pattern) if amount else dense(options)


def run(runner: Runner, images: Tensor) -> None:
    """One pass: images to the boxes above the threshold."""
    with torch.inference_mode():
        maps = runner(images.contiguous(memory_format=runner.memory_format))
        with one_thread():
            runner.candidates(maps, CONFIDENCE)


def print_memory(options: argparse.Namespace) -> None:
    """Peak memory of processes that load the network and run one image, by engine."""
    for engine in ("torch", "sparse"):
        for amount in (0, 0.8):
            command = [sys.executable, __file__, "--model", options.model, "--amounts", str(amount)]
            command += ["--peak-of", engine, *(["--weights", options.weights] if options.weights else [])]
            print(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())


def print_peak(options: argparse.Namespace) -> None:
    """This process's peak memory after one image, above what it was before the engine."""
    amount = options.amounts[0]
    network = pruned(options, amount)
    images = torch.rand(1, 3, options.imgsz[0], options.imgsz[0])
    engine = make_engines([options.peak_of])[options.peak_of]
    before = peak_memory()
    run(engine.prepare(network, CPU, torch.float32), images)
    after = peak_memory()
    more = (after - before) / MIB
    print(f"{options.model} {options.peak_of} {amount}: {more:.0f} MiB more, peak {after / MIB:.0f} MiB")


if __name__ == "__main__":
    main()
