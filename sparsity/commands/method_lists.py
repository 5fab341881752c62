"""Criteria and scopes as text: l1,obs and layer,global."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sparsity.base.errors import InputError
from sparsity.pruning.criteria import CRITERIA, SHORTHANDS
from sparsity.pruning.method import Method
from sparsity.pruning.scopes import SCOPES


def parse_methods(criteria: str, scopes: str = "") -> tuple[Method, ...]:
    """Parse --criterion and --scope into methods, each once, in the order given.

    criteria: names divided by commas: those in CRITERIA, lamp, erk. scopes: names divided by commas, for the
    criteria that take a scope; "" for each one's own.
    Raises InputError for an unknown name, or scopes for lamp or erk, which are scopes themselves.
    """
    words = _words("--criterion", criteria, (*CRITERIA, *SHORTHANDS))
    chosen = _words("--scope", scopes, SCOPES) if scopes else []
    return tuple(dict.fromkeys(method for word in words for method in _methods(word, chosen)))


def read_method(criterion: str, scope: str = "") -> Method:
    """Parse --criterion and --scope into one method. Raises InputError where they name several."""
    methods = parse_methods(criterion, scope)
    if len(methods) > 1:
        labels = ", ".join(method.label for method in methods)
        raise InputError(f"--criterion, --scope: {labels} are {len(methods)} methods; one is expected")
    return methods[0]


def _methods(word: str, scopes: Sequence[str]) -> Iterator[Method]:
    if word not in SHORTHANDS:
        yield from (Method(word, scope) for scope in scopes or [""])
        return
    if scopes:
        raise InputError(
            f"--scope is {','.join(scopes)!r}, but --criterion {word} is an allocation itself; "
            "leave out --scope, or give l1 or obs"
        )
    yield Method(*SHORTHANDS[word])


def _words(flag: str, text: str, known: Sequence[str]) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if word not in known:
            raise InputError(f"{flag}: {word!r} is none of {', '.join(known)}")
    return words
