"""Run the commands of techniques, each in its own process, and time their files in turns."""

from __future__ import annotations

import ctypes
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from sparsity.base.errors import InputError
from sparsity.base.memory import MAXRSS_UNIT
from sparsity.comparing.asked import Asked, Command
from sparsity.comparing.journal import FILE as JOURNAL
from sparsity.comparing.journal import Journal, Ran
from sparsity.comparing.row import ComparedRow
from sparsity.comparing.techniques import Plan, validation
from sparsity.data.downloads import ensure_weights
from sparsity.evaluation.bootstrap import Interval
from sparsity.formats import onnx_file
from sparsity.formats.loading import load
from sparsity.formats.sizes import MB
from sparsity.pruning.multiply_adds import count_gflops
from sparsity.timing.latency import Latency, Rounds
from sparsity.timing.networks import time_networks
from sparsity.validation.inputs import Detectable
from sparsity.yolo.heads import choose_head

PACKAGE_PARENT = Path(__file__).parents[2]
PROGRAM = ("python", "-m", "sparsity")
"""The start of a command as it is displayed. It runs with the Python of this process."""
PR_SET_PDEATHSIG = 1
"""Linux's number for the signal that a process gets when its parent dies."""
PATIENCE = 10.0
"""The seconds that a command has to exit after it is terminated. Then it is killed."""


@dataclass(frozen=True)
class Made:
    """A technique's file, validated in an engine.

    metrics: the content of metrics.json. peak_memory_mb: of the validation. seconds: the time to make the
    file. commands: those that made and validated it. validated: the folder of the validation.
    """

    technique: str
    engine: str
    plan: Plan
    metrics: dict[str, Any]
    peak_memory_mb: float
    seconds: float
    commands: tuple[Command, ...]
    validated: Path

    @property
    def name(self) -> str:
        """The file that the engine runs, as commands name it."""
        return self.plan.runs[self.engine]

    @property
    def file(self) -> Path:
        """The file that the engine runs."""
        return ensure_weights(self.name)

    @property
    def making(self) -> list[Command]:
        """The commands that make the file, without those that save other files only."""
        return [one for one in self.plan.commands if "--save" not in one or self.name in one]


@dataclass(frozen=True)
class Counted:
    """What is counted in a file's network: GFLOPs, and Linear layers."""

    gflops: float
    linear: int


def make(technique: str, plan: Plan, asked: Asked, folder: Path, *, resume: bool) -> Iterator[str | Made]:
    """Run a technique's commands, and validate its file in each of its engines.

    Yields a line for the user before each command, and what was made in each engine.
    resume: whether commands that succeeded in folder earlier are reused, as far as they are unchanged.
    Raises InputError where a command fails, with the last line of its output.
    """
    journal, seconds = Journal(folder, resume=resume), 0.0
    for command in plan.commands:
        seconds += (yield from _run_or_recall(command, folder, journal)).seconds
    for engine, file in plan.runs.items():
        command = validation(asked, engine, file, folder)
        ran = yield from _run_or_recall(command, folder, journal)
        validated = folder / f"val_{engine}"
        yield Made(
            technique=technique,
            engine=engine,
            plan=plan,
            metrics=read_json(validated / "metrics.json"),
            peak_memory_mb=ran.peak_memory_mb,
            seconds=seconds,
            commands=(*plan.commands, command),
            validated=validated,
        )


