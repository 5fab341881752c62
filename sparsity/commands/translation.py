"""Messages that name arguments -> messages that name the flags of a command.

The package below the commands speaks of its arguments, in backticks: `batch_size` is 0. A user of the command
line reads --batch-size is 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from sparsity.base.errors import InputError
from sparsity.commands.parser import Parser

OTHER_NAMES: Mapping[str, Sequence[str]] = {
    "amount": ("sparsity", "levels", "amounts"),
    "amounts": ("levels", "amounts"),
    "calibration": ("calib",),
    "engine": ("engine", "engines"),
    "target": ("cpu",),
    "methods": ("criterion",),
    "method": ("criterion",),
}
"""Argument -> destinations of the flags that set it, where they have other names; the first that there is."""
ARGUMENT = re.compile(r"`(\w+)`")


@contextmanager
def speaking_of(parser: Parser) -> Iterator[None]:
    """Translate the arguments in an InputError into the flags of a parser."""
    try:
        yield
    except InputError as error:
        raise InputError(as_flags(str(error), parser)) from error


def as_flags(message: str, parser: Parser) -> str:
    """Return the message with each argument in backticks replaced by its flag, where the parser has one."""
    flags = {dest: action.option_strings for dest, action in parser.flags().items()}

    def flag_of(found: re.Match[str]) -> str:
        for dest in OTHER_NAMES.get(found[1], (found[1],)):
            if dest in flags:
                return flags[dest][0] if flags[dest] else dest.upper()
        return found[0]

    return ARGUMENT.sub(flag_of, message)
