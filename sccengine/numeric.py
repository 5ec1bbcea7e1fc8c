"""Numbers given as settings: each check gives back Python's own number, or raises an error that names who was given it.

TypeError for what is no such number (True and False are none), ValueError for one out of range. NumPy's numbers are as
good as Python's.
"""

from __future__ import annotations

import math
from numbers import Integral, Real


def is_whole(value):
    """Whether it is a whole number."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_real(value):
    """Whether it is a number on the real line, whole or not."""
    return isinstance(value, Real) and not isinstance(value, bool)


def whole(owner, name, value, least=1):
    """``value`` as an int of at least ``least``."""
    if not is_whole(value):
        raise TypeError(f"{owner}: {name} must be a whole number, got {value!r}")
    if value < least:
        raise ValueError(f"{owner}: {name} must be at least {least}, got {value}")
    return int(value)


def number(owner, name, value):
    """``value`` as a float."""
    if type(value) is float:
        return value
    if not is_real(value):
        raise TypeError(f"{owner}: {name} must be a number, got {value!r}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{owner}: {name} is too large for a float") from None


def finite(owner, name, value):
    """``value`` as a float that is neither infinite nor NaN."""
    value = number(owner, name, value)
    if not math.isfinite(value):
        raise ValueError(f"{owner}: {name} must be finite, got {value}")
    return value


def above_zero(owner, name, value):
    """``value`` as a float above 0."""
    value = number(owner, name, value)
    if not value > 0.0:
        raise ValueError(f"{owner}: {name} must be above 0, got {value}")
    return value


def finite_above_zero(owner, name, value):
    """``value`` as a finite float above 0."""
    value = number(owner, name, value)
    if not 0.0 < value < math.inf:
        raise ValueError(f"{owner}: {name} must be a finite number above 0, got {value}")
    return value


def at_least_zero(owner, name, value):
    """``value`` as a finite float of at least 0."""
    value = number(owner, name, value)
    if not 0.0 <= value < math.inf:
        raise ValueError(f"{owner}: {name} must be a finite number of at least 0, got {value}")
    return value


def up_to_one(owner, name, value):
    """``value`` as a float in [0, 1]."""
    value = number(owner, name, value)
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{owner}: {name} must lie in [0, 1], got {value}")
    return value


def below_one(owner, name, value):
    """``value`` as a float in [0, 1)."""
    value = number(owner, name, value)
    if not 0.0 <= value < 1.0:
        raise ValueError(f"{owner}: {name} must be at least 0 and below 1, got {value}")
    return value
