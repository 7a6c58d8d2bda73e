"""Bring your own data: CSV with header, or Parquet, already in the shape of the conformed tables.

Everything here follows from schemas/: which columns there are, what they hold, which codes they may have. A date
known to the month is written YYYY-MM and becomes its 15th (a death: the last day), one known to the year is written
YYYY and becomes 1 July, none of them before the birth; the companion column says how exactly it was known.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.sources.adapter import Adapter, RawTable
from jobs.sources.claims import claims_of
from jobs.sources.life_table import PUBLISHED as PUBLISHED_LIFE_TABLES
from jobs.sources.life_table import conform_life_table
from jobs.sources.parse import ATC_SHAPE, ICD10_SHAPE, NUMBER, joined_reasons, no_code
from schemas import CONFORMED
from schemas.conformed import OLDEST
from schemas.contract import LINEAGE, PERSON_ID, Table
from schemas.contract import Column as Declared

if TYPE_CHECKING:
    from jobs.config import Site

LINEAGE_NAMES = tuple(column.name for column in LINEAGE)
TYPED = "typed_"  # prefix of typed columns, so that quarantine keeps the cells as delivered
PRECISION = "_precision"
REQUIRED_TABLES = ("person", "tumour")

RANGES = {"age": (0, OLDEST), "probability_of_death": (0, 1)}
SHAPES = {"icd10": ICD10_SHAPE, "atc": ATC_SHAPE}
DAY = r"^(\d{4}-\d{2}-\d{2})(?:[ T]00:00:00(?:\.0+)?)?$"
MONTH = r"^(\d{4}-\d{2})$"
YEAR = r"^(\d{4})$"
EARLIEST = "1850-01-01"

# (earlier, later, reason where they are the other way round)
IN_ORDER = (
    ("birth_date", "death_date", "death_before_birth"),
    ("birth_date", "emigration_date", "emigration_before_birth"),
    ("start_date", "end_date", "end_before_start"),
)


def _delivered(table: Table) -> tuple[Declared, ...]:
    """The columns that an input brings: all but the lineage."""
    return tuple(column for column in table.columns if column.name not in LINEAGE_NAMES)


def _precision(name: str) -> Column:
    text = F.col(name)
    return F.when(text.rlike(MONTH), "month").when(text.rlike(YEAR), "year").when(text.rlike(DAY), "day")


def _date(text: Column) -> Column:
    return F.try_to_date(text, "yyyy-MM-dd")


def _day(name: str) -> Column:
    """The date of a text; NULL where it is none. One that is not exact is not set after the delivery."""
    text, delivery = F.col(name), F.to_date("delivery")

    def inexact(first_of: str, chosen: Column) -> Column:
        first = _date(F.concat(text, F.lit(first_of)))
        return F.when(first <= delivery, F.least(chosen, delivery)).otherwise(first)

    fifteenth = _date(F.concat(text, F.lit("-15")))
    of_month = F.last_day(fifteenth) if name == "death_date" else fifteenth
    return (
        F.when(text.rlike(DAY), _date(F.regexp_extract(name, DAY, 1)))
        .when(text.rlike(MONTH), inexact("-01", of_month))
        .when(text.rlike(YEAR), inexact("-01-01", _date(F.concat(text, F.lit("-07-01")))))
    )


def _not_before_birth(frame: DataFrame, table: Table) -> DataFrame:
    """A date known to the month or year of the birth is at least the birth (`typed_birth_date`)."""
    birth = F.col(TYPED + "birth_date")
    names = [column.name for column in table.columns if column.type == "date" and column.name != "birth_date"]
    same = {
        name: F.col(name).rlike(f"{MONTH}|{YEAR}") & F.startswith(birth.cast("string"), F.col(name)) for name in names
    }
    return frame.withColumns(
        {
            TYPED + name: F.when(same[name], F.greatest(TYPED + name, birth)).otherwise(F.col(TYPED + name))
            for name in names
        }
    )


def _code(name: str) -> Column:
    """Codes as the other stages look for them: names of drugs in lower case, ICD-10 without dot, others upper case."""
    upper = F.upper(name)
    if name == "icd10":
        return F.regexp_replace(upper, r"\W", "")
    if name == "code":
        return F.when(F.lower("code_system") == "name", F.lower(name)).otherwise(upper)
    return upper if name == "atc" else F.col(name)


def _typed(column: Declared) -> Column:
    if column.type == "date":
        return _day(column.name)
    # A cast alone also takes NaN, Infinity and 1d for numbers.
    number = F.when(F.col(column.name).rlike(NUMBER), F.col(column.name).try_cast("double"))
    if column.type in ("int", "bigint"):
        return F.when((number == F.floor(number)) & (F.abs(number) < 2**31), number.cast(column.type))
    if column.type == "double":
        return number
    if column.codes:
        return F.lower(column.name)
    return _code(column.name)


def _when(condition: Column, reason: str) -> Column:
    return F.when(F.coalesce(condition, F.lit(False)), F.lit(reason))


def _reasons_of(column: Declared) -> list[Column]:
    """Why a cell of this column holds its row back. A missing person is ingest's own reason."""
    text, typed = F.col(column.name), F.col(TYPED + column.name)
    reasons = []
    if not column.nullable and column.name != PERSON_ID.name:
        reasons.append(_when(text.isNull(), f"missing:{column.name}"))
    if column.type == "date":
        outside = ~typed.between(F.lit(EARLIEST).cast("date"), F.to_date("delivery"))
        reasons.append(_when(text.isNotNull() & (typed.isNull() | outside), f"impossible_date:{column.name}"))
    elif column.type != "string":
        wrong = typed.isNull() | ~typed.between(*RANGES[column.name]) if column.name in RANGES else typed.isNull()
        reasons.append(_when(text.isNotNull() & wrong, f"impossible_number:{column.name}"))
    elif column.name in SHAPES:
        reasons.append(no_code(column.name, typed, SHAPES[column.name]))
    elif column.codes:
        reasons.append(_when(~typed.isin(*column.codes), f"unknown_code:{column.name}"))
    return reasons