def read_json(file: Path) -> Any:
    """Return the content of a file that a validation wrote. Raises InputError if it cannot be read."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        ran = file.parents[1] / JOURNAL
        raise InputError(f"{file}: cannot be read ({error}); delete {ran} to make it again") from error


def _run_or_recall(command: Command, folder: Path, journal: Journal) -> Generator[str, None, Ran]:
    known = journal.recall(command)
    if known is not None:
        yield f"  (ran before) {shown(command)}"
        return known
    yield f"  {shown(command)}"
    ran = run(command, folder)
    journal.add(ran)
    return ran


def run(command: Command, folder: Path) -> Ran:
    """Run a command in its own process, which ends with this one: on Linux, however that ends.

    Its output goes to log.txt in folder. Raises InputError where the command fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log, start = folder / "log.txt", time.perf_counter()
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {shown(command)}\n")
        file.flush()
        words = [sys.executable, "-m", "sparsity", *command]
        process = subprocess.Popen(
            words,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=_environment(),
            preexec_fn=_ending_with_parent(),
        )
        code, peak = _wait(process)
    if code:
        last = log.read_text(encoding="utf-8").strip().splitlines()[-1]
        raise InputError(f"{command[0]} failed with exit code {code}: {last} (its output is in {log})")
    return Ran(command, time.perf_counter() - start, peak)


def _ending_with_parent() -> Callable[[], object] | None:
    """Return what a new process calls to be killed by Linux when its parent is gone; None elsewhere.

    It would go on writing where a resumed run writes.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def shown(command: Command) -> str:
    """Return a command as a user types it."""
    return shlex.join([*PROGRAM, *command])


def _environment() -> dict[str, str]:
    """Return the environment of a command. It finds the package where this process found it."""
    paths = [str(PACKAGE_PARENT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def _wait(process: subprocess.Popen[bytes]) -> tuple[int, float]:
    """Return the exit code, and the largest resident size in MB. An interruption ends the process."""
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss * MAXRSS_UNIT / MB


def rows(
    made: Sequence[Made], changes: Sequence[Interval | None], imgsz: int, rounds: Rounds
) -> list[ComparedRow]:
    """Return the rows. The files take turns when their latency is measured.

    changes: of the AP of each row, from the reference row; None where nothing was resampled.
    """
    networks, engines = [_network(one) for one in made], [one.engine for one in made]
    latencies = time_networks(networks, engines, imgsz, rounds)
    files = dict.fromkeys(one.plan.counted for one in made)
    counted = {file: _count(file, imgsz) for file in files}
    return [
        _row(one, latency, counted[one.plan.counted], change)
        for one, latency, change in zip(made, latencies, changes, strict=True)
    ]


def _network(one: Made) -> Detectable:
    if one.file.suffix == ".onnx":
        return onnx_file.read(one.file)
    network = load(one.file, fused=not one.plan.unfused)
    head = one.metrics.get("head", "")
    return choose_head(network, head) if head else network


def _count(file: str, imgsz: int) -> Counted:
    network = load(ensure_weights(file))
    linear = sum(isinstance(module, nn.Linear) for module in network.modules())
    return Counted(count_gflops(network, (imgsz, imgsz)), linear)


def _row(one: Made, latency: Latency, counted: Counted, change: Interval | None) -> ComparedRow:
    return ComparedRow(
        technique=one.technique,
        engine=one.engine,
        AP=one.metrics["AP"],
        AP50=one.metrics["AP50"],
        latency_ms=latency.median,
        latency_p10_ms=latency.p10,
        latency_p90_ms=latency.p90,
        peak_memory_mb=one.peak_memory_mb,
        file=one.file.name,
        file_mb=one.file.stat().st_size / MB,
        parameters=one.metrics["parameters"],
        gflops=counted.gflops,
        sparsity=one.metrics["sparsity_conv"],
        head=one.metrics.get("head", ""),
        seconds=one.seconds,
        note=_note(one, counted.linear),
        commands="; ".join(map(shown, one.commands)),
        path=one.name,
        made_by=" && ".join(map(shown, one.making)),
        AP_change_low=change.low if change else None,
        AP_change_high=change.high if change else None,
    )


def _note(one: Made, linear: int) -> str:
    """Return the plan's note, with figures from its files. linear: the number of Linear layers."""
    if one.plan.cut:
        cut = read_json(Path(one.plan.cut))
        share = cut["removed"] / max(cut["free"], 1)
        return f"{share:.0%} of the {cut['free']} free {one.plan.note} ({cut['percent']:.0%} requested)"
    if one.technique == "int8-dynamic":
        return f"{one.plan.note} ({linear} in this network)"
    return one.plan.note
