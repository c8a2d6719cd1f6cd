"""The one table of an inspection, tidy: one number a row."""

import math
from typing import Any, NamedTuple

import pandas as pd
from torch import Tensor

from anomalib_memmc.inspection.ablation import NOTHING

ALL, NORMAL, ANOMALOUS, DIFFERENCE = "all", "normal", "anomalous", "anomalous - normal"
"""Which images a number is of; the last is the difference of the two classes."""


class Row(NamedTuple):
    """One number of an inspection.

    Attributes:
        measure: What was measured.
        images: Which images it is of: ``all``, ``normal``, ``anomalous`` or ``anomalous - normal``.
        value: The number.
        standard_error: Over the images; NaN where there is none.
        block: Encoder layer or decoder block, counted from 1.
        level: Encoder level, counted from 1.
        off: What was switched off.
    """

    measure: str
    images: str
    value: float
    standard_error: float = math.nan
    block: int | None = None
    level: int | None = None
    off: str = NOTHING


def by_class(measure: str, values: Tensor, is_anomalous: Tensor, **where: Any) -> list[Row]:
    """Mean of all images, of each class, and the difference of the classes, with standard errors.

    Args:
        measure: What was measured.
        values: One number an image (I,).
        is_anomalous: Boolean (I,), with images of both classes.
        **where: Further fields of :class:`Row`.

    Returns:
        Four rows. The error of the difference is Welch's, for independent images; NaN where a class has one image.
    """
    values = values.double().cpu()
    means, errors = {}, {}
    for images, part in ((ALL, values), (NORMAL, values[~is_anomalous]), (ANOMALOUS, values[is_anomalous])):
        means[images] = part.mean().item()
        errors[images] = part.std().item() / math.sqrt(len(part)) if len(part) > 1 else math.nan
    means[DIFFERENCE] = means[ANOMALOUS] - means[NORMAL]
    errors[DIFFERENCE] = math.hypot(errors[ANOMALOUS], errors[NORMAL])
    return [Row(measure, images, means[images], errors[images], **where) for images in means]


def to_table(rows: list[Row]) -> pd.DataFrame:
    """Rows as a table, with whole numbers for blocks and levels."""
    return pd.DataFrame(rows, columns=list(Row._fields)).astype({"block": "Int64", "level": "Int64"})


def select(table: pd.DataFrame, measure: str, **where: Any) -> pd.DataFrame:
    """The rows of a measure, and of those the ones with the given fields.

    Args:
        table: The table of an inspection.
        measure: What was measured.
        **where: Column = value.

    Returns:
        The rows, numbered anew.
    """
    rows = table[table["measure"] == measure]
    for column, value in where.items():
        rows = rows[rows[column] == value]
    return rows.reset_index(drop=True)


class Number(NamedTuple):
    """A number with its standard error."""

    value: float
    standard_error: float

    @property
    def is_clear(self) -> bool:
        """Whether it is further from 0 than two standard errors; False where the error is not known."""
        return abs(self.value) > 2 * self.standard_error


def number(table: pd.DataFrame, measure: str, **where: Any) -> Number:
    """The one number of a measure with the given fields.

    Args:
        table: The table of an inspection.
        measure: What was measured.
        **where: Column = value.

    Raises:
        ValueError: If there is not exactly one.
    """
    rows = select(table, measure, **where)
    if len(rows) != 1:
        msg = f"There are {len(rows)} numbers of {measure} with {where}, not one."
        raise ValueError(msg)
    return Number(rows["value"].item(), rows["standard_error"].item())


def signed(value: float, form: str) -> str:
    """A number with its sign in a format such as ``.3f`` or ``.0%``; what rounds to zero has a plus."""
    text = f"{value:+{form}}"
    return text if any(digit in text for digit in "123456789n") else text.replace("-", "+")
