"""The folder of a run that can be resumed. It holds the run's settings; a resumed run must have the same."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sparsity.base.errors import InputError
from sparsity.base.files import delete_parts, write_json, writing_into


class ResumableFolder:
    """The folder of a sweep, a comparison, a training or a measurement that can be stopped and resumed.

    A JSON file in it holds {"settings": what must be equal to resume the run, ...: more about the run}.
    file: its name. work: the kind of run, as errors call it, such as "sweep". leftovers: names of files of
    an earlier run; a new run deletes them.
    """

    def __init__(self, folder: Path, file: str, work: str, *, leftovers: Sequence[str] = ()) -> None:
        self.folder, self.path, self._work = folder, folder / file, work
        self._leftovers = tuple(leftovers)

    def exists(self) -> bool:
        """Whether a run was started in this folder."""
        return self.path.exists()

    def begin(self, settings: Mapping[str, Any], **about: Any) -> None:
        """Start a new run. about: more about the run. Raises InputError where the folder can't be written."""
        with writing_into(self.folder):
            for name in self._leftovers:
                (self.folder / name).unlink(missing_ok=True)
            self.write(settings, **about)

    def write(self, settings: Mapping[str, Any], **about: Any) -> None:
        """Write the file. Raises OSError where it can't be written."""
        write_json(self.path, {"settings": settings, **about}, indent=1)

    def resume(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Check that a run with these settings can be resumed, and return the file's content.

        Temporary files that a killed process left in the folder are deleted.
        Raises InputError where there is no run, or where its settings differ. The error names each
        difference.
        """
        made = self.read()
        asked = json.loads(json.dumps(settings))
        _check_same(self.folder, self._work, made["settings"], asked)
        delete_parts(self.folder)
        return made

    def read(self) -> dict[str, Any]:
        """Return the file's content. Raises InputError where there is no run."""
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            return {**content, "settings": dict(content["settings"])}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{self.folder}: holds no {self._work} to go on with (no valid {self.path.name})"
            ) from error


def _check_same(folder: Path, work: str, made: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    differences = [
        f"{name} was {made.get(name)}, now is {asked.get(name)}"
        for name in {**made, **asked}
        if made.get(name) != asked.get(name)
    ]
    if differences:
        raise InputError(
            f"{folder}: holds a {work} with other settings: {'; '.join(differences)}; "
            "give the same settings to go on with it, or start a new one in another folder"
        )
