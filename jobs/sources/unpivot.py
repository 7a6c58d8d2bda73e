"""From a wide row of a register to one row per filled cell."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def unpivoted(rows: DataFrame, prefixes: tuple[str, ...]) -> DataFrame:
    """One row per filled cell of the columns with these prefixes: `cell_column`, `cell`."""
    columns = [column for column in rows.columns if column.startswith(prefixes)]
    cells = F.array(*[F.struct(F.lit(c).alias("cell_column"), F.upper(c).alias("cell")) for c in columns])
    if not columns:
        cells = cells.cast("array<struct<cell_column:string,cell:string>>")
    filled = F.filter(cells, lambda cell: cell["cell"].isNotNull())
    return rows.withColumn("__cell", F.explode(filled)).select("*", "__cell.*").drop("__cell", *columns)
