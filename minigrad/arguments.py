"""Argument validation: the numbers and ints that a user passes.

Errors name who was called, the argument, the rule and the value. A bool is neither a number nor an
int.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .errors import DTypeError


def check_number(
    owner: str, name: str, value: Any, low: float = -math.inf, high: float = math.inf
) -> float:
    """A real number from low to high, both included, as a float.

    Raises DTypeError for anything else than a number, ValueError outside of the range. NaN is
    outside of every range that has a bound.
    """
    if type(value) is not float and (
        isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating))
    ):
        raise DTypeError(f"{owner}: {name} must be a number, got {value!r:.80}")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{owner}: {name} does not fit float64, got {value!r:.80}") from None
    if (low > -math.inf or high < math.inf) and not low <= number <= high:
        rule = f"at least {low:g}" if high == math.inf else f"in [{low:g}, {high:g}]"
        raise ValueError(f"{owner}: {name} must be {rule}, got {value!r:.80}")
    return number


def check_int(
    owner: str, name: str, value: Any, low: int | None = None, high: int | None = None
) -> int:
    """A whole number from low to high, both included, as an int; None is no bound.

    Raises DTypeError for anything else than an int, ValueError outside of the range.
    """
    if type(value) is not int and (
        isinstance(value, bool) or not isinstance(value, (int, np.integer))
    ):
        raise DTypeError(f"{owner}: {name} must be an int, got {value!r:.80}")
    if (low is not None and value < low) or (high is not None and value > high):
        rule = f"at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{owner}: {name} must be {rule}, got {value}")
    return int(value)
