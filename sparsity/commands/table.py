"""The table of commands. Listing them imports none: a command is imported when it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module

from sparsity.commands.parser import Parser


@dataclass(frozen=True)
class Command:
    """One command.

    help: one line. parser: "module:function" that makes the parser of its flags, given the program's name.
    run: "module:function" that does the work, given the parsed flags and the command line as typed.
    """

    help: str
    parser: str
    run: str

    def make_parser(self, prog: str) -> Parser:
        """Return the parser of the flags. prog: the program's name in its help and errors."""
        return _load(self.parser)(prog)

    def load(self) -> Callable[..., None]:
        """Import the command, and return its run."""
        return _load(self.run)


def _command(name: str, text: str) -> Command:
    return Command(text, f"sparsity.commands.parsers:{name}_parser", f"sparsity.commands.{name}:run")


COMMANDS: Mapping[str, Command] = {
    name: _command(name, text)
    for name, text in (
        ("val", "prune a checkpoint, validate it and save it"),
        ("sweep", "prune at many sparsities, validate each, and time it"),
        ("finetune", "train a pruned checkpoint; its zeros stay zero"),
        ("slim", "cut the least important channels, and save the smaller network"),
        ("compare", "compare pruning, training, slimming and int8 on one checkpoint"),
        ("sensitivity", "measure layer sensitivity: prune each layer alone"),
        ("predict", "detect in pictures, videos or a camera, and draw what is found"),
        ("convert", "convert a saved network into another form"),
    )
}
"""Name -> command."""


def _load(place: str) -> Callable[..., object]:
    module, _, function = place.partition(":")
    return getattr(import_module(module), function)
