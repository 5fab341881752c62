"""Packages that only some commands need, imported when they are asked for (a leaf)."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from sparsity.base.errors import InputError


def optional_module(name: str, asked_by: str) -> ModuleType:
    """Import a module whose package need not be installed.

    asked_by: the flag or file that needs it. Raises InputError with the pip line where it is missing.
    """
    try:
        return import_module(name)
    except ImportError as error:
        package = name.split(".")[0]
        raise InputError(
            f"{asked_by} needs the package {package} ({error}): pip install {package}"
        ) from error
