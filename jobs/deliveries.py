"""Deliveries that add to each other: a table is what all of them say, whatever order they were ingested in.

A statement that several deliveries make (the same key; where a table has none of its own, the same cells) is the latest
delivery's. What it supersedes stays in `superseded_<table>`, so that any delivery can be delivered again, corrected.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

from jobs.sources.parse import first_day
from jobs.store import CONFORMED_SCHEMA, EVENTS, Commit, Store
from schemas import CONFORMED, Table
from schemas.contract import LINEAGE

SUPERSEDED = "superseded_"
SETTLED = ("tumour", "recurrence", "dispensing", "hospital_diagnosis", "hospital_drug", "biomarker")
# Part of a statement as it stands, so that the files of other periods need not be read.
DAYS = {"dispensing": "dispensed_date", "hospital_drug": "start_date", "biomarker": "sample_date"}
LINEAGE_NAMES = tuple(column.name for column in LINEAGE)
HERE = "__here"  # whether an earlier row stands in the table itself; NULL: a row of this delivery


def statement_of(table: Table) -> tuple[str, ...]:
    """The columns that make two rows the same statement: the key, or every column where the key is the row's place."""
    if set(table.key) & set(LINEAGE_NAMES):
        return tuple(name for name in table.column_names if name not in LINEAGE_NAMES)
    return table.key


def day_of(table: str, contacts_keep_day: bool) -> str | None:
    """The column with the day that the same statement of a table has in every delivery; None where it may have another
    one, as a diagnosis on a contact that is numbered, or known to the month."""
    return "start_date" if table == "hospital_diagnosis" and contacts_keep_day else DAYS.get(table)


def _said(table: Table, name: str) -> Column:
    """A column of a statement; of a date only what is known, for the day that stands for it may be the delivery's."""
    known_to = f"{name}_precision"
    return first_day(F.col(name), F.col(known_to)) if known_to in table.key else F.col(name)


def _statement(table: Table) -> list[Column]:
    """96 bits of hash: joined and grouped by, where NULL equals NULL."""
    columns = [F.coalesce(_said(table, name).cast("string"), F.lit("\u0000")) for name in statement_of(table)]
    return [F.xxhash64(*columns).alias("__statement"), F.hash(*columns).alias("__statement_2")]


def extent(day: str | None, *frames: DataFrame) -> tuple[int, list[datetime.date]]:
    """The number of rows, and the first and last `day` of each frame (none for a table without such a column)."""
    wanted = [F.count("*"), *([] if day is None else [F.min(day), F.max(day)])]
    told = [frame.agg(*wanted).collect()[0] for frame in frames]
    return sum(one[0] for one in told), [date for one in told for date in one[1:] if date is not None]


def within(frame: DataFrame, day: str, dates: Collection[datetime.date]) -> DataFrame:
    """The rows of `frame` from the first to the last of the dates."""
    return frame.where(F.col(day).between(F.lit(min(dates)), F.lit(max(dates)))) if dates else frame.limit(0)


@dataclass(frozen=True)
class Settled:
    """The commits of a table and of what it supersedes, none where a delivery says nothing and never did; and whether
    any statement was one of another delivery or may have been."""

    commits: dict[str, Commit]
    repeats: bool


def settle(
    store: Store,
    name: str,
    new: DataFrame,
    delivery: str,
    versions: Mapping[str, int],
    note: Mapping[str, Any],
    is_new: bool,
    day: str | None,
) -> Settled:
    """Let `new`, all rows of one delivery, take the place of what that delivery said before (`is_new`: nothing). `day`:
    see day_of.

    `versions`: of the table and of `superseded_<name>`, where they exist.
    """
    table = CONFORMED[name]
    columns = table.column_names
    places = {True: name, False: SUPERSEDED + name}
    stored = [
        store.read(CONFORMED_SCHEMA, at, versions[at]).withColumn(HERE, F.lit(here))
        for here, at in places.items()
        if at in versions
    ]
    earlier = stored[0] if len(stored) == 1 else stored[0].unionByName(stored[1])
    is_own = F.lit(False) if is_new else F.col("delivery") == delivery  # the engine leaves out what is false
    own = earlier.where(is_own)
    new = new.select(columns).persist(StorageLevel.MEMORY_AND_DISK)
    held = [new]

    def appended() -> Settled:
        return Settled({name: store.append(CONFORMED_SCHEMA, name, new, note)}, False)

    try:
        rows, dates = extent(day, new) if is_new else extent(day, new, own)
        if is_new and not rows:
            return Settled({}, False)
        near = earlier if day is None else within(earlier, day, dates)
        if is_new and not near.inputFiles() and earlier.inputFiles():  # there are files, none with a row of these days
            return appended()
        marks = ["__statement", "__statement_2"]
        touched = new.select(*_statement(table))
        touched = touched if is_new else touched.union(own.select(*_statement(table)))

        def affected_of(*columns: str) -> DataFrame:
            return near.select(*columns, *_statement(table)).join(touched, marks, "left_semi")

        # Most deliveries repeat nothing of a large table: first what statements are made of, other columns left unread.
        if is_new and name in EVENTS and affected_of().isEmpty():
            return appended()
        affected = affected_of("*").persist(StorageLevel.MEMORY_AND_DISK)
        held.append(affected)
        if is_new and name not in EVENTS and affected.isEmpty():
            return appended()
        said = affected.where(~is_own).unionByName(
            new.select("*", F.lit(None).cast("boolean").alias(HERE), *_statement(table))
        )
        # The second of two equal rows of one delivery is another dispensing, not the first one again.
        again = Window.partitionBy(*marks, "delivery").orderBy("source_file", "source_row", *table.key)
        latest = Window.partitionBy(*marks, "__occurrence").orderBy(F.desc("delivery"))
        settled = (
            said.withColumn("__occurrence", F.row_number().over(again))
            .withColumn("__holds", F.row_number().over(latest) == 1)
            .persist(StorageLevel.MEMORY_AND_DISK)
        )
        held.append(settled)
        holds, here = F.col("__holds"), F.col(HERE)
        stands, lies = F.coalesce(here, F.lit(False)), F.coalesce(~here, F.lit(False))
        gone, back = (settled.where(moves).select(columns) for moves in (stands & ~holds, lies & holds))
        if not is_new:
            before = affected.where(is_own)
            gone = gone.unionByName(before.where(here).select(columns))
            back = back.unionByName(before.where(~here).select(columns))
        # Rows were brought together by what they say; files hold them by person.
        added = settled.where(holds & ~stands).select(columns).sortWithinPartitions("person_id")
        superseded = settled.where(~holds & ~lies).select(columns)
        identity = (*LINEAGE_NAMES, *(column for column in table.key if column not in LINEAGE_NAMES))

        def move(at: str, out: DataFrame, into: DataFrame) -> Commit:
            store.remove(CONFORMED_SCHEMA, at, out, identity)
            return store.append(CONFORMED_SCHEMA, at, into, note)

        def move_superseded() -> dict[str, Commit]:
            at = SUPERSEDED + name
            if at in versions:
                return {at: move(at, back, superseded)}
            is_needed = not superseded.isEmpty()
            return {at: store.overwrite(CONFORMED_SCHEMA, at, superseded, note)} if is_needed else {}

        with ThreadPoolExecutor(1) as beside:
            of_superseded = beside.submit(move_superseded)
            commits = {name: move(name, gone, added)}
        return Settled({**commits, **of_superseded.result()}, True)
    finally:
        for frame in held:
            frame.unpersist()
