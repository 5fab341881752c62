"""A sweep's folder: what is finished stands in it at once, so that a killed sweep can go on.

settings.json          what the sweep was asked for; another sweep may not go on in this folder
levels/LEVEL/          a finished level's files, as a single validation writes them
latency.json           milliseconds of every run, by batch size
partial/LEVEL/*.npz    the detections of the batches of levels that are not finished
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout

from sparsity.detection.nms import Detections
from sparsity.errors import InputError
from sparsity.files import replacing, write_json, writing_into
from sparsity.inference import PhaseSeconds
from sparsity.metrics import Metrics
from sparsity.sweeping.level import Level

SETTINGS = "settings.json"


@dataclass(frozen=True)
class Found:
    """What a level found in a batch: each image's detections in letterbox pixels, and the time."""

    detections: tuple[Detections, ...]
    seconds: PhaseSeconds


@dataclass(frozen=True)
class Finished:
    """A finished level: its row, and the seconds that it took."""

    metrics: Metrics
    seconds: float


class Store:
    """Reads and writes the folder of one sweep. Every file is whole or not there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._partial = folder / "partial"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other sweeps out of the folder. Raises InputError where one is in it."""
        with writing_into(self.folder):
            self._partial.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._partial / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise InputError(f"{self.folder}: another sweep is running in this folder") from error
        try:
            yield
        finally:
            lock.release()
            if not any(self._partial.glob("*/*")):
                shutil.rmtree(self._partial, ignore_errors=True)

    def begin(self, settings: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
        """Start a sweep, or go on with the one of the same settings; returns what began it says.

        about: how, when and where it was started; of a sweep that goes on, the first start's counts.
        Raises InputError where the folder holds a sweep with other settings, naming them.
        """
        path = self.folder / SETTINGS
        if not path.exists():
            with writing_into(self.folder):
                write_json(path, {"settings": settings, "about": about}, indent=1)
            return about
        made = read_settings(self.folder)
        asked = json.loads(json.dumps(settings))
        differences = [
            f"{name} was {made['settings'].get(name)}, now is {asked.get(name)}"
            for name in {**made["settings"], **asked}
            if made["settings"].get(name) != asked.get(name)
        ]
        if differences:
            raise InputError(
                f"{self.folder}: holds a sweep with other settings: {'; '.join(differences)}; "
                "repeat its settings to go on with it, or begin a new one without --resume"
            )
        return made["about"]

    def level_folder(self, level: Level) -> Path:
        """Where a level's files are."""
        folder = self.folder / "levels" / level.key
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def finish(self, level: Level, done: Finished) -> None:
        """Write a level's metrics.json, which says that its other files are there, too."""
        row = {**asdict(done.metrics), "seconds": done.seconds}
        with writing_into(self.folder):
            write_json(self.level_folder(level) / "metrics.json", row, indent=1)
        shutil.rmtree(self._partial / level.key, ignore_errors=True)

    def finished(self, level: Level) -> Finished | None:
        """A level's row, None where it is not finished."""
        try:
            row = json.loads((self.folder / "levels" / level.key / "metrics.json").read_text("utf-8"))
            names = [field.name for field in fields(Metrics)]
            return Finished(Metrics(**{name: row[name] for name in names}), row["seconds"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write_latency(self, batch_size: int, groups: Sequence[dict[str, list[float]]]) -> None:
        """Add a batch size's milliseconds: groups of levels that took turns, by key."""
        with writing_into(self.folder):
            times = {**self._latencies(), str(batch_size): list(groups)}
            write_json(self.folder / "latency.json", times)

    def latency(self, batch_size: int) -> list[dict[str, list[float]]] | None:
        """A batch size's milliseconds, None where they were not taken."""
        return self._latencies().get(str(batch_size))

    def _latencies(self) -> dict[str, list[dict[str, list[float]]]]:
        try:
            return json.loads((self.folder / "latency.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def write_found(self, level: Level, batch: int, found: Found) -> None:
        """Keep what a level found in a batch until the level is finished."""
        path = self._found_path(level, batch)
        arrays = {
            "counts": np.array([len(one) for one in found.detections]),
            "boxes_xyxy": torch.cat([one.boxes_xyxy for one in found.detections]).numpy(),
            "scores": torch.cat([one.scores for one in found.detections]).numpy(),
            "classes": torch.cat([one.classes for one in found.detections]).numpy(),
            "seconds": np.array([getattr(found.seconds, f.name) for f in fields(PhaseSeconds)]),
        }
        with writing_into(self.folder):
            path.parent.mkdir(exist_ok=True)
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.savez(file, **arrays)

    def found(self, level: Level, batch: int) -> Found | None:
        """What a level found in a batch, None where it is not known."""
        try:
            with np.load(self._found_path(level, batch)) as file:
                boxes, scores, classes = (
                    torch.from_numpy(file[name]).split(file["counts"].tolist())
                    for name in ("boxes_xyxy", "scores", "classes")
                )
                *phases, images = file["seconds"].tolist()
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        detections = tuple(Detections(*one) for one in zip(boxes, scores, classes, strict=True))
        return Found(detections, PhaseSeconds(*phases, int(images)))

    def has_found(self, level: Level, batch: int) -> bool:
        """Whether it is known what a level found in a batch."""
        return self._found_path(level, batch).exists()

    def scratch(self, name: str) -> Path:
        """A file that goes when the sweep is done."""
        return self._partial / name

    def clear(self) -> None:
        """Remove what only an unfinished sweep needs."""
        with suppress(OSError):
            shutil.rmtree(self._partial)

    def _found_path(self, level: Level, batch: int) -> Path:
        return self._partial / level.key / f"{batch:06d}.npz"


def read_settings(folder: Path) -> dict[str, Any]:
    """What the sweep in a folder was asked for. Raises InputError where there is none."""
    try:
        made = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        return {"settings": dict(made["settings"]), "about": dict(made["about"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder}: holds no sweep to go on with (no {SETTINGS} of one)") from error
