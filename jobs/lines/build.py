"""Treatment lines on Spark: one shuffle by person, then the kernel on each partition."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.config import Study
from jobs.lines import packed, table
from schemas import TABLES
from schemas.derived import LINE_REASONS

if TYPE_CHECKING:
    Batches = Iterator[pa.RecordBatch]

COUNT_COLUMNS = ("counted", "n")


def partitions_for(rows: int, rows_per_partition: int, at_a_time: int = 1) -> int:
    """How many partitions keep each of them to about `rows_per_partition` rows; at least 1.

    More than one are a multiple of how many run `at_a_time`: three on two cores take as long as four.
    """
    wanted = max(1, -(-rows // rows_per_partition))
    return wanted if wanted == 1 else -(-wanted // at_a_time) * at_a_time


def _day(column: str) -> str:
    return f"bigint(unix_date({column}))"


def _place(column: str, names: tuple[str, ...], first: int = 0) -> str:
    """The position of the column's value in `names`, counted from `first`, NULL where it is none of them."""
    each = "".join(f" WHEN '{name}' THEN {i}L" for i, name in enumerate(names, first))
    return f"CASE {column}{each} END" if each else "CAST(NULL AS BIGINT)"


def _narrow_rows(cohort: DataFrame, exposures: DataFrame, rules: table.LineRules) -> DataFrame:
    """table.NARROW; the key is a hash, and the kernel refuses to go on where two people of a cohort share one.

    In text, for the engine is asked once for each expression in it instead of once for each sign.
    """
    index, end = _day("index_date"), _day("follow_up_end")
    person = f"""shiftleft({index}, {packed.DAY_AT})
        | shiftleft(greatest({end} - {index}, 0L), {packed.END_AT})
        | shiftleft({_place("follow_up_end_reason", LINE_REASONS)}, {packed.WHAT_BITS})
        | {packed.PERSON}L"""
    substance = _place("substance", rules.substances)
    first, last = _day("given_from"), _day("given_to")
    counts_cover = f"({substance}) IS NOT NULL OR source = 'dispensing'"
    until = f"IF({counts_cover}, {_day('covered_until')}, {last} + 1)"

    def short(days: str) -> str:
        return f"least(greatest({days}, 0L), {packed.LONGEST}L)"

    event = f"""shiftleft({first}, {packed.DAY_AT})
        | shiftleft({short(f"{last} - {first}")}, {packed.SPAN_AT})
        | shiftleft({short(f"{until} - {last}")}, {packed.WHAT_BITS})
        | coalesce({substance}, {_place("class", rules.classes, packed.CLASS)})"""
    key, known = "xxhash64(person_id) AS key", F.col("substance").isin(*rules.substances)
    events = exposures.where(known | F.col("class").isin(*rules.classes))
    return cohort.selectExpr("person_id", key, f"{person} AS row").unionByName(
        events.selectExpr("CAST(NULL AS STRING) AS person_id", key, f"{event} AS row")
    )


def _each_alone(names: pa.ChunkedArray) -> pa.Array:
    """Each text as a list of its own."""
    return pa.ListArray.from_arrays(range(len(names) + 1), names.combine_chunks())


def _kernel(rules: table.LineRules) -> Callable[[Batches], Batches]:
    def fold(batches: Batches) -> Batches:
        received = list(batches)
        rows = pa.Table.from_batches(received) if received else table.NARROW.empty_table()
        lines, counts = table.fold_rows(rows, rules)
        schema = record_schema()
        for part in (lines, counts):
            if "rule_set" in part.column_names:
                part = part.append_column("rule_sets", _each_alone(part["rule_set"]))
            columns = [
                part[f.name].cast(f.type) if f.name in part.column_names else pa.nulls(len(part), f.type)
                for f in schema
            ]
            yield from pa.table(columns, schema=schema).to_batches(max_chunksize=50_000)

    return fold


def record_schema() -> pa.Schema:
    """Lines and counts in one shape: those of table.RECORDS, then the columns of line_counts that they lack."""
    counts = TABLES["line_counts"].arrow()
    return pa.schema([*table.RECORDS, *[field for field in counts if field.name in COUNT_COLUMNS]])


def build_line_records(cohort: DataFrame, exposures: DataFrame, study: Study, partitions: int) -> DataFrame:
    """Lines and counts of every person of the cohort for every rule set, in one shape (`record_schema`).

    One exchange: by person, into `partitions`, which bounds the memory of a Python worker.
    """
    from pyspark.sql import types as T

    rules = table.LineRules.of(study)
    rows = _narrow_rows(cohort, exposures, rules).repartition(partitions, "key")
    counts = [field for field in TABLES["line_counts"].struct().fields if field.name in COUNT_COLUMNS]
    fields = [field for field in TABLES["treatment_lines"].struct().fields if field.name != "rule_set"]
    rule_sets = T.StructField("rule_sets", T.ArrayType(T.StringType()))
    return rows.mapInArrow(_kernel(rules), T.StructType([rule_sets, *fields, *counts]))


def select_lines(records: DataFrame) -> DataFrame:
    """One row per rule set x person x line."""
    lines = records.where(F.col("counted").isNull()).withColumn("rule_set", F.explode("rule_sets"))
    return lines.select(*TABLES["treatment_lines"].column_names)


def select_line_counts(records: DataFrame) -> DataFrame:
    """One row per rule set x what was counted, added over partitions."""
    counted = records.where(F.col("counted").isNotNull()).withColumn("rule_set", F.element_at("rule_sets", 1))
    counts = counted.groupBy("rule_set", "counted").agg(F.sum("n").alias("n"))
    return counts.select(*TABLES["line_counts"].column_names)
