"""Runs the commands of techniques, one process each, and times what they made by turns."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sparsity.checkpoint import load
from sparsity.comparing.rows import ComparedRow
from sparsity.comparing.techniques import Asked, Command, Plan, validation
from sparsity.devices import select_device
from sparsity.download import ensure_weights
from sparsity.engines.registry import make_engines
from sparsity.errors import InputError
from sparsity.flops import count_gflops
from sparsity.formats import onnx_file
from sparsity.inference import Detector, Lanes
from sparsity.latency import Latency, Rounds, summarize, take_turns
from sparsity.sizes import MB
from sparsity.validation import Detectable

SCRIPTS = Path(__file__).parents[2]
KIBIBYTE = 1024


@dataclass(frozen=True)
class Made:
    """A technique's file in an engine, validated: metrics.json, and what it took."""

    technique: str
    engine: str
    plan: Plan
    metrics: dict[str, Any]
    peak_memory_mb: float
    seconds: float
    commands: tuple[Command, ...]

    @property
    def file(self) -> Path:
        """What the engine runs."""
        return ensure_weights(self.plan.runs[self.engine])


def make(technique: str, plan: Plan, asked: Asked, folder: Path, say: Callable[[str], None]) -> list[Made]:
    """Run a technique's commands, and validate its file in each of its engines.

    Raises InputError with what a command said last where it fails.
    """
    start = time.perf_counter()
    for command in plan.commands:
        run(command, folder, say)
    seconds = time.perf_counter() - start
    made = []
    for engine, file in plan.runs.items():
        command = validation(asked, engine, file, folder)
        peak = run(command, folder, say)
        metrics = json.loads((folder / f"val_{engine}" / "metrics.json").read_text(encoding="utf-8"))
        made.append(Made(technique, engine, plan, metrics, peak, seconds, (*plan.commands, command)))
    return made


def run(command: Command, folder: Path, say: Callable[[str], None]) -> float:
    """Run a script in a process of its own; the largest resident size of that process in MB.

    What it prints goes to log.txt in folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    say(f"  python {shlex.join(command)}")
    log = folder / "log.txt"
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ python {shlex.join(command)}\n")
        file.flush()
        script = [sys.executable, str(SCRIPTS / command[0]), *command[1:]]
        process = subprocess.Popen(script, stdout=file, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code:
        last = log.read_text(encoding="utf-8").strip().splitlines()[-1]
        raise InputError(f"{command[0]} ended with {code}: {last} (all it said is in {log})")
    return usage.ru_maxrss * KIBIBYTE / MB


def rows(made: Sequence[Made], imgsz: int, rounds: Rounds) -> list[ComparedRow]:
    """The rows, with latency taken by turns."""
    networks = [_network(one) for one in made]
    latencies = _time(made, networks, imgsz, rounds)
    return [_row(*one, imgsz) for one in zip(made, latencies, strict=True)]


def _network(one: Made) -> Detectable:
    if one.file.suffix == ".onnx":
        return onnx_file.read(one.file)
    return load(one.file, fused=not one.plan.unfused)


def _time(made: Sequence[Made], networks: Sequence[Detectable], imgsz: int, rounds: Rounds) -> list[Latency]:
    engines = make_engines([one.engine for one in made])
    images = torch.rand(1, 3, imgsz, imgsz, generator=torch.Generator().manual_seed(0))
    with Lanes(select_device("cpu")) as lanes:
        detectors = [
            Detector(network, lanes, engine=engines[one.engine])
            for one, network in zip(made, networks, strict=True)
        ]
        placed = [detector.place(images) for detector in detectors]
        runs = [
            lambda detector=detector, image=image: detector.forward(image)
            for detector, image in zip(detectors, placed, strict=True)
        ]
        return [summarize(spent) for spent in take_turns(runs, rounds)]


def _row(one: Made, latency: Latency, imgsz: int) -> ComparedRow:
    counted = load(ensure_weights(one.plan.counted))
    linear = sum(isinstance(module, nn.Linear) for module in counted.modules())
    note = one.plan.note + (f" ({linear} here)" if one.technique == "int8-dynamic" else "")
    return ComparedRow(
        one.technique,
        one.engine,
        one.metrics["AP"],
        one.metrics["AP50"],
        latency.median,
        latency.p10,
        latency.p90,
        one.peak_memory_mb,
        one.file.name,
        one.file.stat().st_size / MB,
        one.metrics["parameters"],
        count_gflops(counted, (imgsz, imgsz)),
        one.metrics["sparsity_conv"],
        one.seconds,
        note,
        "; ".join(f"python {shlex.join(command)}" for command in one.commands),
    )
