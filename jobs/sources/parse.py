"""Dates and codes as registers write them, as pure column functions."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

EARLIEST = "1850-01-01"


def compact_date(name: str) -> Column:
    """YYYYMMDD as it is, YYYYMM as the 15th, YYYY as 1 July; NULL for anything else."""
    text = F.col(name)
    whole = (
        F.when(text.rlike(r"^\d{8}$"), text)
        .when(text.rlike(r"^\d{6}$"), F.concat(text, F.lit("15")))
        .when(text.rlike(r"^\d{4}$"), F.concat(text, F.lit("0701")))
    )
    return F.try_to_date(whole, "yyyyMMdd")


def compact_precision(name: str) -> Column:
    """day, month or year by the length of a compact date."""
    size = F.length(name)
    return F.when(size == 8, "day").when(size == 6, "month").when(size == 4, "year")


def reason(condition: Column, code: str) -> Column:
    """The reason's code where the condition holds, NULL where it does not or cannot be told."""
    return F.when(F.coalesce(condition, F.lit(False)), F.lit(code))


def impossible(name: str, typed: Column) -> Column:
    """A date that is written and is none, or lies before 1850 or after the delivery."""
    outside = ~typed.between(F.lit(EARLIEST).cast("date"), F.to_date("delivery"))
    return reason(F.col(name).isNotNull() & (typed.isNull() | outside), f"impossible_date:{name}")


def missing(name: str) -> Column:
    """A cell that must not be empty."""
    return reason(F.col(name).isNull(), f"missing:{name}")


def unknown_code(name: str, known: dict[str, str]) -> Column:
    """A code without a meaning."""
    return reason(F.col(name).isNotNull() & ~F.col(name).isin(*known), f"unknown_code:{name}")


def decoded(name: str, meaning: dict[str, str]) -> Column:
    """The meaning of each code; NULL for others and for codes that mean nothing."""
    column: Column = F.lit(None).cast("string")
    for code, value in meaning.items():
        column = F.when(F.col(name) == code, value or None).otherwise(column)
    return column


def without_repeated_keys(judged: DataFrame, key: Sequence[str]) -> DataFrame:
    """Adds the reason `repeated_key` to accepted rows that contradict an earlier one of the same key; exact duplicates
    are ingest's."""
    counts = ~F.col("__duplicate") & (F.size("reasons") == 0)
    order = (
        Window.partitionBy(*key, counts)
        .orderBy("source_file", "source_row")
        .rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    is_later = counts & (F.row_number().over(order) > 1)
    return judged.withColumn("reasons", F.when(is_later, F.array(F.lit("repeated_key"))).otherwise(F.col("reasons")))


def with_reasons(*reasons: Column) -> Column:
    """The reasons that hold, as an array."""
    return F.array_compact(F.array(*reasons))
