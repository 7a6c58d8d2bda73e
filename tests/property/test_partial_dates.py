"""Dates of which parts are unknown, against a plain reading of the same texts."""

from __future__ import annotations

import datetime
import random
import re

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs.sources.parse import capped_day, partial_day, partial_precision, with_partial_dates

UNKNOWN = ("00", "99")
DELIVERY = datetime.date(2016, 1, 10)


def _read(text: str | None) -> tuple[datetime.date | None, str | None]:
    """Day and precision, one sign after the other."""
    year, rest = (text or "")[:4], (text or "")[4:]
    if not re.fullmatch("[0-9]{4}", year) or year == "0000":
        return None, None
    parts: list[str] = []
    while rest:
        dash = rest.startswith("-")
        rest = rest[dash:]
        if re.match("[0-9]{2}", rest) and len(parts) < 2:
            parts.append(rest[:2])
            rest = rest[2:]
        elif dash and rest in (("", "-"), ("",), ())[len(parts)]:  # as many dashes as parts that are not said
            break
        else:
            return None, None
    month = int(parts[0]) if parts and parts[0] not in UNKNOWN else None
    day = int(parts[1]) if month is not None and len(parts) == 2 and parts[1] not in UNKNOWN else None
    known_to = "year" if month is None else "month" if day is None else "day"
    try:
        return datetime.date(int(year), month or 7, day or (1 if month is None else 15)), known_to
    except ValueError:
        return None, None


def _capped(day: datetime.date | None, known_to: str | None) -> datetime.date | None:
    """The delivery's day, where an inexact date of the delivery's own month or year lies after it."""
    if day is None or known_to == "day" or day <= DELIVERY:
        return day
    is_own = day.year == DELIVERY.year and (known_to == "year" or day.month == DELIVERY.month)
    return DELIVERY if is_own else day


def test_partial_dates_are_those_of_a_plain_reading(spark: SparkSession) -> None:
    drawn = random.Random(11)
    texts = ["".join(drawn.choices("0123456789-. x", k=drawn.randint(0, 11))) for _ in range(1000)]
    years, twos = ("0000", "0001", "1850", "1999", "2016", "9999"), ("", "00", "01", "02", "12", "13", "29", "31", "99")
    for _ in range(6000):
        first, second, third = (drawn.choice(("", "", "-", "--")) for _ in range(3))
        texts.append(drawn.choice(years) + first + drawn.choice(twos) + second + drawn.choice(twos) + third)
    texts += [None, "٢٠١٦", "２０１６", "2016\u00a0", "+2016", "20160229", "20150229"]
    cells = spark.createDataFrame([(text, str(DELIVERY)) for text in texts], "cell string, delivery string")
    frame = with_partial_dates(cells, {"d": F.col("cell")})
    told = (partial_day("d").alias("day"), partial_precision("d").alias("known_to"), capped_day("d").alias("capped"))
    found = frame.select("cell", *told).collect()
    assert len(found) == len(texts)
    for row in found:
        assert (row.day, row.known_to) == _read(row.cell), row.cell
        assert row.capped == _capped(*_read(row.cell)), row.cell
    assert {row.cell[:4] for row in found if row.capped != row.day} == {"2016"}
    assert {row.known_to for row in found} == {"day", "month", "year", None}
