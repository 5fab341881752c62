"""The times of layers on disk, in the user's cache folder: measured once for a network on a machine."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from sparsity.base.files import cache_folder, write_text
from sparsity.sparse_engine.build import describe_engine
from sparsity.sparse_engine.compiled import CompiledNetwork
from sparsity.sparse_engine.layer_times import LayerTimes, Tick, measure_layer_times
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
    path = _path(hashlib.sha256(known.encode()).hexdigest()[:16])
    times = _read(path)
    if times is None:
        times = measure_layer_times(network, imgsz, threads, dtype=dtype, tick=tick)
        _write(path, times)
    return times


def _path(key: str) -> Path | None:
    folder = cache_folder()
    return None if folder is None else folder / "engine" / f"times-{key}.json"


def _read(path: Path | None) -> LayerTimes | None:
    """Return the times in a file; None where it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        densities = _numbers(content["densities"])
        layers = {str(name): _numbers(seconds) for name, seconds in dict(content["layers"]).items()}
        (rest,) = _numbers([content["rest"]])
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
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


def _write(path: Path | None, times: LayerTimes) -> None:
    """Store the times where that is possible. A failure is ignored: they can be measured again."""
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(_as_json(times), indent=0))
    except OSError:
        return


def _as_json(times: LayerTimes) -> Mapping[str, Any]:
    return {"densities": times.densities, "layers": times.layers, "rest": times.rest}
