"""Flags that one command hands on to another, derived from their parsers."""

from __future__ import annotations

import shlex
from argparse import Action, Namespace
from collections.abc import Collection

from sparsity.base.errors import InputError
from sparsity.commands.flags import DATA, HARDWARE, OUTPUT, VALIDATION
from sparsity.commands.parser import Parser

OWN_GROUPS = (DATA, VALIDATION, HARDWARE, OUTPUT)
"""What is read, how it is validated, what computes and where results go is decided by who hands flags on."""


def own_flags(mine: Parser, other: Parser) -> set[str]:
    """Return the destinations of the other's flags that mine decides: its own groups, and flags both have.

    Both have a flag where it has the same name in the same group.
    """
    shared = {
        dest
        for title in other.titles
        for dest, action in other.flags(title).items()
        if _same(action, mine.flags(title).get(dest))
    }
    return shared | set(other.flags(*OWN_GROUPS))


def read_more(flag: str, text: str, other: Parser, own: Collection[str]) -> tuple[str, ...]:
    """Split a flag's text into flags of the other parser, as a shell does.

    Raises InputError for text that can't be split, and for a flag that is in own.
    """
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise InputError(f"{flag} is {text!r}: {error}; flags as in a shell are expected") from error
    for dest in own:
        other.flags()[dest].required = False
    given = vars(other.parse_args(words, Namespace(**dict.fromkeys(own))))
    clashes = [_name(other.flags()[dest]) for dest in sorted(own) if given[dest] is not None]
    if clashes:
        raise InputError(f"{flag}: {', '.join(clashes)}: the comparison says that itself, by its own flags")
    return words


def as_words(parser: Parser, args: Namespace, *titles: str, without: Collection[str] = ()) -> tuple[str, ...]:
    """Return the flags of some groups that differ from their defaults, as words of a command line."""
    words: list[str] = []
    for dest, action in parser.flags(*titles).items():
        value = getattr(args, dest)
        if dest in without or value == action.default:
            continue
        words += [_name(action)] if value is True else [_name(action), str(value)]
    return tuple(words)


def _same(one: Action, other: Action | None) -> bool:
    return other is not None and one.option_strings == other.option_strings and bool(one.option_strings)


def _name(action: Action) -> str:
    return action.option_strings[0]
