"""How a command starts and ends: exit codes, one line for input that can't be used."""

from __future__ import annotations

import io
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from sparsity.base.errors import InputError
from sparsity.base.version import installed_version
from sparsity.commands.parser import Parser
from sparsity.commands.resuming import complete
from sparsity.commands.table import COMMANDS
from sparsity.commands.translation import speaking_of

PROGRAM = "sparsity"


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command that the first argument names, and exit."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and argv[0] in COMMANDS:
        run_command(argv[0], argv[1:])
    _make_parser().parse_args(argv)
    sys.exit(0)


def run_command(name: str, argv: Sequence[str] | None = None, *, prog: str = "") -> NoReturn:
    """Run a command and exit: 0; 2 with one line for input that can't be used; 130 on Ctrl-C.

    argv: its flags; those of the process where None. prog: the program's name in help and errors.
    """
    typed = list(sys.argv[1:] if argv is None else argv)
    start = ["python", prog] if prog else [PROGRAM, name]
    prog = prog or f"{PROGRAM} {name}"
    command = COMMANDS[name]
    parser = command.make_parser(prog)

    def work() -> None:
        argv = complete(name, typed)
        args, line = parser.parse_args(argv), shlex.join([*start, *argv])
        with speaking_of(parser):
            command.load()(args, line)

    exit_after(work, prog)


def _make_parser() -> Parser:
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items())
    parser = Parser(
        PROGRAM,
        f"Prune YOLO detectors, and measure what it costs and what it gives.\n\ncommands:\n{lines}",
        ["sweep 0.1:0.9 --demo", "val --weights best.pt --data my.yaml --sparsity 0.3", "COMMAND --help"],
    )
    parser.usage = f"{PROGRAM} [-h] [--version] COMMAND ..."
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {installed_version()}")
    parser.add_argument("command", metavar="COMMAND", choices=list(COMMANDS), help="what to do")
    return parser


def exit_after(work: Callable[[], None], prog: str) -> NoReturn:
    """Do the work and exit, as run_command does. prog: the program's name in errors."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace", line_buffering=True)
    try:
        work()
    except BrokenPipeError:
        # Whoever read the output has gone; the files are written.
        sys.stdout = None
        sys.exit(0)
    except InputError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("Interrupted; no file was left half-written.", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)
