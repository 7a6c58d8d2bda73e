"""Erased people are in no file of the warehouse, and the next ingest does not bring them back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

import jobs.erasure
import jobs.pipeline
from jobs.cli import main
from jobs.identity import pseudonym_of
from jobs.store import CONFORMED_SCHEMA, Store

KEY = "k" * 40
DAYS = ("2021-06-30", "2022-06-30")
GONE, STAYS = "Erased-Person-0001", "Other-Person-0002"
SITE = """
name: erasing
country: conformed
deliveries: additions
warehouse: warehouse
out: out
pseudonym_key_file: key
inputs:
  person: {path: "{delivery}/person.csv"}
  tumour: {path: "{delivery}/tumour.csv"}
  hospital_drug: {path: "{delivery}/hospital_drug.csv"}
"""
STUDY = """
name: small
period: {index_from: 2012-01-01, index_until: 2019-12-31, follow_up_until: 2021-06-30}
cohort: {tumour: {icd10: [C50], her2: positive}, index: diagnosis, comorbidity: null}
drugs: {line_defining: [trastuzumab], classes: [endocrine]}
rule_sets: {primary: {}}
strata: [receptor]
"""


def _deliver(folder: Path, day: str, stage: str) -> None:
    (folder / day).mkdir()
    people = (GONE, STAYS)
    lines = {
        "person": ["person_id,sex,birth_date"] + [f"{one},female,1950-01-01" for one in people],
        "tumour": ["person_id,tumour_id,diagnosis_date,icd10,stage,her2"]
        + [f"{one},1,2014-01-01,C509,{stage},positive" for one in people]
        + [f"{one},2,2014-13-01,C509,{stage},positive" for one in people],  # quarantined
        "hospital_drug": ["person_id,contact_id,start_date,code_system,code"]
        + [f"{one},7,2014-02-0{number},atc,L01XC03" for one in people for number in range(1, 4)],
    }
    for name, text in lines.items():
        (folder / day / f"{name}.csv").write_text("\n".join(text) + "\n")


def _call(folder: Path, command: str, *more: str) -> int:
    study = ["--study", str(folder / "study.yaml")] if command == "run" else []
    return main([command, *study, "--site", str(folder / "site.yaml"), *more])


def _mentions(folder: Path, word: str) -> list[str]:
    """Every file below the folder that holds the word, Parquet decoded whole; not the program's own proof."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        held = word.encode() in path.read_bytes()
        if path.suffix == ".parquet":
            held = held or word in str(pq.read_table(path).to_pylist())
        if held:
            found.append(str(path.relative_to(folder)))
    return found


def _people(store: Store, schema: str, table: str) -> set[str]:
    newest = store.newest(schema, table)
    assert newest is not None
    return {row.person_id for row in store.read(schema, table, newest.version).collect()}


