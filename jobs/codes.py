"""From the codes of the sources to substances, by conf/drugs.yaml."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.local_frame import local_frame

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.config import Codes, Drugs

CODE_COLUMNS = "code_system string, code string, valid_from date, valid_until date, substance string"
DRUG_ROW_COLUMNS = (
    "person_id string, source string, code_system string, code string, start_date date, end_date date, "
    "quantity double, packages double, ddd double, days_supply int, source_file string, source_row bigint"
)
ALWAYS = (date(1, 1, 1), date(9999, 12, 31))
DRUG_TABLES = ("hospital_drug", "dispensing")


def code_rows(drugs: Drugs, country: str | None) -> list[tuple[str, str, date, date, str]]:
    """(code system, code, first day, last day, substance): one row per substance that a code means.

    National codes are those of `country`; of every country where it is None.
    """
    entries: list[tuple[tuple[str, ...], Codes]] = [
        *(((name,), substance) for name, substance in drugs.substances.items()),
        *((product.substances, product) for product in drugs.products.values()),
    ]
    rows: set[tuple[str, str, date, date, str]] = set()
    for substances, entry in entries:
        undated = {"atc": entry.atc, "sks": entry.sks, "rxnorm": entry.rxnorm, "name": entry.names}
        for substance in substances:
            rows |= {(system, code, *ALWAYS, substance) for system, codes in undated.items() for code in codes}
            rows |= {
                ("national", national.code, national.from_, national.until, substance)
                for national in entry.national
                if country in (None, national.country)
            }
    return sorted(rows)


def code_frame(session: SparkSession, drugs: Drugs, country: str | None) -> DataFrame:
    """`code_rows` as a frame: code_system, code, valid_from, valid_until, substance."""
    return local_frame(session, code_rows(drugs, country), CODE_COLUMNS)


def drug_rows(tables: Mapping[str, DataFrame], people: DataFrame) -> DataFrame:
    """The rows of DRUG_TABLES in one shape, one row per row; a table that is absent has none.

    `end_date` is NULL where a drug was given once. `quantity` is a dispensing's packages, else its DDD.
    """
    sources = []
    if "hospital_drug" in tables:
        sources.append(
            tables["hospital_drug"].select(
                "person_id",
                F.lit("hospital_drug").alias("source"),
                "code_system",
                "code",
                "start_date",
                "end_date",
                F.lit(None).cast("double").alias("quantity"),
                F.lit(None).cast("double").alias("packages"),
                F.lit(None).cast("double").alias("ddd"),
                F.lit(None).cast("int").alias("days_supply"),
                "source_file",
                "source_row",
            )
        )
    if "dispensing" in tables:
        sources.append(
            tables["dispensing"].select(
                "person_id",
                F.lit("dispensing").alias("source"),
                F.lit("atc").alias("code_system"),
                F.col("atc").alias("code"),
                F.col("dispensed_date").alias("start_date"),
                F.lit(None).cast("date").alias("end_date"),
                F.coalesce("packages", "ddd").alias("quantity"),
                "packages",
                "ddd",
                "days_supply",
                "source_file",
                "source_row",
            )
        )
    if not sources:
        return local_frame(people.sparkSession, [], DRUG_ROW_COLUMNS)
    return reduce(DataFrame.unionByName, sources)


def with_substance(rows: DataFrame, codes: DataFrame, how: str = "inner") -> DataFrame:
    """`drug_rows` with the substance of their code on the day it was given; a product's row becomes several.

    `how` is a join: `inner` keeps the rows with a substance, `left_anti` those without.
    """
    valid = F.col("start_date").between(F.col("valid_from"), F.col("valid_until"))
    same = (F.col("code_system") == F.col("known_system")) & (F.col("code") == F.col("known_code"))
    known = codes.withColumnsRenamed({"code_system": "known_system", "code": "known_code"})
    joined = rows.join(F.broadcast(known), on=same & valid, how=how)
    return joined.drop("known_system", "known_code", "valid_from", "valid_until")


def starts_with(column: str, prefixes: Collection[str]) -> Column:
    """Whether the code starts with one of the prefixes; false where there are none, NULL where the code is."""
    lengths = sorted({len(prefix) for prefix in prefixes})
    by_length = ([prefix for prefix in prefixes if len(prefix) == length] for length in lengths)
    matches = (F.substring(column, 1, length).isin(*same) for length, same in zip(lengths, by_length, strict=True))
    return reduce(or_, matches, F.lit(False))
