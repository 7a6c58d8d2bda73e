"""Whole runs on a tiny conformed delivery: results, what a second run does, and how a run fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from jobs.cli import main
from jobs.errors import InputError
from jobs.results import MANIFEST, STAMP, ensure_writable
from jobs.store import CONFORMED_SCHEMA, Lock, Store

FILES = {
    "person.csv": "person_id,sex,birth_date,death_date,emigration_date,region\n"
    "a,female,1950-03-01,2016-05-01,,west\n"
    "b,female,1960-07-15,,,west\n"
    "c,male,1940-01-01,,,west\n"
    "d,female,1970-01-01,,,west\n",
    "tumour.csv": "person_id,tumour_id,diagnosis_date,icd10,morphology,stage,er,pr,her2,basis\n"
    "a,1,2013-01-01,C509,8500/3,distant,positive,positive,positive,histology\n"
    "b,1,2010-01-01,C504,8500/3,localised,negative,negative,positive,histology\n"
    "c,1,2014-02-03,C509,8500/3,distant,positive,negative,positive,histology\n"
    "d,1,2014-02-03,C509,8500/3,distant,positive,negative,negative,histology\n",
    "recurrence.csv": "person_id,tumour_id,event_date,kind\nb,1,2014-06-01,distant\n",
    "hospital_drug.csv": "person_id,contact_id,start_date,end_date,code_system,code,route\n"
    + "".join(f"a,{day},2013-02-{day:02d},,atc,{code},iv\n" for day in (1, 22) for code in ("L01XC03", "L01XC13"))
    + "a,30,2013-04-20,,atc,L01XC14,iv\n"
    + "b,31,2014-06-10,,atc,L01FD01,sc\n",
    "life_table.csv": "country,region,sex,year,age,probability_of_death\n"
    + "".join(
        f"no,,{sex},{year},{age},{min(1.0, 0.0001 * 1.1**age):.6f}\n"
        for sex in ("female", "male")
        for year in range(2012, 2023)
        for age in range(0, 101)
    ),
}
SITE = """
name: tiny
country: conformed
delivery: 2023-01-01
warehouse: warehouse
out: out
pseudonym_key_file: key
inputs:
  person: {path: person.csv}
  tumour: {path: tumour.csv}
  recurrence: {path: recurrence.csv}
  hospital_drug: {path: hospital_drug.csv}
  life_table: {path: life_table.csv}
"""
STUDY = """
name: tiny_study
period: {index_from: 2012-01-01, index_until: 2021-12-31, follow_up_until: 2022-12-31}
cohort: {tumour: {icd10: [C50], her2: positive}, index: metastasis, comorbidity: null}
drugs: {line_defining: [trastuzumab, pertuzumab, trastuzumab_emtansine], classes: [endocrine]}
rule_sets:
  primary: {excludes: {trastuzumab_emtansine: [trastuzumab, pertuzumab]}}
  gap_45: {gap_days: 45}
