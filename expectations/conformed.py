"""Expectations of the conformed tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import Column, Window
from pyspark.sql import functions as F

from expectations.rule import Context, Expectations, Rule

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

FIRST_BIRTH = "1850-01-01"
OLDEST_YEARS = 115


def _later_than_delivery(column: str) -> Rule:
    return Rule(f"{column} is not after the delivery", lambda context: F.col(column) > F.lit(context["delivery"]).cast("date"))


def _with_birth(frame: DataFrame, context: Context) -> DataFrame:
    person = context["tables"].get("person")
    if person is None:
        return frame.withColumns({"__known": F.lit(True), "__born": F.lit(None).cast("date")})
    known = person.select("person_id", F.col("birth_date").alias("__born"), F.lit(True).alias("__known"))
    return frame.join(known, "person_id", "left")


def _unknown_person(severity: str, share: float) -> Rule:
    rule = Rule("person is in the person table", lambda _: F.col("__known").isNull(), "warning", share)
    return Rule(rule.name, rule.violates, "critical", share) if severity == "critical" else rule


def _before_birth(column: str) -> Rule:
    return Rule(f"{column} is not before birth", lambda _: F.col(column) < F.col("__born"), "warning", 0.001)


def _not_like(column: str, pattern: str) -> Column:
    return ~F.col(column).rlike(pattern)


person = Expectations(
    "person",
    (
        Rule("death is not before birth", lambda _: F.col("death_date") < F.col("birth_date")),
        Rule("birth is not before 1850", lambda _: F.col("birth_date") < F.lit(FIRST_BIRTH).cast("date")),
        _later_than_delivery("birth_date"),
        _later_than_delivery("death_date"),
        Rule("person_id is a pseudonym", lambda _: _not_like("person_id", "^[0-9a-f]{32}$")),
        Rule(
            f"nobody is older than {OLDEST_YEARS} years",
            lambda context: F.months_between(
                F.coalesce("death_date", F.lit(context["delivery"]).cast("date")), F.col("birth_date")
            )
            > OLDEST_YEARS * 12,
            "warning",
        ),
        Rule("region is known", lambda _: F.col("region").isNull(), "warning", 0.05),
    ),
)

tumour = Expectations(
    "tumour",
    (
        Rule("icd10 is a code without dot", lambda _: _not_like("icd10", "^[A-Z][0-9]{2}[0-9A-Z]{0,3}$")),
        _later_than_delivery("diagnosis_date"),
        _unknown_person("critical", 0.01),
        _before_birth("diagnosis_date"),
        Rule("stage is known", lambda _: F.col("stage").isNull(), "warning", 0.25),
    ),
    _with_birth,
)

recurrence = Expectations(
    "recurrence",
    (_later_than_delivery("event_date"), _unknown_person("warning", 0.01), _before_birth("event_date")),
    _with_birth,
)

dispensing = Expectations(
    "dispensing",
    (
        Rule("atc is a whole ATC code", lambda _: _not_like("atc", "^[A-Z][0-9]{2}[A-Z]{2}[0-9]{2}$"), "warning", 0.01),
        _later_than_delivery("dispensed_date"),
        Rule("days of supply are positive", lambda _: F.col("days_supply") <= 0, "warning"),
    ),
)

hospital_diagnosis = Expectations(
    "hospital_diagnosis",
    (
        Rule("the contact does not end before it starts", lambda _: F.col("end_date") < F.col("start_date")),
        Rule("icd10 is a code without dot", lambda _: _not_like("icd10", "^[A-Z][0-9]{2}[0-9A-Z]{0,3}$"), "warning", 0.01),
        _later_than_delivery("start_date"),
    ),
)

hospital_drug = Expectations(
    "hospital_drug",
    (
        Rule("the period does not end before it starts", lambda _: F.col("end_date") < F.col("start_date")),
        _later_than_delivery("start_date"),
        Rule(
            "an ATC code looks like one",
            lambda _: (F.col("code_system") == "atc") & _not_like("code", "^[A-Z][0-9]{2}[A-Z]{2}[0-9]{2}$"),
            "warning",
            0.01,
        ),
    ),
)

biomarker = Expectations("biomarker", (_later_than_delivery("sample_date"), _unknown_person("warning", 0.01)), _with_birth)


def _with_next_age(frame: DataFrame, _: Context) -> DataFrame:
    series = Window.partitionBy("country", "region", "sex", "year").orderBy("age")
    years = Window.partitionBy("country", "region", "sex", "age").orderBy("year")
    return frame.withColumns({"__next_age": F.lead("age").over(series), "__next_year": F.lead("year").over(years)})


life_table = Expectations(
    "life_table",
    (
        Rule("probability is between 0 and 1", lambda _: ~F.col("probability_of_death").between(0, 1)),
        Rule("no age is missing between two others", lambda _: F.col("__next_age") > F.col("age") + 1),
        Rule("no year is missing between two others", lambda _: F.col("__next_year") > F.col("year") + 1),
    ),
    _with_next_age,
)

CONFORMED = (
    person, tumour, recurrence, dispensing, hospital_diagnosis, hospital_drug, biomarker, life_table,
)  # fmt: skip
