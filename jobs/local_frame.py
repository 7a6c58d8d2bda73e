"""A few rows that the program has in its hands, as a frame that lies in the engine's plan: no job has to make it.

Plans are shown without the rows. Rows of people do not belong into one all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from pyspark.sql.types import StructType

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def local_frame(spark: SparkSession, rows: Sequence[Sequence[Any]], schema: StructType | str) -> DataFrame:
    """The rows, each with a value per column of the schema, as a frame."""
    import pyarrow as pa

    struct = cast("StructType", StructType.fromDDL(schema)) if isinstance(schema, str) else schema
    columns = list(zip(*rows, strict=True)) or [()] * len(struct.names)
    table = pa.table([pa.array(column) for column in columns], struct.names)
    return cast("DataFrame", cast("Any", spark).createDataFrame(table, struct))
