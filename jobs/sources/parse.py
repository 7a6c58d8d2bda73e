"""Dates and codes as registers write them, as pure column functions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

if TYPE_CHECKING:
    from jobs.config import Site

EARLIEST = "1850-01-01"
MALFORMED = "malformed_row"
ATC_SHAPE = r"^Q?[A-Z](\d{2}([A-Z]([A-Z](\d{2})?)?)?)?$"  # of any level, and Q for veterinary use
ICD10_SHAPE = r"^[A-Z]\d{2}[0-9A-Z]{0,3}$"  # without dot
NUMBER = r"^[+-]?(\d{1,15}(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?$"
# A year, and a month and a day that may be left out from the end; dashes may stand also where a part is left out.
PARTIAL = r"^\d{4}(?:-?\d{2}-?\d{2}|-?\d{2}-?|-{0,2})$"


def _compact_number(name: str) -> Column:
    """A compact date as the number YYYYMMDD, whatever was written."""
    # By numbers: the engine's parser of dates takes many times as long. A sign, a point or a blank in the place of a
    # digit leaves a number that is too small.
    size, written = F.octet_length(F.col(name)), F.col(name).try_cast("int")
    return F.when(size == 8, written).when(size == 6, written * 100 + 15).when(size == 4, written * 10_000 + 701)


def _date_of_number(day: Column) -> Column:
    year, month = F.floor(day / 10_000).cast("int"), F.floor(day / 100).cast("int") % 100
    return F.make_date(year, month, day % 100)


def with_compact_dates(frame: DataFrame, dates: Mapping[str, str]) -> DataFrame:
    """Adds columns with the compact dates of others: YYYYMMDD as it is, YYYYMM as the 15th, YYYY as 1 July; NULL for
    anything else."""
    numbers = {f"__number_{name}": _compact_number(cell) for name, cell in dates.items()}
    typed = {
        name: F.when(F.col(number) >= 10_000_000, _date_of_number(F.col(number)))
        for name, number in zip(dates, numbers, strict=True)
    }
    return frame.withColumns(numbers).withColumns(typed).drop(*numbers)


def with_whole_dates(frame: DataFrame, written: Mapping[str, Column]) -> DataFrame:
    """Adds columns with the dates of texts, YYYYMMDD; NULL for anything else. In steps: see `with_partial_dates`."""
    texts = frame.withColumns({f"__digits_{name}": text for name, text in written.items()})
    digits = {name: F.col(f"__digits_{name}") for name in written}
    numbers = {name: F.when(F.octet_length(text) == 8, text.try_cast("int")) for name, text in digits.items()}
    read = texts.withColumns({f"__number_{name}": number for name, number in numbers.items()})

    def typed(name: str) -> Column:
        # With a sign, a point or a blank in the place of a digit the number is as small as that of an early year.
        number = F.col(f"__number_{name}")
        is_early = (number >= 10_000) & digits[name].rlike(r"^0\d{7}$")
        return F.when((number >= 10_000_000) | is_early, _date_of_number(number))

    return read.withColumns({name: typed(name) for name in written})


def digits_between_dashes(text: Column, *parts: tuple[int, int]) -> Column:
    """What stands at these places (first sign, how many), put together; NULL unless a dash stands before each that does
    not begin the text."""
    dashes = [F.substring(text, first - 1, 1) == "-" for first, _ in parts if first > 1]
    return F.when(reduce(and_, dashes), F.concat(*(F.substring(text, first, size) for first, size in parts)))


def compact_precision(name: str) -> Column:
    """day, month or year by the length of a compact date."""
    size = F.octet_length(F.col(name))
    return F.when(size == 8, "day").when(size == 6, "month").when(size == 4, "year")


def not_after_delivery(day: Column, known_to: Column) -> Column:
    """The day of a date known to the day, the month or the year; that of an inexact one is the delivery's where it
    would lie after it, unless the whole month or year does."""
    delivery = F.to_date("delivery")
    is_capped = (known_to != "day") & (first_day(day, known_to) <= delivery)
    return F.when(is_capped, F.least(day, delivery)).otherwise(day)


def with_capped_dates(frame: DataFrame, dates: Mapping[str, str]) -> DataFrame:
    """Adds columns as `with_compact_dates` does; an inexact date is not set after the delivery."""
    capped = {name: not_after_delivery(F.col(name), compact_precision(cell)) for name, cell in dates.items()}
    return with_compact_dates(frame, dates).withColumns(capped)


def first_day(day: Column, known_to: Column) -> Column:
    """The first day that a date known to the day, the month or the year may be."""
    of_period = F.when(known_to == "month", F.trunc(day, "month")).when(known_to == "year", F.trunc(day, "year"))
    return of_period.otherwise(day)


def last_day(day: Column, known_to: Column) -> Column:
    """The last day that a date known to the day, the month or the year may be."""
    of_year = F.make_date(F.year(day), F.lit(12), F.lit(31))
    return F.when(known_to == "month", F.last_day(day)).when(known_to == "year", of_year).otherwise(day)


def with_partial_dates(frame: DataFrame, written: Mapping[str, Column]) -> DataFrame:
    """Adds to rows with a `delivery` what `partial_day`, `partial_precision` and `capped_day` of these names give: of
    YYYY, YYYYMM or YYYYMMDD, with or without dashes, where 00 or 99 stands for an unknown month or day.

    In steps: the engine's plan has all that makes a column wherever the column is used in the same one.
    """
    texts = frame.withColumns({f"__text_{name}": text for name, text in written.items()})
    digits = {name: F.col(f"__digits_{name}") for name in written}
    read = texts.withColumns({f"__digits_{name}": _digits(F.col(f"__text_{name}")) for name in written})
    parts = {
        **{f"__month_{name}": _known_part(text, 5) for name, text in digits.items()},
        **{f"__number_of_day_{name}": _known_part(text, 7) for name, text in digits.items()},
    }
    dated = read.withColumns(parts).withColumns({f"__day_{name}": _partial(name) for name in written})
    known = dated.withColumns({f"__known_to_{name}": _known_to(name) for name in written})
    capped = {name: not_after_delivery(partial_day(name), partial_precision(name)) for name in written}
    return known.withColumns({f"__capped_{name}": day for name, day in capped.items()})


def partial_day(name: str) -> Column:
    """What is known to the month as the 15th, to the year as 1 July; NULL for anything else."""
    return F.col(f"__day_{name}")


def partial_precision(name: str) -> Column:
    """day, month or year: what of a partial date is known; NULL where it is none."""
    return F.col(f"__known_to_{name}")


def capped_day(name: str) -> Column:
    """The day of `partial_day`; one that is inexact is not set after the delivery."""
    return F.col(f"__capped_{name}")


def _digits(text: Column) -> Column:
    return F.when(text.rlike(PARTIAL) & ~F.startswith(text, F.lit("0000")), F.replace(text, F.lit("-"), F.lit("")))


def _known_part(digits: Column, first: int) -> Column:
    """The number of the month or day; NULL where unknown."""
    part = F.substring(digits, first, 2)
    return F.when(~part.isin("00", "99"), part.try_cast("int"))


def _partial(name: str) -> Column:
    year, month, day = F.substring(f"__digits_{name}", 1, 4), F.col(f"__month_{name}"), F.col(f"__number_of_day_{name}")
    whole = F.make_date(year.try_cast("int"), month, F.coalesce(day, F.lit(15)))
    return F.when(month.isNull(), F.make_date(year.try_cast("int"), F.lit(7), F.lit(1))).otherwise(whole)


def _known_to(name: str) -> Column:
    month, day = F.col(f"__month_{name}"), F.col(f"__number_of_day_{name}")  # of an unknown month no day is known
    known_to = F.when(month.isNull(), "year").when(day.isNull(), "month").otherwise("day")
    return F.when(partial_day(name).isNotNull(), known_to)


def reason(condition: Column, code: str) -> Column:
    """The reason's code where the condition holds, NULL where it does not or cannot be told."""
    return F.when(F.coalesce(condition, F.lit(False)), F.lit(code))


