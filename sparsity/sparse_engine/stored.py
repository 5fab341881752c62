"""JSON files of the engine in the user's cache folder. What can't be stored is made again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sparsity.base.files import cache_folder, write_text


def stored_path(name: str) -> Path | None:
    """Return the file of this name; None without a cache folder."""
    folder = cache_folder()
    return None if folder is None else folder / "engine" / name


def read_stored(path: Path | None) -> Any:
    """Return the content of a file; None where it is missing, or is no JSON."""
    try:
        return None if path is None else json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write_stored(path: Path | None, content: Any) -> None:
    """Write a file where that is possible. A failure is ignored."""
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(content, indent=0))
    except OSError:
        return
