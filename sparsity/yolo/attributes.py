"""The values that the attributes of modules can have. Whatever reads an architecture checks them."""

from __future__ import annotations

from collections.abc import Callable

from sparsity.yolo.head import is_count

MOST_CHANNELS = 2**20
LARGEST_SIZE = 256
"""The largest kernel size, stride, padding or dilation, in cells."""
MOST_STRIDES = 16
LARGEST_STRIDE = 1024
LARGEST_FACTOR = 64
MOST_PARTS = 64
"""The most pools in a row, and the most areas of a map."""
MODES = ("nearest", "nearest-exact", "bilinear", "bicubic")

Test = Callable[[object], bool]


def misfit(name: str, value: object) -> str:
    """Return what is expected of an attribute of this name, "" if the value is that.

    The text follows the value in an error.
    """
    fits, expected = _TESTS.get(name, (_is_text, "a text"))
    return "" if fits(value) else expected


def shown(value: object) -> str:
    """Return a value as an error shows it: a number, a short text, or the name of its type."""
    if isinstance(value, int) and abs(value) >= 2**63:
        return "a number of over 63 bits"
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, str):
        return repr(value[:40])
    if isinstance(value, list | tuple) and len(value) < 5:
        return f"({', '.join('...' if isinstance(one, list | tuple) else shown(one) for one in value)})"
    return f"a {type(value).__name__}"


def _is_whole(value: object, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _channels(value: object) -> bool:
    return _is_whole(value, 1, MOST_CHANNELS)


def _size(value: object) -> bool:
    return _is_size(value, 1)


def _padding(value: object) -> bool:
    return _is_size(value, 0)


def _is_size(value: object, least: int) -> bool:
    pair = value if isinstance(value, tuple) and len(value) == 2 else (value,)
    return all(_is_whole(one, least, LARGEST_SIZE) for one in pair)


def _number(value: object) -> bool:
    return type(value) in (int, float) and abs(value) < 1e6


def _fraction(value: object) -> bool:
    return _number(value) and 0 <= value <= 1


def _is_bool(value: object) -> bool:
    return type(value) is bool


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _strides(value: object) -> bool:
    listed = isinstance(value, tuple) and 0 < len(value) <= MOST_STRIDES
    return listed and all(_is_whole(one, 1, LARGEST_STRIDE) for one in value)


def _factor(value: object) -> bool:
    factors = value if isinstance(value, tuple) and len(value) == 2 else (value,)
    return all(_number(one) and 1 <= one <= LARGEST_FACTOR and one == int(one) for one in factors)


_CHANNELS = (_channels, f"a whole number from 1 to {MOST_CHANNELS}")
_SIZE = (_size, f"a whole number from 1 to {LARGEST_SIZE}, or two")
_COUNT = (is_count, "a whole number above 0")
_PARTS = (lambda value: _is_whole(value, 1, MOST_PARTS), f"a whole number from 1 to {MOST_PARTS}")
_FRACTION = (_fraction, "a number from 0 to 1")
_BOOL = (_is_bool, "True or False")
_TESTS: dict[str, tuple[Test, str]] = {
    **dict.fromkeys(("in_channels", "out_channels", "groups", "num_features"), _CHANNELS),
    **dict.fromkeys(("in_features", "out_features", "embed_dim", "num_heads"), _CHANNELS),
    **dict.fromkeys(("head_dim", "key_dim"), _CHANNELS),
    **dict.fromkeys(("kernel_size", "stride", "dilation"), _SIZE),
    "padding": (_padding, f"a whole number from 0 to {LARGEST_SIZE}, or two"),
    **dict.fromkeys(("nc", "na", "reg_max", "c1"), _COUNT),
    **dict.fromkeys(("bias", "add", "residual"), _BOOL),
    **dict.fromkeys(("n", "area"), _PARTS),
    "scale": _FRACTION,
    "strides": (_strides, f"whole numbers from 1 to {LARGEST_STRIDE}, one for each raw map"),
    "eps": _FRACTION,
    "momentum": (lambda value: value is None or _fraction(value), "a number from 0 to 1, or None"),
    "negative_slope": (_number, "a number"),
    "d": (lambda value: _is_whole(value, -3, 3), "a dimension of a map, from -3 to 3"),
    "gain": (lambda value: _is_whole(value, 1, LARGEST_FACTOR), f"a whole number from 1 to {LARGEST_FACTOR}"),
    "size": (lambda value: value is None, "None (scale_factor is used)"),
    "scale_factor": (_factor, f"a whole number from 1 to {LARGEST_FACTOR}, or two"),
    "mode": (lambda value: value in MODES, f"one of {', '.join(MODES)}"),
}
"""Name of an attribute -> the test of its value, and what is expected. Names mean the same in all kinds."""
