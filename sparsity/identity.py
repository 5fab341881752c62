"""Whether a folder's earlier work and what is asked for now are one and the same (a leaf)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparsity.errors import InputError


def check_same_settings(folder: Path, work: str, made: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raise InputError that names every setting in which the folder's work differs from what is asked.

    work: what the folder holds, "sweep" or "training".
    """
    differences = [
        f"{name} was {made.get(name)}, now is {asked.get(name)}"
        for name in {**made, **asked}
        if made.get(name) != asked.get(name)
    ]
    if differences:
        raise InputError(
            f"{folder}: holds a {work} with other settings: {'; '.join(differences)}; "
            "repeat its settings to go on with it, or begin a new one in another folder"
        )
