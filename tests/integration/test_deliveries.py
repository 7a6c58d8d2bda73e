"""Deliveries that add to each other: whatever the order, the tables are what all of them say."""

from __future__ import annotations

import csv
import datetime
import json
import os
import random
import re
import shutil
import threading
import time
from collections.abc import Mapping
from concurrent.futures import wait
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

import jobs.deliveries
import jobs.pipeline
from expectations import EXPECTATIONS, IS_UNIQUE, rules_of
from jobs.cli import COUNTRIES, main
from jobs.config import Site
from jobs.deliveries import SETTLED, SUPERSEDED, day_of, settle
from jobs.gate import RuleOutcome, check_added, check_table, looks_at_rows_alone
from jobs.identity import pseudonym_of
from jobs.ingest import TABLES_AT_A_TIME
from jobs.persons import build_persons, rebuild_persons
from jobs.sources.adapter import Adapter, load_adapter
from jobs.store import CONFORMED_SCHEMA, Commit, Store
from schemas import TABLES, Table

KEY = "k" * 40
DAYS = ("2020-06-30", "2021-06-30", "2022-06-30")
COLUMNS = {
    "person": ("person_id", "sex", "birth_date", "death_date", "region"),
    "tumour": ("person_id", "tumour_id", "diagnosis_date", "icd10", "stage", "her2"),
    "dispensing": ("person_id", "dispensed_date", "atc", "packages"),
    "hospital_drug": ("person_id", "contact_id", "start_date", "code_system", "code"),
}
SITE = """
name: adds
country: conformed
deliveries: additions
warehouse: {warehouse}
out: out_{warehouse}
pseudonym_key_file: key
inputs:
  person: {{path: "{{delivery}}/person.csv"}}
  tumour: {{path: "{{delivery}}/tumour.csv"}}
  dispensing: {{path: "{{delivery}}/dispensing.csv"}}
  hospital_drug: {{path: "{{delivery}}/hospital_drug.csv"}}
"""
STUDY = """
name: small
period: {index_from: 2012-01-01, index_until: 2019-12-31, follow_up_until: 2020-06-30}
cohort: {tumour: {icd10: [C50], her2: positive}, index: diagnosis, comorbidity: null}
drugs: {line_defining: [trastuzumab], classes: [endocrine]}
rule_sets: {primary: {}}
strata: [receptor]
"""
Delivery = dict[str, list[tuple[str, ...]]]


def _drawn(seed: int) -> Delivery:
    """Few people and few values, so that deliveries repeat and contradict each other."""
    draw = random.Random(seed)
    people = [f"p{number}" for number in range(12)]
    some = draw.sample(people, 9)
    delivery: Delivery = {
        "person": [(p, "female", "1950-01-01", draw.choice(["", "2019-05-01", "2019-05"]), draw.choice(["a", "b", ""]))
                   for p in some],
        "tumour": [(p, draw.choice("12"), f"201{draw.randrange(3, 6)}-01-01", "C509", "distant", "positive")
                   for p in draw.sample(some, 8)],
        "dispensing": [(draw.choice(some), f"2016-01-0{draw.randrange(1, 4)}", "L02BA01", draw.choice("12"))
                       for _ in range(40)],
        "hospital_drug": [(p, draw.choice("123"), f"2017-01-0{draw.randrange(1, 3)}", "atc", "L01XC03")
                          for p in some for _ in range(2)],
    }  # fmt: skip
    for name in ("tumour", "hospital_drug"):  # one statement once a delivery, or it is quarantined
        delivery[name] = list({row[:2] if name == "tumour" else row: row for row in delivery[name]}.values())
    return delivery


