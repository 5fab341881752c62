"""Progress bars, shown on a terminal only."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm


def say(line: str) -> None:
    """Print a line. A progress bar that is shown stays below it."""
    tqdm.write(line)


def progress_bar(*args: Any, shown: bool, **options: Any) -> tqdm:
    """Return a tqdm bar. It is visible only if shown is True and standard error is a terminal."""
    return tqdm(*args, disable=None if shown else True, **options)
