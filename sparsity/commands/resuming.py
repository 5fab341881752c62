"""--resume alone: the other flags are those of the run's first start, which its folder holds.

Flags that say where it is computed may stand beside --resume; they replace those of the first start.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from sparsity.base.errors import InputError

FILES: Mapping[str, str] = {
    "finetune": "training.json",
    "sweep": "settings.json",
    "compare": "compare.json",
    "sensitivity": "sensitivity.json",
}
"""Command that resumes -> the file of its runs that holds their command line: at the top, or in "about"."""
FLAG = "--resume"
WHERE = "--ray"
"""The start of the flags that say where the levels are computed."""


def complete(command: str, argv: Sequence[str]) -> list[str]:
    """Return a command's arguments; where they are --resume alone, with those of the first start before it.

    --resume with flags of WHERE counts as alone. The result is argv itself where the run's file names no
    command: the command then says what is missing.
    Raises InputError where the folder holds no run of this command.
    """
    others, where = _split(argv)
    place = _only_resume(others)
    if place is None or command not in FILES:
        return list(argv)
    path = Path(place)
    file = (path.parent if path.is_file() else path) / FILES[command]
    if not file.exists():
        raise InputError(f"{FLAG} {place}: holds no run of {command} to go on with (no {file.name})")
    first = _first_arguments(file)
    if first is None:
        return list(argv)
    before, at_first = _split(first)
    return [*before, *(where or at_first), FLAG, place]


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the arguments without the flags of WHERE, and these flags with their values."""
    parts: tuple[list[str], list[str]] = ([], [])
    previous = ""
    for one in argv:
        is_value = previous.startswith(WHERE) and "=" not in previous and not one.startswith("-")
        parts[one.startswith(WHERE) or is_value].append(one)
        previous = one
    return parts


def _only_resume(argv: Sequence[str]) -> str | None:
    """Return what --resume is given, where nothing else is given; else None."""
    if len(argv) == 2 and argv[0] == FLAG:
        return argv[1]
    if len(argv) == 1 and argv[0].startswith(f"{FLAG}="):
        return argv[0].removeprefix(f"{FLAG}=")
    return None


def _first_arguments(file: Path) -> list[str] | None:
    """Return the arguments behind the program's name and the command, without --resume; None without them."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        line = content.get("command") or content["about"]["command"]
        return _without_resume(shlex.split(line)[2:]) or None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _without_resume(argv: Sequence[str]) -> list[str]:
    kept = list(argv)
    while FLAG in kept:
        at = kept.index(FLAG)
        del kept[at : at + 2]
    return [one for one in kept if not one.startswith(f"{FLAG}=")]
