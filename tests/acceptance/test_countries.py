"""The same people in each country's files give the same tumours, recurrences, diagnoses, cohort, exposures and lines,
but for what a source cannot know."""

from __future__ import annotations

import csv
import importlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.cli import COUNTRIES, main
from jobs.cohort import _with_status
from jobs.config import conf_folder, load_study
from jobs.store import CONFORMED_SCHEMA, Store

PERSONS, SEED = 3_000, 11
STUDY = conf_folder() / "studies" / "her2_mbc.yaml"
CONFORMED = {
    # status_<marker>: of the tumour's biomarkers, or its own columns where they are there
    "tumour": (
        "person_id", "diagnosis_date", "diagnosis_date_precision", "icd10", "morphology", "stage", "basis", "status_er",
        "status_pr", "status_her2",
    ),
    "recurrence": ("person_id", "event_date", "event_date_precision", "kind"),
    "hospital_diagnosis": ("person_id", "start_date", "end_date", "icd10", "position"),
}  # fmt: skip
DERIVED = {
    "cohort": (
        "person_id", "index_date", "index_kind", "age_at_index", "sex", "receptor", "comorbidity_index", "region",
        "prior_treatment", "months_since_prior", "has_treatment_information", "follow_up_end", "follow_up_end_reason",
        "survival_end", "survival_end_reason",
    ),
    "exposures": ("person_id", "substance", "class", "given_from", "given_to", "covered_until", "source"),
    "treatment_lines": (
        "rule_set", "person_id", "line_number", "regimen", "line_start", "line_end", "end_reason", "next_state",
        "next_state_date", "concomitant", "concomitant_at_start",
    ),
}  # fmt: skip
OTHERS = sorted(set(COUNTRIES.values()) - {"norway"})
MIDDLE = 15  # the day of a date known to its month
PACKAGES_OF_THEIR_OWN = ("letrozole", "tamoxifen")  # last longer than the study's default


Tables = dict[str, DataFrame]
Row = dict[str, Any]


@dataclass(frozen=True)
class Truth:
    """What Norway's files know, and another country's do not."""

    births: dict[str, date]
    takes_tablets: frozenset[str]


def _age(born: date, day: date) -> int:
    return day.year - born.year - ((day.month, day.day) < (born.month, born.day))


def _without_precision(table: str, row: Row, _: Truth) -> Row | None:
    """A date known to its month is written as its 15th."""
    if table == "tumour" and row["diagnosis_date"].day == MIDDLE:
        return row | {"diagnosis_date_precision": None}
    return row


def _without_day_of_birth(table: str, row: Row, truth: Truth) -> Row | None:
    """Born on the 15th, somebody may be a year older or younger."""
    if table == "cohort":
        born = truth.births[row["person_id"]]
        if _age(born, row["index_date"]) != _age(born.replace(day=MIDDLE), row["index_date"]):
            return row | {"age_at_index": None}
    return row


def _without_supply(table: str, row: Row, truth: Truth) -> Row | None:
    """Tablets cover the study's default, so that how long they go beside a line is not known."""
    if table == "exposures" and row["substance"] in PACKAGES_OF_THEIR_OWN:
        return row | {"covered_until": None}
    if table == "treatment_lines" and row["person_id"] in truth.takes_tablets:
        beside = ("concomitant", "concomitant_at_start")
        return row | {name: tuple(one for one in row[name] if one != "endocrine") for name in beside}
    return row


def _as_in_omop(table: str, row: Row, truth: Truth) -> Row | None:
    if table != "tumour":
        return row
    if "C77" <= row["icd10"][:3] <= "C79":
        return None
    known = _without_precision(table, row, truth)
    assert known is not None
    in_situ = row["icd10"].startswith("D0")
    by_certificate = row["basis"] == "death_certificate"
    return known | {"morphology": None if in_situ else row["morphology"], "basis": by_certificate}


# What a row says without that which NOT_KNOWN of the country's module explains; None: the row is not known at all.
KNOWN: dict[str, Callable[[str, Row, Truth], Row | None]] = {
    "denmark": _without_precision,
    "sweden": _without_day_of_birth,
    "finland": _without_supply,
    "omop": _as_in_omop,
}


def _with_receptors(tumour: DataFrame, biomarker: DataFrame | None) -> DataFrame:
    at_the_end = tumour.withColumn("index_date", F.lit(date(2023, 6, 30)))
    tables = {} if biomarker is None else {"biomarker": biomarker}
    return _with_status(at_the_end, tables, load_study(STUDY))


