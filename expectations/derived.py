"""Expectations of a study's tables."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

from pyspark.sql import Column, Window
from pyspark.sql import functions as F

from expectations.rule import Context, Expectations, Rule

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

OLDEST_AT_INDEX = 115
LONGEST_COVER_DAYS = 366


def _with_membership(table: str, frame: DataFrame, context: Context) -> DataFrame:
    """Adds __member: true where the person is in `table`, or where that is not at hand."""
    others = context["tables"].get(table)
    if others is None:
        return frame.withColumn("__member", F.lit(True))
    return frame.join(others.select("person_id", F.lit(True).alias("__member")), on="person_id", how="left")


def _outside_period(context: Context) -> Column:
    period = context["study"].period
    return ~F.col("index_date").between(F.lit(period.index_from), F.lit(period.index_until))


def _strange_index_kind(context: Context) -> Column:
    by_diagnosis = context["study"].cohort.index == "diagnosis"
    return (F.col("index_kind") == "diagnosis") != F.lit(by_diagnosis)


def _late_de_novo(context: Context) -> Column:
    days: int = context["study"].cohort.de_novo_days
    return (F.col("index_kind") == "de_novo") & (F.col("disease_free_days") > days)


def _unknown_region(context: Context) -> Column:
    """Only where the study's sources cover some regions and not others."""
    by_region = any(entry.region != "*" for entry in context["study"].cohort.treatment_information)
    return F.lit(by_region) & F.col("region").isNull()


cohort = Expectations(
    "cohort",
    (
        Rule("person is in the person table", lambda _: F.col("__member").isNull()),
        Rule("index date lies in the study's period", _outside_period),
        Rule(
            "age is at least the study's minimum",
            lambda context: F.col("age_at_index") < context["study"].cohort.age_min,
        ),
        Rule("index_kind is the study's kind of index", _strange_index_kind),
        Rule("de novo spread is within the study's days of diagnosis", _late_de_novo),
        Rule("follow-up does not end before index", lambda _: F.col("follow_up_end") < F.col("index_date")),
        Rule("survival does not end before index", lambda _: F.col("survival_end") < F.col("index_date")),
        Rule("follow-up for lines does not outlast survival", lambda _: F.col("follow_up_end") > F.col("survival_end")),
        Rule("follow-up does not outlast observation", lambda _: F.col("follow_up_end") > F.col("observation_end")),
        Rule(
            "survival ends within the study",
            lambda context: F.col("survival_end") > F.lit(context["study"].period.follow_up_until),
        ),
        Rule(
            "a death that ends follow-up ends survival",
            lambda _: (F.col("follow_up_end_reason") == "death") & (F.col("survival_end_reason") != "death"),
        ),
        Rule(
            "months since prior treatment are where there was one",
            lambda _: F.col("prior_treatment") != F.col("months_since_prior").isNotNull(),
        ),
        Rule(
            "months and days before index are not negative",
            lambda _: (F.col("disease_free_days") < 0) | (F.col("months_since_prior") < 0),
        ),
        Rule(
            f"nobody is older than {OLDEST_AT_INDEX} years",
            lambda _: F.col("age_at_index") > OLDEST_AT_INDEX,
            "warning",
        ),
        Rule(
            "treatment information is there for half or more",
            lambda _: ~F.col("has_treatment_information"),
            "warning",
            0.5,
        ),
        Rule("region is known for 95 % or more", _unknown_region, "warning", 0.05),
        Rule("receptors are known for 80 % or more", lambda _: F.col("receptor") == "unknown", "warning", 0.2),
        Rule("receptors disagree for at most 5 %", lambda _: F.col("receptor_disagrees"), "warning", 0.05),
    ),
    lambda frame, context: _with_membership("person", frame, context),
    ("person",),
)

exposures = Expectations(
    "exposures",
    (
        Rule("person is in the cohort", lambda _: F.col("__member").isNull()),
        Rule("given_from is not after given_to", lambda _: F.col("given_from") > F.col("given_to")),
        Rule("cover reaches beyond the last given day", lambda _: F.col("given_to") >= F.col("covered_until")),
        Rule(
            "given_from is not after the delivery",
            lambda context: F.col("given_from") > F.lit(context["delivery"]).cast("date"),
        ),
        Rule(
            f"cover after the last given day is at most {LONGEST_COVER_DAYS} days",
            lambda _: F.datediff("covered_until", "given_to") > LONGEST_COVER_DAYS,
            "warning",
        ),
    ),
    lambda frame, context: _with_membership("cohort", frame, context),
    ("cohort",),
)


