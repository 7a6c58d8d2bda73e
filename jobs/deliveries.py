"""Deliveries that add to each other: a table is what all of them say, whatever order they were ingested in.

A statement that several deliveries make (the same key; where a table has none of its own, the same cells) is the latest
delivery's. What it supersedes stays in `superseded_<table>`, so that any delivery can be delivered again, corrected.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

from jobs.sources.parse import first_day
from jobs.store import CONFORMED_SCHEMA, Commit, Store
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
    try:
        rows, dates = extent(day, new) if is_new else extent(day, new, own)
        if is_new and not rows:
            return Settled({}, False)
        near = earlier if day is None else within(earlier, day, dates)
        if is_new and earlier.inputFiles() and not near.inputFiles():  # there are files, none with a row of these days
            return Settled({name: store.append(CONFORMED_SCHEMA, name, new, note)}, False)
        marks = ["__statement", "__statement_2"]
        touched = new.select(*_statement(table)).union(own.select(*_statement(table))).distinct()
        # First by what statements are made of: most deliveries repeat nothing, and other columns are left unread.
        if is_new and near.select(*_statement(table)).join(touched, marks, "left_semi").isEmpty():
            return Settled({name: store.append(CONFORMED_SCHEMA, name, new, note)}, False)
        affected = (
            near.select("*", *_statement(table)).join(touched, marks, "left_semi").persist(StorageLevel.MEMORY_AND_DISK)
        )
        held.append(affected)
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
        before = affected.where(is_own)
        identity = (*LINEAGE_NAMES, *(column for column in table.key if column not in LINEAGE_NAMES))
        superseded = settled.where(~holds & ~lies).select(columns)
        commits = {}
        gone = before.where(here).select(columns).unionByName(settled.where(stands & ~holds).select(columns))
        store.remove(CONFORMED_SCHEMA, name, gone, identity)
        back = before.where(~here).select(columns).unionByName(settled.where(lies & holds).select(columns))
        # Rows were brought together by what they say; files hold them by person.
        added = settled.where(holds & ~stands).select(columns).sortWithinPartitions("person_id")
        commits[name] = store.append(CONFORMED_SCHEMA, name, added, note)
        lies_there = SUPERSEDED + name
        if lies_there in versions:
            store.remove(CONFORMED_SCHEMA, lies_there, back, identity)
            commits[lies_there] = store.append(CONFORMED_SCHEMA, lies_there, superseded, note)
        elif not superseded.isEmpty():
            commits[lies_there] = store.overwrite(CONFORMED_SCHEMA, lies_there, superseded, note)
        return Settled(commits, True)
    finally:
        for frame in held:
            frame.unpersist()
