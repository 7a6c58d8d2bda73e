"""Expectations of a study's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import Column, Window
from pyspark.sql import functions as F

from expectations.rule import Context, Expectations, Rule

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def _outside_period(context: Context) -> Column:
    period = context["study"].period
    return ~F.col("index_date").between(F.lit(period.index_from), F.lit(period.index_until))


cohort = Expectations(
    "cohort",
    (
        Rule("index date lies in the study's period", _outside_period),
        Rule(
            "age is at least the study's minimum",
            lambda context: F.col("age_at_index") < context["study"].cohort.age_min,
        ),
        Rule("follow-up does not end before index", lambda _: F.col("follow_up_end") < F.col("index_date")),
        Rule("survival does not end before index", lambda _: F.col("survival_end") < F.col("index_date")),
        Rule("follow-up for lines does not outlast survival", lambda _: F.col("follow_up_end") > F.col("survival_end")),
        Rule(
            "survival ends within the study",
            lambda context: F.col("survival_end") > F.lit(context["study"].period.follow_up_until),
        ),
        Rule("hormone receptors are known", lambda _: F.col("receptor") == "unknown", "warning", 0.2),
        Rule("tumours of a person agree on receptors", lambda _: F.col("receptor_disagrees"), "warning", 0.05),
    ),
)

exposures = Expectations(
    "exposures",
    (
        Rule("given_from is not after given_to", lambda _: F.col("given_from") > F.col("given_to")),
        Rule("cover reaches beyond the last given day", lambda _: F.col("given_to") >= F.col("covered_until")),
        Rule(
            "cover beyond the last given day is at most a year",
            lambda _: F.datediff("covered_until", "given_to") > 366,
            "warning",
        ),
    ),
)


def _with_neighbours(frame: DataFrame, context: Context) -> DataFrame:
    of_person = Window.partitionBy("rule_set", "person_id").orderBy("line_number")
    people = context["tables"]["cohort"].select("person_id", F.col("follow_up_end").alias("__end"))
    return frame.withColumns(
        {
            "__previous_end": F.lag("line_end").over(of_person),
            "__expected_number": F.row_number().over(of_person),
            "__sorted": F.array_sort(F.array_distinct("regimen")),
        }
    ).join(people, "person_id", "left")


treatment_lines = Expectations(
    "treatment_lines",
    (
        Rule("duration is end minus start", lambda _: F.col("duration_days") != F.datediff("line_end", "line_start")),
        Rule("no line ends before it starts", lambda _: F.col("line_end") < F.col("line_start")),
        Rule("lines of a person do not overlap", lambda _: F.col("line_start") < F.col("__previous_end")),
        Rule("lines are numbered without holes", lambda _: F.col("line_number") != F.col("__expected_number")),
        Rule("regimen is not empty", lambda _: F.size("regimen") == 0),
        Rule("regimen is a sorted set", lambda _: F.col("regimen") != F.col("__sorted")),
        Rule("person is in the cohort", lambda _: F.col("__end").isNull()),
        Rule("no line ends after follow-up", lambda _: F.col("line_end") > F.col("__end")),
        Rule(
            "the end is observed for switch, gap and death",
            lambda _: F.col("end_observed") != F.col("end_reason").isin("switch", "gap", "death"),
        ),
    ),
    _with_neighbours,
)

DERIVED = (cohort, exposures, treatment_lines)