def _with_neighbours(frame: DataFrame, context: Context) -> DataFrame:
    """Adds of the person's lines in the rule set __number, __previous_end and __next_start, and of the cohort
    __member, __index, __end and __reason."""
    lines = Window.partitionBy("rule_set", "person_id").orderBy("line_number", "line_start", "line_end")
    numbered = frame.withColumns(
        {
            "__number": F.row_number().over(lines.rowsBetween(Window.unboundedPreceding, Window.currentRow)),
            "__previous_end": F.lag("line_end").over(lines),
            "__next_start": F.lead("line_start").over(lines),
        }
    )
    cohort = context["tables"].get("cohort")
    if cohort is None:
        day, text = F.lit(None).cast("date"), F.lit(None).cast("string")
        return numbered.withColumns({"__member": F.lit(True), "__index": day, "__end": day, "__reason": text})
    people = cohort.select(
        "person_id",
        F.lit(True).alias("__member"),
        F.col("index_date").alias("__index"),
        F.col("follow_up_end").alias("__end"),
        F.col("follow_up_end_reason").alias("__reason"),
    )
    return numbered.join(people, on="person_id", how="left")


def _too_early(context: Context) -> Column:
    lead = F.lit(None).cast("int")
    for name, rules in context["study"].rule_sets.items():
        lead = F.when(F.col("rule_set") == name, rules.index_lead_days).otherwise(lead)
    return F.col("line_start") < F.date_sub("__index", lead)


def _holds_leftover(context: Context) -> Column:
    conditions = [
        (F.col("rule_set") == name)
        & F.array_contains("regimen", substance)
        & F.arrays_overlap("regimen", F.array(*(F.lit(other) for other in others)))
        for name, rules in context["study"].rule_sets.items()
        for substance, others in rules.excludes.items()
        if others
    ]
    return reduce(or_, conditions, F.lit(False))


def _strange_substance(context: Context) -> Column:
    known = F.array(*(F.lit(substance) for substance in context["study"].drugs.line_defining)).cast("array<string>")
    return F.size(F.array_except("regimen", known)) > 0


def _unsorted(column: str) -> Column:
    return F.col(column) != F.array_sort(F.array_distinct(column))


def _strange_last_reason(_: Context) -> Column:
    is_last = F.col("__next_start").isNull()
    return is_last & (F.col("end_reason") != "gap") & (F.col("end_reason") != F.col("__reason"))


treatment_lines = Expectations(
    "treatment_lines",
    (
        Rule("person is in the cohort", lambda _: F.col("__member").isNull()),
        Rule("rule_set is one of the study's", lambda context: ~F.col("rule_set").isin(*context["study"].rule_sets)),
        Rule("lines are numbered from 1 without holes", lambda _: F.col("line_number") != F.col("__number")),
        Rule("no line ends before it starts", lambda _: F.col("line_end") < F.col("line_start")),
        Rule("duration is end minus start", lambda _: F.col("duration_days") != F.datediff("line_end", "line_start")),
        Rule(
            "lines of a person are in order and do not overlap",
            lambda _: F.col("line_start") < F.col("__previous_end"),
        ),
        Rule("no line starts before the lead to index", _too_early),
        Rule("no line ends after follow-up", lambda _: F.col("line_end") > F.col("__end")),
        Rule("regimen is not empty", lambda _: F.size("regimen") == 0),
        Rule("regimen is a sorted set", lambda _: _unsorted("regimen")),
        Rule("regimen holds line-defining substances only", _strange_substance),
        Rule("regimen holds no substance that another excludes", _holds_leftover),
        Rule(
            "other classes are sorted sets",
            lambda _: _unsorted("concomitant") | _unsorted("concomitant_at_start"),
        ),
        Rule(
            "the end is observed for switch, gap and death",
            lambda _: F.col("end_observed") != F.col("end_reason").isin("switch", "gap", "death"),
        ),
        Rule(
            "a line before another ends by switch or gap",
            lambda _: F.col("__next_start").isNotNull() & ~F.col("end_reason").isin("switch", "gap"),
        ),
        Rule("the last line ends by gap or as follow-up does", _strange_last_reason),
        Rule(
            "next_state is next_line where another line follows",
            lambda _: (F.col("next_state") == "next_line") != F.col("__next_start").isNotNull(),
        ),
        Rule(
            "next_state_date is the next start or the end of follow-up",
            lambda _: F.col("next_state_date") != F.coalesce("__next_start", "__end"),
        ),
    ),
    _with_neighbours,
    ("cohort",),
)

DERIVED = (cohort, exposures, treatment_lines)
