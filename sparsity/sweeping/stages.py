"""The stages at which a level of a sweep is measured: as it is pruned, and after training."""

from __future__ import annotations

ONE_SHOT, FINE_TUNED = "one-shot", "fine-tuned"


def staged(method: str, stage: str) -> str:
    """Return the name of a method at a stage: obs; obs, fine-tuned."""
    return method if stage == ONE_SHOT else f"{method}, {stage}"