def _write(folder: Path, day: str, delivery: Delivery) -> None:
    (folder / day).mkdir(exist_ok=True)
    for name, rows in delivery.items():
        with (folder / day / f"{name}.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow([*COLUMNS[name], *(["note"] if name == "dispensing" else [])])
            # Equal dispensings differ in a column that the program ignores, or one would be an exact repetition.
            writer.writerows((*row, str(place)) if name == "dispensing" else row for place, row in enumerate(rows))


def _expected(deliveries: dict[str, Delivery]) -> dict[str, list[tuple[Any, ...]]]:
    """The plain reading: day by day in the order of the dates, each statement belongs to the last one that makes it."""
    key = {"tumour": 2, "hospital_drug": 5}
    expected: dict[str, list[tuple[Any, ...]]] = {}
    for name in ("tumour", "hospital_drug", "dispensing"):
        said: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        for day, delivery in sorted(deliveries.items()):
            seen: dict[tuple[str, ...], int] = {}
            for row in delivery[name]:
                seen[row] = seen.get(row, 0) + 1
                statement = row[: key[name]] if name in key else (row, seen[row])
                said[statement] = (day, *row)
        expected[name] = sorted(said.values())
    people: dict[str, tuple[Any, ...]] = {}
    for day, delivery in sorted(deliveries.items()):
        for row in delivery["person"]:
            people[row[0]] = (day, *row)
    expected["person"] = sorted(people.values())
    return expected


class _Known(dict[str, str]):
    """A context of rules that remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__(delivery="2020-06-30")
        self.asked: list[str] = []

    def __getitem__(self, key: str) -> str:
        self.asked.append(key)
        return super().__getitem__(key)


class Warehouse:
    def __init__(self, spark: SparkSession, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.site = folder / f"{name}.yaml"
        self.site.write_text(SITE.format(warehouse=name))
        self.store = Store(spark, str(folder / name))

    def call(self, command: str, day: str) -> int:
        study = [] if command == "ingest" else ["--study", str(self.folder / "study.yaml")]
        return main([command, *study, "--site", str(self.site), "--delivery", day])

    def versions(self) -> dict[str, int]:
        tables = {path.name for path in (self.folder / self.name / CONFORMED_SCHEMA).iterdir()} - {"runs"}
        return {name: self.store.newest(CONFORMED_SCHEMA, name).version for name in tables}  # type: ignore[union-attr]

    def tables(self, versions: Mapping[str, int] | None = None) -> dict[str, list[tuple[Any, ...]]]:
        """As `_expected`: delivery and cells, identifiers as delivered; of the newest versions, or of others."""
        names = {pseudonym_of(f"p{number}", KEY.encode()): f"p{number}" for number in range(12)}
        found: dict[str, list[tuple[Any, ...]]] = {}
        for table, columns in COLUMNS.items():
            version = versions[table] if versions else self.store.existing(CONFORMED_SCHEMA, table).version
            rows = []
            for row in self.store.read(CONFORMED_SCHEMA, table, version).collect():
                values = {**row.asDict(), "person_id": names[row.person_id]}
                rows.append((row.delivery, *(values[column] for column in columns)))
            found[table] = rows
        return found


def _comparable(tables: dict[str, list[tuple[Any, ...]]]) -> dict[str, list[tuple[str, ...]]]:
    """Cells as text; pseudonyms of tumours and contacts as nothing but their grouping, numbers without their point."""
    ids = {"tumour": 2, "hospital_drug": 2}
    comparable = {}
    for name, rows in tables.items():
        as_text = []
        for row in rows:
            cells = ["" if cell is None else str(cell).removesuffix(".0") for cell in row]
            if name in ids:
                cells[ids[name]] = ""
            if name == "person" and len(cells[4]) == 7:
                cells[4] += "-31"
            as_text.append(tuple(cells))
        comparable[name] = sorted(as_text)
    return comparable


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deliveries")
    (folder / "key").write_text(KEY)
    (folder / "study.yaml").write_text(STUDY)
    for seed, day in enumerate(DAYS):
        _write(folder, day, _drawn(seed))
    return folder


@pytest.fixture(scope="module")
def in_order(spark: SparkSession, folder: Path) -> Warehouse:
    warehouse = Warehouse(spark, folder, "in_order")
    assert warehouse.call("run", DAYS[0]) == 0
    for day in DAYS[1:]:
        assert warehouse.call("ingest", day) == 0
    return warehouse


def test_tables_are_what_all_deliveries_say(in_order: Warehouse) -> None:
    expected = _expected({day: _drawn(seed) for seed, day in enumerate(DAYS)})
    assert _comparable(in_order.tables()) == _comparable(expected)


@pytest.fixture
def rebuilt(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """In how many partitions people of whom a delivery speaks were made anew, each time."""
    partitions: list[int] = []

    def counted(people: DataFrame, claims: DataFrame, added: DataFrame, number: int) -> DataFrame:
        partitions.append(number)
        return rebuild_persons(people, claims, added, number)

    monkeypatch.setattr(jobs.pipeline, "rebuild_persons", counted)
    return partitions


def _ensure_people_as_claimed(warehouse: Warehouse) -> None:
    """Every column of the people is what all claims say, however the people were made."""
    claims, people = (
        warehouse.store.read(CONFORMED_SCHEMA, name, warehouse.store.existing(CONFORMED_SCHEMA, name).version)
        for name in ("person_claims", "person")
    )
    assert sorted(people.collect(), key=repr) == sorted(build_persons(claims).collect(), key=repr)


def test_the_order_of_ingestion_does_not_matter(
    spark: SparkSession, folder: Path, in_order: Warehouse, capsys: pytest.CaptureFixture[str], rebuilt: list[int]
) -> None:
    other = Warehouse(spark, folder, "other_order")
    for day in (DAYS[2], DAYS[0], DAYS[1]):
        capsys.readouterr()
        assert other.call("ingest", day) == 0
    assert len(rebuilt) == 2, "the first delivery makes all people"
    _ensure_people_as_claimed(other)
    (told,) = re.findall("[0-9,]+ rows", capsys.readouterr().out)
    for day in DAYS[1:]:
        assert other.call("ingest", day) == 0
        assert capsys.readouterr().out.endswith(f" {told} unchanged\n"), "the rows of the tables, whoever wrote them"
    assert other.tables().keys() == in_order.tables().keys()
    for warehouse in (in_order, other):  # what a delivery was added to tells its versions apart
        beside = [one.note.get("beside") for one in warehouse.store.commits(CONFORMED_SCHEMA, "ledger")]
        assert [one is None for one in beside] == [False, False, True]
        assert beside[0] != beside[1]
    assert _comparable(other.tables()) == _comparable(in_order.tables())
    assert other.call("run", DAYS[0]) == 11
    assert f"run --delivery {DAYS[2]}" in capsys.readouterr().err


def test_the_same_delivery_again_changes_nothing(in_order: Warehouse) -> None:
    before = in_order.versions()
    for day in DAYS:
        assert in_order.call("ingest", day) == 0
    assert in_order.versions() == before


def test_an_earlier_delivery_gives_its_results_again(
    in_order: Warehouse, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = in_order.folder / "out_in_order"
    before = {file.name: file.read_bytes() for file in sorted((out / "results").glob("*.csv"))}
    assert in_order.call("run", DAYS[2]) == 0
    later = {file.name: file.read_bytes() for file in sorted((out / "results").glob("*.csv"))}
    assert later != before
    assert in_order.call("run", DAYS[0]) == 0
    assert {file.name: file.read_bytes() for file in sorted((out / "results").glob("*.csv"))} == before
    monkeypatch.setattr(jobs.pipeline, "code_version", lambda: "another")
    assert main(["status", "--site", str(in_order.site), "--delivery", DAYS[2]]) == 0
    assert f"delivery {DAYS[0]}: the program changed since, and would ingest" in capsys.readouterr().out


def test_the_change_feed_tells_what_came_and_went(spark: SparkSession, in_order: Warehouse) -> None:
    at = in_order.folder / in_order.name / CONFORMED_SCHEMA
    kinds = {}
    for name in ("tumour", "dispensing", "hospital_drug", "person", "person_claims"):
        feed = spark.read.format("delta").option("readChangeFeed", "true").option("startingVersion", 0)
        changes = feed.load(str(at / name)).groupBy("_change_type").count().collect()
        kinds[name] = {row["_change_type"]: row["count"] for row in changes}
        newest = in_order.store.existing(CONFORMED_SCHEMA, name)
        stand = in_order.store.count(CONFORMED_SCHEMA, name, newest.version)
        assert kinds[name]["insert"] - kinds[name].get("delete", 0) == stand
    assert all(kinds[name].get("delete", 0) > 0 for name in ("tumour", "hospital_drug", "person"))


def test_rows_are_taken_out_of_large_tables_without_writing_files_anew(in_order: Warehouse) -> None:
    at = in_order.folder / in_order.name / CONFORMED_SCHEMA

    def told(name: str, action: str) -> list[Any]:
        logs = sorted((at / name / "_delta_log").glob("*.json"))
        lines = [line for log in logs for line in log.read_text().splitlines()]
        return [one[action] for one in map(json.loads, lines) if action in one]

    for name in ("dispensing", "hospital_drug", "tumour"):
        assert "deletionVectors" not in told(name, "protocol")[0].get("readerFeatures", ())  # not before it is needed
    assert any("deletionVector" in add for add in told("hospital_drug", "add"))
    assert not any("deletionVector" in add for add in told("tumour", "add"))


def test_fewer_files_hold_the_same_rows(in_order: Warehouse, capsys: pytest.CaptureFixture[str]) -> None:
    site = ["--site", str(in_order.site), "--delivery", DAYS[2]]
    assert in_order.call("run", DAYS[2]) == 0
    before, rows = in_order.versions(), _comparable(in_order.tables())
    capsys.readouterr()
    assert main(["optimize", *site[:2]]) == 0
    told = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    assert re.fullmatch(r"[3-9] files, 1 now", told["conformed.dispensing"])
    after = in_order.versions()
    assert {name for name in after if after[name] != before[name]} >= {"dispensing", "hospital_drug", "ledger"}
    assert main(["optimize", *site[:2]]) == 0
    assert in_order.versions() == after
    assert _comparable(in_order.tables()) == rows
    # It counts for no stage as a change, and every delivery can be run as before, also when the many files are gone.
    for days_kept, others in ((30, "can be run"), (0, "its version of the tables is no longer kept")):
        assert main(["vacuum", *site[:2], "--set", f"site.retention_days={days_kept}"]) == 0
        capsys.readouterr()
        assert in_order.call("run", DAYS[2]) == 0
        stages = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[")]
        assert len(stages) == 7
        assert all(line.endswith("unchanged") for line in stages)
        assert main(["status", *site]) == 0
        status = capsys.readouterr().out.splitlines()
        assert f"delivery {DAYS[2]}: can be run" in status
        assert f"delivery {DAYS[0]}: {others}" in status
        assert "to be run again" not in "".join(status)
    assert in_order.versions() == after


def test_a_corrected_delivery_replaces_its_rows(
    spark: SparkSession, folder: Path, in_order: Warehouse, rebuilt: list[int]
) -> None:
    corrected = _drawn(17)
    _write(folder, DAYS[1], corrected)
    assert in_order.call("ingest", DAYS[1]) == 0
    assert rebuilt == [], "of whom it spoke before is not told by what it says now"
    _ensure_people_as_claimed(in_order)
    deliveries = {DAYS[0]: _drawn(0), DAYS[1]: corrected, DAYS[2]: _drawn(2)}
    assert _comparable(in_order.tables()) == _comparable(_expected(deliveries))
    ledger = in_order.store.newest(CONFORMED_SCHEMA, "ledger")
    assert ledger is not None
    counts = in_order.store.read(CONFORMED_SCHEMA, "ledger", ledger.version).collect()
    assert {(row.delivery, row.raw_table): row.rows_in for row in counts} == {
        (day, table): len(rows) for day, delivery in deliveries.items() for table, rows in delivery.items()
    }


def test_contacts_with_names_of_two_kinds_are_not_mixed(
    folder: Path, in_order: Warehouse, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where they are named by what their row says; here they have numbers."""
    before = in_order.versions()
    monkeypatch.setattr(jobs.pipeline, "NAMES", jobs.pipeline.NAMES + 1)
    monkeypatch.setattr(Adapter, "names_contacts", True)
    day = "2022-12-30"
    _write(folder, day, _drawn(4))
    assert in_order.call("ingest", day) == 10
    assert "into a new warehouse" in capsys.readouterr().err
    assert in_order.versions() == before


def test_the_countries_whose_contacts_have_no_number() -> None:
    countries = [*COUNTRIES.values(), "conformed", "tcga_brca"]
    adapters = {name: load_adapter(name) for name in countries}
    assert {name for name, one in adapters.items() if one.names_contacts} == {"norway", "sweden", "finland"}
    assert {name for name, one in adapters.items() if one.contacts_keep_day} == {"norway", "finland"}


@pytest.mark.parametrize(
    ("country", "table", "cells", "keeps"),
    [("norway", "hospital", ("lopenr", "inndato"), True), ("finland", "care", ("HETU", "TUPVA"), True),
     ("sweden", "patient", ("LopNr", "INDATUM"), False)],
)  # fmt: skip
def test_contacts_keep_their_day_where_they_are_said_to(
    spark: SparkSession, country: str, table: str, cells: tuple[str, str], keeps: bool
) -> None:
    """Rows that two deliveries hold and accept; a date known to the month or year may be set by the delivery's own."""
    adapter = load_adapter(country)
    (raw,) = [raw for raw in adapter.raw_tables if raw.name == table]
    named = [name for name in (*raw.columns, *raw.optional) if not name.endswith("*")]
    rows = [
        {**dict.fromkeys(named), cells[0]: "x", cells[1]: day, "delivery": delivery}
        for day in ("20200301", "202006", "2020", "20200600", "20200000")
        for delivery in ("2020-06-10", "2020-07-31")
    ]
    schema = ", ".join(f"`{name}` string" for name in (*named, "delivery"))
    annotated = raw.annotate(spark.createDataFrame(rows, schema), Site.model_construct(adapter={}))
    found: dict[str, set[datetime.date]] = {}
    for row in annotated.where("reasons = ''").select(cells[1], "start_date").collect():
        found.setdefault(row[0], set()).add(row[1])
    assert found["20200301"] == {datetime.date(2020, 3, 1)}
    assert all(len(days) == 1 for days in found.values()) == keeps == adapter.contacts_keep_day


class _Settled:
    """One table to which deliveries are added."""

    def __init__(self, spark: SparkSession, folder: Path, name: str) -> None:
        self.store, self.name = Store(spark, str(folder)), name

    def rows(self, *cells: tuple[Any, ...]) -> DataFrame:
        """With days as text; lineage is added."""
        names = TABLES[self.name].column_names
        found = [
            tuple(datetime.date.fromisoformat(cell) if name.endswith("_date") and cell else cell
                  for name, cell in zip(names, (*row[:-1], "f", 1, row[-1]), strict=True))
            for row in cells
        ]  # fmt: skip
        return self.store.spark.createDataFrame(found, TABLES[self.name].struct())

    def add(self, new: DataFrame, delivery: str, is_new: bool = True) -> None:
        newest = {name: self.store.newest(CONFORMED_SCHEMA, name) for name in (self.name, SUPERSEDED + self.name)}
        versions = {name: one.version for name, one in newest.items() if one is not None}
        if self.name in versions:
            settle(self.store, self.name, new, delivery, versions, {}, is_new, day_of(self.name, False))
        else:
            self.store.overwrite(CONFORMED_SCHEMA, self.name, new, {})

    def stand(self, *columns: str) -> list[tuple[str, ...]]:
        newest = self.store.existing(CONFORMED_SCHEMA, self.name)
        told = self.store.read(CONFORMED_SCHEMA, self.name, newest.version)
        key = TABLES[self.name].key
        assert told.select(*key).distinct().count() == told.count()
        return sorted(tuple(map(str, row)) for row in told.select(*columns, "delivery").collect())


@pytest.mark.parametrize("day", ["2019-06-15", "2020-06-15"])
def test_a_diagnosis_on_another_day_is_the_later_deliverys(spark: SparkSession, tmp_path: Path, day: str) -> None:
    """Its contact is the same, so it is one statement, and comes back if the later delivery no longer holds it."""
    table = _Settled(spark, tmp_path, "hospital_diagnosis")

    def rows(delivery: str, *given: tuple[str, str]) -> DataFrame:
        return table.rows(*(("p", contact, start, None, "C509", "main", delivery) for contact, start in given))

    table.add(rows(DAYS[0], ("c", "2019-06-10"), ("d", "2019-06-10")), DAYS[0])
    table.add(rows(DAYS[1], ("c", day), ("e", day)), DAYS[1])
    d, e = ("d", "2019-06-10", DAYS[0]), ("e", day, DAYS[1])
    assert table.stand("contact_id", "start_date") == [("c", day, DAYS[1]), d, e]
    table.add(rows(DAYS[1], ("e", day)), DAYS[1], is_new=False)
    assert table.stand("contact_id", "start_date") == [("c", "2019-06-10", DAYS[0]), d, e]


def test_a_recurrence_known_to_the_month_is_one_in_both_deliveries(spark: SparkSession, tmp_path: Path) -> None:
    """Not set after its delivery, it has another day in the next one; an exact one is another statement."""
    table = _Settled(spark, tmp_path, "recurrence")

    def rows(delivery: str, *given: tuple[str, str, str]) -> DataFrame:
        return table.rows(*((who, None, day, known_to, "distant", delivery) for who, day, known_to in given))

    table.add(rows(DAYS[0], ("m", "2019-06-10", "month"), ("y", "2019-03-31", "year"), ("d", "2019-06-10", "day"),
                   ("o", "2019-05-15", "month")), DAYS[0])  # fmt: skip
    table.add(rows(DAYS[1], ("m", "2019-06-15", "month"), ("y", "2019-07-01", "year"), ("d", "2019-06-11", "day"),
                   ("o", "2019-06-15", "month"), ("n", "2019-06-15", "month")), DAYS[1])  # fmt: skip
    assert table.stand("person_id", "event_date") == [
        ("d", "2019-06-10", DAYS[0]), ("d", "2019-06-11", DAYS[1]), ("m", "2019-06-15", DAYS[1]),
        ("n", "2019-06-15", DAYS[1]), ("o", "2019-05-15", DAYS[0]), ("o", "2019-06-15", DAYS[1]),
        ("y", "2019-07-01", DAYS[1]),
    ]  # fmt: skip
    table.add(rows(DAYS[2], ("m", "2019-06-15", "day"), ("m", "2019-06-15", "month")), DAYS[2])
    of_m = [row for row in table.stand("person_id", "event_date", "event_date_precision") if row[0] == "m"]
    assert of_m == [("m", "2019-06-15", "day", DAYS[2]), ("m", "2019-06-15", "month", DAYS[2])]


def _age(warehouse: Warehouse, days: int) -> None:
    """Let every commit so far be older by so many days."""
    for commit in (warehouse.folder / warehouse.name).glob("*/*/_delta_log/*"):
        if commit.is_file():
            told = commit.stat().st_mtime - 86_400 * days
            os.utime(commit, (told, told))
    warehouse.store.forget_cached()


def test_a_delivery_that_fails_its_gate_leaves_nothing(
    folder: Path, in_order: Warehouse, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _age(in_order, 400)  # deliveries that come once a year, and are kept for a month once others took their place
    before = _comparable(in_order.tables())
    day = "2022-12-31"
    strangers = [(f"stranger{number}", "1", "2014-01-01", "C509", "distant", "positive") for number in range(9)]
    _write(folder, day, {**_drawn(3), "tumour": strangers})
    assert in_order.call("ingest", day) == 12
    assert "person is in the person table" in capsys.readouterr().err
    assert in_order.store.existing(CONFORMED_SCHEMA, "tumour").fingerprint is None
    passed = in_order.store.existing(CONFORMED_SCHEMA, "ledger").note["tables"]
    assert _comparable(in_order.tables(passed)) == before, "where outsiders find what passed"
    assert in_order.call("ingest", DAYS[2]) == 0
    assert capsys.readouterr().out.endswith(" unchanged\n")
    _write(folder, day, {name: [] for name in COLUMNS})
    with monkeypatch.context() as vacuumed:
        vacuumed.setattr(Store, "is_whole", lambda *_: False)
        assert in_order.call("ingest", day) == 11
    assert "cannot be put back; ingest all deliveries into a new warehouse" in capsys.readouterr().err
    assert in_order.store.existing(CONFORMED_SCHEMA, "tumour").fingerprint is None, "nothing is put back in part"
    assert in_order.call("ingest", day) == 0
    assert _comparable(in_order.tables()) == before


def test_a_table_that_a_delivery_says_nothing_of_stays_and_rules_look_into_it(
    folder: Path, in_order: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    day, before, seen = "2023-06-30", in_order.versions(), {}
    gate = jobs.pipeline._gate

    def looking(table: str, run: jobs.pipeline.Run) -> list[RuleOutcome]:
        seen[table] = dict(run.versions)
        return gate(table, run)

    monkeypatch.setattr(jobs.pipeline, "_gate", looking)
    _write(folder, day, {**_drawn(3), "tumour": []})
    assert in_order.call("ingest", day) == 0
    after = in_order.versions()
    assert after["tumour"] == before["tumour"]
    assert after["dispensing"] > before["dispensing"]
    assert set(seen) == {"person", "tumour", "dispensing", "hospital_drug"}
    # The others were judged before, by their rows alone.
    assert {name: seen["tumour"][name] for name in ("person", "tumour")} == {
        "person": after["person"], "tumour": before["tumour"]
    }  # fmt: skip
    assert seen["person"]["person"] == after["person"] > before["person"]
    assert in_order.call("ingest", day) == 0
    assert in_order.versions() == after


def test_what_a_delivery_repeats_is_searched_where_it_shares_days(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    statement, searched = jobs.deliveries._statement, set[str]()

    def searching(table: Table) -> list[Column]:
        searched.add(table.name)
        return statement(table)

    monkeypatch.setattr(jobs.deliveries, "_statement", searching)
    monkeypatch.setattr(jobs.pipeline, "CLAIMS_A_PARTITION", 4)  # people are made in several partitions
    (tmp_path / "key").write_text(KEY)
    warehouse = Warehouse(spark, tmp_path, "days")
    first, later = _drawn(30), _drawn(31)
    for name, day in (("dispensing", 1), ("hospital_drug", 2)):
        later[name] = [(*row[:day], row[day].replace("201", "200"), *row[day + 1 :]) for row in later[name]]
    again = {**_drawn(32), "dispensing": [*later["dispensing"][:5], first["dispensing"][0]], "hospital_drug": []}
    deliveries = dict(zip(DAYS, (first, later, again), strict=True))
    for day, expected in zip(DAYS, (set(), {"tumour"}, {"tumour", "dispensing"}), strict=True):
        _write(tmp_path, day, deliveries[day])
        searched.clear()
        assert warehouse.call("ingest", day) == 0
        assert searched == expected
    assert _comparable(warehouse.tables()) == _comparable(_expected(deliveries))
    newest = warehouse.store.newest(CONFORMED_SCHEMA, "person")
    assert newest is not None
    assert len(warehouse.store.read(CONFORMED_SCHEMA, "person", newest.version).inputFiles()) > 1


def _with_warnings(delivery: Delivery, packages: str, atc: str) -> Delivery:
    first, *others = delivery["dispensing"]
    return {**delivery, "dispensing": [(*first[:2], atc, packages), *others]}


def test_judging_what_was_added_gives_what_judging_all_of_it_gives(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    by_added, by_whole = list[str](), list[str]()

    def both(name: str, frame: DataFrame, *arguments: Any) -> list[RuleOutcome]:
        by_added.append(name)
        outcomes = check_added(name, frame, *arguments)
        assert outcomes == check_table(name, frame, arguments[-1])
        return outcomes

    def whole(name: str, *arguments: Any) -> list[RuleOutcome]:
        by_whole.append(name)
        return check_table(name, *arguments)

    monkeypatch.setattr(jobs.pipeline, "check_added", both)
    monkeypatch.setattr(jobs.pipeline, "check_table", whole)
    (tmp_path / "key").write_text(KEY)
    warehouse = Warehouse(spark, tmp_path, "judged")
    first, later = _drawn(20), _drawn(21)
    for name, day in (("dispensing", 1), ("hospital_drug", 2)):  # on other days, so that it repeats nothing
        later[name] = [(*row[:day], row[day].replace("201", "200"), *row[day + 1 :]) for row in later[name]]
    nothing: Delivery = {name: [] for name in COLUMNS}
    shown = []
    for day, delivery in (
        (DAYS[0], _with_warnings(first, "0", "L02")),
        (DAYS[2], _with_warnings(later, "0", "L02B")),
        (DAYS[1], first),  # what it repeats is its own now
        ("2023-06-30", nothing),
        ("2023-12-31", nothing),
    ):
        if day == "2023-12-31":  # what another version of the program counted is not taken over
            monkeypatch.setattr(jobs.pipeline, "code_version", lambda: "another")
        _write(tmp_path, day, delivery)
        assert warehouse.call("ingest", day) == 0
        ledger = warehouse.store.newest(CONFORMED_SCHEMA, "ledger")
        assert ledger is not None
        tables = ledger.note["tables"].items()
        assert ledger.note["rows"] == {name: warehouse.store.count(CONFORMED_SCHEMA, name, at) for name, at in tables}
        warned = sum("dispensing: no number of packages is 0 (" in line for line in ledger.note["warnings"])
        counts = ledger.note["counts"]["dispensing"]
        shown.append((warned, counts["no number of packages is 0"], by_added.count("dispensing"),
                      by_whole.count("dispensing")))  # fmt: skip
    assert shown == [(1, 1, 0, 1), (1, 2, 1, 1), (1, 2, 1, 2), (1, 2, 1, 2), (1, 2, 1, 3)]
    assert by_added.count("hospital_drug") == 1


def test_counts_that_are_kept_stay_true_on_another_day(spark: SparkSession) -> None:
    """A rule of a row alone may know the delivery only where no row may violate it: then none was counted."""
    known = _Known()
    for name in filter(looks_at_rows_alone, SETTLED):
        for rule in rules_of(name):
            known.asked.clear()
            rule.violates(known)
            assert not known.asked or (rule.severity, rule.share) == ("critical", 0.0), (name, rule.name)
    assert {name for name in SETTLED if looks_at_rows_alone(name)} == {
        "dispensing", "hospital_diagnosis", "hospital_drug"
    }  # fmt: skip


def test_rules_look_into_the_tables_that_their_suite_names(spark: SparkSession) -> None:
    """A gate waits for those and is given no others."""

    class Asked(dict[str, DataFrame]):
        def get(self, name: str, default: Any = None) -> Any:
            self[name] = spark.createDataFrame([], TABLES[name].struct())
            return self[name]

    for name, suite in EXPECTATIONS.items():
        tables = Asked()
        suite.prepare(spark.createDataFrame([], TABLES[name].struct()), {"study": None, "tables": tables})
        assert set(tables) == set(suite.looks_into), name


def test_a_key_that_comes_again_is_found_among_the_added(spark: SparkSession) -> None:
    def rows(delivery: str, *given: tuple[str, str, str, int]) -> DataFrame:
        values = [(p * 32, c * 32, datetime.date(2020, 1, day), None, "atc", code, None, "f", 1, delivery)
                  for p, c, code, day in given]  # fmt: skip
        return spark.createDataFrame(values, TABLES["hospital_drug"].struct())

    stood = [("a", "a", "L01XC03", 1), ("a", "b", "L01XC03", 9)]
    context = {"study": None, "delivery": DAYS[1], "tables": {}}
    before = {one.rule: one.violations for one in check_table("hospital_drug", rows(DAYS[0], *stood), context)}
    for more, repeated in (
        ([("a", "b", "L01XC13", 9), ("c", "c", "L01XC03", 1)], 0),
        ([("a", "b", "L01XC03", 8), ("c", "a", "L01XC03", 2)], 0),
        ([("c", "b", "L01XC03", 9), ("c", "c", "L01XC03", 9)], 1),
        ([("c", "b", "L01XC03", 9), ("c", "c", "L01XC03", 1)], 1),
        ([("c", "c", "L01XC03", 1), ("c", "a", "L01XC03", 1)], 1),
        ([("c", "c", "L01XC03", 5), ("c", "c", "L01XC03", 5)], 1),
        ([("c", "a", "L01XC03", 1), ("c", "a", "L01XC03", 1)], 2),
    ):
        frame = rows(DAYS[0], *stood).unionByName(rows(DAYS[1], *more))
        day = day_of("hospital_drug", False)
        judged = check_added("hospital_drug", frame, DAYS[1], day, False, {"rows": 2, **before}, context)
        assert judged == check_table("hospital_drug", frame, context)
        assert [(one.passed, one.violations) for one in judged if one.rule == IS_UNIQUE] == [(not repeated, repeated)]
    with pytest.raises(ValueError, match="tumour"):
        check_added("tumour", rows(DAYS[0]), DAYS[1], None, False, {}, context)


def test_a_contact_that_comes_again_on_another_day_is_found(spark: SparkSession) -> None:
    values = [("p" * 32, "c" * 32, datetime.date(year, 1, 1), None, "C509", "main", "f", 1, delivery)
              for year, delivery in ((2019, DAYS[0]), (2020, DAYS[1]))]  # fmt: skip
    frame = spark.createDataFrame(values, TABLES["hospital_diagnosis"].struct())
    context = {"study": None, "delivery": DAYS[1], "tables": {}}
    before = check_table("hospital_diagnosis", frame.where(F.col("delivery") == DAYS[0]), context)
    counts = {"rows": 1, **{one.rule: one.violations for one in before}}
    day = day_of("hospital_diagnosis", False)
    judged = check_added("hospital_diagnosis", frame, DAYS[1], day, False, counts, context)
    assert judged == check_table("hospital_diagnosis", frame, context)
    assert [one.violations for one in judged if one.rule == IS_UNIQUE] == [1]


def test_a_repaired_row_and_a_late_life_table(spark: SparkSession, tmp_path: Path) -> None:
    """A row that was held back is delivered again; a delivery that comes late brings an older life table."""
    (tmp_path / "key").write_text(KEY)
    warehouse = Warehouse(spark, tmp_path, "repaired")
    warehouse.site.write_text(warehouse.site.read_text() + '  life_table: {path: "{delivery}/life_table.csv"}\n')
    wrong = {**_drawn(40), "tumour": [("p1", "1", "2014-13-01", "C509", "distant", "positive")]}
    wrong["person"] = [("p1", "female", "1950-01-01", "", "")]
    for name in ("dispensing", "hospital_drug"):
        wrong[name] = [("p1", *row[1:]) for row in wrong[name]]
    right = {**wrong, "tumour": [("p1", "1", "2014-12-01", "C509", "distant", "positive")]}

    def ingest(day: str, delivery: Delivery, risk: str) -> tuple[list[Any], list[str], set[float]]:
        _write(tmp_path, day, delivery)
        lines = ["country,sex,year,age,probability_of_death"]
        lines += [f"no,{sex},2014,{age},{risk}" for sex in ("female", "male") for age in range(100)]
        (tmp_path / day / "life_table.csv").write_text("\n".join(lines) + "\n")
        assert warehouse.call("ingest", day) == 0
        tables = {}
        for name in ("tumour", "quarantine_tumour", "life_table"):
            newest = warehouse.store.existing(CONFORMED_SCHEMA, name)
            tables[name] = warehouse.store.read(CONFORMED_SCHEMA, name, newest.version).collect()
        return (
            [(row.diagnosis_date.isoformat(), row.delivery) for row in tables["tumour"]],
            [row.delivery for row in tables["quarantine_tumour"]],
            {row.probability_of_death for row in tables["life_table"]},
        )

    def only(delivery: Delivery) -> Delivery:
        return {**delivery, "dispensing": [], "hospital_drug": []}

    other = only({**right, "tumour": [("p1", "2", "2013-12-01", "C509", "distant", "positive")]})
    stood = [("2013-12-01", DAYS[0])]
    assert ingest(DAYS[0], other, "0.01") == (stood, [], {0.01})
    assert ingest(DAYS[2], only(wrong), "0.03") == (stood, [DAYS[2]], {0.03})
    assert ingest(DAYS[1], other, "0.02") == ([("2013-12-01", DAYS[1])], [DAYS[2]], {0.03})
    both = [("2013-12-01", DAYS[1]), ("2014-12-01", DAYS[2])]
    assert sorted(ingest(DAYS[2], only(right), "0.04")[0]) == both
    assert ingest(DAYS[0], other, "0.05")[1:] == ([], {0.04})


def test_a_death_known_to_the_month_waits_for_its_own_delivery(spark: SparkSession) -> None:
    """The register of deaths speaks later than the one that knows the birth."""
    names = TABLES["person_claims"].column_names

    def claim(priority: int, delivery: str, **said: object) -> tuple[object, ...]:
        values = {"person_id": "p" * 32, "priority": priority, "source_file": "f", "source_row": 1, **said}
        return tuple({**values, "delivery": delivery}.get(name) for name in names)

    born = {"sex": "female", "birth_date": datetime.date(1950, 1, 1), "birth_date_precision": "day"}
    for died, expected in (("2022-03-15", "2022-03-31"), ("2022-12-15", "2022-12-10")):
        death = {"death_date": datetime.date.fromisoformat(died), "death_date_precision": "month"}
        claims = [claim(1, "2021-06-30", **born), claim(0, "2022-12-10", **death)]
        (person,) = build_persons(spark.createDataFrame(claims, TABLES["person_claims"].struct())).collect()
        assert (person.death_date.isoformat(), person.delivery) == (expected, "2021-06-30")


def test_a_gate_waits_for_what_its_rules_look_into(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no longer; a table to which nothing was added is there all the same."""
    judged: list[str] = []
    monkeypatch.setattr(jobs.pipeline, "_gate", lambda name, _: judged.append(name) or [])
    to_write = {"person", "tumour", "recurrence", "biomarker", "life_table", "dispensing", "quarantine_person"}
    with jobs.pipeline._Gates(None, to_write) as gates:
        for written, changed, expected in (
            ("dispensing", ["dispensing", "superseded_dispensing"], {"dispensing"}),
            ("recurrence", ["recurrence"], set()),
            ("life_table", ["life_table"], {"life_table"}),
            ("biomarker", ["biomarker"], set()),
            ("person", ["person"], {"person", "biomarker"}),
            ("quarantine_person", ["quarantine_person"], set()),
            ("tumour", [], {"recurrence"}),
        ):
            judged.clear()
            gates.judge_what_can_be(written, changed)
            wait(gates._judged.values())
            assert set(judged) == expected, written
        judged.clear()
        outcomes = gates.outcomes(["person", "tumour", "recurrence", "dispensing", "ledger"])
    assert judged == ["tumour"], "what was judged is not judged again"
    assert list(outcomes) == ["person", "tumour", "recurrence", "dispensing"]


def test_no_gate_begins_when_the_block_of_gates_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    goes_on = threading.Event()
    monkeypatch.setattr(jobs.pipeline, "_gate", lambda name, _: begun.append(name) or goes_on.wait(30))
    tables = [name for name in TABLES if jobs.pipeline._has_gate(name)][: TABLES_AT_A_TIME + 1]
    with jobs.pipeline._Gates(None, ()) as gates:
        for name in tables:
            gates.judge_what_can_be(name, [name])
        for _ in range(3000):
            if len(begun) < TABLES_AT_A_TIME:
                time.sleep(0.01)
        gates._judged[tables[-1]].add_done_callback(lambda _: goes_on.set())
    assert gates._judged[tables[-1]].cancelled()
    assert sorted(begun) == sorted(tables[:-1])


@pytest.mark.parametrize(("newest", "is_whole", "is_found"), [(0, False, True), (1, True, True), (1, False, False)])
def test_a_delivery_before_that_is_no_longer_kept_is_not_compared_with(
    spark: SparkSession, newest: int, is_whole: bool, is_found: bool
) -> None:
    """As after a run that wrote a newer profile and failed, and a vacuum."""
    note = {"deliveries": {"2020-06-30": "fingerprint"}, "tables": {"profile": 0}, "rows": {"profile": 1}}
    rows = SimpleNamespace(where=lambda _: SimpleNamespace(toPandas=lambda: "rows"))
    store = SimpleNamespace(
        commits=lambda *_: [Commit(3, note, 1)],
        newest=lambda _, name: Commit({"ledger": 3, "profile": newest}[name], {}, 1),
        holding=lambda _, name, version: Commit(version, {}, 1),
        is_whole=lambda *_: is_whole,
        read=lambda *_: rows,
    )
    before = jobs.pipeline._delivery_before(SimpleNamespace(store=store, delivery="2021-06-30"))
    assert before == (("2020-06-30", {"ledger": "rows", "profile": "rows"}) if is_found else None)


def test_people_of_whom_a_delivery_speaks_are_made_anew(spark: SparkSession) -> None:
    """And the others stay: the table is the one that all claims make, whichever delivery is the last to be ingested."""
    drawn, table = random.Random(7), TABLES["person_claims"]
    dates = [None, *(datetime.date(2020, month, 1) for month in range(1, 13))]
    claims = []
    for number in range(600):
        birth, death = drawn.choice([None, datetime.date(1950, 1, number % 28 + 1)]), drawn.choice(dates)
        values = {
            "person_id": f"{drawn.randrange(150):032x}", "priority": drawn.randrange(3),
            "sex": drawn.choice(["female", "male", None]), "birth_date": birth,
            "birth_date_precision": "day" if birth else None, "death_date": death,
            "death_date_precision": drawn.choice(["day", "month", "year"]) if death else None,
            "emigration_date": drawn.choice(dates), "region": drawn.choice("ab"), "last_contact": drawn.choice(dates),
            "source_file": drawn.choice("fg"), "source_row": number, "delivery": drawn.choice(DAYS),
        }  # fmt: skip
        claims.append(tuple(values[name] for name in table.column_names))
    every = spark.createDataFrame(claims, table.struct()).persist()
    expected = build_persons(every).collect()
    assert len(expected) > 100
    for day in DAYS:
        added = every.where(F.col("delivery") == day)
        before = build_persons(every.where(F.col("delivery") != day)).persist()
        assert sorted(rebuild_persons(before, every, added).collect(), key=repr) == sorted(expected, key=repr)
        assert sorted(before.collect(), key=repr) != sorted(expected, key=repr)
    every.unpersist()


def test_what_is_new_of_others_leaves_a_study_as_it_is(
    folder: Path, in_order: Warehouse, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*command: str) -> str:
        capsys.readouterr()
        assert in_order.call(*command) == 0
        return capsys.readouterr().out

    def exposures() -> list[Any]:
        newest = in_order.store.existing("small", "exposures")
        return in_order.store.read("small", "exposures", newest.version).collect()

    told("run", max(in_order.store.existing(CONFORMED_SCHEMA, "ledger").note["deliveries"]))
    before, others, own = exposures(), "2031-06-30", "2032-06-30"
    nothing: Delivery = {name: [] for name in COLUMNS}
    of_stranger: Delivery = {
        "person": [("x1", "female", "1950-01-01", "", "a")],
        "tumour": [("x1", "1", "2014-01-01", "C619", "distant", "positive")],
        "dispensing": [("x1", "2016-01-01", "L02BA01", "1")],
        "hospital_drug": [("x1", "9", "2017-01-01", "atc", "L01XC03")],
    }
    _write(folder, others, of_stranger)
    told("ingest", others)
    assert main(["status", "--site", str(in_order.site)]) == 0
    where = "small exposures: to be run again where it concerns the study's people: new version of dispensing, hospital"
    assert where in capsys.readouterr().out
    first = told("run", others)
    assert "cohort: what is new in dispensing, hospital_drug, person, tumour concerns none of its people\n" in first
    assert "exposures: what is new in dispensing, hospital_drug concerns none of its people\n" in first
    for lines in (first, told("run", others)):
        assert re.findall(r"\[[2-6]/7\] (\w+) [0-9,]+ rows unchanged", lines) == [
            "cohort", "exposures", "lines", "aggregate", "survival"
        ]  # fmt: skip
    assert main(["status", "--site", str(in_order.site)]) == 0
    assert "to be run again" not in capsys.readouterr().out

    names = {pseudonym_of(f"p{number}", KEY.encode()): f"p{number}" for number in range(12)}
    _write(folder, own, {**nothing, "dispensing": [(names[before[0].person_id], "2016-02-01", "L02BA01", "1")]})
    tumour = in_order.store.existing(CONFORMED_SCHEMA, "tumour")
    longer = ["--set", "site.retention_days=60"]
    assert main(["ingest", "--site", str(in_order.site), "--delivery", own, *longer]) == 0
    assert "concerns none" not in told("run", own)
    assert len(exposures()) == len(before) + 1
    kept = in_order.store.existing(CONFORMED_SCHEMA, "tumour")
    assert (kept.version, kept.identity) == (tumour.version + 1, tumour.identity), "nothing new but how long it is kept"
    told_by = f"SHOW TBLPROPERTIES {in_order.store._address(CONFORMED_SCHEMA, 'tumour')}"
    properties = dict(map(tuple, in_order.store.spark.sql(told_by).collect()))
    assert properties["delta.deletedFileRetentionDuration"] == "interval 60 days"


def test_every_delivery_needs_files_of_its_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = folder / "same_files.yaml"
    site.write_text(SITE.format(warehouse="none").replace("{delivery}/person.csv", "person.csv"))
    assert main(["ingest", "--site", str(site), "--delivery", DAYS[0]]) == 10
    assert "{delivery}" in capsys.readouterr().err


def test_a_delivery_has_identifiers_as_those_before(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As numbers they have lost their zeros: the person of the first delivery would be another one in the second."""
    (tmp_path / "key").write_text(KEY)
    site = SITE.format(warehouse="typed").replace('.csv"', '.parquet", format: parquet')
    site = site.split("  dispensing:")[0]
    (tmp_path / "typed.yaml").write_text(site)
    for day, identifier in zip(DAYS, ("0101501234", 101501234, "0101501234"), strict=True):
        (tmp_path / day).mkdir()
        person = (identifier, "female", "1950-01-01", "", "a")
        tumour = (identifier, f"{day}-1", "2013-01-01", "C509", "distant", "positive")
        for name, row in (("person", person), ("tumour", tumour)):
            columns = {column: [cell] for column, cell in zip(COLUMNS[name], row, strict=True)}
            pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / day / f"{name}.parquet")
    store = Store(spark, str(tmp_path / "typed"))
    (tmp_path / "gone").write_text("of nobody")
    for day, code in zip(DAYS, (0, 11, 0), strict=True):
        assert main(["ingest", "--site", str(tmp_path / "typed.yaml"), "--delivery", day]) == code
        told = capsys.readouterr().err
        assert ("are numbers now, and the tables in the warehouse were made of text" in told) == (code == 11)
        newest = store.existing(CONFORMED_SCHEMA, "person")
        assert store.count(CONFORMED_SCHEMA, "person", newest.version) == 1
    # Who was erased would come back with numbers in a new warehouse that takes over the list.
    assert main(["erase", "--site", str(tmp_path / "typed.yaml"), "--person-list", str(tmp_path / "gone")]) == 0
    listed = Path(CONFORMED_SCHEMA, "suppressions")
    shutil.copytree(tmp_path / "typed" / listed, tmp_path / "anew" / listed)
    (tmp_path / "anew.yaml").write_text(site.replace("warehouse: typed", "warehouse: anew"))
    capsys.readouterr()
    for day, code in ((DAYS[1], 11), (DAYS[0], 0)):
        assert main(["ingest", "--site", str(tmp_path / "anew.yaml"), "--delivery", day]) == code
        assert ("the list of erased people was made of text" in capsys.readouterr().err) == (code == 11)
