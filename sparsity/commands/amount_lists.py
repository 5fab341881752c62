"""Lists of sparsities as text: 0.1:0.9, 0.1:0.9:0.05, 0,0.3,0.5."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from sparsity.base.errors import InputError

DEFAULT_STEP = Decimal("0.1")
MOST_LEVELS = 1000


def parse_levels(text: str) -> tuple[float, ...]:
    """Return the fractions in a text, ascending, without duplicates.

    Commas divide the parts. A part is a fraction, FIRST:LAST or FIRST:LAST:STEP; the step is 0.1 where it is
    missing, and LAST is included where the steps reach it. Steps are decimal: 0.1:0.3 is 0.1, 0.2 and 0.3.
    Raises InputError for any other text, and for a fraction outside 0 <= x < 1.
    """
    levels: set[Decimal] = set()
    for part in text.split(","):
        numbers = [_number(word, text) for word in part.split(":")]
        if len(numbers) > 3:
            raise InputError(f"levels {text!r}: {part!r} has more than FIRST:LAST:STEP")
        levels.update(numbers if len(numbers) == 1 else _range(part, *numbers))
    for level in levels:
        if not 0 <= level < 1:
            meant = _as_fractions(text)
            meant = f"; for percentages give {meant}" if meant else ""
            raise InputError(f"levels {text!r}: {level} is outside; from 0 to less than 1 is expected{meant}")
    return tuple(float(level) for level in sorted(levels))


def _as_fractions(text: str) -> str:
    """Return a list of percentages as the list of fractions that it means; "" for anything else."""
    parts = re.split(r"([,:])", text.replace(" ", ""))
    numbers = [Decimal(part) for part in parts[::2]]
    if not all(1 <= number < 100 for number in numbers):
        return ""
    parts[::2] = [f"{(number / 100).normalize():f}" for number in numbers]
    return "".join(parts)


def _number(word: str, text: str) -> Decimal:
    try:
        number = Decimal(word.strip())
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite():
        raise InputError(f"levels {text!r}: {word!r} is no number; 0.1:0.9 or 0,0.3,0.5 is expected")
    return number


def _range(part: str, first: Decimal, last: Decimal, step: Decimal = DEFAULT_STEP) -> list[Decimal]:
    if step <= 0:
        raise InputError(f"levels {part!r}: the step is {step}; more than 0 is expected")
    if first > last:
        raise InputError(f"levels {part!r}: goes from {first} down to {last}; a rising range is expected")
    if last - first >= step * MOST_LEVELS:
        raise InputError(f"levels {part!r}: more than {MOST_LEVELS} levels; a larger step is expected")
    return [first + step * i for i in range(int((last - first) / step) + 1)]