@pytest.fixture(scope="module")
def erased(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("erasure")
    for name, text in {"site.yaml": SITE, "study.yaml": STUDY, "key": KEY, "gone.txt": f"\ufeff{GONE}\n\n"}.items():
        (folder / name).write_text(text, encoding="utf-8")
    for day, stage in zip(DAYS, ("localised", "regional"), strict=True):
        _deliver(folder, day, stage)
        assert _call(folder, "ingest", "--delivery", day) == 0
    assert _call(folder, "run", "--delivery", DAYS[1]) == 0
    before = _mentions(folder / "warehouse", pseudonym_of(GONE, KEY.encode()))
    for table in ("person/", "tumour/", "superseded_tumour/", "quarantine_tumour/", "person_claims/", "small/cohort/"):
        assert any(table in path for path in before), f"the test needs the person in {table}"
    (folder / "warehouse/conformed/hospital_drug/part-killed.parquet").write_bytes(b"PAR1 what a killed writer left")
    # An erasure that was interrupted between the two renames.
    shutil.move(folder / "warehouse/conformed/tumour", folder / "warehouse/conformed/.before_erasing_tumour")
    assert _call(folder, "erase", "--person-list", str(folder / "gone.txt")) == 0
    return folder


def test_no_file_of_the_warehouse_holds_the_person(erased: Path) -> None:
    for form in (GONE, pseudonym_of(GONE, KEY.encode())):
        assert _mentions(erased / "warehouse", form) == []
        assert _mentions(erased / "out", form) == []
    assert _mentions(erased / "warehouse", pseudonym_of(STAYS, KEY.encode())) != []
    assert [path.name for path in erased.glob("warehouse/*/.*eras*")] == []
    assert not (erased / "warehouse/conformed/hospital_drug/part-killed.parquet").exists()


def test_everybody_else_is_still_there(spark: SparkSession, erased: Path) -> None:
    store = Store(spark, str(erased / "warehouse"))
    stays = {pseudonym_of(STAYS, KEY.encode())}
    for table in ("person", "tumour", "superseded_tumour", "hospital_drug", "quarantine_tumour", "person_claims"):
        assert _people(store, CONFORMED_SCHEMA, table) == stays
    assert _people(store, "small", "cohort") == stays


def test_the_same_files_do_not_bring_the_person_back(
    spark: SparkSession, erased: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _call(erased, "ingest", "--delivery", DAYS[1]) == 0
    assert "unchanged" in capsys.readouterr().out, "what was ingested stays known"
    late = "2022-12-31"
    _deliver(erased, late, "distant")
    assert _call(erased, "run", "--delivery", late) == 0
    assert _mentions(erased / "warehouse", pseudonym_of(GONE, KEY.encode())) == []
    store = Store(spark, str(erased / "warehouse"))
    ledger = store.newest(CONFORMED_SCHEMA, "ledger")
    assert ledger is not None
    rows = store.read(CONFORMED_SCHEMA, "ledger", ledger.version).where(f"delivery = '{late}'").collect()
    counts = {
        row.raw_table: (row.rows_in, row.rows_accepted, row.rows_quarantined, row.rows_suppressed) for row in rows
    }
    assert counts == {"person": (2, 1, 0, 1), "tumour": (4, 1, 1, 2), "hospital_drug": (6, 3, 0, 3)}


def test_a_warehouse_made_anew_with_the_old_list_is_without_the_person(spark: SparkSession, erased: Path) -> None:
    new = erased / "made_anew"
    shutil.copytree(erased / "warehouse/conformed/suppressions", new / "conformed/suppressions")
    assert _call(erased, "ingest", "--delivery", DAYS[0], "--set", f"site.warehouse={new}") == 0
    assert _people(Store(spark, str(new)), CONFORMED_SCHEMA, "person") == {pseudonym_of(STAYS, KEY.encode())}
    shutil.rmtree(new)


def _ensure_counted(store: Store) -> None:
    """What the marker says of every table is what stands in it."""
    marker = store.newest(CONFORMED_SCHEMA, "ledger")
    assert marker is not None
    rows = {name: store.count(CONFORMED_SCHEMA, name, version) for name, version in marker.note["tables"].items()}
    assert marker.note["rows"] == rows
    assert marker.note["counts"]["hospital_drug"]["rows"] == rows["hospital_drug"] > 0


def test_an_erasure_that_did_not_end_is_ended_before_anything_runs(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in {"site.yaml": SITE, "key": KEY, "gone.txt": GONE}.items():
        (tmp_path / name).write_text(text)
    days, store = ("2021-06-30", "2021-12-31", "2022-06-30"), Store(spark, str(tmp_path / "warehouse"))
    for day in days:
        _deliver(tmp_path, day, "distant")
    erase = ("erase", "--person-list", str(tmp_path / "gone.txt"))
    assert _call(tmp_path, "ingest", "--delivery", days[0]) == 0
    _ensure_counted(store)
    renew, gone = jobs.erasure._renew, pseudonym_of(GONE, KEY.encode())

    def renew_until_claims(store: Store, schema: str, name: str, *more: Any) -> set[str]:
        return renew(store, schema, name, *more) if name != "person_claims" else {str(1 / 0)}

    with monkeypatch.context() as interrupted:
        interrupted.setattr(jobs.erasure, "_renew", renew_until_claims)
        assert _call(tmp_path, *erase) == 1
    assert gone not in _people(store, CONFORMED_SCHEMA, "person")
    assert gone in _people(store, CONFORMED_SCHEMA, "person_claims"), "of which an ingest would make the person again"
    capsys.readouterr()
    assert _call(tmp_path, "status") == 0
    assert "erased: 1 person, not to the end; nothing runs until" in capsys.readouterr().out
    assert _call(tmp_path, "ingest", "--delivery", days[1]) == 11
    assert "an erasure did not come to its end" in capsys.readouterr().err
    with monkeypatch.context() as interrupted:
        interrupted.setattr(jobs.erasure, "_rewrite_marker", lambda *_: 1 / 0)
        assert _call(tmp_path, *erase) == 1
    assert _mentions(tmp_path / "warehouse", gone) == [], "everything but the marker is done"
    assert _call(tmp_path, "ingest", "--delivery", days[1]) == 11
    assert _call(tmp_path, *erase) == 0
    assert _call(tmp_path, "ingest", "--delivery", days[1]) == 0
    _ensure_counted(store)
    assert gone not in _people(store, CONFORMED_SCHEMA, "person")
    # What a run that failed has left is not made anew and named with the rest.
    with monkeypatch.context() as failing:
        failing.setattr(jobs.pipeline, "raise_if_critical", lambda *_: 1 / 0)
        assert _call(tmp_path, "ingest", "--delivery", days[2]) == 1
    assert _call(tmp_path, *erase) == 0
    assert _call(tmp_path, "ingest", "--delivery", days[2]) == 0
    _ensure_counted(store)


def test_status_says_what_can_be_read_again(erased: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _call(erased, "status", "--delivery", DAYS[1]) == 0
    said = capsys.readouterr().out
    assert f"delivery {DAYS[0]}: in the tables, not to be read alone" in said
    assert f"delivery {DAYS[1]}: can be run" in said
    assert "erased: 1 person;" in said
    assert _call(erased, "status") == 0
    of_all = capsys.readouterr().out
    assert "ingest: done; to compare files and configuration too, say --delivery DATE\n" in of_all
    assert of_all.splitlines()[1:] == said.splitlines()[1:], "all else needs no date"
    assert _call(erased, "run", "--delivery", DAYS[0]) == 11
    assert "no version without it is kept" in capsys.readouterr().err


def test_a_file_that_still_holds_the_person_fails_the_proof(erased: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planted = erased / "warehouse" / "copied_by_hand.json"
    planted.write_text(pseudonym_of(GONE, KEY.encode()))
    assert _call(erased, "erase", "--person-list", str(erased / "gone.txt")) == 1
    error = capsys.readouterr().err
    assert "an erased person is still in 1 file of the warehouse; " in error
    assert GONE not in error
    planted.unlink()
    assert _call(erased, "ingest", "--delivery", DAYS[1]) == 11
    assert "an erasure did not come to its end" in capsys.readouterr().err
    assert _call(erased, "erase", "--person-list", str(erased / "gone.txt")) == 0
    assert _call(erased, "ingest", "--delivery", DAYS[1]) == 0


def test_the_next_erasure_ends_one_whose_list_is_lost(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lists = {"gone.txt": GONE, "another.txt": "Nobody-0003", "nobody.txt": ""}
    for name, text in {"site.yaml": SITE, "key": KEY, **lists}.items():
        (tmp_path / name).write_text(text)
    _deliver(tmp_path, DAYS[0], "distant")
    assert _call(tmp_path, "ingest", "--delivery", DAYS[0]) == 0
    with monkeypatch.context() as interrupted:
        interrupted.setattr(jobs.erasure, "_renew", lambda *_: {str(1 / 0)})
        for name in ("gone.txt", "another.txt"):
            assert _call(tmp_path, "erase", "--person-list", str(tmp_path / name)) == 1
    copied = tmp_path / "warehouse" / "copied_by_hand.json"
    copied.write_text(json.dumps({"of": pseudonym_of(GONE, KEY.encode())}))
    for _ in range(2):  # the second time it stands nowhere else
        assert _call(tmp_path, "erase", "--person-list", str(tmp_path / "nobody.txt")) == 1
        assert "an erased person is still in 1 file of the warehouse; " in capsys.readouterr().err
    copied.unlink()
    _deliver(tmp_path, DAYS[1], "distant")
    assert _call(tmp_path, "ingest", "--delivery", DAYS[1]) == 11
    assert _call(tmp_path, "erase", "--person-list", str(tmp_path / "nobody.txt")) == 0
    assert _call(tmp_path, "ingest", "--delivery", DAYS[1]) == 0
    assert _mentions(tmp_path / "warehouse", pseudonym_of(GONE, KEY.encode())) == []


def test_an_erasure_says_who_was_not_found(erased: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (erased / "mistyped.txt").write_text(f"{STAYS.lower()}\n")
    suppressions = erased / "warehouse/conformed/suppressions"
    shutil.copytree(suppressions, erased / "kept")
    assert _call(erased, "erase", "--person-list", str(erased / "mistyped.txt")) == 0
    said = capsys.readouterr().out
    assert "1 person is on the list of suppressions, 0 of them stood in a table; 0 tables were made anew" in said
    assert "1 stood in none: erased before, or not written exactly as delivered" in said
    shutil.rmtree(suppressions)
    (erased / "kept").rename(suppressions)


def test_a_list_of_another_key_knows_nobody(erased: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = erased / "other_key"
    shutil.copytree(erased / "warehouse/conformed/suppressions", new / "conformed/suppressions")
    (erased / "another").write_text("a" * 40)
    changed = ("--set", f"site.warehouse={new}", "--set", f"site.pseudonym_key_file={erased / 'another'}")
    assert _call(erased, "ingest", "--delivery", DAYS[0], *changed) == 10
    assert "made with another key" in capsys.readouterr().err
    shutil.rmtree(new)


def test_an_ingest_finds_tables_that_an_erasure_was_moving(erased: Path) -> None:
    tables = erased / "warehouse/conformed"
    shutil.move(tables / "tumour", tables / ".before_erasing_tumour")
    assert _call(erased, "ingest", "--delivery", DAYS[1]) == 0
    assert (tables / "tumour/_delta_log").is_dir()
    assert not (tables / ".before_erasing_tumour").exists()


def test_a_list_without_anybody(erased: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (erased / "nobody.txt").write_text("\n \n")
    assert _call(erased, "erase", "--person-list", str(erased / "nobody.txt")) == 11
    assert "holds 0 identifiers" in capsys.readouterr().err
    assert _call(erased, "erase", "--person-list", str(erased / "nosuch.txt")) == 11
    assert "--person-list: no such file" in capsys.readouterr().err


def test_vacuum_obeys_the_retention(erased: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _call(erased, "vacuum") == 0
    assert "conformed.tumour: 0 files deleted" in capsys.readouterr().out
    assert _call(erased, "vacuum", "--set", "site.retention_days=0") == 0
    said = capsys.readouterr().out
    assert any("person: " in line and not line.endswith(": 0 files deleted") for line in said.splitlines())
    assert _call(erased, "run", "--delivery", DAYS[1]) == 11
    assert "retention_days" in capsys.readouterr().err
    assert _call(erased, "run", "--delivery", "2022-12-31") == 0
