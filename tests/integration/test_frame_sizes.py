"""Frames are bounded: a hundred times as many people make the same frames, whose cells hold larger counts."""

from __future__ import annotations

import pytest
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.aggregate import build_frames
from jobs.config import Study
from schemas import TABLES

FEW, MANY = 10_000, 1_000_000
DAYS = 120
STUDY = Study.model_validate(
    {
        "name": "sizes",
        "period": {"index_from": "2012-01-01", "index_until": "2012-12-31", "follow_up_until": "2013-12-31"},
        "cohort": {"tumour": {"icd10": ["C50"]}, "index": "diagnosis"},
        "drugs": {"line_defining": ["trastuzumab"]},
        "strata": ["age_group"],
        "survival": {
            "lines": 1,
            "net_strata": ["age_group"],
            "cox": {"covariates": ["age_group", "sex"]},
            "undertreatment": {"covariates": ["age_group"]},
        },
    }
)


def _people(spark: SparkSession, people: int) -> tuple[DataFrame, DataFrame]:
    """A cohort and a line for every second person, all of it drawn from the person's number."""

    def drawn(salt: int, most: int) -> Column:
        return F.pmod(F.xxhash64("id", F.lit(salt)), F.lit(most)).cast("int")

    index = F.date_add(F.lit("2012-01-01").cast("date"), drawn(1, 366))
    end, age = F.date_add("index_date", drawn(2, DAYS)), drawn(3, 60) + 30
    died = drawn(4, 2) == 0
    values = {
        "person_id": F.lower(F.lpad(F.hex("id"), 32, "0")),
        "index_kind": F.lit("diagnosis"),
        "age_at_index": age,
        "birth_date": F.date_sub("index_date", age * 366),
        "sex": F.when(drawn(5, 2) == 0, "female").otherwise("male"),
        "receptor": F.lit("unknown"),
        "receptor_disagrees": F.lit(False),
        "prior_treatment": F.lit(False),
        "disease_free_days": F.lit(0),
        "has_treatment_information": F.lit(True),
        "follow_up_end": end,
        "follow_up_end_reason": F.when(died, "death").otherwise("study_end"),
        "observation_end": F.lit("2013-12-31").cast("date"),
        "survival_end": end,
        "survival_end_reason": F.when(died, "death").otherwise("study_end"),
    }
    cohort_columns = TABLES["cohort"].struct().fields
    rows = spark.range(people, numPartitions=2).withColumn("index_date", index)
    cohort = rows.select(
        *(
            (values[f.name] if f.name in values else F.col(f.name) if f.name == "index_date" else F.lit(None))
            .cast(f.dataType)
            .alias(f.name)
            for f in cohort_columns
        ),
        "id",
    )
    line = {
        "rule_set": F.lit("primary"),
        "line_number": F.lit(1),
        "regimen": F.array(F.lit("trastuzumab")),
        "line_start": F.col("index_date"),
        "line_end": F.col("follow_up_end"),
        "end_reason": F.col("follow_up_end_reason"),
        "next_state": F.when(F.col("follow_up_end_reason") == "death", "died").otherwise("alive"),
        "next_state_date": F.col("follow_up_end"),
        "person_id": F.col("person_id"),
    }
    lines = cohort.where(F.col("id") % 2 == 0).select(
        *(
            line.get(f.name, F.lit(None)).cast(f.dataType).alias(f.name)
            for f in TABLES["treatment_lines"].struct().fields
        )
    )
    return cohort.drop("id"), lines


def _sizes(spark: SparkSession, people: int) -> tuple[dict[str, int], int]:
    cohort, lines = _people(spark, people)
    attrition = spark.createDataFrame([(0, "everyone", people, people)], TABLES["attrition"].struct())
    life_table = spark.createDataFrame(
        [("no", None, sex, 2012, age, 0.01, None, None, None) for sex in ("female", "male") for age in range(100)],
        TABLES["life_table"].struct(),
    )
    frames = build_frames(attrition, cohort, lines, STUDY, life_table)
    collected = {name: frame.toPandas() for name, frame in frames.items()}
    counted = int(collected["frame_time"].query("outcome == 'overall_survival' and stratum == 'all'")["n"].sum())
    return {name: len(frame) for name, frame in collected.items()}, counted


@pytest.mark.parametrize("people", [FEW, MANY])
def test_a_frame_does_not_grow_with_the_people(spark: SparkSession, people: int) -> None:
    """Every frame stays below what its key allows, which says nothing about people."""
    sizes, counted = _sizes(spark, people)
    assert counted == people
    groups, ends = 1 + len(STUDY.age_groups.labels()), 2
    most = {
        "frame_attrition": 1,
        "frame_characteristics": 2 * 150,
        "frame_uptake": 1,
        "frame_lines": 8,
        "frame_time": 2 * groups * DAYS * ends + 5 * 2 * (DAYS + 366) * ends,
        "frame_net_survival": groups * (DAYS + 2),
        "frame_expected_survival": groups * 30,
        "frame_patterns": 2 * groups * DAYS * ends + 2 * groups * ends,
    }
    assert set(sizes) == set(most)
    assert all(0 < sizes[name] <= most[name] for name in sizes), sizes
