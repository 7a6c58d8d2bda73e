"""Treatment lines on Spark: one shuffle by person, then the kernel on each partition."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.config import Study
from jobs.lines import table
from schemas import TABLES
from schemas.derived import LINE_REASONS

if TYPE_CHECKING:
    Batches = Iterator[pa.RecordBatch]

COUNT_COLUMNS = ("counted", "n")


def partitions_for(rows: int, rows_per_partition: int) -> int:
    """How many partitions keep each of them to about `rows_per_partition` rows; at least 1."""
    return max(1, -(-rows // rows_per_partition))


def _day(column: str) -> Column:
    return F.unix_date(column)


def _place(column: str, names: tuple[str, ...]) -> Column:
    """The position of the column's value in `names`, NULL where it is none of them."""
    return F.coalesce(F.lit(None).cast("int"), *[F.when(F.col(column) == name, i) for i, name in enumerate(names)])


def _narrow_rows(cohort: DataFrame, exposures: DataFrame, rules: table.LineRules) -> DataFrame:
    people = cohort.select(
        "person_id",
        F.lit(table.PERSON_ROW).cast("tinyint").alias("what"),
        _day("index_date").alias("day"),
        _day("follow_up_end").alias("last"),
        _place("follow_up_end_reason", LINE_REASONS).alias("until"),
    )
    substance = _place("substance", rules.substances)
    what = F.coalesce(substance, _place("class", rules.classes) + table.CLASS)
    counts_cover = substance.isNotNull() | (F.col("source") == "dispensing")
    events = exposures.select(
        "person_id",
        what.cast("tinyint").alias("what"),
        _day("given_from").alias("day"),
        _day("given_to").alias("last"),
        F.when(counts_cover, _day("covered_until")).otherwise(_day("given_to") + 1).alias("until"),
    ).where(F.col("what").isNotNull())
    return people.unionByName(events)


def _kernel(rules: table.LineRules) -> Callable[[Batches], Batches]:
    def fold(batches: Batches) -> Batches:
        rows = pa.Table.from_batches(list(batches), schema=table.NARROW)
        lines, counts = table.fold_rows(rows, rules)
        schema = record_schema()
        for part in (lines, counts):
            columns = [
                part[f.name].cast(f.type) if f.name in part.column_names else pa.nulls(len(part), f.type)
                for f in schema
            ]
            yield from pa.table(columns, schema=schema).to_batches(max_chunksize=50_000)

    return fold


def record_schema() -> pa.Schema:
    """Lines and counts in one shape: the columns of treatment_lines, then those of line_counts that it lacks."""
    lines, counts = TABLES["treatment_lines"].arrow(), TABLES["line_counts"].arrow()
    return pa.schema([*lines, *[field for field in counts if field.name in COUNT_COLUMNS]])


def build_line_records(cohort: DataFrame, exposures: DataFrame, study: Study, partitions: int) -> DataFrame:
    """Lines and counts of every person of the cohort for every rule set, in one shape (`record_schema`).

    One exchange: by person, into `partitions`, which bounds the memory of a Python worker.
    """
    from pyspark.sql import types as T

    rules = table.LineRules.of(study)
    rows = _narrow_rows(cohort, exposures, rules).repartition(partitions, "person_id")
    counts = [field for field in TABLES["line_counts"].struct().fields if field.name in COUNT_COLUMNS]
    fields = [*TABLES["treatment_lines"].struct().fields, *counts]
    return rows.mapInArrow(_kernel(rules), T.StructType(fields))


def select_lines(records: DataFrame) -> DataFrame:
    """One row per rule set x person x line."""
    return records.where(F.col("counted").isNull()).select(*TABLES["treatment_lines"].column_names)


def select_line_counts(records: DataFrame) -> DataFrame:
    """One row per rule set x what was counted, added over partitions."""
    counts = records.where(F.col("counted").isNotNull()).groupBy("rule_set", "counted").agg(F.sum("n").alias("n"))
    return counts.select(*TABLES["line_counts"].column_names)
