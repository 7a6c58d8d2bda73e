"""What the rows of a register say of a person, in the shape of the table `person_claims`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.local_frame import local_frame
from jobs.sources.adapter import ROW_BITS, SOURCE_PLACE
from schemas import TABLES


def claims_of(*frames: DataFrame) -> DataFrame:
    """The frames' rows as claims: the columns of the contract and SOURCE_PLACE, NULL where a frame has them not."""

    def column(frame: DataFrame, name: str, type_: str) -> Column:
        return (F.col(name) if name in frame.columns else F.lit(None)).cast(type_).alias(name)

    wanted = {SOURCE_PLACE: "bigint", **{one.name: one.type for one in TABLES["person_claims"].columns}}
    parts = [frame.select(*(column(frame, name, type_) for name, type_ in wanted.items())) for frame in frames]
    return reduce(DataFrame.unionByName, parts)


def with_lineage(claims: DataFrame, file_numbers: Mapping[str, int]) -> DataFrame:
    """The claims without SOURCE_PLACE, which gives source_file and source_row to those that have none."""
    if SOURCE_PLACE not in claims.columns:  # each tells its row itself
        return claims
    names = local_frame(claims.sparkSession, list(file_numbers.items()), "__file string, __number long")
    is_named = F.shiftright(SOURCE_PLACE, ROW_BITS) == F.col("__number")
    row = F.col(SOURCE_PLACE).bitwiseAND(F.lit((1 << ROW_BITS) - 1))
    told = claims.join(F.broadcast(names), is_named, "left").withColumns(
        {"source_file": F.coalesce("source_file", "__file"), "source_row": F.coalesce("source_row", row)}
    )
    return told.drop(SOURCE_PLACE, "__number", "__file")


def seen_in_hospital(contacts: DataFrame, priority: int, birth_precision: str | None = None) -> DataFrame:
    """One claim per person and delivery of a hospital register: the last contact and, where the file has them, sex and
    birth; SOURCE_PLACE says which row was the first.

    `contacts`: person_id, start_date, SOURCE_PLACE, delivery, optionally sex and birth_date.
    """
    # Only numbers and dates are aggregated: with text the engine sorts the rows instead of hashing.
    nothing = F.lit(None)
    is_male, born = nothing.cast("int"), nothing.cast("date")
    if "sex" in contacts.columns:
        is_male = F.min(F.when(F.col("sex") == "male", 1).when(F.col("sex") == "female", 0))
    if "birth_date" in contacts.columns:
        born = F.min("birth_date")
    people = contacts.groupBy("person_id", "delivery").agg(
        F.max("start_date").alias("last_contact"),
        is_male.alias("is_male"),
        born.alias("birth_date"),
        F.min(SOURCE_PLACE).alias(SOURCE_PLACE),
    )
    return people.withColumns(
        {
            "priority": F.lit(priority),
            "birth_date_precision": F.when(F.col("birth_date").isNotNull(), F.lit(birth_precision)),
            "sex": F.when(F.col("is_male") == 1, "male").when(F.col("is_male") == 0, "female"),
        }
    )
