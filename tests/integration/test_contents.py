"""Files that are read line by line hold what the reader of CSV finds in them, and no other files are read so."""

from __future__ import annotations

import gzip
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from jobs import contents
from jobs.config import RawInput, Site
from jobs.contents import with_contents
from jobs.errors import InputError
from jobs.extracts import BLOCK, POSITION, Extract, find_extracts, read_extract
from jobs.sources.adapter import Adapter, RawTable

ADAPTER = Adapter(
    "test",
    (RawTable(name="people", annotate=lambda rows, _: rows, columns=("id", "born"), id_column="id",
              optional=("sex", "code_*")),),
    lambda accepted, _: {},
)  # fmt: skip
CELLS = ("", " ", "  ", "1", " 1", "1 ", "a b", "L02BG04", "20200101", "Åse", "\u00a0", "\u2028", "#", "\\", "'",
         "=1+1", "-", "null", "NaN", "id", "born", "|", ",", ";", "\x7f", "😀", "\ufeff", "\x85")  # fmt: skip
DAMAGED = ('"', '"a"', 'a"b', "\t", "\0", "\x01", "\ufffd")


def _extract(folder: Path, **declared: object) -> Extract:
    inside = folder / "people"
    raw = RawInput.model_validate({"path": str(inside if inside.is_dir() else f"{inside}*"), **declared})
    site = Site(country="test", warehouse=str(folder / "warehouse"), inputs={"people": raw})
    return find_extracts(_no_session, site, ADAPTER)["people"]


def _no_session() -> SparkSession:
    raise AssertionError("local files are looked at without Spark")


def _plain(spark: SparkSession, folder: Path, **declared: object) -> Extract:
    return with_contents(spark, {"people": _extract(folder, **declared)}, None)["people"]


def _rows(spark: SparkSession, extract: Extract) -> DataFrame:
    read = read_extract(spark, extract)
    first = F.min(POSITION).over(Window.partitionBy("source_file", BLOCK))
    return read.withColumn("place", F.col(POSITION) - first).drop(POSITION)


def _file(chance: random.Random, separator: str, damage: float) -> bytes:
    headers = (["id", "born"], ["id", "born", "sex"], ['"id"', "born ", "other", "code_1"], ["born", "ID"])
    header = chance.choice(headers)
    end = chance.choice(("\n", "\n", "\r\n", "\r"))
    lines = [separator.join(header) + ("\n" if end == "\r" else end)]
    for _ in range(chance.randrange(30)):
        cells = [chance.choice(CELLS) for _ in header]
        if chance.random() < 0.1:
            cells = cells[: chance.randrange(len(cells) + 1)] + [""] * chance.randrange(3)
        if chance.random() < damage:
            cells[:1] = [chance.choice(DAMAGED)]
        if len(header) > 2:
            cells = [cell.replace(separator, "") for cell in cells]
        lines.append(separator.join(cells) + end)
        lines += [chance.choice(("", " ")) + end] * (chance.random() < 0.05)
    text = "".join(lines)
    return (text.rstrip("\r\n") if chance.random() < 0.3 else text).encode()


@pytest.mark.parametrize("separator", [";", ",", "|"])
def test_both_ways_to_read_find_the_same(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, separator: str
) -> None:
    monkeypatch.setattr(contents, "CHUNK", 100)  # so that lines lie across the borders of what is looked at once
    chance = random.Random(separator)
    for number in range(120):
        content = _file(chance, separator, 0.0 if number % 3 else 0.1)
        packed = number % 10 == 7
        path = tmp_path / f"people_{number:03}.csv{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(content) if packed else content)
    extract = _plain(spark, tmp_path, options={"sep": separator})
    assert 60 < len(extract.plain) < 115
    lines, cells = _rows(spark, extract), _rows(spark, replace(extract, plain={}))
    assert lines.schema == cells.schema
    assert lines.count() == cells.count() > 1_000
    assert lines.exceptAll(cells).isEmpty()
    assert sum(row["__corrupt"] for row in lines.collect()) > 50


