"""What reading a data set found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scan:
    """How many label files were found, are missing, are empty; images left out, with the reason."""

    found: int
    missing: int
    empty: int
    problems: tuple[str, ...] = ()

    @property
    def corrupt(self) -> int:
        """How many images were left out."""
        return len(self.problems)
