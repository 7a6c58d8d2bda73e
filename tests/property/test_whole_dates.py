"""Dates as Danish registers and OMOP write them, against a plain reading of the same texts."""

from __future__ import annotations

import datetime
import random
import re
from collections.abc import Callable, Mapping

import pytest
from pyspark.sql import DataFrame, SparkSession

from jobs.config import Site
from jobs.sources import denmark, omop

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
TIME = r"[ T:][0-9]{1,2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?"
FORMS: tuple[Callable[[str, str, str, str], str], ...] = (
    lambda year, month, day, _: f"{year}{month}{day}",
    lambda year, month, day, time: f"{year}-{month}-{day}{time}",
    lambda year, month, day, time: f"{day}-{month}-{year}{time}",
    lambda year, month, day, time: f"{day}{(*MONTHS, 'okt')[int(month) % 13]}{year}{time}",
    lambda year, month, day, time: f"{day}{(*MONTHS, 'Maj')[int(month) % 13].upper()}{year}{time}",
    lambda year, month, day, _: year[:2] + day,
    lambda year, month, day, _: f"-{month}{day}",
    lambda year, month, day, _: f"{year[2:]}{day}.{'0' * int(month[1])}",
)


def _texts(drawn: random.Random) -> list[str | None]:
    texts: list[str | None] = [None, "1965", "1899", "2100", "-1965", "1965.0", "+2015123", "2015123.", "\u0662" * 8]
    for _ in range(6000):
        year = drawn.choice(("0000", "0001", "0123", "1000", "1849", "1900", "1965", "2015", "2016", "9999"))
        month, day = drawn.choice(("00", "01", "02", "09", "12", "13")), drawn.choice(("00", "01", "29", "30", "31"))
        time = drawn.choice(("", "", " 00:00:00", "T7:05", ":00:00:00.000", " ", "T", "x"))
        text = drawn.choice(FORMS)(year, month, day, time)
        if drawn.random() < 0.5:
            place = drawn.randrange(len(text))
            text = text[:place] + drawn.choice("0123456789-. :T+x\u00e9\n\t") + text[place + drawn.randrange(2) :]
        texts.append(text.strip(" ") or None)
    return texts


def _date(year: str, month: str, day: str) -> datetime.date | None:
    try:
        return datetime.date(int(year), int(month), int(day))
    except ValueError:
        return None


def _of_omop(text: str) -> datetime.date | None:
    found = re.fullmatch("([0-9]{4})-([0-9]{2})-([0-9]{2})([ T].*)?|([0-9]{4})([0-9]{2})([0-9]{2})", text, re.DOTALL)
    return _date(*(found.groups()[:3] if found[1] else found.groups()[4:])) if found else None


def _of_denmark(text: str, may_be_year: bool = True) -> datetime.date | None:
    bare = re.sub(rf"(?<=[^ ]){TIME}\Z", "", text)
    for form in (
        "(?P<year>[0-9]{4})(?P<month>[0-9]{2})(?P<day>[0-9]{2})",
        "(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})",
        "(?P<day>[0-9]{2})-(?P<month>[0-9]{2})-(?P<year>[0-9]{4})",
        f"(?P<day>[0-9]{{2}})(?P<month>(?i:{'|'.join(MONTHS)}))(?P<year>[0-9]{{4}})",
    ):
        found = re.fullmatch(form, bare)
        if found:
            month = found["month"].lower()
            return _date(found["year"], str(MONTHS.index(month) + 1) if month in MONTHS else month, found["day"])
    number = re.fullmatch(r"(-?[0-9]{1,5})(\.0+)?", bare)
    if number is None or (may_be_year and re.fullmatch("(19|20)[0-9]{2}", number[1])):
        return None
    return datetime.date(1960, 1, 1) + datetime.timedelta(int(number[1]))


def _in_denmark(frame: DataFrame, dates: Mapping[str, str]) -> DataFrame:
    return denmark._with_dates(frame, Site.model_construct(adapter={"sas_columns": ["d_dato"]}), dates)


@pytest.mark.parametrize(
    ("with_dates", "read", "read_of_sas"),
    [(_in_denmark, _of_denmark, lambda text: _of_denmark(text, False)), (omop._with_dates, _of_omop, _of_omop)],
    ids=["denmark", "omop"],
)
def test_dates_are_those_of_a_plain_reading(
    spark: SparkSession,
    with_dates: Callable[[DataFrame, Mapping[str, str]], DataFrame],
    read: Callable[[str], datetime.date | None],
    read_of_sas: Callable[[str], datetime.date | None],
) -> None:
    texts = _texts(random.Random(7))
    cells = list(zip(texts, reversed(texts), strict=True))
    frame = with_dates(spark.createDataFrame(cells, "d_dato string, eksd string"), {"day": "d_dato", "__other": "eksd"})
    found = frame.select("d_dato", "eksd", "day", "__other").collect()
    assert len(found) == len(texts)
    for place, reading in ((0, read_of_sas), (1, read)):
        of_cell = {row[place]: row[place + 2] for row in found}
        wrong = {cell: day for cell, day in of_cell.items() if day != (None if cell is None else reading(cell))}
        assert wrong == {}
    assert 250 < sum(row["day"] is not None for row in found) < len(texts) - 250
    assert any(row["day"] == datetime.date(1965, 5, 19) for row in found) == (with_dates is _in_denmark)


def test_whole_numbers_of_omop_are_those_of_a_plain_reading(spark: SparkSession) -> None:
    drawn = random.Random(3)
    texts = ["", "0", "-0", "8507", "+8507", "12.7", "5.", ".0", "5.00", "5 .0", "-5.0", "1e3"]
    texts += ["0" * 18 + "5", "9" * 18]
    texts += ["".join(drawn.choices("0123456789.-+ \t", k=drawn.randint(1, 6))) for _ in range(3000)]
    frame = spark.createDataFrame([(text,) for text in texts], "cell string")
    for cell, number in frame.select("cell", omop._whole_number("cell")).collect():
        whole = re.fullmatch("(-?[0-9]{1,18})([.]0+)?", cell)
        assert number == (int(whole[1]) if whole else None), cell
