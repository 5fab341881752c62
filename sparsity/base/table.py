"""A table of entries by name. An entry can be given as a place, which is imported when it is first used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Generic, TypeVar

from sparsity.base.errors import InputError

Entry = TypeVar("Entry")


class Table(Generic[Entry]):
    """A mapping from name to entry, in the order of registration.

    what: what errors call an entry, such as "engine".
    places: name -> "package.module:attribute". Listing the names imports nothing, so --help is fast.
    """

    def __init__(self, what: str, places: Mapping[str, str]) -> None:
        self.what = what
        self._places = dict(places)
        self._entries: dict[str, Entry] = {}

    def register(self, name: str, entry: Entry) -> None:
        """Add an entry. Raises InputError where the name is already registered."""
        if name in self:
            raise InputError(f"{self.what} {name!r} is registered already; another name is expected")
        self._entries[name] = entry

    def unregister(self, name: str) -> None:
        """Remove an entry that register added. Raises KeyError where register did not add it."""
        del self._entries[name]

    def check(self, name: str, *, label: str = "") -> str:
        """Return the name. Raises InputError for an unknown name; label: the argument that it names."""
        if name not in self:
            raise InputError(f"{label or self.what} is {name!r}; one of {', '.join(self)} is expected")
        return name

    def __getitem__(self, name: str) -> Entry:
        """Return the entry, imported if it was given as a place. Raises InputError for an unknown name."""
        self.check(name)
        if name not in self._entries:
            module, _, attribute = self._places[name].partition(":")
            self._entries[name] = getattr(import_module(module), attribute)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._places or name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._places, *self._entries]))

    def __len__(self) -> int:
        return len(list(iter(self)))
