"""Which rows of a comparison keep a share of the dense AP, and which may, by the interval of their change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sparsity.comparing.row import ComparedRow


@dataclass(frozen=True)
class Compared:
    """The rows of a comparison. dense: the one that the others are compared with."""

    rows: Sequence[ComparedRow]
    dense: ComparedRow

    @property
    def others(self) -> list[ComparedRow]:
        """The rows of other techniques than the dense one's."""
        return [row for row in self.rows if not self.is_dense(row)]

    def is_dense(self, row: ComparedRow) -> bool:
        """Whether a row is the dense network, in any engine."""
        return row.technique == self.dense.technique

    def keeps(self, row: ComparedRow, share: float) -> bool:
        """Whether the AP of a row is at least this share of the dense AP."""
        return bool(share * self.dense.AP <= row.AP)

    def may_miss(self, row: ComparedRow, share: float) -> bool:
        """Whether the interval of a row's change of AP reaches below the share."""
        return row.AP_change_low is not None and row.AP_change_low < self._change(share)

    def may_keep(self, row: ComparedRow, share: float) -> bool:
        """Whether the interval of a row's change of AP reaches the share."""
        return row.AP_change_high is not None and row.AP_change_high >= self._change(share)

    def _change(self, share: float) -> float:
        """Return the change of AP at which a row just keeps the share."""
        return (share - 1) * self.dense.AP
