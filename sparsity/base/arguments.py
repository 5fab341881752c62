"""Checks of the kinds of arguments, for the functions that users of the library call."""

from __future__ import annotations

from os import PathLike
from types import UnionType

from sparsity.base.errors import InputError


def require_kind(value: object, kind: type | UnionType, name: str, wanted: str) -> None:
    """Raise InputError unless a value is of this kind. name: of the argument. wanted: what is expected."""
    if not isinstance(value, kind):
        raise InputError(f"`{name}` is {_describe(value)}; {wanted} is expected")


def require_network(value: object, kind: type | UnionType) -> None:
    """Raise InputError unless a value is a network of this kind. A path gets the advice to load it."""
    is_path = isinstance(value, str | PathLike)
    wanted = (
        f"a network, as load({str(value)!r}) returns it," if is_path else "a network, as load returns it,"
    )
    require_kind(value, kind, "network", wanted)


def require_location(value: object, name: str) -> None:
    """Raise InputError unless a value is a path, as text or as a pathlib.Path."""
    require_kind(value, str | PathLike, name, "a path")


def _describe(value: object) -> str:
    """Return a value as an error shows it: text and numbers as they are, other values by their type."""
    if value is None or isinstance(value, str | int | float):
        return repr(value)
    return f"of type {type(value).__name__}"