strata: [receptor]
"""
Command = Callable[..., int]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in {**FILES, "site.yaml": SITE, "study.yaml": STUDY, "key": "k" * 40}.items():
        (tmp_path / name).write_text(content)
    return tmp_path


@pytest.fixture
def command(spark: SparkSession, folder: Path) -> Command:
    def call(name: str, *more: str) -> int:
        study = [] if name in ("ingest", "status") else ["--study", str(folder / "study.yaml")]
        return main([name, *study, "--site", str(folder / "site.yaml"), *more])

    return call


def _versions(spark: SparkSession, folder: Path) -> dict[str, int]:
    store = Store(spark, str(folder / "warehouse"))
    versions = {}
    for schema in store.schemas():
        for table in sorted(path.name for path in (folder / "warehouse" / schema).iterdir()):
            commit = store.newest(schema, table)
            assert commit is not None
            versions[f"{schema}.{table}"] = commit.version
    return versions


def test_a_run_a_second_run_and_a_changed_rule(
    spark: SparkSession, folder: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("run") == 0
    first = capsys.readouterr()
    assert [line.split()[1] for line in first.out.splitlines() if line.startswith("[")] == [
        "ingest", "cohort", "exposures", "lines", "aggregate", "survival", "report",
    ]  # fmt: skip
    starts = pd.read_csv(folder / "out/results/line_starts.csv")
    primary = starts[starts.rule_set == "primary"]
    assert {(row.line_number, row.regimen): row.n for row in primary.itertuples() if row.regimen != "all"} == {
        (1, "pertuzumab + trastuzumab"): 1,
        (1, "trastuzumab"): 1,
        (2, "trastuzumab_emtansine"): 1,
    }
    attrition = pd.read_csv(folder / "out/results/attrition.csv")
    assert list(attrition.persons)[0] == 4
    assert list(attrition.persons)[-1] == 3
    manifest = json.loads((folder / "out" / MANIFEST).read_text())
    assert manifest["counts"]["cohort"] == 3
    assert manifest["clearance"] == "internal, not cleared for release"
    assert "Internal" in (folder / "out" / STAMP).read_text()
    assert (folder / "out/results").stat().st_mode & 0o777 == 0o700
    assert (folder / "warehouse").stat().st_mode & 0o777 == 0o700
    assert (folder / "out/report.html").stat().st_mode & 0o777 == 0o600
    page = (folder / "out/report.html").read_text()
    assert "not cleared for release" in page
    assert "SYNTHETIC" not in page

    before, files = _versions(spark, folder), sorted((folder / "out").rglob("*.*"))
    contents = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in files if file.is_file()}
    assert command("run") == 0
    second = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[")]
    assert len(second) == 7
    assert all(line.endswith("unchanged") for line in second)
    after = _versions(spark, folder)
    assert {name for name in after if after[name] != before[name]} == {"tiny_study.runs"}
    assert contents == {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in contents}

    assert command("status") == 0
    assert "tiny_study lines: up to date" in capsys.readouterr().out

    assert command("run", "--set", "study.rule_sets.primary.gap_days=60") == 0
    third = capsys.readouterr().out
    unchanged = [line.split()[1] for line in third.splitlines() if line.endswith("unchanged")]
    assert unchanged == ["ingest", "cohort", "exposures"]
    runs = Store(spark, str(folder / "warehouse")).read("tiny_study", "runs", 2)
    assert runs.count() == 21


def test_a_stage_alone_needs_those_before_it(
    folder: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("lines") == 11
    assert "stage ingest is not up to date; run it first" in capsys.readouterr().err
    assert command("ingest") == 0
    assert command("cohort") == 0
    assert command("run", "--until", "lines") == 0
    assert command("lines") == 0

    person = folder / "one"
    person.write_text("a\n")
    capsys.readouterr()
    assert command("explain", "--person-file", str(person)) == 0
    explained = capsys.readouterr()
    assert explained.out.startswith("These are one person's days.")
    assert "Rule 1: no line is open" in explained.out
    assert "rule set primary" in explained.out
    assert explained.err == ""
    assert command("explain", "--person-file", str(person), "--rule-set", "gap_45") == 0
    assert "gap 45 days" in capsys.readouterr().out
    for content, code, says in (("nobody-4711", 11, "not in the cohort"), ("a b", 11, "2 identifiers"), ("", 11, "0")):
        person.write_text(content)
        assert command("explain", "--person-file", str(person)) == code
        message = capsys.readouterr().err
        assert says in message
        assert message.count("\n") == 1
        assert "4711" not in message
    assert command("explain", "--person-file", str(person), "--rule-set", "gap_9") == 10
    capsys.readouterr()
    assert command("explain", "--person-file", str(folder / "nosuch-4711")) == 11
    message = capsys.readouterr().err
    assert "--person-file: no such file" in message
    assert "4711" not in message

    # Another key would make other people of the same ones, beside those that are there.
    (folder / "key").write_text("K" * 40)
    person.write_text("a\n")
    for name, more in (("ingest", ()), ("run", ()), ("explain", ("--person-file", str(person)))):
        capsys.readouterr()
        assert command(name, *more) == 10
        message = capsys.readouterr().err
        assert "made with another key" in message
        assert "KKKK" not in message
    (folder / "key").write_text("k" * 40)
    assert command("ingest") == 0


def test_bad_rows_are_held_back_and_the_ledger_balances(spark: SparkSession, folder: Path, command: Command) -> None:
    with (folder / "person.csv").open("a") as file:
        file.write("e,unknown,1950-01-01,,,west\n")
        file.write("f,female,1950-02-30,,,west\n")
        file.write("g,female,1950-02-03,1949-01-01,,west\n")
        file.write("b,female,1960-07-15,,,west\n")
    assert command("ingest") == 0
    store = Store(spark, str(folder / "warehouse"))
    ledger = {row.raw_table: row for row in store.read(CONFORMED_SCHEMA, "ledger", 0).collect()}
    person = ledger["person"]
    assert (person.rows_in, person.rows_accepted, person.rows_quarantined, person.rows_duplicate) == (8, 4, 3, 1)
    held = {row.source_row: row for row in store.read(CONFORMED_SCHEMA, "quarantine_person", 0).collect()}
    assert {row: list(held[row].reasons) for row in held} == {
        5: ["unknown_code:sex"],
        6: ["impossible_date:birth_date"],
        7: ["death_before_birth"],
    }


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        (("site.yaml", "person.csv", "nobody.csv"), 11, "inputs.person: no file"),
        (("person.csv", "birth_date", "born"), 11, "has no column birth_date"),
        (("person.csv", ",", ";"), 11, "header looks separated by a semicolon; see options.sep in the site file\n"),
        (("person.csv", FILES["person.csv"], ""), 11, "is empty"),
        (("tumour.csv", FILES["tumour.csv"], "PAR1\0\0"), 11, "not a text file"),
        (("site.yaml", "warehouse:", "warehose:"), 10, "did you mean warehouse?"),
        (("site.yaml", "delivery: 2023-01-01", "delivery: yesterday"), 10, "delivery"),
        (("site.yaml", "delivery: 2023-01-01", "delivery: 2022-06-30"), 10, "is after the delivery of 2022-06-30"),
        (("site.yaml", "delivery: 2023-01-01", "delivery: 2023-13-45"), 10, "not valid YAML"),
        (("study.yaml", "gap_days: 45", "gap_days: soon"), 10, "rule_sets.gap_45.gap_days"),
        (("site.yaml", "country: conformed", "country: atlantis"), 10, "atlantis has no adapter"),
        (("key", "k" * 40, "k"), 10, "shorter than 32 bytes"),
        (("site.yaml", "  tumour: {path: tumour.csv}\n", ""), 11, "inputs.tumour"),
        (("site.yaml", "out: out", "out: key/out"), 11, "key/out: cannot write there"),
    ],
)
def test_what_is_wrong_ends_in_one_line_and_nothing_written(
    folder: Path,
    command: Command,
    capsys: pytest.CaptureFixture[str],
    change: tuple[str, str, str],
    code: int,
    says: str,
) -> None:
    name, old, new = change
    path = folder / name
    path.write_text(path.read_text().replace(old, new))
    assert command("run") == code
    message = capsys.readouterr().err
    assert says in message
    assert message.count("\n") == 1
    assert not (folder / "warehouse" / CONFORMED_SCHEMA).exists()
    assert not (folder / "out").exists()


def test_a_look_whether_out_can_be_written_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "out").mkdir(mode=0o750)
    for out in (tmp_path / "out", tmp_path / "new" / "out"):
        ensure_writable(out)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "out"]
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o750
    with pytest.raises(InputError, match="cannot write there"):
        ensure_writable(tmp_path / "file" / "out")


def test_a_failed_gate_stops_the_run_and_is_not_taken_for_done(
    folder: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    life, tumour = folder / "life_table.csv", folder / "tumour.csv"
    life.write_text("country,region,sex,year,age,probability_of_death\n")
    tumour.write_text(FILES["tumour.csv"].replace("\nd,", "\nstranger,"))
    assert command("run") == 12
    message = capsys.readouterr().err
    assert "table life_table fails its gate: not true: table has rows" in message
    assert "table tumour fails its gate: not true: person is in the person table, in 1 of 4 rows" in message
    assert message.endswith("; quality/2023-01-01.html below out shows every rule\n")
    assert message.count("\n") == 1
    assert "stranger" not in message
    assert str(folder) not in message
    page = (folder / "out" / "quality" / "2023-01-01.html").read_text()
    assert "Refused: 2 critical rules failed." in page
    assert command("cohort") == 11
    for file in (life, tumour):
        file.write_text(FILES[file.name])
    assert command("run", "--until", "cohort") == 0


def test_another_run_holds_the_warehouse(
    spark: SparkSession, folder: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    with Lock(spark, str(folder / "warehouse"), beat_seconds=0.2):
        assert command("ingest") == 14
    assert "another run holds the warehouse" in capsys.readouterr().err


def test_usage_is_exit_code_2() -> None:
    with pytest.raises(SystemExit) as caught:
        main(["run", "--site", "x"])
    assert caught.value.code == 2


def test_help_says_what_an_option_does_for_that_command(capsys: pytest.CaptureFixture[str]) -> None:
    def told(name: str) -> str:
        with pytest.raises(SystemExit):
            main([name, "--help"])
        return " ".join(capsys.readouterr().out.split())

    assert "study.KEY" in told("run")
    assert "study.KEY" not in told("ingest")
    assert "- is standard input" in told("explain")
    assert "at least 3000" in told("synthesize")
    for name in ("optimize", "vacuum", "erase"):  # they are about all deliveries
        assert "--delivery" not in told(name)
