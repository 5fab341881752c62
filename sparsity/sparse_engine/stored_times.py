"""The times of layers on disk, in the user's cache folder: measured once for a network on a machine."""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from sparsity.sparse_engine.build import describe_engine
from sparsity.sparse_engine.compiled import CompiledNetwork
from sparsity.sparse_engine.layer_times import LayerTimes, Tick, measure_layer_times
from sparsity.sparse_engine.stored import read_stored, stored_path, write_stored
from sparsity.yolo.network import Network


def find_layer_times(
    network: Network,
    imgsz: int,
    threads: int,
    *,
    dtype: torch.dtype = torch.float32,
    tick: Tick = lambda _done, _todo: None,
) -> LayerTimes:
    """Return the times of a network's layers (see measure_layer_times), from disk where they are stored.

    Networks that differ in their weights only share them. Missing or damaged files are measured again.
    """
    program = CompiledNetwork(network, threads, dtype=dtype).program(imgsz, imgsz)
    tasks = [{**asdict(task), "weights": 0} for task in program.tasks.values()]
    known = f"{describe_engine()} {program.names} {tasks} {imgsz} {threads} {dtype}"
    path = stored_path(f"times-{hashlib.sha256(known.encode()).hexdigest()[:16]}.json")
    times = _read(path)
    if times is None:
        times = measure_layer_times(network, imgsz, threads, dtype=dtype, tick=tick)
        write_stored(path, asdict(times))
    return times


def _read(path: Path | None) -> LayerTimes | None:
    """Return the times in a file; None where it is missing or damaged."""
    content = read_stored(path)
    try:
        densities = _numbers(content["densities"])
        layers = {str(name): _numbers(seconds) for name, seconds in dict(content["layers"]).items()}
        (rest,) = _numbers([content["rest"]])
    except (ValueError, AttributeError, TypeError, KeyError):
        return None
    fitting = all(len(seconds) == len(densities) for seconds in layers.values())
    return LayerTimes(densities, layers, rest) if fitting and _rises(densities) else None


def _numbers(values: Any) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in values)
    if not all(math.isfinite(number) and number >= 0 for number in numbers):
        raise ValueError("numbers of 0 or more are expected")
    return numbers


def _rises(densities: tuple[float, ...]) -> bool:
    return densities[:1] == (0.0,) and densities[-1:] == (1.0,) and sorted(set(densities)) == [*densities]
