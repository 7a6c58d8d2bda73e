"""The same people in each country's files give the same cohort, exposures and lines, but for what a source cannot
know."""

from __future__ import annotations

import csv
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from jobs.cli import COUNTRIES, main
from jobs.config import conf_folder
from jobs.store import CONFORMED_SCHEMA, Store

PERSONS, SEED = 3_000, 11
STUDY = conf_folder() / "studies" / "her2_mbc.yaml"
COMPARED = {
    "cohort": (
        "person_id", "index_date", "index_kind", "age_at_index", "sex", "receptor", "comorbidity_index", "region",
        "prior_treatment", "months_since_prior", "has_treatment_information", "follow_up_end", "follow_up_end_reason",
        "survival_end", "survival_end_reason",
    ),
    "exposures": ("person_id", "substance", "class", "given_from", "given_to", "covered_until"),
    "treatment_lines": (
        "rule_set", "person_id", "line_number", "regimen", "line_start", "line_end", "end_reason", "next_state",
        "next_state_date", "concomitant",
    ),
}  # fmt: skip
# What NOT_KNOWN of the country's module explains.
APART = {
    "sweden": {"cohort": ("age_at_index",)},
    "finland": {"exposures": ("covered_until",), "treatment_lines": ("concomitant",)},
}
OTHERS = sorted(set(COUNTRIES.values()) - {"norway"})


Tables = dict[str, DataFrame]


def _run(spark: SparkSession, country: str, folder: Path) -> Tables:
    importlib.import_module(f"jobs.synthetic.{country}").write_registers(folder, PERSONS, SEED)
    site = str(folder / "site.yaml")
    assert main(["run", "--study", str(STUDY), "--site", site, "--until", "lines"]) == 0
    store = Store(spark, str(folder / "warehouse"))

    def newest(schema: str, name: str) -> DataFrame:
        commit = store.newest(schema, name)
        assert commit is not None
        return store.read(schema, name, commit.version)

    return {
        "ledger": newest(CONFORMED_SCHEMA, "ledger"),
        **{name: newest("her2_mbc", name) for name in COMPARED},
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


def _rows(frame: DataFrame, columns: list[str]) -> list[tuple[Any, ...]]:
    found = [tuple(tuple(v) if isinstance(v, list) else v for v in row) for row in frame.select(*columns).collect()]
    return sorted(found, key=str)


@pytest.mark.parametrize("country", OTHERS)
def test_derived_tables_are_those_of_norway(country: str, run: Callable[[str], tuple[Tables, Path]]) -> None:
    norway, other = run("norway")[0], run(country)[0]
    for table, compared in COMPARED.items():
        columns = [name for name in compared if name not in APART.get(country, {}).get(table, ())]
        expected, found = _rows(norway[table], columns), _rows(other[table], columns)
        more, fewer = set(found) - set(expected), set(expected) - set(found)
        differing = {
            name
            for a, b in zip(sorted(more, key=str), sorted(fewer, key=str), strict=False)
            for name, x, y in zip(columns, a, b, strict=True)
            if x != y
        }
        assert (table, len(found), len(more), len(fewer), differing) == (table, len(expected), 0, 0, set())


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
