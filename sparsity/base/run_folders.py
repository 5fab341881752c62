"""The folder of a run: PROJECT/NAME, with a number added if it exists. An empty one is removed again."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sparsity.base.errors import InputError

DEFAULT_NAME = "exp"


@contextmanager
def run_folder(project: Path, name: str, *, exist_ok: bool, resume: Path | None = None) -> Iterator[Path]:
    """Make PROJECT/NAME. If it exists, make NAME2, NAME3, ... instead, unless exist_ok.

    resume: the folder of a run that is resumed; it is used as it is. Two runs never get the same folder.
    Folders that were made are removed again if the run leaves them empty.
    Raises InputError where the folder can't be made or written to.
    """
    if resume is not None:
        yield resume
        return
    before = {place for place in (project / name, project, *project.parents) if place.exists()}
    folder = _make(project, name, exist_ok)
    try:
        yield folder
    finally:
        for place in (folder, project, *project.parents):
            if place not in before:
                with suppress(OSError):
                    place.rmdir()


def _make(project: Path, name: str, exist_ok: bool) -> Path:
    try:
        project.mkdir(parents=True, exist_ok=True)
        if exist_ok:
            (project / name).mkdir(exist_ok=True)
            with tempfile.TemporaryFile(dir=project / name):
                return project / name
        for number in itertools.count(1):
            folder = project / (name if number == 1 else f"{name}{number}")
            with suppress(FileExistsError):
                folder.mkdir()
                return folder
    except OSError as error:
        raise InputError(
            f"`project` {project}: no folder for the results can be made there ({error.strerror})"
        ) from error
    raise AssertionError("counting never ends")
