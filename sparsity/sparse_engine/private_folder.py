"""A folder that only its user can write to, for files that run code when they are read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from sparsity.base.files import probe_writing

PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def make_private(folder: Path) -> None:
    """Make a folder and all in it accessible to the user only; make the folder where it is missing."""
    folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    for path in _walk(folder):
        path.chmod(PRIVATE_FOLDER if path.is_dir() else PRIVATE_FILE)


def open_private(folder: Path) -> str:
    """Make the folder where it is missing, and return why it can't be trusted; "" where it can.

    Raises OSError or InputError where it can't be made or written to.
    """
    if not folder.exists():
        make_private(folder)
    reason = next((found for path in _walk(folder) if (found := _distrust(path))), "")
    if not reason:
        probe_writing(folder)
    return reason


def reason_against(mode: int, owner: int, user: int) -> str:
    """Return why a file or folder can't be trusted; "" where it can.

    mode, owner: its st_mode and st_uid, not followed through a link. user: the id of the user.
    """
    if stat.S_ISLNK(mode):
        return "is a link"
    if owner != user:
        return "belongs to another user"
    return "can be written by other users" if mode & _OTHERS_WRITE else ""


def _distrust(path: Path) -> str:
    if not hasattr(os, "getuid"):
        return ""  # Windows keeps the permissions of a user's folder elsewhere.
    status = path.lstat()
    reason = reason_against(status.st_mode, status.st_uid, os.getuid())
    return f"{path} {reason}" if reason else ""


def _walk(folder: Path) -> Iterator[Path]:
    """Yield a folder and all in it. Links are not followed."""
    yield folder
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent) / name for name in (*folders, *files))
