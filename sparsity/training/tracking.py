"""Logs the epochs of a training to a tracker of experiments, by accelerate."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import LoggerType

from sparsity.base.errors import InputError
from sparsity.base.files import write_json
from sparsity.training.trackers import TRACKERS

PROJECT = "sparsity"
"""The project, or experiment, that runs are logged to; for TensorBoard a folder in that of the training."""
FILE = "tracker.json"
"""The file in a training's folder that names its run in the tracker, where a resumed training goes on."""
LogEpoch: TypeAlias = Callable[[int, Mapping[str, float]], None]
"""Takes the number of an epoch, from 1, and its figures by name."""


def check_tracker(name: str) -> str:
    """Return the name of a tracker; "" stands for none. Raises InputError if its package is missing, too."""
    if name and name not in TRACKERS:
        *others, last = TRACKERS
        raise InputError(f"`log_with` is {name!r}; {', '.join(others)} or {last} is expected")
    if name and LoggerType(name) not in get_available_trackers():
        package = TRACKERS[name]
        raise InputError(f"`log_with` {name} needs the package {package}: pip install {package}")
    return name


@contextmanager
def tracking(
    accelerator: Accelerator,
    folder: Path,
    config: Mapping[str, Any],
    say: Callable[[str], None],
    *,
    resuming: bool,
) -> Iterator[LogEpoch]:
    """Start the accelerator's tracker, give the function that logs an epoch, and end the tracker in any case.

    Without a tracker, and in other processes than the main one, nothing is logged. folder: of the training.
    config: its settings; they are logged once. resuming: whether the run that tracker.json names goes on.
    An epoch that cannot be logged is a line by say: the training goes on.
    Raises InputError if the tracker does not start.
    """
    if not accelerator.is_main_process:
        yield _ignore
        return
    if not resuming:
        (folder / FILE).unlink(missing_ok=True)
    if not accelerator.log_with:
        yield _ignore
        return
    name = str(accelerator.log_with[0])
    _start(accelerator, name, folder, config)

    def log(epoch: int, figures: Mapping[str, float]) -> None:
        with _warning(f"{name} has not logged epoch {epoch}", say):
            accelerator.log(dict(figures), step=epoch)

    try:
        yield log
    finally:
        # Not end_training: it also ends the group of processes, which the caller may go on with.
        for tracker in accelerator.trackers:
            with _warning(f"{name} was not ended", say):
                tracker.finish()
        accelerator.trackers.clear()


def _ignore(_epoch: int, _figures: Mapping[str, float]) -> None:
    """Log nothing."""


def _start(accelerator: Accelerator, name: str, folder: Path, config: Mapping[str, Any]) -> None:
    """Start the run, or go on with that of tracker.json, and write tracker.json."""
    known = _read(folder / FILE, name)
    run = known or uuid4().hex[:12]
    title = folder.resolve().name
    arguments = {
        "wandb": {"name": title, "id": run, "resume": "allow", "dir": str(folder)},
        "trackio": {"name": f"{title}-{run}", "resume": "allow"},
        "mlflow": {"run_name": title} | ({"run_id": known} if known else {}),
    }
    simple = {key: one for key, one in config.items() if isinstance(one, bool | int | float | str)}
    try:
        accelerator.init_trackers(PROJECT, None if known else simple, {name: arguments.get(name, {})})
    except Exception as error:
        # The exceptions of the packages have no common base.
        raise InputError(f"`log_with` {name}: it does not start ({_in_one_line(error)})") from error
    if name == "mlflow":
        run = accelerator.trackers[0].tracker.info.run_id
    write_json(folder / FILE, {"log_with": name, "run": run})


def _read(file: Path, name: str) -> str:
    """Return the run that the file names, of this tracker; "" if there is none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return content["run"] if content["log_with"] == name else ""
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: cannot be read; delete it to log to a new run") from error


@contextmanager
def _warning(start: str, say: Callable[[str], None]) -> Iterator[None]:
    """Turn any exception of a tracker's package into a line."""
    try:
        yield
    except Exception as error:
        say(f"WARNING: {start}: {_in_one_line(error)}")


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