def _annotate(table: Table, frame: DataFrame, _: Site) -> DataFrame:
    """Adds `typed_<column>` for every column of the table, and reasons."""
    columns = _delivered(table)
    typed = frame.withColumns({TYPED + column.name: _typed(column) for column in columns if not column.identifies})
    typed = typed.withColumns({TYPED + column.name: F.col(column.name) for column in columns if column.identifies})
    companions = [column.name for column in columns if column.name.endswith(PRECISION)]
    typed = typed.withColumns(
        {
            TYPED + name: F.when(
                F.col(TYPED + name.removesuffix(PRECISION)).isNotNull(),
                F.coalesce(TYPED + name, _precision(name.removesuffix(PRECISION))),
            )
            for name in companions
        }
    )
    names = {column.name for column in columns}
    if "birth_date" in names:
        typed = typed.transform(_not_before_birth, table)
    reasons = [reason for column in columns for reason in _reasons_of(column)]
    reasons += [
        _when(F.col(TYPED + later) < F.col(TYPED + earlier), reason)
        for earlier, later, reason in IN_ORDER
        if {earlier, later} <= names
    ]
    return typed.withColumn("reasons", joined_reasons(*reasons))


def _select(table: Table, frame: DataFrame) -> DataFrame:
    names = [column.name for column in _delivered(table)]
    return frame.select(*(F.col(TYPED + name).alias(name) for name in names), *LINEAGE_NAMES)


def _conform(accepted: Mapping[str, DataFrame], site: Site) -> dict[str, DataFrame]:
    births = accepted["person"].select("person_id", TYPED + "birth_date")
    published = {raw.name for raw in PUBLISHED_LIFE_TABLES} & set(accepted)
    conformed = conform_life_table({name: accepted[name] for name in published}, site)
    for name, frame in accepted.items():
        if name in published:
            continue
        table = CONFORMED[name]
        if PERSON_ID in table.columns and name != "person":
            frame = frame.join(births, on="person_id", how="left").transform(_not_before_birth, table)
        conformed[name] = _select(table, frame)
    conformed["person_claims"] = claims_of(conformed.pop("person").withColumn("priority", F.lit(1)))
    return conformed


def _raw_table(table: Table) -> RawTable:
    columns = _delivered(table)
    parts = tuple(column.name for column in columns if column.identifies and column.name != PERSON_ID.name)
    return RawTable(
        name=table.name,
        annotate=partial(_annotate, table),
        columns=tuple(column.name for column in columns if not column.nullable),
        optional=tuple(column.name for column in columns if column.nullable),
        id_column=PERSON_ID.name if PERSON_ID in columns else None,
        id_parts=parts,
        required=table.name in REQUIRED_TABLES,
        unique=() if set(table.key) & set(LINEAGE_NAMES) else tuple(TYPED + name for name in table.key),
    )


ADAPTER = Adapter(
    "conformed",
    (*(_raw_table(table) for table in CONFORMED.values()), *PUBLISHED_LIFE_TABLES),
    _conform,
)
