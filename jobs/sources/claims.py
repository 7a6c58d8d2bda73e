"""What the rows of a register say of a person, in the shape of the table `person_claims`."""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas import TABLES


def claims_of(*frames: DataFrame) -> DataFrame:
    """The frames' rows as claims: the columns of the contract that a frame has, NULL for the others."""

    def column(frame: DataFrame, name: str, type_: str) -> Column:
        return (F.col(name) if name in frame.columns else F.lit(None)).cast(type_).alias(name)

    contract = TABLES["person_claims"].columns
    parts = [frame.select(*(column(frame, one.name, one.type) for one in contract)) for frame in frames]
    return reduce(DataFrame.unionByName, parts)


def seen_in_hospital(contacts: DataFrame, priority: int, birth_precision: str | None = None) -> DataFrame:
    """One claim per person and delivery of a hospital register: the last contact and, where the file has them, sex and
    birth.

    `contacts`: person_id, start_date, optionally sex and birth_date, and the lineage columns.
    """
    # Only numbers and dates are aggregated over all rows: with text the engine sorts them instead of hashing.
    nothing = F.lit(None)
    is_male, born = nothing.cast("int"), nothing.cast("date")
    if "sex" in contacts.columns:
        is_male = F.min(F.when(F.col("sex") == "male", 1).when(F.col("sex") == "female", 0))
    if "birth_date" in contacts.columns:
        born = F.min("birth_date")
    of_file = contacts.groupBy("person_id", "delivery", "source_file").agg(
        F.max("start_date").alias("last_contact"),
        is_male.alias("is_male"),
        born.alias("birth_date"),
        F.min("source_row").alias("source_row"),
    )
    people = of_file.groupBy("person_id", "delivery").agg(
        F.max("last_contact").alias("last_contact"),
        F.min("is_male").alias("is_male"),
        F.min("birth_date").alias("birth_date"),
        F.min(F.struct("source_file", "source_row")).alias("first"),
    )
    return people.select("*", "first.*").withColumns(
        {
            "priority": F.lit(priority),
            "birth_date_precision": F.when(F.col("birth_date").isNotNull(), F.lit(birth_precision)),
            "sex": F.when(F.col("is_male") == 1, "male").when(F.col("is_male") == 0, "female"),
        }
    )
