"""Reports how the engine computes each operation, and how long it takes."""

from __future__ import annotations

from dataclasses import dataclass

from sparsity.sparse_engine.compiled import CompiledNetwork
from sparsity.sparse_engine.emit import LANES
from sparsity.sparse_engine.operations import At, Kind
from sparsity.sparse_engine.peak import measure_peak
from sparsity.sparse_engine.program import Program
from sparsity.sparse_engine.tuning import time_operations

ROUNDS = 5


@dataclass(frozen=True)
class Line:
    """The report on one operation.

    name: the module's name, or what the operation does. milliseconds: the time for one image.
    The other fields describe convolutions. For any other operation, how is "" and the rest is None.
    how: the choice (see choices.Choice) as text. sparsity: the fraction of weights that are zero.
    gflops: billions of operations per second, without those on zeros; in packed maps, a weight
    counts as zero only where it is skipped.
    share: gflops as a fraction of the peak performance of all threads' cores.
    """

    name: str
    how: str
    sparsity: float | None
    milliseconds: float
    gflops: float | None
    share: float | None


def explain(network: CompiledNetwork, height: int, width: int) -> list[Line]:
    """Time each operation for images of this size. Return one line per operation, in execution order."""
    program = network.program(height, width)
    threads = network.threads
    seconds = time_operations(program, threads, ROUNDS, range(len(program.rows)))
    peak = measure_peak() * threads * program.packing.share
    return [_line(program, index, second, peak) for index, second in enumerate(seconds.tolist())]


def format_lines(lines: list[Line]) -> str:
    """Return the lines as a text table."""
    head = f"{'operation':<32}{'how':<28}{'zeros':>7}{'ms':>9}{'GFLOP/s':>9}{'of peak':>9}"
    total = f"{'sum':<67}{sum(line.milliseconds for line in lines):9.3f}"
    return "\n".join([head, *map(_format, lines), total])


def _format(line: Line) -> str:
    found = f"{line.name:<32}{line.how:<28}"
    if line.share is None:
        return f"{found}{'':>7}{line.milliseconds:9.3f}"
    return f"{found}{line.sparsity:>7.0%}{line.milliseconds:9.3f}{line.gflops:9.1f}{line.share:>9.0%}"


def _line(program: Program, index: int, seconds: float, peak: float) -> Line:
    name, row = program.names[index], program.rows[index]
    if row[At.KIND] != Kind.CONVOLVE:
        return Line(name, "", None, seconds * 1e3, None, None)
    task, choice = program.tasks[index], program.choices[index]
    kind = "skips zeros" if choice.group == 1 else f"dense by {choice.group}"
    how = f"{kind}, {choice.tile[0]}x{choice.tile[1]}, {choice.block} in"
    gflops = 2 * task.share * task.weights * task.rows * task.columns * LANES / seconds / 1e9
    sparsity = 1 - task.weights / max(1, task.all_weights)
    return Line(name, how, sparsity, seconds * 1e3, gflops, gflops / peak)
