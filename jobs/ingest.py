"""Raw extracts to conformed tables: every raw row is accepted, quarantined with its reasons, or an exact duplicate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

from jobs.config import Site
from jobs.delivery_profile import profile_rows
from jobs.erasure import mark_suppressed
from jobs.errors import QualityError
from jobs.extracts import BESIDE, CORRUPT, LINEAGE, Extract, read_extract
from jobs.identity import pseudonymise
from jobs.persons import build_persons
from jobs.sources.adapter import Adapter, RawTable
from schemas import TABLES, quarantine

DUPLICATE = "__duplicate"
SUPPRESSED = "__suppressed"


def _is_damaged(columns: list[str]) -> Column:
    """A cell that was not in the encoding it claims carries the replacement character."""
    return reduce(
        lambda a, b: a | b, [F.coalesce(F.contains(F.col(c), F.lit("\ufffd")), F.lit(False)) for c in columns]
    )


def _mark_duplicates(frame: DataFrame, columns: list[str]) -> DataFrame:
    """Rows that repeat an earlier row of the raw table in every cell."""
    cells = F.sha2(F.to_json(F.array(*[F.col(column) for column in sorted(columns)])), 256)
    earlier = Window.partitionBy("__cells").orderBy("source_file", "source_row")
    return frame.withColumn("__cells", cells).withColumn(DUPLICATE, F.row_number().over(earlier) > 1).drop("__cells")


def annotate_rows(
    rows: DataFrame, raw: RawTable, site: Site, key: bytes, suppressions: DataFrame | None = None
) -> DataFrame:
    """Raw rows with pseudonyms, the adapter's typed columns, `reasons` (sorted, empty: accepted), `__duplicate` and
    `__suppressed` (of an erased person: neither accepted nor held back)."""
    cells = [column for column in rows.columns if column not in (*LINEAGE, BESIDE, CORRUPT)]
    # Rows that differ in a column that is ignored are not the same row.
    damaged = rows.withColumn("__damaged", _is_damaged(cells))
    if raw.is_vocabulary:
        marked = damaged.withColumn(DUPLICATE, F.lit(False)).drop(BESIDE)
    else:
        marked = _mark_duplicates(damaged, [*cells, BESIDE]).drop(BESIDE)
    if raw.id_column is not None:
        marked = pseudonymise(marked, key, raw.id_column, {part: raw.id_names.get(part, part) for part in raw.id_parts})
    marked = mark_suppressed(marked, suppressions if raw.id_column is not None else None, SUPPRESSED)
    annotated = raw.annotate(marked, site)
    general = [
        F.when(F.col(CORRUPT), F.lit("malformed_row")),
        F.when(F.col("__damaged"), F.lit("damaged_text")),
    ]
    if raw.id_column is not None:
        general.append(F.when(F.col("person_id").isNull(), F.lit("missing_identifier")))
    reasons = F.array_sort(F.array_distinct(F.concat(F.col("reasons"), F.array_compact(F.array(*general)))))
    return annotated.withColumn("reasons", reasons).drop(CORRUPT, "__damaged")


@dataclass(frozen=True)
class IngestedTables:
    """What one delivery gives: what it says of people, conformed tables, quarantine by raw table, the ledger and the
    unknown codes, and how often each known code stands where."""

    claims: DataFrame | None
    profile: DataFrame
    conformed: Mapping[str, DataFrame]
    quarantined: Mapping[str, DataFrame]
    ledger: DataFrame
    unknown_codes: DataFrame


def is_accepted() -> Column:
    """Whether an annotated row reaches the conformed tables."""
    return ~F.col(DUPLICATE) & ~F.col(SUPPRESSED) & (F.size("reasons") == 0)


def is_quarantined() -> Column:
    """Whether an annotated row is held back."""
    return ~F.col(DUPLICATE) & ~F.col(SUPPRESSED) & (F.size("reasons") > 0)


def build_ledger(annotated: Mapping[str, DataFrame], delivery: str) -> DataFrame:
    """One row per raw table: rows in, accepted, quarantined, duplicates."""
    is_duplicate = F.col(DUPLICATE) & ~F.col(SUPPRESSED)
    parts = [
        frame.agg(
            F.lit(name).alias("raw_table"),
            F.lit(delivery).alias("delivery"),
            F.count("*").alias("rows_in"),
            F.count_if(is_accepted()).alias("rows_accepted"),
            F.count_if(is_quarantined()).alias("rows_quarantined"),
            F.count_if(is_duplicate).alias("rows_duplicate"),
            F.count_if(F.col(SUPPRESSED)).alias("rows_suppressed"),
        )
        for name, frame in sorted(annotated.items())
    ]
    return reduce(DataFrame.unionByName, parts).select(*TABLES["ledger"].column_names)


def build_quarantine(annotated: DataFrame, raw: RawTable) -> DataFrame:
    """One row per raw row held back: its reasons and its delivered cells as JSON, pseudonyms for identifiers; of a
    malformed row no cell."""
    delivered = [*raw.columns, *[c for c in raw.optional if not c.endswith("*")]]
    prefixes = tuple(c[:-1].lower() for c in raw.optional if c.endswith("*"))
    cells = [
        column
        for column in annotated.columns
        if column != raw.id_column and (column in delivered or (prefixes and column.startswith(prefixes)))
    ]
    person = F.col("person_id") if raw.id_column is not None else F.lit(None).cast("string")
    return annotated.where(is_quarantined()).select(
        person.alias("person_id"),
        "reasons",
        # In a row of too many or too few cells the identifier may stand under any column.
        F.when(F.array_contains("reasons", "malformed_row") | F.lit(not cells), F.lit("{}"))
        .otherwise(F.to_json(F.struct(*(cells or ["reasons"]))))
        .alias("row"),
        *[F.col(column) for column in quarantine.column_names if column in LINEAGE],
    )


def build_unknown_codes(
    accepted: Mapping[str, DataFrame],
    adapter: Adapter,
    site: Site,
    delivery: str,
    spark: SparkSession,
    found: DataFrame | None = None,
) -> DataFrame:
    """One row per raw table x column x code without a meaning in the adapter; `found`: those that it found itself."""
    parts = [spark.createDataFrame([], TABLES["unknown_codes"].struct())]
    if found is not None:
        parts.append(found.withColumn("delivery", F.lit(delivery)).select(*TABLES["unknown_codes"].column_names))
    for raw in adapter.raw_tables:
        for column, known in raw.known_codes(site).items():
            if raw.name in accepted and column in accepted[raw.name].columns:
                code = F.col(column)
                strange = accepted[raw.name].where(code.isNotNull() & ~code.isin(*known))
                parts.append(
                    strange.groupBy(code.alias("code"))
                    .agg(F.count("*").alias("n"))
                    .select(
                        F.lit(raw.name).alias("raw_table"),
                        F.lit(column).alias("column"),
                        "code",
                        "n",
                        F.lit(delivery).alias("delivery"),
                    )
                )
    return reduce(DataFrame.unionByName, parts).select(*TABLES["unknown_codes"].column_names)


@contextmanager
def ingested_tables(
    spark: SparkSession,
    site: Site,
    adapter: Adapter,
    extracts: Mapping[str, Extract],
    delivery: str,
    key: bytes,
    suppressions: DataFrame | None = None,
) -> Iterator[IngestedTables]:
    """The tables of a delivery without the people on the list of suppressions; the annotated raw rows are held for as
    long as the block lasts."""
    raws = {raw.name: raw for raw in adapter.raw_tables}
    annotated = {
        name: annotate_rows(read_extract(spark, extract, delivery), raws[name], site, key, suppressions).persist(
            StorageLevel.MEMORY_AND_DISK
        )
        for name, extract in extracts.items()
    }
    held = list(annotated.values())
    try:
        if adapter.relate is not None:
            related = adapter.relate(annotated, site)
            annotated |= {name: frame.persist(StorageLevel.MEMORY_AND_DISK) for name, frame in related.items()}
            held += [annotated[name] for name in related]
        accepted = {
            name: frame.where(is_accepted()).drop("reasons", DUPLICATE, SUPPRESSED) for name, frame in annotated.items()
        }
        conformed = adapter.conform(accepted, site)
        strange = conformed.pop("unknown_codes", None)
        claims = conformed.pop("person_claims", None)
        if claims is not None:
            conformed["person"] = build_persons(claims)
        yield IngestedTables(
            claims=claims,
            profile=spark.createDataFrame(
                list(profile_rows(annotated, raws, site, delivery)), TABLES["profile"].struct()
            ),
            conformed=conformed,
            quarantined={name: build_quarantine(frame, raws[name]) for name, frame in annotated.items()},
            ledger=build_ledger(annotated, delivery),
            unknown_codes=build_unknown_codes(accepted, adapter, site, delivery, spark, strange),
        )
    finally:
        for frame in held:
            frame.unpersist()


def ensure_balanced(rows: list[dict[str, int | str]]) -> None:
    """QualityError where a raw table's rows in are not all accounted for."""
    for row in rows:
        ends = ("rows_accepted", "rows_quarantined", "rows_duplicate", "rows_suppressed")
        total = sum(int(row[end]) for end in ends)
        if int(row["rows_in"]) != total:
            raise QualityError(f"ledger: {row['raw_table']} has {row['rows_in']} rows in but {total} accounted for")
