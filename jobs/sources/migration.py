"""Who has left the country, from a register that has a row for each move in or out."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def last_moves(moves: DataFrame) -> DataFrame:
    """One row per person: `last_move`, the day of the last one, `emigration_date`, that day where it was out of the
    country, and its place in the files.

    `moves`: person_id, moved (the day), way (in, out; NULL: neither), and the lineage columns.
    """
    # Who moves out and back on one day is a resident.
    move = F.struct("moved", F.col("way") == "in", "source_file", "source_row", "way", "delivery")
    last = moves.where(F.col("way").isNotNull()).groupBy("person_id").agg(F.max(move).alias("last"))
    return last.select(
        "person_id",
        F.col("last.moved").alias("last_move"),
        F.when(F.col("last.way") == "out", F.col("last.moved")).alias("emigration_date"),
        *(F.col(f"last.{name}").alias(name) for name in ("source_file", "source_row", "delivery")),
    )
