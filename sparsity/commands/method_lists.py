"""Criteria and scopes as text: l1,obs and layer,global."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from sparsity.base.errors import InputError
from sparsity.pruning.budgets import BUDGETS, WEIGHTS
from sparsity.pruning.criteria import CRITERIA, SHORTHANDS
from sparsity.pruning.method import Method
from sparsity.pruning.reconstructed import Reconstructed
from sparsity.pruning.reconstruction import ReconstructionSettings
from sparsity.pruning.scopes import SCOPES


def parse_methods(
    criteria: str, scopes: str = "", budgets: str = WEIGHTS, steps: int = 0
) -> tuple[Method, ...]:
    """Parse --criterion, --scope and --budget into methods, each once, in the order given.

    criteria: names divided by commas: those in CRITERIA, lamp, erk. scopes: names divided by commas, for the
    criteria that take a scope; "" for each one's own. budgets: names divided by commas.
    steps: of the reconstruction that follows each criterion; 0 for none.
    Raises InputError for an unknown name, or scopes for lamp or erk, which are scopes themselves.
    """
    words = _words("--criterion", criteria, (*CRITERIA, *SHORTHANDS))
    chosen = _words("--scope", scopes, SCOPES) if scopes else []
    methods = dict.fromkeys(method for word in words for method in _methods(word, chosen))
    if steps:
        settings = ReconstructionSettings(steps=steps)
        methods = [replace(one, criterion=Reconstructed(one.criterion, settings)) for one in methods]
    wanted = _words("--budget", budgets, BUDGETS)
    return tuple(dict.fromkeys(replace(method, budget=budget) for method in methods for budget in wanted))


def read_method(criterion: str, scope: str = "", budget: str = WEIGHTS, steps: int = 0) -> Method:
    """Parse --criterion, --scope and --budget into one method. Raises InputError where they name several.

    steps: see parse_methods.
    """
    methods = parse_methods(criterion, scope, budget, steps)
    if len(methods) > 1:
        labels = ", ".join(method.label for method in methods)
        raise InputError(
            f"--criterion, --scope, --budget: {len(methods)} methods ({labels}); one is expected"
        )
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
