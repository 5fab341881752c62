"""A way to prune as its user names it: a criterion, and how the amount is shared out among the layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from sparsity.errors import InputError
from sparsity.pruning.amounts import Scope, check_scope

Criterion = Literal["l1", "obs"]
OWN_SCOPES: dict[str, Scope] = {"l1": "layer", "obs": "measured"}
"""How each criterion shares the amount out where nobody says how."""
NAMED_BY_SCOPE = ("lamp", "erk")
"""What --criterion takes beside the criteria: magnitude, shared out in that way."""


@dataclass(frozen=True)
class Method:
    """Which weights go, and how the amount is shared out among the layers.

    criterion: "l1", the smallest magnitudes; "obs", what is missed least on calibration images, with the
    weights that stay updated (see prune_obs). scope: see keep_counts.
    Raises InputError for another criterion or scope.
    """

    criterion: Criterion = "l1"
    scope: Scope = "layer"

    def __post_init__(self) -> None:
        if self.criterion not in get_args(Criterion):
            raise InputError(
                f"criterion is {self.criterion!r}; one of {', '.join(get_args(Criterion))} is expected"
            )
        check_scope(self.scope)

    @property
    def label(self) -> str:
        """What tables call it: l1, l1 global, lamp, erk, measured, obs, obs layer."""
        if self.scope == OWN_SCOPES[self.criterion]:
            return self.criterion
        if self.criterion == "l1" and self.scope != "global":
            return self.scope
        return f"{self.criterion} {self.scope}"

    @property
    def needs_calibration(self) -> bool:
        """Whether it learns from images."""
        return self.criterion == "obs" or self.scope == "measured"


def parse_methods(criteria: str, scopes: str = "") -> tuple[Method, ...]:
    """--criterion and --scope as methods, each once, in the order in which they are named.

    criteria: comma list of l1, obs, lamp, erk. scopes: comma list for l1 and obs; "" for their own.
    Raises InputError for an unknown word, or scopes for a criterion that is one of them itself.
    """
    words = _words("--criterion", criteria, (*get_args(Criterion), *NAMED_BY_SCOPE))
    chosen = _words("--scope", scopes, get_args(Scope)) if scopes else []
    return tuple(dict.fromkeys(method for word in words for method in _methods(word, chosen)))


def _methods(word: str, scopes: list[str]) -> Iterator[Method]:
    if word not in NAMED_BY_SCOPE:
        yield from (Method(word, scope) for scope in scopes or [OWN_SCOPES[word]])
        return
    if scopes:
        raise InputError(
            f"--scope is {','.join(scopes)!r}, but --criterion {word} says itself how the amount is shared "
            "out; leave out --scope, or take l1 or obs"
        )
    yield Method("l1", word)


def _words(flag: str, text: str, known: tuple[str, ...]) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if word not in known:
            raise InputError(f"{flag}: {word!r} is none of {', '.join(known)}")
    return words
