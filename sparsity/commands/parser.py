"""The parser of a command's flags: groups, examples at the end of its help, errors of one line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

MOST_WIDTH = 100


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose flags are in groups by title, and whose errors are one line.

    examples: command lines without the program's name, shown at the end of the help.
    """

    def __init__(self, prog: str, description: str, examples: Sequence[str] = ()) -> None:
        lines = "\n".join(f"  {prog} {example}" for example in examples)
        super().__init__(
            prog=prog,
            description=description,
            epilog=f"examples:\n{lines}" if lines else None,
            formatter_class=_HelpFormatter,
        )
        self._titled: dict[str, argparse._ArgumentGroup] = {}

    def group(self, title: str) -> argparse._ArgumentGroup:
        """Return the group of that title, which is made when it is asked for first."""
        if title not in self._titled:
            self._titled[title] = self.add_argument_group(title)
        return self._titled[title]

    @property
    def titles(self) -> tuple[str, ...]:
        """The titles of the groups."""
        return tuple(self._titled)

    def flags(self, *titles: str) -> dict[str, argparse.Action]:
        """Return the flags of some groups, of all where none is named: destination -> action."""
        groups = [self._titled[title] for title in titles or self._titled if title in self._titled]
        return {action.dest: action for group in groups for action in group._group_actions}

    def error(self, message: str) -> NoReturn:
        """Print what is wrong with the flags, and exit with 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Shows the defaults that say something, and keeps the lines of the examples as they are."""

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, max_help_position=28, **options)
        self._width = min(self._width, MOST_WIDTH)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help or ""
        silent = action.default in (None, "", argparse.SUPPRESS, []) or action.default is False
        return (
            text if silent or "%(default)" in text or "(default" in text else f"{text} (default: %(default)s)"
        )
