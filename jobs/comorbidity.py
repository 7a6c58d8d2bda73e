"""The comorbidity index of a person at index, from hospital diagnoses before it."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from pyspark.sql import Column
from pyspark.sql import functions as F

from jobs.codes import starts_with

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from jobs.config import Comorbidity


def with_comorbidity_index(
    people: DataFrame,
    diagnoses: DataFrame,
    rules: Comorbidity,
    tumour_icd10: Collection[str],
    lookback_days: int,
) -> DataFrame:
    """`people` (one row per person: person_id, index_date, ...) with comorbidity_index (int; 0: nothing counted).

    `diagnoses` is `hospital_diagnosis`. Counted are contacts that start on [index_date - lookback_days, index_date);
    codes of the study's tumour and `rules.excluded` never are. Groups, weights and source: conf/comorbidity.
    """
    bits = {name: 1 << position for position, name in enumerate(rules.groups)}
    groups = F.lit(0)
    for name, group in rules.groups.items():
        groups = groups.bitwiseOR(F.when(starts_with("icd10", group.icd10), bits[name]).otherwise(0))
    excluded = starts_with("icd10", (*rules.excluded, *tumour_icd10))
    counted = diagnoses.where(~excluded).select("person_id", "start_date", groups.alias("groups"))
    of_person = (
        counted.where(F.col("groups") > 0)
        .groupBy("person_id")
        .agg(F.collect_set(F.struct("start_date", "groups")).alias("diagnoses"))
    )

    def in_lookback(diagnosis: Column) -> Column:
        return F.datediff("index_date", diagnosis["start_date"]).between(1, lookback_days)

    present = F.aggregate(
        F.filter("diagnoses", in_lookback), F.lit(0), lambda found, diagnosis: found.bitwiseOR(diagnosis["groups"])
    )
    joined = people.join(of_person, on="person_id", how="left").withColumn("present", F.coalesce(present, F.lit(0)))
    return joined.withColumn("comorbidity_index", _score(rules, bits)).drop("diagnoses", "present")


def _score(rules: Comorbidity, bits: dict[str, int]) -> Column:
    score = F.lit(0)
    for name, group in rules.groups.items():
        severe = sum(bits[over] for over, mild in rules.hierarchy.items() if mild == name)
        # Present itself, and nothing that outranks it.
        counts = F.col("present").bitwiseAND(bits[name] | severe) == bits[name]
        score = score + F.when(counts, group.weight).otherwise(0)
    return score
