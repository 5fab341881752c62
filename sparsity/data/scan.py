"""The counts of files that were found while a data set was read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scan:
    """The numbers of label files found, missing and empty. problems: images left out, with the reason."""

    found: int
    missing: int
    empty: int
    problems: tuple[str, ...] = ()

    @property
    def corrupt(self) -> int:
        """The number of images that were left out."""
        return len(self.problems)
