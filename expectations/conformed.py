"""Expectations of the conformed tables.

A date known to the month or year stands for all of it: it is only wrong where no day of that month or year is right.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING

from pyspark.sql import Column, Window
from pyspark.sql import functions as F

from expectations.rule import Context, Expectations, Rule
from schemas import TABLES
from schemas.conformed import OLDEST

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

FIRST_BIRTH = "1850-01-01"
OLDEST_YEARS = 115
ICD10 = "^[A-Z][0-9]{2}[0-9A-Z]{0,3}$"
MORPHOLOGY = "^[0-9]{4}/[0-9]$"
ATC = "^Q?[A-Z]([0-9]{2}([A-Z]([A-Z]([0-9]{2})?)?)?)?$"  # any level, and Q for veterinary use
WHOLE_ATC = "^Q?[A-Z][0-9]{2}[A-Z]{2}[0-9]{2}$"
LONGEST_STAY_DAYS = 730
LONGEST_PERIOD_DAYS = 3653
LARGEST_SUPPLY_DAYS = 400
NAMED_RESULTS = {
    "ihc": ("0", "1+", "2+", "3+", "positive", "negative", "equivocal"),
    "ish": ("amplified", "not_amplified", "equivocal"),
}


def _first_possible(table: str, date: str) -> Column:
    return _inexact(table, date, F.trunc(date, "month"), F.trunc(date, "year"))


def _last_possible(table: str, date: str) -> Column:
    return _inexact(table, date, F.last_day(date), F.make_date(F.year(date), F.lit(12), F.lit(31)))


def _inexact(table: str, date: str, month: Column, year: Column) -> Column:
    precision = f"{date}_precision"
    if precision not in TABLES[table].column_names:
        return F.col(date)
    known_to = F.col(precision)
    return F.when(known_to == "month", month).when(known_to == "year", year).otherwise(F.col(date))


def _unlike(column: str, *patterns: str) -> Callable[[Context], Column]:
    return lambda _: ~reduce(Column.__or__, [F.col(column).rlike(pattern) for pattern in patterns])


def _delivery(context: Context) -> Column:
    return F.lit(context["delivery"]).cast("date")


def _not_after_delivery(table: str, date: str) -> Rule:
    return Rule(f"{date} is not after the delivery", lambda context: _first_possible(table, date) > _delivery(context))


def _with_person(frame: DataFrame, context: Context) -> DataFrame:
    """Adds __known, __born (earliest possible) and __died (latest possible) of the row's person."""
    person = context["tables"].get("person")
    if person is None:
        nothing = F.lit(None).cast("date")
        return frame.withColumns({"__known": F.lit(True), "__born": nothing, "__died": nothing})
    known = person.select(
        "person_id",
        F.lit(True).alias("__known"),
        _first_possible("person", "birth_date").alias("__born"),
        _last_possible("person", "death_date").alias("__died"),
    )
    return frame.join(known, on="person_id", how="left")


def _person_rules(table: str, date: str) -> tuple[Rule, ...]:
    """The rules on the columns of `_with_person`. One person in a hundred without a row means that the tables do not
    belong together."""
    return (
        Rule("person is in the person table", lambda _: F.col("__known").isNull(), share=0.01),
        Rule(f"{date} is not before birth", lambda _: _last_possible(table, date) < F.col("__born"), "warning"),
        Rule(f"{date} is not after death", lambda _: _first_possible(table, date) > F.col("__died"), "warning"),
    )


def _age_limit(context: Context) -> Column:
    last_seen = F.coalesce("death_date", "emigration_date", _delivery(context))
    return F.months_between(last_seen, F.col("birth_date")) > 12 * OLDEST_YEARS


person = Expectations(
    "person",
    (
        Rule("death is not before birth", lambda _: F.col("death_date") < _first_possible("person", "birth_date")),
        Rule(
            "emigration is not before birth",
            lambda _: F.col("emigration_date") < _first_possible("person", "birth_date"),
        ),
        Rule(
            f"birth is not before {FIRST_BIRTH[:4]}",
            lambda _: F.col("birth_date") < F.lit(FIRST_BIRTH).cast("date"),
        ),
        _not_after_delivery("person", "birth_date"),
        _not_after_delivery("person", "death_date"),
        Rule(f"nobody is older than {OLDEST_YEARS} years", _age_limit, "warning"),
        Rule(
            "emigration is not after death",
            lambda _: F.col("emigration_date") > _last_possible("person", "death_date"),
            "warning",
        ),
    ),
)

tumour = Expectations(
    "tumour",
    (
        Rule("icd10 is a code without dot", _unlike("icd10", ICD10)),
        _not_after_delivery("tumour", "diagnosis_date"),
        *_person_rules("tumour", "diagnosis_date"),
        Rule("morphology is four digits / one digit", _unlike("morphology", MORPHOLOGY), "warning", 0.01),
        Rule("stage is known for 75 % or more", lambda _: F.col("stage").isNull(), "warning", 0.25),
        Rule(
            "at most 10 % rest on a death certificate or an autopsy",
            lambda _: F.col("basis").isin("death_certificate", "autopsy"),
            "warning",
            0.1,
        ),
    ),
    _with_person,
    ("person",),
)


