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


def flags(conditions: Iterable[Column]) -> dict[str, Column]:
    """BIGINT columns by name, BITS conditions each; a condition that cannot be told does not hold."""
    every = list(conditions)
    bits = [F.when(one, F.lit(1 << place % BITS).cast("long")).otherwise(F.lit(0)) for place, one in enumerate(every)]
    return {
        _name(first // BITS): reduce(operator.add, bits[first : first + BITS]) for first in range(0, len(bits), BITS)
    }


def is_flagged(place: int) -> Column:
    """Whether the condition at that place held."""
    return F.col(_name(place // BITS)).bitwiseAND(F.lit(1 << place % BITS).cast("long")) != 0
