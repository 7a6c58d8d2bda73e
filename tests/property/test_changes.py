"""Whose rows changed between two versions of a table, against the rows themselves."""

from __future__ import annotations

import datetime
import itertools
import random
from collections import Counter
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from jobs.changes import Span, changed_people, span_since
from jobs.store import CONFORMED_SCHEMA, Store
from schemas import TABLES
from schemas.contract import LINEAGE

NAME = "dispensing"
PLACE = [column.name for column in LINEAGE]
COLUMNS = ("person_id", "dispensed_date", "atc", "packages", *PLACE)
DELIVERIES = ("2020-06-30", "2021-06-30", "2022-06-30")
Row = tuple[str, datetime.date, str, float | None, str, int, str]


class History:
    """A table and what a plain reading says that each of its versions holds."""

    def __init__(self, spark: SparkSession, folder: Path, seed: int) -> None:
        self.store = Store(spark, str(folder))
        self.draw = random.Random(seed)
        self.held: dict[int, list[Row]] = {}
        self.number = itertools.count()

    def frame(self, rows: list[Row]) -> DataFrame:
        given = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        values = [tuple(row.get(column.name) for column in TABLES[NAME].columns) for row in given]
        return self.store.spark.createDataFrame(values, TABLES[NAME].struct())

    def rows(self, delivery: str, count: int) -> list[Row]:
        return [
            (f"{self.draw.randrange(40):032x}", datetime.date(2020, 1, self.draw.randrange(1, 4)), "L02BA01",
             self.draw.choice((None, 1.0, 2.0)), "a.csv", next(self.number), delivery)
            for _ in range(count)
        ]  # fmt: skip

    def note(self) -> dict[str, str]:
        return {"fingerprint": f"{next(self.number):x}"}

    def keep(self, rows: list[Row]) -> None:
        self.held[self.store.existing(CONFORMED_SCHEMA, NAME).version] = rows

    def newest(self) -> list[Row]:
        return self.held[max(self.held)]

    def overwrite(self) -> None:
        """What was there with other deliveries, less some and more some."""
        again = [(*row[:-1], self.draw.choice(DELIVERIES)) for row in self.newest() if self.draw.random() < 0.9]
        rows = again + self.rows(DELIVERIES[0], 3)
        self.store.overwrite(CONFORMED_SCHEMA, NAME, self.frame(rows), self.note())
        self.keep(rows)

    def append(self) -> None:
        more = self.rows(self.draw.choice(DELIVERIES), 4)
        self.store.append(CONFORMED_SCHEMA, NAME, self.frame(more), self.note())
        self.keep(self.newest() + more)

    def remove_and_append(self) -> None:
        """Some rows go, of which some come back as they were and some with other packages."""
        gone = self.draw.sample(self.newest(), 8)
        self.store.remove(CONFORMED_SCHEMA, NAME, self.frame(gone), PLACE)
        left = [row for row in self.newest() if row not in gone]
        self.keep(left)
        back = gone[:3] + [(*row[:3], 9.0, *row[4:]) for row in gone[3:5]]
        self.store.append(CONFORMED_SCHEMA, NAME, self.frame(back), self.note())
        self.keep(left + back)

    def restore(self) -> None:
        commits = [one for one in self.store.commits(CONFORMED_SCHEMA, NAME) if one.note and one.version in self.held]
        commit = self.draw.choice(commits[1:])
        rows = self.held[commit.version]
        self.store.restore(CONFORMED_SCHEMA, NAME, commit)
        self.keep(rows)

    def optimize(self) -> None:
        rows = self.newest()
        self.store.optimize(CONFORMED_SCHEMA, NAME)
        self.keep(rows)


def _of_each(rows: list[Row]) -> dict[str, Counter[Row]]:
    """Each person's rows, without the delivery."""
    of_each: dict[str, Counter[Row]] = {}
    for row in rows:
        of_each.setdefault(row[0], Counter())[row[:-1]] += 1
    return of_each


def _differ(before: list[Row], after: list[Row], among: set[str]) -> set[str]:
    earlier, later = _of_each(before), _of_each(after)
    return {person for person in among if earlier.get(person) != later.get(person)}


def test_the_feed_tells_whose_rows_changed(spark: SparkSession, tmp_path: Path) -> None:
    """Between any two versions, whatever happened between: rows that went and came back are no change."""
    history = History(spark, tmp_path, 20261129)
    first = history.rows(DELIVERIES[0], 60)
    history.store.overwrite(CONFORMED_SCHEMA, NAME, history.frame(first), history.note())
    history.keep(first)
    for step in ("append", "remove_and_append", "optimize", "append", "restore", "overwrite", "append", "restore"):
        getattr(history, step)()
    among = {f"{number:032x}" for number in range(0, 40, 2)}
    people = spark.createDataFrame([(person,) for person in sorted(among)], "person_id string")
    versions = sorted(history.held)
    asked = list(itertools.combinations(versions, 2))
    told, some = 0, 0
    for after, until in history.draw.sample(asked, 14):
        found = changed_people(history.store, Span(NAME, after, until, 0), people).collect()
        expected = _differ(history.held[after], history.held[until], among)
        assert sorted(row.person_id for row in found) == sorted(expected), f"from {after} to {until}"
        told += bool(expected)
        some += bool(among - expected)
    assert told
    assert some


def test_a_span_begins_where_the_rows_of_that_identity_last_stood(spark: SparkSession, tmp_path: Path) -> None:
    history = History(spark, tmp_path, 7)
    rows = history.rows(DELIVERIES[0], 3)
    first = history.store.overwrite(CONFORMED_SCHEMA, NAME, history.frame(rows), history.note())
    history.keep(rows)
    history.append()
    history.store.restore(CONFORMED_SCHEMA, NAME, first)
    history.append()
    newest = history.store.existing(CONFORMED_SCHEMA, NAME)
    assert span_since(history.store, NAME, first.identity, newest.version) == Span(NAME, 2, 3, 4)
    assert span_since(history.store, NAME, first.identity, 1) == Span(NAME, 0, 1, 4)
    assert span_since(history.store, NAME, newest.identity, 1) is None, "an earlier delivery is run"