def test_a_file_in_several_splits(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("id;born\n" + "".join(f"{n};2020\n" for n in range(100_000)))
    extract = _plain(spark, tmp_path, options={"sep": ";"})
    before = spark.conf.get("spark.sql.files.maxPartitionBytes")
    spark.conf.set("spark.sql.files.maxPartitionBytes", "100000")
    try:
        lines, cells = (_rows(spark, one).collect() for one in (extract, replace(extract, plain={})))
    finally:
        spark.conf.set("spark.sql.files.maxPartitionBytes", before)
    assert len({row[BLOCK] for row in lines}) > 5
    assert set(lines) == set(cells)


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ('id;born\n1;2020\n"2";2020\n', {}),
        ("id;born\n1;2020\nid;born\n", {}),
        ("id;born\n1;20\t20\n", {}),
        ("id;born\n1;20\x0020\n", {}),
        ("id;born\n1;20\ufffd20\n", {}),
        (b"id;born\n1;20\xff20\n", {}),
        ("\ufeffid;born\n1;2020\n", {}),
        ("id;born\n1;2020\n", {"encoding": "ISO-8859-1"}),
        ("id;born\n1;2020\n", {"encoding": "US-ASCII"}),
        ("id;born\n1;2020\n", {"comment": "#"}),
        ("id;born\n1;2020\n", {"nullValue": "2020"}),
        ("id;born\n1;2020\n", {"quote": ""}),
        ("id\tborn\n1\t2020\n", {"sep": "\t"}),
    ],
)
def test_what_is_left_to_the_reader_of_csv(
    spark: SparkSession, tmp_path: Path, content: str | bytes, options: dict[str, str]
) -> None:
    (tmp_path / "people.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert not _plain(spark, tmp_path, options={"sep": ";", **options}).plain
    (tmp_path / "people.csv").write_text("id;born\r\n1;2020\r\n")
    assert list(_plain(spark, tmp_path, options={"sep": ";"}).plain.values()) == ["id;born"]


def test_what_is_known_of_a_file_is_for_its_options(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("id;born\n1;2020\n")
    cache = tmp_path / "cache.json"
    told = []
    for options in ({"sep": ";"}, {"sep": ";", "comment": "1"}, {"sep": ";"}):
        extracts = {"people": _extract(tmp_path, options=options)}
        told.append(with_contents(spark, extracts, cache)["people"])
    assert [bool(one.plain) for one in told] == [True, False, True]
    assert len({one.fingerprint for one in told}) == 1
    known = json.loads(cache.read_text())
    another = {"code": known["code"], "files": {key: {"digest": "x", "header": None} for key in known["files"]}}
    for written, is_believed in ((another, True), ({**another, "code": "older"}, False), ({"key": "x"}, False)):
        cache.write_text(json.dumps(written))
        assert (with_contents(spark, extracts, cache)["people"] != told[2]) == is_believed


def test_files_of_one_name_at_an_address_are_refused(spark: SparkSession, tmp_path: Path) -> None:
    """Only the engine lists them, and their rows would be told apart by the name alone."""
    for year in ("2020", "2021"):
        (tmp_path / year).mkdir()
        (tmp_path / year / f"{year}.csv").write_text(f"id,born\n1,{year}\n")
    raw = RawInput(path=f"{tmp_path.as_uri()}/2*/*.csv")
    extracts = {"people": Extract(ADAPTER.raw_tables[0], raw, (raw.path,), {raw.path: ("id", "born")}, ())}
    assert with_contents(spark, extracts, None)["people"].fingerprint
    (tmp_path / "2021" / "2021.csv").rename(tmp_path / "2021" / "2020.csv")
    with pytest.raises(InputError, match="people: two files have the same name"):
        with_contents(spark, extracts, None)


def test_a_look_into_files_makes_no_warehouse(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("id,born\n1,2020\n")
    with_contents(spark, {"people": _extract(tmp_path)}, tmp_path / "warehouse" / "cache.json")
    assert not (tmp_path / "warehouse").exists()


def test_files_of_one_name_in_two_folders_are_two(spark: SparkSession, tmp_path: Path) -> None:
    for year in ("2020", "2021"):
        (tmp_path / "people" / year).mkdir(parents=True)
        (tmp_path / "people" / year / "all.csv").write_text(f"id;born\n1;{year}\n")
    for extract in (_extract(tmp_path, options={"sep": ";"}), _plain(spark, tmp_path, options={"sep": ";"})):
        assert {(row.born, row.source_file) for row in read_extract(spark, extract).collect()} == {
            ("2020", "2020/all.csv"), ("2021", "2021/all.csv"),
        }  # fmt: skip
