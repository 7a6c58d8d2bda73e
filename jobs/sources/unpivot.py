"""From a wide row of a register to one row per cell that says something."""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F


def _without_nulls(values: Column) -> Column:
    """What is in an array, each value once, in the order of the first ones.

    Unlike `filter` and `array_compact` this is compiled, and so is what makes the values.
    """
    return F.array_except(values, F.array(F.lit(None)))


def unpivoted(
    rows: DataFrame,
    prefixes: tuple[str, ...],
    code: Callable[[Column], Column] = F.upper,
    of_column: Callable[[str], Column] = lambda column: F.lit(None).cast("string"),
) -> DataFrame:
    """One row per cell of the columns with these prefixes of which `code` leaves something, without the columns:
    `cell`, as `code` makes it of the text, and `of_column`, what that says of the cell's column; equal ones of a row
    once."""
    columns = [column for column in rows.columns if column.startswith(prefixes)]
    told = [F.struct(code(F.col(c)).alias("cell"), of_column(c).alias("of_column")) for c in columns]
    cells = F.array(*[F.when(F.col(c).isNotNull(), one) for c, one in zip(columns, told, strict=True)])
    if not columns:
        cells = cells.cast("array<struct<cell:string,of_column:string>>")
    each = rows.withColumn("__cell", F.explode(_without_nulls(cells))).select("*", "__cell.*").drop("__cell", *columns)
    return each.where(F.col("cell") != "")