def impossible(name: str, typed: Column) -> Column:
    """A date that is written and is none, or lies before 1850 or after the delivery."""
    outside = ~typed.between(F.lit(EARLIEST).cast("date"), F.to_date("delivery"))
    return reason(F.col(name).isNotNull() & (typed.isNull() | outside), f"impossible_date:{name}")


def number(name: str) -> Column:
    """A number with decimal point or comma, DOUBLE; NULL for anything else, thousands separators and NaN included."""
    text = F.replace(F.col(name), F.lit(","), F.lit("."))
    return F.when(text.rlike(NUMBER), text.try_cast("double"))


def impossible_number(name: str, typed: Column) -> Column:
    """A number that is written and is none."""
    return reason(F.col(name).isNotNull() & typed.isNull(), f"impossible_number:{name}")


def missing(name: str) -> Column:
    """A cell that must not be empty."""
    return reason(F.col(name).isNull(), f"missing:{name}")


def unknown_code(name: str, known: Mapping[str, str]) -> Column:
    """A code without a meaning."""
    return reason(F.col(name).isNotNull() & ~F.col(name).isin(*known), f"unknown_code:{name}")


def no_code(name: str, code: Column, shape: str) -> Column:
    """A code that does not have the form of its system."""
    return reason(F.col(name).isNotNull() & ~code.rlike(shape), f"unknown_code:{name}")


def site_codes(site: Site, key: str, default: Mapping[str, str]) -> dict[str, str]:
    """The meaning of codes: the site file's under `adapter`, else the adapter's own."""
    return {str(code): str(value or "") for code, value in site.adapter.get(key, default).items()}


def decoded(code: Column | str, meaning: Mapping[str, str]) -> Column:
    """The meaning of each code; NULL for others and for codes that mean nothing."""
    cell = F.col(code) if isinstance(code, str) else code
    column: Column | None = None
    for known, value in meaning.items():
        column = F.when(cell == known, value or None) if column is None else column.when(cell == known, value or None)
    return F.lit(None).cast("string") if column is None else column.cast("string")


def bare_code(text: Column) -> Column:
    """A code in upper case without dots, blanks and other signs."""
    # Most are bare, and to replace nothing takes the engine three times as long as to find nothing.
    bare = F.upper(F.regexp_replace(text, r"\W", ""))
    return F.when(text.rlike("[^0-9A-Z]"), bare).otherwise(text)


def counted_codes(rows: DataFrame, raw_table: str, column: str, code: Column | None = None) -> DataFrame:
    """How often each code stands in a column of a raw table's rows: raw_table, column, code, n."""
    counted = rows.groupBy((F.col(column) if code is None else code).alias("code")).agg(F.count("*").alias("n"))
    return counted.select(F.lit(raw_table).alias("raw_table"), F.lit(column).alias("column"), "code", "n")


def is_malformed() -> Column:
    """Whether a row has too few or too many cells, by its reasons as an array: none of them may be what it stands
    for."""
    return F.array_contains("reasons", MALFORMED)


def joined_reasons(*reasons: Column) -> Column:
    """The reasons that hold, as text with commas between; ingest makes the array, for most rows have none."""
    return F.concat_ws(",", *reasons)
