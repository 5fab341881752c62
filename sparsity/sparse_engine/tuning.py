"""Tuning: each convolution is timed with several choices, and the fastest one is stored on disk."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from sparsity.sparse_engine.choices import Choice, Task, fits, ranked, with_block
from sparsity.sparse_engine.compiled import CompiledNetwork
from sparsity.sparse_engine.machine import MACHINE
from sparsity.sparse_engine.program import Program
from sparsity.sparse_engine.running import NOTHING, make_workspace, run
from sparsity.sparse_engine.stored import read_stored, stored_path, write_stored

STREAMED, DENSE = 4, 2
"""Number of choices that are tried, the estimated fastest: of those that skip zeros, and of dense ones."""
ROUNDS = 5
"""How many times each choice is timed. The shortest time counts, because disturbances only add time."""
PATIENCE = 1.0
"""Seconds after which no further round is timed; two are timed in any case."""
LEAST, LONGEST = 3, 12.0
"""Minimum number of choices that are tried for a layer; seconds after which no further ones are."""
STEPS = 16
"""Choices are stored for densities rounded to multiples of 1 / STEPS."""


def tune(network: CompiledNetwork, height: int, width: int) -> None:
    """Make the network use the fastest choices for images of this size.

    Choices come from disk where they are stored there. The others are measured now, and stored.
    """
    program = network.program(height, width)
    tasks = set(program.tasks.values())
    known = _read()
    stored = {task: known[_key(task)] for task in tasks if _key(task) in known}
    found = {task: choice for task, choice in stored.items() if fits(task, choice)}
    missing = [task for task in tasks if task not in found]
    if missing:
        measured = _measure(network, height, width, missing)
        found |= measured
        _write(known | {_key(task): choice for task, choice in measured.items()})
    network.choose(found)


def time_operations(program: Program, threads: int, rounds: int, indices: Iterable[int]) -> np.ndarray:
    """Return the seconds of each of these rows of a program: the shortest of several rounds.

    After PATIENCE seconds no further round begins, but there are at least two. All rows run, in order,
    because the time of each depends on what the rows before it leave in the CPU's caches.
    """
    begun = time.perf_counter()
    workspace = make_workspace(program, threads)
    image = random_image(program)
    spent = np.full((rounds, len(program.rows)), np.inf)
    for number in range(rounds):
        if number >= 2 and time.perf_counter() - begun > PATIENCE:
            break
        for index in range(len(program.rows)):
            start = time.perf_counter()
            run(program, program.rows[index : index + 1], workspace, 1, image, NOTHING)
            spent[number, index] = time.perf_counter() - start
    return spent.min(0)[list(indices)]


def random_image(program: Program) -> np.ndarray:
    """Return a random image, as run takes it."""
    return np.random.default_rng(0).random(program.pixels, np.float32)


def _measure(network: CompiledNetwork, height: int, width: int, tasks: Sequence[Task]) -> dict[Task, Choice]:
    candidates = {task: _candidates(task) for task in tasks}
    best: dict[Task, tuple[float, Choice]] = {}
    begun = time.perf_counter()
    for number in range(max(map(len, candidates.values()))):
        if number >= LEAST and time.perf_counter() - begun > LONGEST:
            break
        given = {task: tried[number] for task, tried in candidates.items() if number < len(tried)}
        program = network.try_choices(height, width, given)
        rows = {task: index for index, task in program.tasks.items() if task in given}
        seconds = time_operations(program, tasks[0].threads, ROUNDS, list(rows.values()))
        for task, spent in zip(rows, seconds.tolist(), strict=True):
            if task not in best or spent < best[task][0]:
                best[task] = spent, given[task]
    return {task: choice for task, (_, choice) in best.items()}


def _candidates(task: Task) -> list[Choice]:
    estimated = ranked(task)
    streamed = [choice for choice in estimated if choice.group == 1][:STREAMED]
    dense = [choice for choice in estimated if choice.group > 1][:DENSE]
    first = streamed[0]
    other = [with_block(task, first.tile, size, 1) for size in (first.block // 2, first.block * 2)]
    if 2 * task.weights < task.all_weights:
        # More than half of the products are with zeros: a dense kernel cannot be faster.
        dense = []
    return list(dict.fromkeys([streamed[0], *dense, *streamed[1:], *other]))


def _key(task: Task) -> str:
    """Return the key of a task on disk. Tasks with about the same fraction of zeros have the same key."""
    share = round(STEPS * task.weights / max(1, task.all_weights))
    sizes = {name: value for name, value in asdict(task).items() if name != "weights"}
    return " ".join(map(str, [*sizes.values(), share]))


def _file() -> Path | None:
    name = "".join(letter if letter.isalnum() else "-" for letter in MACHINE.name)
    return stored_path(f"choices-2-{name}-{MACHINE.lanes}.json")


def _read() -> dict[str, Choice]:
    """Return the choices on disk; none where the file is missing or damaged."""
    content = read_stored(_file())
    try:
        return {str(key): _choice(value) for key, value in content.items()}
    except (ValueError, AttributeError, TypeError):
        return {}


def _choice(value: Sequence[int]) -> Choice:
    rows, columns, block, spans, group = (int(one) for one in value)
    return Choice((rows, columns), block, spans, group)


def _write(choices: Mapping[str, Choice]) -> None:
    """Store the choices where that is possible. A failure is ignored: they can be measured again."""
    rows = {key: [*choice.tile, choice.block, choice.spans, choice.group] for key, choice in choices.items()}
    write_stored(_file(), rows)
