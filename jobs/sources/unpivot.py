"""From a wide row of a register to one row per cell that says something."""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.sources.parse import without_nulls


def unpivoted(
    rows: DataFrame,
    prefixes: tuple[str, ...],
    code: Callable[[Column], Column] = F.upper,
    of_column: Callable[[str], Column] = lambda column: F.lit(None).cast("string"),
) -> DataFrame:
    """One row per filled cell of the columns with these prefixes, without them: `cell`, as `code` makes it of the text,
    and `of_column`, what `of_column` says of the cell's column; equal ones of a row once."""
    columns = [column for column in rows.columns if column.startswith(prefixes)]
    told = [F.struct(code(F.col(c)).alias("cell"), of_column(c).alias("of_column")) for c in columns]
    cells = F.array(*[F.when(F.col(c).isNotNull(), one) for c, one in zip(columns, told, strict=True)])
    if not columns:
        cells = cells.cast("array<struct<cell:string,of_column:string>>")
    each = rows.withColumn("__cell", F.explode(without_nulls(cells))).select("*", "__cell.*").drop("__cell", *columns)
    return each.where(F.col("cell").isNotNull())
