"""Rows in are rows accepted, quarantined or duplicate; identifiers become pseudonyms; bad files stop before writing."""

from __future__ import annotations

import gzip
import hashlib
import hmac
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.config import RawInput, Site
from jobs.errors import ConfigurationError, InputError
from jobs.extracts import find_extracts, fingerprint_files, read_extract
from jobs.identity import MINIMUM_KEY_BYTES, pseudonymise, read_key
from jobs.ingest import ingested_tables
from jobs.sources.adapter import Adapter, RawTable
from jobs.sources.parse import compact_date

KEY = b"k" * MINIMUM_KEY_BYTES


def _annotate(frame: DataFrame, _: Site) -> DataFrame:
    born = F.to_date("born", "yyyy-MM-dd")
    impossible = F.when(born.isNull(), F.lit("impossible_date:born"))
    return frame.withColumn("birth_date", born).withColumn("reasons", F.array_compact(F.array(impossible)))


PEOPLE = RawTable(
    name="people",
    annotate=_annotate,
    columns=("id", "born", "sex"),
    id_column="id",
    optional=("place", "code_*"),
    code_columns={"sex": frozenset({"1", "2"})},
)
ADAPTER = Adapter("test", (PEOPLE,), lambda accepted, _: {"people": accepted["people"]})


def _site(folder: Path, **declared: object) -> Site:
    raw = RawInput.model_validate({"path": str(folder / "people*"), **declared})
    return Site(country="test", warehouse=str(folder / "warehouse"), inputs={"people": raw})


def _fail(*_: object) -> SparkSession:
    raise AssertionError("local files are checked without Spark")


def test_compact_dates_are_digits_alone(spark: SparkSession) -> None:
    expected = {
        "20200229": "2020-02-29", "202002": "2020-02-15", "2020": "2020-07-01", "18500101": "1850-01-01",
        "20200230": None, "20201301": None, "202013": None, "202000": None, "20200100": None, "00000000": None,
        "+2020010": None, "-2020010": None, "2020010.": None, "20200.10": None, " 2020010": None, "2020010 ": None,
        "2020010": None, "202001011": None, "20200": None, "202": None, "2020-1-1": None, "+202": None, "2020e1": None,
        "2020O101": None, "": None, None: None,
    }  # fmt: skip
    cells = spark.createDataFrame([(cell,) for cell in expected], "cell string")
    read = cells.select("cell", compact_date("cell").cast("string").alias("day")).collect()
    assert {row.cell: row.day for row in read} == expected


def test_every_row_is_accounted_for(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "people_1.csv").write_text(
        "\ufeffID,born,sex,Extra,code_1\n"
        "7, 1950-01-02 ,1,x,C50\n"
        "8,1950-13-02,2,x,\n"
        "7, 1950-01-02 ,1,x,C50\n"
        ",1950-01-03,2,x,\n"
        "9,1950-01-04,2\n"
        '"1""0",1950-01-05,3,x,"a,b"\n',
        encoding="utf-8",
    )
    (tmp_path / "people_2.csv").write_text("id,born,sex,place\n7,1950-01-02,1,north\n11,0000-00-00,1,\n")
    site = _site(tmp_path)
    extracts = find_extracts(_fail, site, ADAPTER)
    assert extracts["people"].unknown_columns == ("Extra",)
    with ingested_tables(spark, site, ADAPTER, extracts, "2026-01-01", KEY) as done:
        ledger = done.ledger.collect()[0].asDict()
        accepted = {(row.source_file, row.source_row): row for row in done.conformed["people"].collect()}
        held_back = {(row.source_file, row.source_row): row for row in done.quarantined["people"].collect()}
        unknown = [tuple(row) for row in done.unknown_codes.collect()]
        assert "id" not in done.conformed["people"].columns
    assert ledger == {
        "raw_table": "people", "delivery": "2026-01-01",
        "rows_in": 8, "rows_accepted": 3, "rows_quarantined": 4, "rows_duplicate": 1, "rows_suppressed": 0,
    }  # fmt: skip
    assert set(accepted) == {("people_1.csv", 1), ("people_1.csv", 6), ("people_2.csv", 1)}
    seven = hmac.new(KEY, b"7", hashlib.sha256).hexdigest()[:32]
    assert accepted["people_1.csv", 1].person_id == accepted["people_2.csv", 1].person_id == seven
    assert accepted["people_1.csv", 6].person_id == hmac.new(KEY, b'1"0', hashlib.sha256).hexdigest()[:32]
    assert accepted["people_1.csv", 6].code_1 == "a,b"
    assert accepted["people_2.csv", 1].place == "north"
    reasons = {place: row.reasons for place, row in held_back.items()}
    assert reasons == {
        ("people_1.csv", 2): ["impossible_date:born"],
        ("people_1.csv", 4): ["missing_identifier"],
        ("people_1.csv", 5): ["malformed_row"],
        ("people_2.csv", 2): ["impossible_date:born"],
    }
    assert '"born":"1950-13-02"' in held_back["people_1.csv", 2].row
    assert not any('"id"' in row.row for row in held_back.values())
    assert held_back["people_1.csv", 5].row == "{}", "in a row of too few cells any cell may be the identifier"
    assert unknown == [("people", "sex", "3", 1, "2026-01-01")]