def _run(spark: SparkSession, country: str, folder: Path) -> Tables:
    importlib.import_module(f"jobs.synthetic.{country}").write_registers(folder, PERSONS, SEED)
    site = str(folder / "site.yaml")
    assert main(["run", "--study", str(STUDY), "--site", site, "--until", "lines"]) == 0
    return _tables(spark, folder)


def _tables(spark: SparkSession, folder: Path) -> Tables:
    store = Store(spark, str(folder / "warehouse"))

    def newest(schema: str, name: str) -> DataFrame:
        commit = store.newest(schema, name)
        assert commit is not None
        return store.read(schema, name, commit.version)

    has_biomarkers = store.newest(CONFORMED_SCHEMA, "biomarker") is not None
    return {
        **{name: newest(CONFORMED_SCHEMA, name) for name in ("ledger", "person", *CONFORMED)},
        **{name: newest("her2_mbc", name) for name in DERIVED},
        "tumour": _with_receptors(
            newest(CONFORMED_SCHEMA, "tumour"), newest(CONFORMED_SCHEMA, "biomarker") if has_biomarkers else None
        ),
    }


@pytest.fixture(scope="module")
def run(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Tables, Path]]:
    """Runs a country's files once."""
    done: dict[str, tuple[Tables, Path]] = {}

    def of(country: str) -> tuple[Tables, Path]:
        if country not in done:
            folder = tmp_path_factory.mktemp(country)
            done[country] = _run(spark, country, folder), folder
        return done[country]

    return of


def _rows(frame: DataFrame, columns: tuple[str, ...]) -> list[Row]:
    found = frame.select(*columns).collect()
    return [{k: tuple(v) if isinstance(v, list) else v for k, v in row.asDict().items()} for row in found]


@pytest.fixture(scope="module")
def norway(run: Callable[[str], tuple[Tables, Path]]) -> tuple[dict[str, list[Row]], Truth]:
    tables = run("norway")[0]
    rows = {name: _rows(tables[name], columns) for name, columns in (CONFORMED | DERIVED).items()}
    births = {row.person_id: row.birth_date for row in tables["person"].collect()}
    takes = frozenset(row["person_id"] for row in rows["exposures"] if row["substance"] in PACKAGES_OF_THEIR_OWN)
    return rows, Truth(births, takes)


@pytest.mark.parametrize("country", OTHERS)
def test_tables_are_those_of_norway(
    country: str, run: Callable[[str], tuple[Tables, Path]], norway: tuple[dict[str, list[Row]], Truth]
) -> None:
    expected_rows, truth = norway
    tables = run(country)[0]
    for table, columns in (CONFORMED | DERIVED).items():

        def known(rows: list[Row], table: str = table) -> Counter[tuple[tuple[str, Any], ...]]:
            left = (KNOWN[country](table, row, truth) for row in rows)
            return Counter(tuple(row.items()) for row in left if row is not None)

        expected, found = known(expected_rows[table]), known(_rows(tables[table], columns))
        more, fewer = found - expected, expected - found
        differing = {
            name
            for a, b in zip(sorted(more, key=str), sorted(fewer, key=str), strict=False)
            for (name, x), (_, y) in zip(a, b, strict=True)
            if x != y
        }
        counts = (found.total(), more.total(), fewer.total())
        assert (table, *counts, differing) == (table, expected.total(), 0, 0, set())


@pytest.mark.parametrize("country", OTHERS)
def test_every_raw_row_is_accounted_for(country: str, run: Callable[[str], tuple[Tables, Path]]) -> None:
    tables, folder = run(country)
    columns = ["raw_table", "rows_in", "rows_accepted", "rows_quarantined", "rows_duplicate"]
    with (folder / "truth" / "ledger.csv").open(encoding="utf-8") as stream:
        expected = sorted(tuple(row[column] for column in columns) for row in csv.DictReader(stream))
    assert sorted(tuple(map(str, row)) for row in tables["ledger"].select(*columns).collect()) == expected


@pytest.mark.parametrize("country", sorted(COUNTRIES.values()))
def test_what_a_source_cannot_know_is_written_down(country: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "countries.md").read_text(encoding="utf-8")
    known = importlib.import_module(f"jobs.synthetic.{country}").NOT_KNOWN
    title = country.upper() if country == "omop" else country.capitalize()
    section = page.partition(f"## {title}")[2].partition("\n## ")[0]
    assert section
    assert not [what for what in known if what not in section]


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    for country in OTHERS:
        module = importlib.import_module(f"jobs.synthetic.{country}")
        contents = []
        for copy in ("a", "b"):
            module.write_registers(tmp_path / country / copy, PERSONS, SEED)
            folder = tmp_path / country / copy
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            contents.append({str(path.relative_to(folder)): path.read_bytes() for path in files})
        assert contents[0] == contents[1]