def _with_tumour(frame: DataFrame, context: Context) -> DataFrame:
    """Adds __registered and __diagnosed (earliest possible) of the tumour that the row names, and the person's."""
    tumour = context["tables"].get("tumour")
    if tumour is None:
        return frame.withColumns({"__registered": F.lit(True), "__diagnosed": F.lit(None).cast("date")}).transform(
            _with_person, context
        )
    registered = tumour.select(
        "person_id",
        "tumour_id",
        F.lit(True).alias("__registered"),
        _first_possible("tumour", "diagnosis_date").alias("__diagnosed"),
    )
    return frame.join(registered, on=["person_id", "tumour_id"], how="left").transform(_with_person, context)


recurrence = Expectations(
    "recurrence",
    (
        _not_after_delivery("recurrence", "event_date"),
        *_person_rules("recurrence", "event_date"),
        Rule(
            "the tumour named is in the tumour table",
            lambda _: F.col("tumour_id").isNotNull() & F.col("__registered").isNull(),
            "warning",
        ),
        Rule(
            "no recurrence is before the diagnosis of its tumour",
            lambda _: _last_possible("recurrence", "event_date") < F.col("__diagnosed"),
            "warning",
        ),
    ),
    _with_tumour,
    ("person", "tumour"),
)

dispensing = Expectations(
    "dispensing",
    (
        # Most are whole, which the next rule asks too, and the engine once.
        Rule("atc is an ATC code of some level", _unlike("atc", WHOLE_ATC, ATC), share=0.01),
        Rule("atc is a whole code for 95 % or more", _unlike("atc", WHOLE_ATC), "warning", 0.05),
        _not_after_delivery("dispensing", "dispensed_date"),
        Rule("no number of packages is 0", lambda _: F.col("packages") == 0, "warning"),
        Rule(
            f"days of supply are 1 to {LARGEST_SUPPLY_DAYS}",
            lambda _: ~F.col("days_supply").between(1, LARGEST_SUPPLY_DAYS),
            "warning",
        ),
    ),
)

hospital_diagnosis = Expectations(
    "hospital_diagnosis",
    (
        Rule("no contact ends before it starts", lambda _: F.col("end_date") < F.col("start_date")),
        Rule("icd10 is a code without dot", _unlike("icd10", ICD10), share=0.01),
        _not_after_delivery("hospital_diagnosis", "start_date"),
        Rule(
            f"no contact is longer than {LONGEST_STAY_DAYS} days",
            lambda _: F.datediff("end_date", "start_date") > LONGEST_STAY_DAYS,
            "warning",
            0.001,
        ),
    ),
)

hospital_drug = Expectations(
    "hospital_drug",
    (
        Rule("no period ends before it starts", lambda _: F.col("end_date") < F.col("start_date")),
        _not_after_delivery("hospital_drug", "start_date"),
        Rule(
            "a code of the system atc is an ATC code of some level",
            lambda _: (F.col("code_system") == "atc") & ~F.col("code").rlike(ATC),
            share=0.01,
        ),
        Rule(
            f"no period is longer than {LONGEST_PERIOD_DAYS} days",
            lambda _: F.datediff("end_date", "start_date") > LONGEST_PERIOD_DAYS,
            "warning",
            0.001,
        ),
    ),
)


def _strange_result(_: Context) -> Column:
    percent = F.col("result").try_cast("double").between(0, 100)
    strange = F.when(F.col("method") == "percent", ~F.coalesce(percent, F.lit(False)))
    for method, results in NAMED_RESULTS.items():
        strange = strange.when(F.col("method") == method, ~F.col("result").isin(*results))
    return strange


biomarker = Expectations(
    "biomarker",
    (
        _not_after_delivery("biomarker", "sample_date"),
        *_person_rules("biomarker", "sample_date"),
        Rule("the result is one that its method can have", _strange_result, "warning"),
    ),
    _with_person,
    ("person",),
)


def _with_extent(frame: DataFrame, _: Context) -> DataFrame:
    """Adds whether a population (country x region x sex) lacks a year, or an age below the year's last, and whether the
    country and region have only one sex."""
    everything = (Window.unboundedPreceding, Window.unboundedFollowing)
    population = Window.partitionBy("country", "region", "sex").rowsBetween(*everything)
    of_year = Window.partitionBy("country", "region", "sex", "year").rowsBetween(*everything)
    place = Window.partitionBy("country", "region").rowsBetween(*everything)
    years = F.max("year").over(population) - F.min("year").over(population) + 1
    ages = F.max("age").over(of_year) - F.min("age").over(population) + 1
    return frame.withColumns(
        {
            "__gap": (F.size(F.collect_set("year").over(population)) < years)
            | (F.count(F.lit(1)).over(of_year) < ages),
            "__one_sex": F.min("sex").over(place) == F.max("sex").over(place),
        }
    )


life_table = Expectations(
    "life_table",
    (
        Rule(
            "probability is between 0 and 1",
            lambda _: ~F.col("probability_of_death").between(0, 1),
        ),
        Rule("every year from first to last has every age up to its last", lambda _: F.col("__gap")),
        Rule(f"age is 0 to {OLDEST}", lambda _: ~F.col("age").between(0, OLDEST)),
        Rule("both sexes are there", lambda _: F.col("__one_sex"), "warning"),
    ),
    _with_extent,
)

CONFORMED = (person, tumour, recurrence, dispensing, hospital_diagnosis, hospital_drug, biomarker, life_table)
