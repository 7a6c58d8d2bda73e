"""From administrations, treatment periods and dispensings to exposures: which substance, from when, until when."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from pyspark.sql import Column, Window
from pyspark.sql import functions as F

from jobs.codes import code_frame, drug_rows, starts_with, with_substance
from jobs.config import Supply
from schemas import TABLES

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from jobs.config import Drugs, Study

DEFAULT_COVERAGE_DAYS = 21


def build_exposures(
    tables: Mapping[str, DataFrame],
    cohort: DataFrame,
    study: Study,
    drugs: Drugs,
    country: str,
    interval_coverage_days: int | None,
) -> DataFrame:
    """One row per person x substance x period x source: the whole history of cohort members (schemas: exposures).

    The substances are the line-defining ones and those of the study's other classes. Days of cover: see
    docs/treatment_lines.md, "Input: exposures"; `interval_coverage_days` replaces the cover after the last day of a
    recorded period. Rows that are equal in every column are one row.
    """
    wanted = exposure_substances(study, drugs)
    rows = given_rows(tables, cohort, wanted, drugs, country)
    is_period = F.col("end_date").isNotNull()
    from_hospital = F.col("source") == "hospital_drug"
    given_to = F.coalesce("end_date", "start_date")
    cycle = _coverage_days(study, wanted)
    after_period = cycle if interval_coverage_days is None else F.lit(interval_coverage_days)
    days = F.when(~from_hospital, _supply_days(study, drugs, wanted)).when(is_period, after_period).otherwise(cycle)
    exposures = rows.select(
        "person_id",
        "substance",
        _by_substance({name: drugs.substances[name].class_ for name in wanted}, None).alias("class"),
        F.col("start_date").alias("given_from"),
        given_to.alias("given_to"),
        F.date_add(given_to, days).alias("covered_until"),
        "source",
    )
    carried = {name: rule.carry_over_days for name in wanted if (rule := _supply(study, name)).carry_over_days}
    if carried:
        exposures = _carried_over(exposures, carried)
    return exposures.select(*TABLES["exposures"].column_names).distinct()


def _supply(study: Study, substance: str) -> Supply:
    rules = study.exposure.supply
    return rules.get(substance, rules.get("default", Supply()))


def _carried_over(exposures: DataFrame, most_days: Mapping[str, int]) -> DataFrame:
    """Exposures with the dispensings of these substances covering longer by what was left of the supply before them.

    Dispensings of one day are one, of their days together: who fetches two packages has both.
    """
    is_carried = (F.col("source") == "dispensing") & F.col("substance").isin(*most_days)
    same = ("person_id", "substance", "class", "source")
    days = F.sum(F.datediff("covered_until", "given_to")).cast("int").alias("days")
    a_day = exposures.where(is_carried).groupBy(*same, F.col("given_from").alias("day")).agg(days)
    most = _by_substance(most_days, 0)
    row = "struct<day:date,until:date>"
    nothing = F.struct(F.array().cast(f"array<{row}>").alias("rows"), F.lit(None).cast("date").alias("until"))

    def next_supply(so_far: Column, supply: Column) -> Column:
        left = F.greatest(F.coalesce(F.datediff(so_far["until"], supply["day"]), F.lit(0)), F.lit(0))
        until = F.date_add(supply["day"], supply["days"] + F.least(left, supply["most"]))
        row = F.struct(supply["day"].alias("day"), until.alias("until"))
        return F.struct(F.array_append(so_far["rows"], row).alias("rows"), until.alias("until"))

    supplies = F.sort_array(F.collect_list(F.struct("day", "days", most.alias("most"))))
    carried = (
        a_day.groupBy(*same)
        .agg(supplies.alias("supplies"))
        .select(*same, F.explode(F.aggregate("supplies", nothing, next_supply, lambda done: done["rows"])).alias("row"))
    )
    day = F.col("row.day")
    dispensed = carried.select(
        *same, day.alias("given_from"), day.alias("given_to"), F.col("row.until").alias("covered_until")
    )
    return exposures.where(~is_carried).unionByName(dispensed)


def build_unresolved_codes(
    tables: Mapping[str, DataFrame], cohort: DataFrame, study: Study, drugs: Drugs, country: str
) -> DataFrame:
    """One row per source x code system x code of cohort members without a substance (schemas: unresolved_codes).

    ATC codes only where they start with one of the drug list's `watch` prefixes: most others are no cancer drugs.
    Codes of every other system, free-text names included, are all listed. A national code counts as unresolved on
    the days on which it means no substance.
    """
    rows = drug_rows(tables, cohort).where((F.col("code_system") != "atc") | starts_with("code", drugs.watch))
    unknown = with_substance(rows, code_frame(cohort.sparkSession, drugs, country), how="left_anti")
    by_person = (
        _of_people(unknown, cohort)
        .groupBy("source", "code_system", "code", "person_id")
        .agg(F.count(F.lit(1)).alias("n"))
    )
    counted = by_person.groupBy("source", "code_system", "code").agg(
        F.sum("n").alias("n"), F.count(F.lit(1)).alias("persons")
    )
    return counted.select(*TABLES["unresolved_codes"].column_names)


def exposure_substances(study: Study, drugs: Drugs) -> list[str]:
    """The study's line-defining substances and those of its other classes, sorted."""
    beside = {name for name, substance in drugs.substances.items() if substance.class_ in study.drugs.classes}
    return sorted(beside | set(study.drugs.line_defining))