def test_rows_that_differ_in_an_ignored_column_are_two(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text(
        "id,born,sex,number\n7,1950-01-02,1,1\n7,1950-01-02,1,2\n7,1950-01-02,1,2\n"
    )
    site = _site(tmp_path)
    extracts = find_extracts(_fail, site, ADAPTER)
    with ingested_tables(spark, site, ADAPTER, extracts, "2026-01-01", KEY) as done:
        ledger = done.ledger.collect()[0]
        assert (ledger.rows_accepted, ledger.rows_duplicate) == (2, 1)
        assert not any(column.startswith("__") for column in done.conformed["people"].columns)


def test_latin_1_renamed_columns_and_compressed_files(spark: SparkSession, tmp_path: Path) -> None:
    text = "löpnr;född;sex;place\n1;1950-01-02;1;Malmö\n"
    with gzip.open(tmp_path / "people.csv.gz", "wb") as stream:
        stream.write(text.encode("latin-1"))
    site = _site(tmp_path, options={"sep": ";", "encoding": "ISO-8859-1"}, columns={"id": "löpnr", "born": "född"})
    extracts = find_extracts(_fail, site, ADAPTER)
    row = read_extract(spark, extracts["people"]).collect()[0]
    assert (row.id, row.born, row.place) == ("1", "1950-01-02", "Malmö")


def test_text_that_is_not_in_its_encoding_is_held_back(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_bytes(b"id,born,sex,place\n1,1950-01-02,1,Malm\xf6\n2,1950-01-02,1,Oslo\n")
    site = _site(tmp_path)
    extracts = find_extracts(_fail, site, ADAPTER)
    with ingested_tables(spark, site, ADAPTER, extracts, "2026-01-01", KEY) as done:
        assert [row.reasons for row in done.quarantined["people"].collect()] == [["damaged_text"]]
        assert done.conformed["people"].count() == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no file"),
        (b"", "empty"),
        (b"id,born\n1,1950-01-02\n", "no column sex"),
        (b"id,born,sex,sex\n", "column sex twice"),
        (b"PAR1\x00\x00", "not a text file"),
        (b"\x00\x01\x02\n", "not a text file"),
        (b"id,born,s\xf6x\n", "not UTF-8"),
        (b"id,born,sex" + b",x" * 30_000 + b"\n", "more than 20000 columns"),
    ],
)
def test_a_file_that_is_not_as_its_contract_says(tmp_path: Path, content: bytes | None, says: str) -> None:
    if content is not None:
        (tmp_path / "people.csv").write_bytes(content)
    with pytest.raises(InputError, match=says):
        find_extracts(_fail, _site(tmp_path), ADAPTER)


def test_a_csv_that_claims_to_be_parquet(tmp_path: Path) -> None:
    (tmp_path / "people.parquet").write_bytes(b"id,born,sex\n1,1950-01-02,1\n")
    with pytest.raises(InputError, match="is not Parquet"):
        find_extracts(_fail, _site(tmp_path, format="parquet"), ADAPTER)


def test_a_file_is_known_by_its_content(spark: SparkSession, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    cache = tmp_path / "cache" / "prints.json"
    prints = []
    for content in ("id,born,sex\n1,1950-01-02,1\n", "id,born,sex\n1,1950-01-02,2\n", "id,born,sex\n1,1950-01-02,1\n"):
        file.write_text(content)
        prints.append(fingerprint_files(spark, find_extracts(_fail, _site(tmp_path), ADAPTER), cache)["people"])
    assert prints[0] == prints[2] != prints[1]


def test_the_key_is_in_no_plan(spark: SparkSession) -> None:
    key = bytes(range(65, 65 + 40))
    frame = pseudonymise(spark.createDataFrame([("7", "a")], "id string, contact string"), key, "id", ["contact"])
    plan = frame._jdf.queryExecution().toString()
    forms = [key, bytes(b ^ 0x36 for b in key), bytes(b ^ 0x5C for b in key)]
    for form in forms:
        for shown in (form.hex(), form.hex().upper(), form.decode("latin-1"), " ".join(f"{b:02X}" for b in form)):
            assert shown not in plan
            assert shown[:16] not in plan
    row = frame.collect()[0]
    assert row.person_id == hmac.new(key, b"7", hashlib.sha256).hexdigest()[:32]
    assert row.contact == hmac.new(key, b"contact\x1f7\x1fa", hashlib.sha256).hexdigest()[:32]


def test_a_missing_or_short_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    site = _site(tmp_path)
    monkeypatch.delenv("TREATMENT_LINES_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="not set"):
        read_key(site)
    monkeypatch.setenv("TREATMENT_LINES_KEY", "short")
    with pytest.raises(ConfigurationError, match="shorter"):
        read_key(site)
    long = site.model_copy(update={"pseudonym_key_file": str(tmp_path / "none")})
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_key(long)
