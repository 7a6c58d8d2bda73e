"""Rows in are rows accepted, quarantined or duplicate; identifiers become pseudonyms; bad files stop before writing."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import gzip
import hashlib
import hmac
from collections.abc import Mapping
from contextlib import nullcontext
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.config import InputFile, RawInput, Site
from jobs.contents import with_contents
from jobs.delivery_profile import profiled
from jobs.errors import ConfigurationError, InputError, QualityError
from jobs.extracts import find_extracts, numbers_of, read_extract, with_source_row
from jobs.flags import BITS, flags, is_flagged
from jobs.identity import MINIMUM_KEY_BYTES, pseudonym_of, pseudonymise, read_key, with_hashes, with_key
from jobs.ingest import annotate_rows, ingested_tables
from jobs.sources.adapter import CONTENT, PLACE, Adapter, RawTable, load_adapter
from jobs.sources.claims import claims_of, seen_in_hospital, with_lineage
from jobs.sources.parse import (
    bare_code,
    first_day,
    joined_reasons,
    last_day,
    not_after_delivery,
    with_compact_dates,
)
from schemas import TABLES

KEY = b"k" * MINIMUM_KEY_BYTES


def _annotate(frame: DataFrame, _: Site) -> DataFrame:
    born = F.to_date("born", "yyyy-MM-dd")
    impossible = F.when(born.isNull(), F.lit("impossible_date:born"))
    return frame.withColumn("birth_date", born).withColumn("reasons", joined_reasons(impossible))


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
    read = with_compact_dates(cells, {"day": "cell"}).select("cell", F.col("day").cast("string")).collect()
    assert {row.cell: row.day for row in read} == expected


def test_what_an_inexact_date_may_be(spark: SparkSession) -> None:
    delivery = "2020-06-10"
    expected = {  # day and how exactly it is known -> the day that is set, the first and the last that it may be
        ("2020-06-15", "day"): ("2020-06-15", "2020-06-15", "2020-06-15"),
        ("2020-06-15", "month"): (delivery, "2020-06-01", "2020-06-30"),
        ("2020-05-15", "month"): ("2020-05-15", "2020-05-01", "2020-05-31"),
        ("2020-07-15", "month"): ("2020-07-15", "2020-07-01", "2020-07-31"),
        ("2020-07-01", "year"): (delivery, "2020-01-01", "2020-12-31"),
        ("2019-07-01", "year"): ("2019-07-01", "2019-01-01", "2019-12-31"),
        ("2021-07-01", "year"): ("2021-07-01", "2021-01-01", "2021-12-31"),
        ("2020-06-15", None): ("2020-06-15", "2020-06-15", "2020-06-15"),
        (None, "month"): (None, None, None),
    }
    columns = "day string, known_to string, delivery string"
    rows = spark.createDataFrame([(*given, delivery) for given in expected], columns)
    day, known_to = F.col("day").cast("date"), F.col("known_to")
    meant = (not_after_delivery(day, known_to), first_day(day, known_to), last_day(day, known_to))
    found = rows.select("day", "known_to", *(one.cast("string") for one in meant)).collect()
    assert {(row[0], row[1]): tuple(row[2:]) for row in found} == expected


def test_bare_codes(spark: SparkSession) -> None:
    expected = {"c50.9": "C509", " C50-9\n": "C509", "C50\n": "C50", "Åa1": "A1", "...": "", "C509": "C509", None: None}
    cells = spark.createDataFrame([(cell,) for cell in expected], "cell string")
    assert {row.cell: row.code for row in cells.withColumn("code", bare_code(F.col("cell"))).collect()} == expected


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


def test_what_tells_rows_apart_tells_no_identifier(spark: SparkSession, tmp_path: Path) -> None:
    """Whoever has the tables but not the key could try identifiers until a hash fits, also where one stands in a column
    that is ignored: so no hash is made without the key."""
    (tmp_path / "people.csv").write_text("id,born,sex,number\n7,1950-01-02,1,7\n7,1950-01-03,1,7\n,1950-01-02,1,7\n")
    shown = ("content_1", "content_2")

    def annotate(frame: DataFrame, site: Site) -> DataFrame:
        return _annotate(frame, site).withColumns(dict(zip(shown, map(F.col, CONTENT), strict=True)))

    site, raw = _site(tmp_path), dataclasses.replace(PEOPLE, annotate=annotate, names_contacts=True)
    contents, named = [], []
    for key in (KEY, b"K" * MINIMUM_KEY_BYTES):
        rows = read_extract(spark, find_extracts(_fail, site, ADAPTER)["people"])
        annotated = annotate_rows(rows, raw, site, key, None, 1, "2026-01-01")
        assert not set(CONTENT) & set(annotated.columns)
        found = annotated.orderBy("__position").collect()
        contents.append([tuple(row[column] for column in shown) for row in found])
        named.append([row.contact_id for row in found])
    for of_key in (contents, named):
        assert len(set(of_key[0])) == 3
        assert not set(of_key[0]) & set(of_key[1])
    one, other = (zip(*of_key, strict=True) for of_key in contents)
    assert all(not set(a) & set(b) for a, b in zip(one, other, strict=True)), "nor any part of one"


def test_a_row_is_the_same_when_its_file_gets_a_column_more(spark: SparkSession, tmp_path: Path) -> None:
    """Where it is empty. And another where the same cell stands in another column."""
    site, raw, names = _site(tmp_path), dataclasses.replace(PEOPLE, names_contacts=True), []
    for header, row in (
        ("id,born,sex,code_1", "7,1950-01-02,1,C50"),
        ("id,born,code_0,sex,code_1,place", "7,1950-01-02,,1,C50,"),
        ("id,a,born,sex,code_1,A,note", "7,,1950-01-02,1,C50,,"),
        ("id,born,sex,code_1,code_2", "7,1950-01-02,1,,C50"),
        ("id,born,sex,code_1,note,a", "7,1950-01-02,1,C50,x,y"),
        ("id,a,born,note,sex,code_1", "7,y,1950-01-02,x,1,C50"),
        ("id,born,sex,code_1,note,a", "7,1950-01-02,1,C50,y,x"),
    ):
        text = f"{header}\n{row}\n"
        (tmp_path / "people.csv").write_text(text)
        rows = read_extract(spark, find_extracts(_fail, site, ADAPTER)["people"])
        annotated = annotate_rows(rows, raw, site, KEY, None, 1, "2026-01-01")
        assert {type_ for _, type_ in annotated.dtypes} & {"binary"} == set(), "nothing that is made of the key stays"
        names.append(annotated.select("contact_id").collect()[0][0])
    assert names[0] == names[1] == names[2]
    assert names[4] == names[5], "ignored cells count by the names of their columns, wherever they stand"
    assert len(set(names)) == 4


def test_a_whole_row_is_no_repetition_of_a_broken_one(spark: SparkSession, tmp_path: Path) -> None:
    """What is left of the broken one has the same cells."""
    lines = ("id,born,sex", "7,1950-01-02,1,x", "7,1950-01-02,1", "8,1950-01-02", "8,1950-01-02,", "7,1950-01-02,1,x")
    (tmp_path / "people.csv").write_text("\n".join(lines) + "\n")
    site = _site(tmp_path)
    with ingested_tables(spark, site, ADAPTER, find_extracts(_fail, site, ADAPTER), "2026-01-01", KEY) as done:
        assert sorted(row.source_row for row in done.conformed["people"].collect()) == [2, 4]
        held = {row.source_row: row.reasons for row in done.quarantined["people"].collect()}
        assert done.ledger.collect()[0].rows_duplicate == 1, "two broken ones may well be the same"
    assert held == {1: ["malformed_row"], 3: ["malformed_row"]}


def test_a_malformed_row_has_no_other_reason_and_is_nobodys(spark: SparkSession, tmp_path: Path) -> None:
    """No cell of it can be believed: neither what is wrong with one, nor the identifier, nor what another table knows
    of one."""
    (tmp_path / "people.csv").write_text("id,born,sex\n,soon\n7,\ufffd,1,x\n8,soon,\ufffd\n9,1950-01-02,1\n")
    site = _site(tmp_path)

    def relate(annotated: Mapping[str, DataFrame], _: Site) -> dict[str, DataFrame]:
        told = F.sort_array(F.array_append("reasons", F.lit("no_contact")))
        return {"people": annotated["people"].withColumn("reasons", told)}

    eight = (["damaged_text", "impossible_date:born"], pseudonym_of("8", KEY), '{"born":"soon","sex":"\ufffd"}')
    malformed = (["malformed_row"], None, "{}")
    for adapter, held in (
        (ADAPTER, {1: malformed, 2: malformed, 3: eight}),
        (
            dataclasses.replace(ADAPTER, relate=relate),
            {
                1: malformed,
                2: malformed,
                3: ([*eight[0], "no_contact"], *eight[1:]),
                4: (["no_contact"], pseudonym_of("9", KEY), '{"born":"1950-01-02","sex":"1"}'),
            },
        ),
    ):
        with ingested_tables(spark, site, adapter, find_extracts(_fail, site, adapter), "2026-01-01", KEY) as done:
            found = done.quarantined["people"].collect()
            assert {row.source_row: (row.reasons, row.person_id, row.row) for row in found} == held
            assert done.ledger.collect()[0].rows_quarantined == len(held)


def test_an_earlier_row_that_is_held_back_does_not_take_the_key(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("id,born,sex\n7,1950-01-02,\ufffd\n7,1950-01-02,1\n7,1950-01-02,2\n")
    site = _site(tmp_path)
    raw = dataclasses.replace(PEOPLE, unique=("person_id", "birth_date"))
    adapter = Adapter("test", (raw,), lambda accepted, _: {"people": accepted["people"]})
    with ingested_tables(spark, site, adapter, find_extracts(_fail, site, adapter), "2026-01-01", KEY) as done:
        assert [row.source_row for row in done.conformed["people"].collect()] == [2]
        held = {row.source_row: (row.reasons, row.row) for row in done.quarantined["people"].collect()}
    assert held == {
        1: (["damaged_text"], '{"born":"1950-01-02","sex":"\ufffd"}'),
        3: (["repeated_key"], '{"born":"1950-01-02","sex":"2"}'),
    }


def test_cells_that_nothing_reads_afterwards_stand_in_quarantine(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("id,born,sex,place,code_1\n7,1950-13-02,1,north,C50\n8,1950-01-02,2,,\n")
    site = _site(tmp_path)
    raw = dataclasses.replace(PEOPLE, kept=("code_*",))
    adapter = Adapter("test", (raw,), lambda accepted, _: {"people": accepted["people"]})
    with ingested_tables(spark, site, adapter, find_extracts(_fail, site, adapter), "2026-01-01", KEY) as done:
        assert {"born", "place", *CONTENT} & set(done.conformed["people"].columns) == set()
        assert {"code_1", "sex"} <= set(done.conformed["people"].columns), "what is kept, and what has codes"
        assert [row.row for row in done.quarantined["people"].collect()] == [
            '{"born":"1950-13-02","sex":"1","place":"north","code_1":"C50"}'
        ]
        profile = {(row.column, row.code): row.n for row in done.profile.collect()}
    assert profile == {
        ("born", "(empty)"): 0, ("sex", "(empty)"): 0, ("place", "(empty)"): 1,
        ("sex", "1"): 1, ("sex", "2"): 1, ("sex", "(other)"): 0,
    }  # fmt: skip
    with pytest.raises(ValueError, match="need all their cells"):
        dataclasses.replace(raw, unique=("person_id",))
    with pytest.raises(ValueError, match="keeps codes"):
        dataclasses.replace(raw, kept=("codes*",))
    related = Adapter("test", (raw,), ADAPTER.conform, lambda annotated, _: {"people": annotated["people"]})
    with (
        pytest.raises(ValueError, match="related"),
        ingested_tables(spark, site, related, find_extracts(_fail, site, related), "2026-01-01", KEY),
    ):
        pass


def test_conditions_as_bits(spark: SparkSession) -> None:
    """More conditions than one number holds, the last bit of each, and one that cannot be told."""
    places = [0, BITS - 1, BITS, 2 * BITS - 1, 2 * BITS]
    conditions = [F.col("n") == place for place in range(2 * BITS + 1)]
    rows = spark.createDataFrame([(place,) for place in (*places, None)], "n int").withColumns(flags(conditions))
    held = [F.expr(is_flagged(place)).alias(f"p{place}") for place in range(2 * BITS + 1)]
    for row in rows.select("n", *held).collect():
        assert [place for place in range(2 * BITS + 1) if row[f"p{place}"]] == ([] if row.n is None else [row.n])


def test_codes_are_told_apart_whatever_their_signs(spark: SparkSession) -> None:
    """They come from the site file and stand in conditions in SQL."""
    codes = ("plain", "it's", 'say "so"', "back\\slash", "\\'", "\\", "%_", "a\nb", "æ", "a${b}c", "${env:HOME}")
    raw = dataclasses.replace(PEOPLE, code_columns={"sex": frozenset(codes)})
    conditions = {code: one for column, code, one in profiled(raw, Site.model_construct(adapter={})) if column == "sex"}
    rows = spark.createDataFrame([(code,) for code in (*codes, "\\\\", "its", None)], "sex string")
    places = {code: place for place, code in enumerate(conditions)}
    held = [F.expr(is_flagged(place)).alias(f"p{place}") for place in places.values()]
    for row in rows.withColumns(flags(conditions.values())).select("sex", *held).collect():
        told = {code for code, place in places.items() if row[f"p{place}"]}
        assert told == {"(empty)" if row.sex is None else row.sex if row.sex in codes else "(other)"}


@pytest.mark.parametrize("country", ["conformed", "denmark", "finland", "norway", "omop", "sweden", "tcga_brca"])
def test_no_adapter_puts_a_column_in_the_place_of_a_delivered_one(spark: SparkSession, country: str) -> None:
    """Names are the same to the engine whatever their case: a typed `ddd` would take the place of the cell `DDD`."""
    adapter = load_adapter(country)
    site = Site(country=country, warehouse="none", inputs={"any": RawInput(path="none")})
    for raw in adapter.raw_tables:
        cells = [name for name in (*raw.columns, *raw.optional) if not name.endswith("*") and name != raw.id_column]
        cells = [name for name in cells if name not in raw.discarded]
        more = [*PLACE[:1], *([] if raw.id_column is None else ["person_id"]), "delivery"]
        columns = dict.fromkeys([*more, *cells])
        empty = spark.createDataFrame([], ", ".join(f"`{name}` string" for name in columns))
        found = raw.annotate(empty, site).columns
        assert set(cells) <= set(found), f"{raw.name}: {set(cells) - set(found)}"


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


def test_of_several_broken_files_the_first_is_named(spark: SparkSession, tmp_path: Path) -> None:
    whole = gzip.compress(b"id,born,sex\n" + b"".join(b"%d,1950-01-02,1\n" % n for n in range(20_000)))
    for name, content in (("1", whole), ("2", whole[:-500]), ("3", whole[:-400]), ("4", whole)):
        (tmp_path / f"people_{name}.csv.gz").write_bytes(content)
    extracts = find_extracts(_fail, _site(tmp_path), ADAPTER)
    for _ in range(3):
        with pytest.raises(InputError, match="people_2.csv.gz cannot be read to its end"):
            with_contents(spark, extracts, None)


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


def test_an_identifier_column_whose_name_changes_from_file_to_file(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "people_2010.csv").write_text("PNR,born,sex,dx_1\n1,1950-01-02,1,a\n")
    (tmp_path / "people_2015.csv").write_text("v_cpr,born,sex,diag_2,code_3\n2,1950-01-02,1,b,c\n")
    site = _site(tmp_path, columns={"id": ["pnr", "V_CPR"], "code_*": ["dx_", "diag_*", "code_"]})
    read = read_extract(spark, find_extracts(_fail, site, ADAPTER)["people"])
    rows = read.select("id", "code_1", "code_2", "code_3").collect()
    assert sorted(map(tuple, rows)) == [("1", "a", None, None), ("2", None, "b", "c")]
    (tmp_path / "people_2015.csv").write_text("v_cpr,pnr,born,sex\n2,2,1950-01-02,1\n")
    with pytest.raises(InputError, match="column id twice"):
        find_extracts(_fail, site, ADAPTER)
    (tmp_path / "people_2015.csv").write_text("id,born,sex\n2,1950-01-02,1\n")
    with pytest.raises(InputError, match="no column pnr or V_CPR"):
        find_extracts(_fail, site, ADAPTER)
    with pytest.raises(InputError, match=r"inputs.people.columns: bron is no column of the adapter"):
        find_extracts(_fail, _site(tmp_path, columns={"bron": "dob"}), ADAPTER)


def test_a_key_file_says_who_a_registers_numbers_are(spark: SparkSession, tmp_path: Path) -> None:
    """Where the register numbers people anew in each delivery, the same person stays one and a number is not."""
    columns = {"identifier": "npr", "person": "p"}
    site = _site(tmp_path, key_file={"path": str(tmp_path / "key.csv"), "columns": columns})

    def ingested(people: str, key_file: str) -> tuple[set[tuple[str, str]], int]:
        (tmp_path / "people.csv").write_text("id,born,sex\n" + people)
        (tmp_path / "key.csv").write_text("npr,p\n" + key_file)
        extracts = find_extracts(_fail, site, ADAPTER)
        assert set(with_contents(spark, extracts, None)) == {"people", "people.key_file"}
        with ingested_tables(spark, site, ADAPTER, extracts, "2020-06-30", KEY) as done:
            rows = done.conformed["people"].collect()
            assert {row.raw_table for row in done.ledger.collect()} == {"people"}
            held = done.quarantined["people"].collect()
            assert [row.reasons for row in held] == [["missing_identifier"]] * len(held)
            assert {row.source_row for row in (*rows, *held)} == set(range(1, len(rows) + len(held) + 1))
            return {(names[row.person_id], row.birth_date.isoformat()) for row in rows}, len(held)

    names = {pseudonym_of(name, KEY): name for name in ("ada", "bea", "17")}
    ada, bea = ("ada", "1950-01-02"), ("bea", "1960-01-02")
    assert ingested("17,1950-01-02,1\n18,1960-01-02,2\n", "17,ada\n18,bea\n18,bea\n") == ({ada, bea}, 0)
    strangers = "19,1970-01-02,1\n20,1970-01-02,1\n"  # two people, though all else is the same
    assert ingested("17,1960-01-02,2\n18,1950-01-02,1\n" + strangers, "18,ada\n17,bea\n") == ({ada, bea}, 2)
    for wrong, says in (
        ("17,ada\n17,bea\n", "rows that are damaged or have an empty cell name 0 numbers, 1 numbers belong"),
        ("17,ada\n18,\n,bea\n", "rows that are damaged or have an empty cell name 2 numbers, 0 numbers belong"),
        ("17,\ufffd\n", "rows that are damaged or have an empty cell name 1 numbers"),
        ("17,ada\n18,bea,x\n", "rows that are damaged or have an empty cell name 1 numbers"),
    ):
        with pytest.raises(QualityError, match=rf"inputs\.people\.key_file: {says}"):
            ingested("17,1950-01-02,1\n", wrong)
    (tmp_path / "key.csv").write_text("npr,q\n")
    with pytest.raises(InputError, match=r"inputs\.people\.key_file: key.csv has no column p"):
        find_extracts(_fail, site, ADAPTER)


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        (["0101501234"], ["0101501234"], None),
        ([101501234], [101501234], None),
        (["0101501234"], [101501234], "inputs.drugs: has the identifier of people as a number, inputs.people as text"),
        ([101501234], ["0101501234"], "inputs.people: has the identifier of people as a number, inputs.drugs as text"),
        ([101501234], [101501234.0], None),  # as whole numbers with gaps are written
        ([101501234], [Decimal("101501234")], None),
        ([101501234], pa.array([101501234.0], pa.float32()), "has the identifier id with decimals"),
        ([101501234], [Decimal("101501234.00")], "inputs.drugs: drugs.parquet has the identifier id with decimals"),
        (["0101501234"], [None], None),
    ],
)
def test_people_are_named_alike_in_every_raw_table(
    spark: SparkSession, tmp_path: Path, first: list[Any], second: list[Any], says: str | None
) -> None:
    """As numbers identifiers lose the zeros that lead: somebody's rows would be another person's. The types of a file
    that has an address are told by the engine."""
    adapter = Adapter("test", (PEOPLE, dataclasses.replace(PEOPLE, name="drugs")), lambda accepted, _: dict(accepted))
    for at, session in ((str(tmp_path), _fail), (tmp_path.as_uri(), lambda: spark)):
        if second == [None] and session is not _fail:
            continue  # the engine takes a column without any value for one of numbers
        inputs = {}
        for name, identifiers in {"people": first, "drugs": second}.items():
            columns = {"id": identifiers, "born": ["1950-01-02"], "sex": ["1"]}
            pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
            inputs[name] = RawInput(path=f"{at}/{name}.parquet", format="parquet")
        site = Site(country="test", warehouse=str(tmp_path), inputs=inputs)
        with nullcontext() if says is None else pytest.raises(InputError, match=says):
            assert set(find_extracts(session, site, adapter)) == {"people", "drugs"}
        find_extracts(session, site, dataclasses.replace(adapter, numbers_people=True))


@pytest.mark.parametrize(
    ("own", "identifier", "person", "says"),
    [
        ([17], [17], ["0101501234"], None),
        (["017"], ["017"], ["0101501234"], None),
        (["017"], [17], ["0101501234"], "inputs.drugs.key_file: has the identifier of people as a number, inputs.dr"),
        ([17], [17], [101501234], "inputs.drugs.key_file: has the identifier of people as a number, inputs.people"),
    ],
)
def test_people_of_a_key_file_are_named_as_everywhere(
    tmp_path: Path, own: list[Any], identifier: list[Any], person: list[Any], says: str | None
) -> None:
    (tmp_path / "people.csv").write_text("id,born,sex\n0101501234,1950-01-02,1\n")
    for name, columns in {
        "drugs": {"id": own, "born": ["1950-01-02"], "sex": ["1"]},
        "key": {"identifier": identifier, "person": person},
    }.items():
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    key_file = InputFile(path=str(tmp_path / "key.parquet"), format="parquet")
    drugs = RawInput(path=str(tmp_path / "drugs.parquet"), format="parquet", key_file=key_file)
    inputs = {"people": RawInput(path=str(tmp_path / "people.csv")), "drugs": drugs}
    adapter = Adapter("test", (PEOPLE, dataclasses.replace(PEOPLE, name="drugs")), lambda accepted, _: dict(accepted))
    site = Site(country="test", warehouse=str(tmp_path), inputs=inputs)
    with nullcontext() if says is None else pytest.raises(InputError, match=says):
        find_extracts(_fail, site, adapter)
    parts = dataclasses.replace(PEOPLE, name="drugs", id_parts=("place",))
    if says is None:  # the part is not delivered
        find_extracts(_fail, site, dataclasses.replace(adapter, raw_tables=(PEOPLE, parts)))
    parts = dataclasses.replace(PEOPLE, name="drugs", id_parts=("born",))
    with pytest.raises(InputError, match="numbers of its own beside identifiers"):
        find_extracts(_fail, site, dataclasses.replace(adapter, raw_tables=(PEOPLE, parts)))


def test_a_csv_that_claims_to_be_parquet(tmp_path: Path) -> None:
    (tmp_path / "people.parquet").write_bytes(b"id,born,sex\n1,1950-01-02,1\n")
    with pytest.raises(InputError, match="is not Parquet"):
        find_extracts(_fail, _site(tmp_path, format="parquet"), ADAPTER)


def test_a_claim_of_the_hospital_tells_the_first_row_of_a_person(spark: SparkSession) -> None:
    """By the names of files first, whatever the numbers of rows; a claim that tells its row itself keeps it."""
    day = datetime.date(2020, 5, 1)
    rows = [("p", "b.csv", 1, 1), ("p", "a.csv", 9, 3), ("p", "a.csv", 12, 2), ("q", "b.csv", 2, 4)]
    contacts = spark.createDataFrame(
        [(person, file, 0, row, day.replace(month=month), "2021-01-01") for person, file, row, month in rows],
        f"person_id string, {PLACE[0]} string, {PLACE[1]} long, {PLACE[2]} long, start_date date, delivery string",
    )
    offsets = {("a.csv", 0): 0, ("b.csv", 0): 0}
    numbers = numbers_of([offsets])
    seen = seen_in_hospital(with_source_row(contacts, offsets, numbers), priority=2)
    died = spark.createDataFrame([("p", "deaths.csv", 5)], "person_id string, source_file string, source_row long")
    told = with_lineage(claims_of(died.withColumn("priority", F.lit(0)), seen), numbers)
    found = {(row.person_id, row.priority, row.source_file, row.source_row, row.last_contact) for row in told.collect()}
    assert found == {
        ("p", 2, "a.csv", 9, day.replace(month=3)),
        ("q", 2, "b.csv", 2, day.replace(month=4)),
        ("p", 0, "deaths.csv", 5, None),
    }
    assert set(told.columns) == set(TABLES["person_claims"].column_names)
    assert with_lineage(told, numbers) is told, "claims of an adapter without a hospital file"


def test_a_file_is_known_by_its_content(spark: SparkSession, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    cache = tmp_path / "prints.json"
    prints = []
    for content in ("id,born,sex\n1,1950-01-02,1\n", "id,born,sex\n1,1950-01-02,2\n", "id,born,sex\n1,1950-01-02,1\n"):
        file.write_text(content)
        prints.append(with_contents(spark, find_extracts(_fail, _site(tmp_path), ADAPTER), cache)["people"].fingerprint)
    assert prints[0] == prints[2] != prints[1]


def test_the_key_is_in_no_plan(spark: SparkSession) -> None:
    key = bytes(range(65, 65 + 40))
    rows = spark.createDataFrame([("7", "a", "all that it says")], "id string, contact string, text string")
    frame = with_hashes(pseudonymise(with_key(rows, key), "id", ["contact"]), [F.col("text")], ("long", "short"))
    asked = frame._jdf.queryExecution()
    mode = spark._jvm.org.apache.spark.sql.execution.ExplainMode
    modes = ("simple", "extended", "codegen", "cost", "formatted")
    plan = "".join((asked.toString(), *(asked.explainString(mode.fromString(one)) for one in modes)))
    secret = hmac.new(key, b"hashes", hashlib.sha256).digest()
    forms = [key, bytes(b ^ 0x36 for b in key), bytes(b ^ 0x5C for b in key), secret]
    for form in forms:
        for shown in (form.hex(), form.hex().upper(), form.decode("latin-1"), " ".join(f"{b:02X}" for b in form)):
            assert shown not in plan
            assert shown[:16] not in plan
    row = frame.collect()[0]
    assert row.person_id == hmac.new(key, b"7", hashlib.sha256).hexdigest()[:32]
    assert row.contact == hmac.new(key, b"contact\x1f7\x1fa", hashlib.sha256).hexdigest()[:32]


def test_the_key_is_in_no_event_log(spark: SparkSession, tmp_path: Path) -> None:
    """Everything that the engine tells its log while rows are pseudonymised, counted and read."""
    key = b"Key-of-this-test-" + bytes(range(65, 65 + 24))
    (tmp_path / "people.csv").write_text("id,born,sex\nNo-17,1950-01-02,1\nNo-18,1951-01-02,1\n")
    (tmp_path / "key.csv").write_text("identifier,person\nNo-17,Ada-1\nNo-18,Bea-2\n")
    context, jvm = spark.sparkContext, cast("Any", spark._jvm)
    scala = context._jsc.sc()
    log = jvm.org.apache.spark.scheduler.EventLoggingListener(
        "keys", jvm.scala.Option.empty(), jvm.java.net.URI(tmp_path.as_uri()),
        scala.conf().clone().set("spark.eventLog.compress", "false").set("spark.eventLog.rolling.enabled", "false"),
    )  # fmt: skip
    log.start()
    scala.addSparkListener(log)
    try:
        site = _site(tmp_path, key_file={"path": str(tmp_path / "key.csv")})
        extracts = find_extracts(_fail, site, ADAPTER)
        with ingested_tables(spark, site, ADAPTER, extracts, "2020-06-30", key) as done:
            assert {row.person_id for row in done.conformed["people"].collect()} == {
                pseudonym_of("Ada-1", key), pseudonym_of("Bea-2", key)
            }  # fmt: skip
        scala.listenerBus().waitUntilEmpty()
    finally:
        scala.removeSparkListener(log)
        log.stop()
    (file,) = (path for path in tmp_path.rglob("*") if path.name == "keys")
    told = file.read_text()
    assert "SparkListenerSQLExecutionStart" in told
    assert "people.csv" in told
    block = key.ljust(64, b"\0")
    secret = hmac.new(key, b"hashes", hashlib.sha256).digest()
    forms = (key, bytes(byte ^ 0x36 for byte in block), bytes(byte ^ 0x5C for byte in block), secret)
    for form in forms:
        numbers = ", ".join(str(byte if byte < 128 else byte - 256) for byte in form[:12])
        for written in (form[:12].decode("latin-1"), form[:12].hex(), base64.b64encode(form[:12]).decode(), numbers):
            assert written.lower() not in told.lower()
    for cell in ("Ada-1", "Bea-2", "No-17", "1950-01-02"):
        assert cell not in told


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