def given_rows(
    tables: Mapping[str, DataFrame],
    people: DataFrame,
    substances: Collection[str],
    drugs: Drugs,
    country: str | None,
) -> DataFrame:
    """One row per drug given or dispensed to `people` (any frame with person_id) x substance of `substances`.

    Cancelled dispensings are out. Columns: person_id, source, substance, start_date, end_date (NULL: given once; an
    end before the start is no end), packages, ddd, days_supply.
    """
    codes = code_frame(people.sparkSession, drugs, country).where(F.col("substance").isin(*substances))
    rows = _without_cancelled(_of_people(with_substance(drug_rows(tables, people), codes), people))
    ended = F.when(F.col("end_date") >= F.col("start_date"), F.col("end_date"))
    return rows.select(
        "person_id", "source", "substance", "start_date", ended.alias("end_date"), "packages", "ddd", "days_supply"
    )


def _of_people(rows: DataFrame, people: DataFrame) -> DataFrame:
    return rows.join(people.select("person_id"), on="person_id", how="left_semi")


def _without_cancelled(rows: DataFrame) -> DataFrame:
    """Rows without cancellations (negative quantity) and without what each of them cancels.

    A cancellation takes back the latest dispensing of the same person, code and quantity on or before its day that
    no earlier cancellation took; one that finds none has no effect. Like brackets: a dispensing is taken back where
    the running balance after it falls below the balance at it.
    """
    cancels = F.coalesce(F.col("quantity") < 0, F.lit(False))
    same = Window.partitionBy("person_id", "source", "code_system", "code", "substance", F.abs("quantity"))
    # The file order breaks ties; on one day a dispensing comes before a cancellation.
    order = [F.col("start_date"), cancels, F.col("source_file"), F.col("source_row")]
    forward = same.orderBy(*order).rowsBetween(Window.unboundedPreceding, Window.currentRow)
    # Descending, because Spark walks a frame that ends at the last row once per row.
    later = same.orderBy(*(column.desc() for column in order)).rowsBetween(Window.unboundedPreceding, -1)
    balanced = rows.withColumn("balance", F.sum(F.when(cancels, -1).otherwise(1)).over(forward))
    judged = balanced.withColumn("lowest_later", F.min("balance").over(later))
    kept = ~cancels & F.coalesce(F.col("lowest_later") >= F.col("balance"), F.lit(True))
    return judged.where(kept).drop("balance", "lowest_later")


def _coverage_days(study: Study, substances: Collection[str]) -> Column:
    days = study.exposure.coverage_days
    return _by_substance({name: days[name] for name in substances if name in days}, _default_coverage(study))


def _default_coverage(study: Study) -> int:
    return study.exposure.coverage_days.get("default", DEFAULT_COVERAGE_DAYS)


def _supply_days(study: Study, drugs: Drugs, substances: Collection[str]) -> Column:
    """Days that a dispensing covers; see jobs.config.Supply."""
    rules = study.exposure.supply
    default = rules.get("default", Supply())
    by_rule: dict[Supply | None, list[str]] = {}
    for name in sorted(substances):
        cycles = drugs.substances[name].infusion and name not in rules
        by_rule.setdefault(None if cycles else rules.get(name, default), []).append(name)
    stated = F.when(F.col("days_supply") > 0, F.col("days_supply"))
    days = F.lit(None).cast("int")
    for rule, names in by_rule.items():
        if rule is None:
            supplied: Column = F.coalesce(stated, _coverage_days(study, names))
        else:
            from_ddd = F.when(F.col("ddd") > 0, F.round(F.col("ddd") * rule.days_per_ddd))
            per_package = F.lit(rule.days_per_package)
            from_packages = F.when(F.col("packages") > 0, F.round(F.col("packages") * per_package))
            unlimited = F.coalesce(stated, from_ddd, from_packages, F.lit(rule.default))
            supplied = F.least(F.greatest(unlimited, F.lit(rule.minimum)), F.lit(rule.maximum))
        days = F.when(F.col("substance").isin(*names), supplied.cast("int")).otherwise(days)
    return days


def _by_substance(values: Mapping[str, Any], otherwise: Any) -> Column:
    """The value of the row's substance."""
    names: dict[Any, list[str]] = {}
    for name, value in values.items():
        names.setdefault(value, []).append(name)
    chosen = F.lit(otherwise)
    for value, substances in names.items():
        chosen = F.when(F.col("substance").isin(*substances), F.lit(value)).otherwise(chosen)
    return chosen
