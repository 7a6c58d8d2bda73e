"""From a wide row of a register to one row per cell that says something."""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F


def unpivoted(
    rows: DataFrame,
    prefixes: tuple[str, ...],
    code: Callable[[Column], Column] = F.upper,
    of_column: Callable[[str], str | None] = lambda column: None,
) -> DataFrame:
    """One row per cell of the columns with these prefixes of which `code` leaves something, without the columns:
    `cell`, as `code` makes it of the text, and `of_column`, what that says of the cell's column; equal ones of a row
    once."""
    columns = [column for column in rows.columns if column.startswith(prefixes)]
    told = [of_column(column) for column in columns]
    # In a step of their own: what makes a code stands in the engine's plan wherever the code is used in the same step.
    codes = {f"__code_{place}": code(F.col(column)) for place, column in enumerate(columns)}
    cells = F.array(*codes) if codes else F.array().cast("array<string>")
    each = rows.withColumns(codes).drop(*columns).select("*", F.posexplode(cells).alias("__place", "cell"))
    each = each.where(F.col("cell") != "")
    for one in dict.fromkeys(told):
        places = [place for place, other in enumerate(told) if other == one]
        if len(places) > 1:
            alike = [F.col(name) if told[place] == one else F.lit(None) for place, name in enumerate(codes)]
            is_first = F.array_position(F.array(*alike), F.col("cell")) == F.col("__place") + 1
            each = each.where(~F.col("__place").isin(places) | is_first)
    said = F.array(*map(F.lit, told)).cast("array<string>")
    named = each.withColumn("of_column", F.get(said, F.col("__place")))
    return named.drop(*codes, "__place")
