"""Raw extracts to conformed tables: every raw row is accepted, quarantined with its reasons, or an exact duplicate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

from jobs.config import Site
from jobs.delivery_profile import OTHER, profiled
from jobs.erasure import mark_suppressed
from jobs.errors import QualityError
from jobs.extracts import (
    BESIDE,
    CORRUPT,
    DAMAGED,
    LINEAGE,
    Extract,
    key_file_of,
    numbers_of,
    offsets_of,
    read_extract,
    size_of,
    splits_of,
    with_source_row,
)
from jobs.flags import flag_names, flags, is_flagged
from jobs.identity import (
    ensure_one_person,
    identify,
    people_of,
    pseudonymise,
    pseudonymise_links,
    row_pseudonym,
    with_hashes,
    with_key,
    without_key,
)
from jobs.local_frame import local_frame
from jobs.sources.adapter import CONTENT, DUPLICATE, PLACE, SUPPRESSED, Adapter, RawTable
from jobs.sources.claims import with_lineage
from jobs.sources.parse import MALFORMED, counted_codes, is_malformed
from schemas import TABLES, quarantine

PARTITION_BYTES = 64 * 2**20  # of text
DELIVERED = "__delivered"  # the cells of a row held back, where its columns are not kept
TABLES_AT_A_TIME = 4


def _with_content(keyed: DataFrame, columns: list[str]) -> DataFrame:
    """Adds CONTENT: of the filled cells and their names, so that a row stays the same when its file gets a column more.

    A malformed or damaged row is the same as no whole one.
    """
    said = [F.when(F.col(CORRUPT) | F.col(DAMAGED), F.lit("broken"))]
    for column in sorted(columns):
        # A number for the name, which the engine works out once; text would be read for every row.
        said += [F.when(F.col(column).isNotNull(), F.xxhash64(F.lit(column))), F.col(column)]
    return with_hashes(keyed, said, CONTENT)


def _mark_duplicates(frame: DataFrame, together: str, partitions: int) -> DataFrame:
    """Marks rows that repeat an earlier row of the raw table in every cell; rows equal in `together` come into one of
    the partitions, one after the other (but where two values of it have the same 40 bits of hash)."""
    # First by a number of 40 bits of `together` and 24 of the content: the engine sorts numbers without reading rows.
    upper = F.xxhash64(together).bitwiseAND(F.lit(-1 << 24))
    number = upper.bitwiseOR(F.shiftrightunsigned(F.col(CONTENT[0]), 40))
    same = dict.fromkeys(("__number", *CONTENT, together))
    earlier = Window.partitionBy(*same).orderBy(*PLACE).rowsBetween(Window.unboundedPreceding, Window.currentRow)
    brought = frame.repartition(partitions, together).withColumn("__number", number)
    return brought.withColumn(DUPLICATE, F.row_number().over(earlier) > 1).drop("__number")


def _with_reasons(annotated: DataFrame, raw: RawTable) -> DataFrame:
    """Adds to the adapter's reasons those that hold of any raw table: `reasons` as a sorted array, each once; NULL
    where there is none."""
    general = [
        F.when(F.col(CORRUPT), F.lit(MALFORMED)),
        F.when(F.col(DAMAGED), F.lit("damaged_text")),
    ]
    if raw.id_column is not None:
        general.append(F.when(F.col("person_id").isNull(), F.lit("missing_identifier")))
    every = annotated.withColumn("reasons", F.concat_ws(",", "reasons", *general)).drop(CORRUPT, DAMAGED)
    codes = F.array_remove(F.array_distinct(F.split("reasons", ",")), "")
    is_lone = F.contains("reasons", F.lit(MALFORMED))
    told = F.when(is_lone, F.array(F.lit(MALFORMED))).when(F.col("reasons") != "", F.sort_array(codes))
    return every.withColumn("reasons", told)


def _with_no_reason_of_cells(related: DataFrame) -> DataFrame:
    """Takes from malformed rows the reasons that another table gave them: it was asked by one of their cells."""
    return related.withColumn("reasons", F.when(is_malformed(), F.array(F.lit(MALFORMED))).otherwise(F.col("reasons")))


def _as_delivered(columns: list[str], raw: RawTable) -> Column:
    """The delivered cells among the columns as JSON, pseudonyms for identifiers; of a malformed row no cell."""
    delivered = {*raw.columns, *raw.optional} - {raw.id_column}
    prefixes = tuple(c[:-1].lower() for c in raw.optional if c.endswith("*"))
    cells = [column for column in columns if column in delivered or (prefixes and column.startswith(prefixes))]
    # In a row of too many or too few cells the identifier may stand under any column.
    return F.when(is_malformed() | F.lit(not cells), F.lit("{}")).otherwise(
        F.to_json(F.struct(*(cells or ["reasons"])))
    )


def _hold_back_repeated_keys(judged: DataFrame, key: Sequence[str]) -> DataFrame:
    """Adds the reason `repeated_key` to accepted rows that contradict an earlier one of the same key."""
    counts = ~F.col(DUPLICATE) & F.col("reasons").isNull()
    order = Window.partitionBy(*key, counts).orderBy(*PLACE).rowsBetween(Window.unboundedPreceding, Window.currentRow)
    is_later = counts & (F.row_number().over(order) > 1)
    return judged.withColumn("reasons", F.when(is_later, F.array(F.lit("repeated_key"))).otherwise(F.col("reasons")))


def annotate_rows(
    rows: DataFrame,
    raw: RawTable,
    site: Site,
    key: bytes,
    suppressions: DataFrame | None,
    partitions: int,
    delivery: str,
    people: DataFrame | None = None,
) -> DataFrame:
    """Raw rows with pseudonyms (by a key file's `people`, where there is one), the adapter's typed columns, `reasons`
    (sorted, NULL: none), the flags of what stands in them (jobs/delivery_profile.py), `__duplicate` and, where somebody
    was erased, `__suppressed` (of an erased person: neither accepted nor held back), `contact_id` where the raw table
    names contacts, each person's rows together; without the cells that nothing reads afterwards."""
    cells = [column for column in rows.columns if column not in (*LINEAGE, *PLACE, BESIDE, CORRUPT, DAMAGED)]
    if people is not None and raw.id_column is not None:
        rows = identify(rows, raw.id_column, people, key)
    keyed = with_key(rows, key)
    if people is None and raw.id_column is not None:
        keyed = pseudonymise(keyed, raw.id_column, {part: raw.id_names.get(part, part) for part in raw.id_parts})
    if raw.links:
        keyed = pseudonymise_links(keyed, raw.links)
    # Rows that differ in a column that is ignored are not the same row.
    said = ["person_id" if column == raw.id_column else column for column in cells]
    unknown = ["register_number"] if people is not None else []
    marked = without_key(_with_content(keyed, [*said, *unknown, BESIDE])).drop(*unknown, BESIDE)
    if raw.is_vocabulary:
        told = marked.withColumn(DUPLICATE, F.lit(False))
    else:
        told = _mark_duplicates(marked, CONTENT[0] if raw.id_column is None else "person_id", partitions)
    # After the exchange the engine knows it to be the same in every row, and reads it as a date once.
    told = told.drop(*raw.discarded).withColumn("delivery", F.lit(delivery))
    annotated = raw.annotate(told, site).drop("delivery")
    steps = [column for column in annotated.columns if column.startswith("__") and column not in told.columns]
    annotated = annotated.drop(*steps)
    judged = _with_reasons(annotated, raw)
    judged = judged.withColumns(flags(condition for _, _, condition in profiled(raw, site)))
    if raw.unique:
        judged = _hold_back_repeated_keys(judged, raw.unique)
    if raw.kept is not None:
        delivered = F.when(F.col("reasons").isNotNull(), _as_delivered(judged.columns, raw))
        judged = judged.withColumn(DELIVERED, delivered)
    if raw.names_contacts:
        judged = judged.withColumn("contact_id", row_pseudonym())
    judged = judged.drop(*CONTENT, *(column for column in said if not raw.keeps(column, site)))
    if suppressions is not None and raw.id_column is not None:
        judged = mark_suppressed(judged, suppressions, SUPPRESSED)
    return judged


def _completed(held: DataFrame, delivery: str) -> DataFrame:
    """Annotated rows as adapters see them: with `delivery`, no NULL for `reasons`, and `__suppressed`. What is the same
    in nearly all rows is not held for each of them."""
    no_reason = F.array().cast("array<string>")
    told = held.withColumns({"delivery": F.lit(delivery), "reasons": F.coalesce("reasons", no_reason)})
    return told if SUPPRESSED in told.columns else told.withColumn(SUPPRESSED, F.lit(False))


@dataclass(frozen=True)
class IngestedTables:
    """What one delivery gives: what it says of people, of which `person` is made with what others say; the other
    conformed tables; quarantine by raw table, the ledger and the unknown codes, and how often each known code stands
    where."""

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


@dataclass(frozen=True)
class Counted:
    """One raw table, counted in one pass: its splits' offsets, its row of the ledger, what stands where."""

    offsets: Mapping[tuple[str, int], int]
    ledger: Mapping[str, int]
    profile: Mapping[tuple[str, str], int]


def count_rows(annotated: DataFrame, raw: RawTable, site: Site) -> Counted:
    """Counts over every row of a raw table; the one action that computes the annotated rows."""
    ends = {
        "rows_accepted": is_accepted(),
        "rows_quarantined": is_quarantined(),
        "rows_duplicate": F.col(DUPLICATE) & ~F.col(SUPPRESSED),
        "rows_suppressed": F.col(SUPPRESSED),
    }
    stands = profiled(raw, site)
    counts = [F.count_if(end).alias(name) for name, end in ends.items()]
    counts += [F.expr(f"count_if({is_flagged(place)}) AS c{place}") for place in range(len(stands))]
    splits = splits_of(annotated, *counts).collect()
    totals = [sum(row[4 + place] for row in splits) for place in range(len(counts))]
    return Counted(
        offsets_of(tuple(row[:4]) for row in splits),
        {"rows_in": sum(row[2] for row in splits), **dict(zip(ends, totals, strict=False))},
        {(column, code): n for (column, code, _), n in zip(stands, totals[len(ends) :], strict=True)},
    )


def build_ledger(counted: Mapping[str, Counted], delivery: str, spark: SparkSession) -> DataFrame:
    """One row per raw table: rows in, accepted, quarantined, duplicates, suppressed."""
    contract = TABLES["ledger"]
    rows = [
        tuple({"raw_table": name, "delivery": delivery, **one.ledger}[column] for column in contract.column_names)
        for name, one in sorted(counted.items())
    ]
    return local_frame(spark, rows, contract.struct())


def build_profile(counted: Mapping[str, Counted], delivery: str, spark: SparkSession) -> DataFrame:
    """One row per raw table x column x what stands there."""
    rows = [
        (delivery, name, column, code, n)
        for name, one in sorted(counted.items())
        for (column, code), n in one.profile.items()
    ]
    return local_frame(spark, rows, TABLES["profile"].struct())


def build_quarantine(annotated: DataFrame, raw: RawTable) -> DataFrame:
    """One row per raw row held back: its reasons, its delivered cells, and whose it is; of a malformed one neither."""
    person = F.when(~is_malformed(), F.col("person_id")) if "person_id" in annotated.columns else F.lit(None)
    delivered = F.col(DELIVERED) if raw.kept is not None else _as_delivered(annotated.columns, raw)
    return annotated.where(is_quarantined()).select(
        person.cast("string").alias("person_id"),
        "reasons",
        delivered.alias("row"),
        *[F.col(column) for column in quarantine.column_names if column in LINEAGE],
    )


def build_unknown_codes(
    accepted: Mapping[str, DataFrame],
    counted: Mapping[str, Counted],
    raws: Mapping[str, RawTable],
    site: Site,
    delivery: str,
    spark: SparkSession,
    found: DataFrame | None = None,
) -> DataFrame:
    """One row per raw table x column x code without a meaning in the adapter; `found`: those that it found itself."""
    nothing = local_frame(spark, [], TABLES["unknown_codes"].struct()).drop("delivery")
    parts = [nothing] if found is None else [nothing, found]
    for name, rows in accepted.items():
        for column, known in raws[name].known_codes(site).items():
            if column not in rows.columns or counted[name].profile.get((column, OTHER)) == 0:
                continue
            strange = rows.where(F.col(column).isNotNull() & ~F.col(column).isin(*known))
            parts.append(counted_codes(strange, name, column))
    return reduce(DataFrame.unionByName, parts).select(
        "raw_table", "column", "code", "n", F.lit(delivery).alias("delivery")
    )


def partitions_of(extract: Extract, spark: SparkSession) -> int:
    """How many partitions the rows of an extract are brought into: Spark's own number, more where the files are large
    enough to fill them."""
    least = int(spark.conf.get("spark.sql.shuffle.partitions", "200") or 200)
    return max(least, math.ceil(size_of(extract) / PARTITION_BYTES))


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
    long as the block lasts. QualityError where rows are unaccounted for."""
    raws = {raw.name: raw for raw in adapter.raw_tables}

    def annotated(name: str) -> DataFrame:
        rows, partitions = read_extract(spark, extracts[name]), partitions_of(extracts[name], spark)
        people = key_files.get(key_file_of(name))
        return annotate_rows(rows, raws[name], site, key, suppressions, partitions, delivery, people)

    names = [name for name in extracts if name in raws]
    key_files = {
        name: people_of(read_extract(spark, extract), F.col(CORRUPT) | F.col(DAMAGED), key)
        for name, extract in extracts.items()
        if name not in raws
    }
    for name, people in key_files.items():
        ensure_one_person(name, people)
    with ThreadPoolExecutor(TABLES_AT_A_TIME) as pool:  # a plan of many columns takes the engine its time
        held = list(pool.map(lambda name: annotated(name).persist(StorageLevel.MEMORY_AND_DISK), names))
    raw_rows = {name: _completed(frame, delivery) for name, frame in zip(names, held, strict=True)}
    try:
        if adapter.relate is not None:
            related = adapter.relate(raw_rows, site)
            if any(raws[name].kept is not None for name in related):
                raise ValueError("rows that may still be held back need all their cells, and so do related tables")
            raw_rows |= {
                name: _with_no_reason_of_cells(frame).persist(StorageLevel.MEMORY_AND_DISK)
                for name, frame in related.items()
            }
            held += [raw_rows[name] for name in related]
        with ThreadPoolExecutor(TABLES_AT_A_TIME) as pool:
            counts = pool.map(lambda name: count_rows(raw_rows[name], raws[name], site), raw_rows)
            counted = dict(zip(raw_rows, counts, strict=True))
        ensure_balanced({name: one.ledger for name, one in counted.items()})
        numbers = numbers_of(one.offsets for one in counted.values())
        rows = {name: with_source_row(frame, counted[name].offsets, numbers) for name, frame in raw_rows.items()}
        accepted = {
            name: frame.where(is_accepted()).drop(
                "reasons", DELIVERED, DUPLICATE, SUPPRESSED, *flag_names(frame.columns)
            )
            for name, frame in rows.items()
        }
        conformed = adapter.conform(accepted, site)
        strange = conformed.pop("unknown_codes", None)
        claims = conformed.pop("person_claims", None)
        if claims is not None:
            claims = with_lineage(claims, numbers)
        nothing_held = local_frame(spark, [], quarantine.struct())
        yield IngestedTables(
            claims=claims,
            profile=build_profile(counted, delivery, spark),
            conformed=conformed,
            quarantined={
                name: build_quarantine(frame, raws[name]) if counted[name].ledger["rows_quarantined"] else nothing_held
                for name, frame in rows.items()
            },
            ledger=build_ledger(counted, delivery, spark),
            unknown_codes=build_unknown_codes(accepted, counted, raws, site, delivery, spark, strange),
        )
    finally:
        for frame in held:
            frame.unpersist()


def ensure_balanced(ledgers: Mapping[str, Mapping[str, int]]) -> None:
    """QualityError where a raw table's rows in are not all accounted for."""
    for name, counts in ledgers.items():
        total = sum(n for end, n in counts.items() if end != "rows_in")
        if counts["rows_in"] != total:
            raise QualityError(f"ledger: {name} has {counts['rows_in']} rows in but {total} accounted for")
