"""`country: conformed`: every row in the conformed shape is taken as it is, or held back with its reasons."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession

from jobs.cli import main
from jobs.config import RawInput, Site
from jobs.contents import with_contents
from jobs.errors import InputError
from jobs.extracts import find_extracts
from jobs.identity import MINIMUM_KEY_BYTES
from jobs.ingest import IngestedTables, ingested_tables
from jobs.sources.conformed import ADAPTER
from schemas import CONFORMED
from tests.conformed import conformed_of

KEY = b"k" * MINIMUM_KEY_BYTES
DELIVERY = "2020-06-30"
EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "example"

PERSON = """person_id,sex,birth_date,death_date,emigration_date
p1,female,1950-02-03,2015-02,
p2,Male,1951-04,,2012-01-31
p3,female,1952,1952,
p4,other,1950-01-01,,
p5,female,1950-02-30,,
p6,female,,,
p7,female,1950-01-01,1949-12-31,
p8,female,1950-01-01,,1949-12-31
p9,female,2020-07-01,,
p10,female,1800-01-01,,
p11,female,1950-01-01,2014,
p11,female,1950-01-01,2013,
p11,female,1950-01-01,2014,
,female,1950-01-01,,
p13,female,1950-01-01T12:30:00,,
p14,female,1950-08-20,1950-08,
p15,female,1990-12-24,2020,
p16,,01.02.1950,,
"""
PERSON_REASONS = {
    4: ["unknown_code:sex"],
    5: ["impossible_date:birth_date"],
    6: ["missing:birth_date"],
    7: ["death_before_birth"],
    8: ["emigration_before_birth"],
    9: ["impossible_date:birth_date"],
    10: ["impossible_date:birth_date"],
    12: ["repeated_key"],
    14: ["missing_identifier"],
    15: ["impossible_date:birth_date"],
    18: ["impossible_date:birth_date", "missing:sex"],
}
TUMOUR = """tumour_id,person_id,diagnosis_date,diagnosis_date_precision,icd10,stage,her2
a,p1,2010-05-06,,c50.9,distant,positive
a,p2,2010-05-15,month,C501,Regional,
a,p3,1952,,C509,,
a,p11,2011-05,,C509,everywhere,maybe
"""
HOSPITAL_DRUG = """person_id,contact_id,start_date,end_date,code_system,code,route
p1,c1,2011-01-01,,atc,l01fd01,iv
p1,c2,2011-01-02,2011-01-01,atc,L01FD01,iv
p1,c3,2011-01-03,,NAME,Herceptin,
p1,c1,2011-01-01,,atc,l01fd01,sc
"""
DISPENSING = """person_id,dispensed_date,atc,packages,ddd,days_supply
p1,2011-01-01,L02BA01,1,,30
p1,2011-01-02,L02BA01,two,,30
p1,2011-01-03,L02BA01,1,,29.5
p1,2011-01-01,L02BA01,1,,30.0
"""
LIFE_TABLE = """country,sex,year,age,probability_of_death
xx,female,2000,50,0.001
xx,female,2000,50,0.002
"""


def _site(folder: Path, texts: Mapping[str, str]) -> Site:
    for name, text in texts.items():
        (folder / f"{name}.csv").write_text(text)
    inputs = {name: RawInput(path=str(folder / f"{name}.csv")) for name in texts}
    return Site(country="conformed", warehouse=str(folder / "warehouse"), inputs=inputs)


@contextmanager
def _ingested(spark: SparkSession, site: Site) -> Iterator[IngestedTables]:
    extracts = with_contents(spark, find_extracts(lambda: spark, site, ADAPTER), None)
    with ingested_tables(spark, site, ADAPTER, extracts, DELIVERY, KEY) as done:
        yield done


def _reasons(quarantined: DataFrame) -> dict[int, list[str]]:
    return {row.source_row: row.reasons for row in quarantined.collect()}


def test_rows_are_accepted_or_held_back_with_their_reasons(spark: SparkSession, tmp_path: Path) -> None:
    texts = {
        "person": PERSON,
        "tumour": TUMOUR,
        "hospital_drug": HOSPITAL_DRUG,
        "dispensing": DISPENSING,
        "life_table": LIFE_TABLE,
    }
    with _ingested(spark, _site(tmp_path, texts)) as done:
        conformed = conformed_of(done)
        assert set(conformed) == set(texts)
        for name, table in conformed.items():
            assert set(table.columns) == set(CONFORMED[name].column_names)
            assert dict(table.dtypes) == {column.name: column.type for column in CONFORMED[name].columns}
        people = {row.source_row: row for row in conformed["person"].collect()}
        tumours = {row.source_row: row for row in done.conformed["tumour"].collect()}
        drugs = {row.source_row: row for row in done.conformed["hospital_drug"].collect()}
        dispensed = {row.source_row: row for row in done.conformed["dispensing"].collect()}
        life_table = done.conformed["life_table"].collect()
        reasons = {name: _reasons(frame) for name, frame in done.quarantined.items()}
        held_back = "".join(row.row for row in done.quarantined["person"].collect())
        ledger = {row.raw_table: row for row in done.ledger.collect()}

    assert reasons["person"] == PERSON_REASONS
    assert set(people) == {1, 2, 3, 11, 16, 17}
    assert (people[1].death_date, people[1].death_date_precision) == (date(2015, 2, 28), "month")
    assert (people[1].birth_date_precision, people[1].emigration_date, people[1].region) == ("day", None, None)
    assert (people[2].sex, people[2].birth_date, people[2].birth_date_precision) == ("male", date(1951, 4, 15), "month")
    assert people[2].emigration_date == date(2012, 1, 31)
    assert people[2].death_date_precision is None
    assert (people[3].birth_date, people[3].birth_date_precision) == (date(1952, 7, 1), "year")
    assert people[3].death_date == date(1952, 7, 1)
    assert people[16].death_date == date(1950, 8, 31)
    assert people[17].death_date == date(2020, 6, 30), "1 July would lie after the delivery"
    assert '"birth_date":"1950-02-30"' in held_back, "quarantine keeps the cell as delivered"
    assert (ledger["person"].rows_in, ledger["person"].rows_duplicate) == (18, 1)

    assert reasons["tumour"] == {4: ["unknown_code:her2", "unknown_code:stage"]}
    assert (tumours[1].icd10, tumours[1].diagnosis_date_precision) == ("C509", "day")
    assert (tumours[2].stage, tumours[2].diagnosis_date_precision) == ("regional", "month"), "what the input says"
    assert len({tumour.tumour_id for tumour in tumours.values()}) == 3, "a pseudonym of person and tumour"

    assert reasons["hospital_drug"] == {2: ["end_before_start"], 4: ["repeated_key"]}
    assert [(drugs[row].code_system, drugs[row].code) for row in (1, 3)] == [("atc", "L01FD01"), ("name", "herceptin")]
    assert reasons["dispensing"] == {2: ["impossible_number:packages"], 3: ["impossible_number:days_supply"]}
    assert dispensed[4].days_supply == 30
    assert reasons["life_table"] == {2: ["repeated_key"]}
    assert life_table[0].probability_of_death == 0.001


def test_an_inexact_date_is_not_before_the_birth(spark: SparkSession, tmp_path: Path) -> None:
    person = "person_id,sex,birth_date\np1,female,2012-10-20\np2,female,2012-10-20\n"
    tumour = "person_id,tumour_id,diagnosis_date,icd10\np1,a,2012-10,C509\np2,a,2013,C509\n"
    recurrence = "person_id,event_date,kind\np1,2012,distant\n"
    texts = {"person": person, "tumour": tumour, "recurrence": recurrence}
    with _ingested(spark, _site(tmp_path, texts)) as done:
        diagnosed = {row.source_row: row.diagnosis_date for row in done.conformed["tumour"].collect()}
        recurred = done.conformed["recurrence"].collect()[0]
    assert diagnosed == {1: date(2012, 10, 20), 2: date(2013, 7, 1)}
    assert (recurred.event_date, recurred.event_date_precision) == (date(2012, 10, 20), "year")


def test_parquet_gives_the_same_tables_as_csv(spark: SparkSession, tmp_path: Path) -> None:
    person = spark.createDataFrame(
        [("p1", "female", date(1950, 2, 3), date(2015, 2, 4)), ("p2", "male", date(1951, 4, 5), None)],
        "person_id string, sex string, birth_date date, death_date date",
    )
    tumour = spark.createDataFrame(
        [("p1", "a", "2010-05-06 00:00:00", "C509")],
        "person_id string, tumour_id string, diagnosis_date string, icd10 string",
    ).selectExpr("person_id", "tumour_id", "to_timestamp(diagnosis_date) AS diagnosis_date", "icd10")
    inputs = {}
    for name, frame in {"person": person, "tumour": tumour}.items():
        frame.coalesce(1).write.parquet(str(tmp_path / name))
        inputs[name] = RawInput(path=str(tmp_path / name), format="parquet")
    parquet = Site(country="conformed", warehouse=str(tmp_path / "warehouse"), inputs=inputs)
    csv_files = _site(
        tmp_path,
        {
            "person": "person_id,sex,birth_date,death_date\np1,female,1950-02-03,2015-02-04\np2,male,1951-04-05,\n",
            "tumour": "person_id,tumour_id,diagnosis_date,icd10\np1,a,2010-05-06,C509\n",
        },
    )
    rows = []
    for site in (parquet, csv_files):
        with _ingested(spark, site) as done:
            conformed = conformed_of(done)
            rows.append(
                {
                    name: sorted(tuple(row) for row in conformed[name].drop("source_file").collect())
                    for name in ("person", "tumour")
                }
            )
    assert len(rows[0]["person"]) == 2
    assert rows[0] == rows[1]


def test_bytes_of_parquet_that_are_no_text_are_held_back(spark: SparkSession, tmp_path: Path) -> None:
    site = _site(tmp_path, {"tumour": "person_id,tumour_id,diagnosis_date,icd10\n"})
    broken = pa.array([b"p1", b"p\xff\xfe2", b"p3"], pa.binary()).cast(pa.string(), safe=False)
    person = {"person_id": broken, "sex": ["female"] * 3, "birth_date": ["1950-02-03"] * 3}
    pq.write_table(pa.table(person), tmp_path / "person.parquet")
    inputs = {**site.inputs, "person": RawInput(path=str(tmp_path / "person.parquet"), format="parquet")}
    with _ingested(spark, site.model_copy(update={"inputs": inputs})) as done:
        assert _reasons(done.quarantined["person"]) == {2: ["damaged_text"]}
        assert conformed_of(done)["person"].count() == 2


def test_person_and_tumour_are_needed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"inputs\.tumour: is missing"):
        find_extracts(lambda: pytest.fail("no Spark"), _site(tmp_path, {"person": PERSON}), ADAPTER)


def test_a_required_column_is_named_where_it_is_lost(tmp_path: Path) -> None:
    site = _site(tmp_path, {"person": "person_id,sex\n", "tumour": TUMOUR})
    with pytest.raises(InputError, match="has no column birth_date"):
        find_extracts(lambda: pytest.fail("no Spark"), site, ADAPTER)


def test_the_documented_example_runs_from_files_to_report(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TREATMENT_LINES_KEY", KEY.decode())
    arguments = ["run", "--study", str(EXAMPLE / "study.yaml"), "--site", str(EXAMPLE / "site.yaml")]
    code = main([*arguments, "--out", str(tmp_path / "out"), "--set", f"site.warehouse={tmp_path / 'warehouse'}"])
    assert (code, capsys.readouterr().err) == (0, "")
    with (tmp_path / "out" / "results" / "line_starts.csv").open(newline="") as stream:
        starts = [row for row in csv.DictReader(stream) if row["rule_set"] == "primary" and row["regimen"] != "all"]
    counts = Counter({(int(row["line_number"]), row["regimen"]): int(row["n"]) for row in starts})
    assert counts == {
        (1, "pertuzumab + trastuzumab"): 4,
        (1, "trastuzumab"): 3,
        (2, "trastuzumab_emtansine"): 2,
        (2, "tucatinib"): 1,
        (3, "trastuzumab_deruxtecan"): 1,
    }
    lines = spark.read.format("delta").load(str(tmp_path / "warehouse" / "example" / "treatment_lines"))
    assert sorted(
        (row.regimen, row.line_start, row.line_end, row.end_reason)
        for row in lines.where("rule_set = 'primary'").collect()
    ) == [
        (["pertuzumab", "trastuzumab"], date(2015, 2, 20), date(2015, 11, 20), "switch"),
        (["pertuzumab", "trastuzumab"], date(2016, 3, 15), date(2016, 10, 11), "gap"),
        (["pertuzumab", "trastuzumab"], date(2017, 3, 6), date(2017, 9, 11), "switch"),
        (["pertuzumab", "trastuzumab"], date(2018, 6, 4), date(2019, 1, 21), "gap"),
        (["trastuzumab"], date(2014, 10, 1), date(2015, 3, 18), "gap"),
        (["trastuzumab"], date(2015, 12, 4), date(2016, 4, 29), "gap"),
        (["trastuzumab"], date(2019, 1, 22), date(2019, 10, 1), "switch"),
        (["trastuzumab_deruxtecan"], date(2018, 8, 1), date(2019, 12, 22), "death"),
        (["trastuzumab_emtansine"], date(2015, 11, 20), date(2016, 6, 10), "gap"),
        (["trastuzumab_emtansine"], date(2017, 9, 18), date(2018, 7, 9), "switch"),
        (["tucatinib"], date(2019, 10, 1), date(2020, 3, 17), "gap"),
    ]


def test_the_user_guide_names_every_column() -> None:
    guide = (EXAMPLE.parent / "bring_your_own_data.md").read_text()
    for raw in ADAPTER.raw_tables:
        assert f"| `{raw.name}` |" in guide
        if raw.name not in CONFORMED:
            continue
        cells = next(line for line in guide.splitlines() if line.startswith(f"| `{raw.name}` |")).split("|")
        named = {column.strip() for column in cells[3].split(",")}
        person = () if raw.id_column is None or raw.id_column in raw.columns else (raw.id_column,)
        assert named == {f"**{column}**" for column in (*person, *raw.columns)} | set(raw.optional)
