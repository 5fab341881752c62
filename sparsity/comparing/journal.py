"""The commands that succeeded in a technique's folder, so that a comparison can be resumed after them."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sparsity.base.errors import InputError
from sparsity.base.files import write_json
from sparsity.comparing.asked import Command

FILE = "ran.json"


@dataclass(frozen=True)
class Ran:
    """A command that succeeded. peak_memory_mb: the largest resident size of its process, in 1e6 bytes."""

    command: Command
    seconds: float
    peak_memory_mb: float


class Journal:
    """The commands of one technique, in order, stored in ran.json in its folder.

    resume: whether the commands that the file lists are reused; else the file is deleted.
    """

    def __init__(self, folder: Path, *, resume: bool) -> None:
        self.file = folder / FILE
        self.ran: list[Ran] = []
        self._earlier = self._read() if resume and self.file.exists() else []
        if not resume:
            self.file.unlink(missing_ok=True)

    def recall(self, command: Command) -> Ran | None:
        """Return the earlier record of the next command, if it and all commands before it are unchanged.

        Else return None, and forget the rest of the earlier commands: their files will be overwritten.
        """
        number = len(self.ran)
        if number < len(self._earlier) and self._earlier[number].command == self._anywhere(command):
            self.ran.append(self._earlier[number])
            return replace(self.ran[-1], command=command)
        if self._earlier:
            self._earlier = []
            self._write()
        return None

    def add(self, ran: Ran) -> None:
        """Record a command that succeeded."""
        self.ran.append(replace(ran, command=self._anywhere(ran.command)))
        self._write()

    def _write(self) -> None:
        write_json(self.file, [asdict(one) for one in self.ran], indent=1)

    def _anywhere(self, command: Command) -> Command:
        """Return the command with its folder replaced by FOLDER, since paths are relative or absolute."""
        folder = str(self.file.parent)
        words = []
        for before, word in zip(("", *command), command, strict=False):
            inside = word.startswith(folder + os.sep) or (before == "--project" and word == folder)
            words.append("FOLDER" + word[len(folder) :] if inside else word)
        return tuple(words)

    def _read(self) -> list[Ran]:
        try:
            entries = json.loads(self.file.read_text(encoding="utf-8"))
            return [Ran(**{**entry, "command": tuple(entry["command"])}) for entry in entries]
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{self.file}: is not a list of commands ({error}); delete it to run them again"
            ) from error
