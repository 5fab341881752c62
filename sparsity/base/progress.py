"""Progress: a bar on a terminal; in a log file a line now and then."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

LINE_SECONDS = 30.0
"""The time between two lines, where standard error is not a terminal."""


LATE_SECONDS = 90.0
"""A first line after this time names no time left: other work came before the first unit."""


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
        self._before = (0.0, 0.0)
        options |= {"mininterval": LINE_SECONDS, "maxinterval": 10 * LINE_SECONDS, "miniters": 1}
        super().__init__(*args, **options | {"delay": LINE_SECONDS, "leave": False})

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Print the line, and not the empty one that would clear a terminal's."""
        if msg is None and self.n and self.format_dict["elapsed"] >= LINE_SECONDS:
            about = self.format_dict
            self.fp.write(_format(self.desc, about, self._before) + "\n")
            self.fp.flush()
            self._before = about["n"], about["elapsed"]
        return True

    def close(self) -> None:
        """End the bar without the carriage return that would clear a terminal's line."""
        if not self.disable:
            self.disable = True
            self._decr_instances(self)

    def clear(self, *_args: Any, **_options: Any) -> None:
        """Leave the lines where they are."""


def _format(title: str, about: dict[str, Any], before: tuple[float, float] = (0.0, 0.0)) -> str:
    """Format a line, such as "Layers: 12 of 60 layer, 1:10 so far, about 4:40 left".

    before: what was done at the previous line, and the seconds it had taken. The time left goes by what was
    done since, because other work can come before the first unit.
    """
    done, total, elapsed = about["n"], about["total"], about["elapsed"]
    shown = tqdm.format_sizeof if about.get("unit_scale") else "{:.10g}".format
    counted = f"{shown(done)} of {shown(total)}" if total else shown(done)
    line = f"{title.removesuffix(': ')}: {counted} {about['unit']}, {tqdm.format_interval(elapsed)} so far"
    is_late = before == (0.0, 0.0) and elapsed > LATE_SECONDS
    if not total or is_late:
        return line
    since = before if done > before[0] else (0.0, 0.0)
    left = (elapsed - since[1]) / (done - since[0]) * (total - done)
    return f"{line}, about {tqdm.format_interval(left)} left"
