"""Checks of a constructor's arguments: one message that names the argument, its range and what was given."""

import math
from collections.abc import Collection
from numbers import Integral, Real
from typing import Any


def require_count(name: str, value: Any, least: int = 1, most: int | None = None) -> None:
    """Refuse what is no whole number of a range.

    Args:
        name: Name of the argument.
        value: What was given.
        least: The smallest value allowed.
        most: The largest value allowed; None for no limit.

    Raises:
        ValueError: If the value is no integer (``true`` is none) or out of the range.
    """
    is_whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_whole or value < least or (most is not None and value > most):
        limits = f"of at least {least}" if most is None else f"from {least} to {most}"
        msg = f"{name} must be a whole number {limits}, got {value!r}."
        raise ValueError(msg)


def require_number(name: str, value: Any, least: float = 0.0) -> None:
    """Refuse what is no finite number of at least ``least``.

    Args:
        name: Name of the argument.
        value: What was given.
        least: The smallest value allowed.

    Raises:
        ValueError: If the value is no number (``true`` is none), is NaN or infinite, or too small.
    """
    if not _is_finite_number(value) or value < least:
        msg = f"{name} must be a finite number of at least {least:g}, got {value!r}."
        raise ValueError(msg)


def require_positive(name: str, value: Any, most: float = math.inf) -> None:
    """Refuse what is no finite number above 0, and up to ``most``.

    Args:
        name: Name of the argument.
        value: What was given.
        most: The largest value allowed; infinity for no limit.

    Raises:
        ValueError: If the value is no number (``true`` is none), is NaN or infinite, or out of the range.
    """
    if not _is_finite_number(value) or not 0 < value <= most:
        limits = "above 0" if most == math.inf else f"above 0 and at most {most:g}"
        msg = f"{name} must be a finite number {limits}, got {value!r}."
        raise ValueError(msg)


def require_choice(name: str, value: Any, choices: Collection[Any]) -> None:
    """Refuse what is not among the choices.

    Args:
        name: Name of the argument.
        value: What was given.
        choices: The values allowed.

    Raises:
        ValueError: If the value is none of them, or of another type (1 is not ``true``).
    """
    if not any(value == choice and type(value) is type(choice) for choice in choices):
        msg = f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}."
        raise ValueError(msg)


def _is_finite_number(value: Any) -> bool:
    """Whether a value is a number (``true`` is none), and neither NaN nor infinite."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
