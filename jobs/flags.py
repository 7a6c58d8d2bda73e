"""Conditions on a row as the bits of whole numbers: what many of them cost to keep and to count is little."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from functools import reduce

from pyspark.sql import Column
from pyspark.sql import functions as F

BITS = 62
PREFIX = "__flags_"


def _name(number: int) -> str:
    return f"{PREFIX}{number}"


def flag_names(columns: Iterable[str]) -> list[str]:
    """Those of the columns that hold flags."""
    return [column for column in columns if column.startswith(PREFIX)]


def flags(conditions: Iterable[Column | str]) -> dict[str, Column]:
    """BIGINT columns by name, BITS conditions each, given as columns or in SQL; a condition that cannot be told does
    not hold."""
    every = [F.expr(one) if isinstance(one, str) else one for one in conditions]
    bits = [F.when(one, 1 << place % BITS).otherwise(0) for place, one in enumerate(every)]
    return {
        _name(first // BITS): reduce(operator.add, bits[first : first + BITS]).cast("long")
        for first in range(0, len(bits), BITS)
    }


def is_flagged(place: int) -> str:
    """Whether the condition at that place held, in SQL."""
    return f"{_name(place // BITS)} & {1 << place % BITS}L != 0"
