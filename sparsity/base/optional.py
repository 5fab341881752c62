"""Optional packages, which are imported when they are needed."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from sparsity.base.errors import InputError


def optional_module(name: str, asked_by: str) -> ModuleType:
    """Import a module of an optional package.

    asked_by: what needs it, as the error names it: an argument in backticks, or a file. Raises InputError
    with the pip command where the package is missing.
    """
    try:
        return import_module(name)
    except ImportError as error:
        package = name.split(".")[0]
        raise InputError(
            f"{asked_by} needs the package {package} ({error}): pip install {package}"
        ) from error
