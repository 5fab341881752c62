"""Progress: a bar on a terminal; in a log file a line now and then."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

LINE_SECONDS = 30.0
"""The time between two lines, where standard error is not a terminal."""


def say(line: str) -> None:
    """Print a line. A progress bar that is shown stays below it."""
    tqdm.write(line)


def progress_bar(*args: Any, shown: bool, **options: Any) -> tqdm:
    """Return a tqdm bar, visible if shown is True.

    Where standard error is not a terminal, the bar prints lines instead: none in its first 30 seconds, then
    one every 30 seconds, with what is done and the time that is left.
    """
    if shown and not sys.stderr.isatty():
        return _Lines(*args, **options)
    return tqdm(*args, disable=None if shown else True, **options)


class _Lines(tqdm):
    """A tqdm bar that prints whole lines."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options |= {"mininterval": LINE_SECONDS, "maxinterval": 10 * LINE_SECONDS, "miniters": 1}
        super().__init__(*args, **options | {"delay": LINE_SECONDS, "leave": False})

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Print the line, and not the empty one that would clear a terminal's."""
        if msg is None and self.n and self.format_dict["elapsed"] >= LINE_SECONDS:
            self.fp.write(_format(self.desc, self.format_dict) + "\n")
            self.fp.flush()
        return True

    def close(self) -> None:
        """End the bar without the carriage return that would clear a terminal's line."""
        if not self.disable:
            self.disable = True
            self._decr_instances(self)

    def clear(self, *_args: Any, **_options: Any) -> None:
        """Leave the lines where they are."""


def _format(title: str, about: dict[str, Any]) -> str:
    """Format a line, such as "Layers: 12 of 60 layer, 1:10 so far, about 4:40 left"."""
    done, total, elapsed = about["n"], about["total"], about["elapsed"]
    shown = tqdm.format_sizeof if about.get("unit_scale") else "{:.10g}".format
    counted = f"{shown(done)} of {shown(total)}" if total else shown(done)
    line = f"{title.removesuffix(': ')}: {counted} {about['unit']}, {tqdm.format_interval(elapsed)} so far"
    if not total:
        return line
    left = elapsed / done * (total - done)
    return f"{line}, about {tqdm.format_interval(left)} left"
