"""Frames from eight drawn people: what is counted where, what is left out, and that frames add up."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from jobs.aggregate import build_frames
from jobs.config import Study
from schemas import FRAMES, TABLES

STUDY = Study.model_validate(
    {
        "name": "drawn",
        "period": {"index_from": "2012-01-01", "index_until": "2013-12-31", "follow_up_until": "2020-12-31"},
        "cohort": {"tumour": {"icd10": ["C50"]}, "index": "metastasis"},
        "drugs": {"line_defining": ["trastuzumab", "pertuzumab", "lapatinib"]},
        "rule_sets": {
            "primary": {"gap_days": 90},
            "long": {"gap_days": 90, "gap_days_by_substance": {"lapatinib": 200}},
        },
        "index_periods": [2013],
        "strata": ["age_group", "region", "treated", "age_group x region"],
        "survival": {
            "lines": 2,
            "net_strata": ["age_group", "treated"],
            "net_period": {"from": "2013-01-01", "until": "2014-12-31"},
            "cox": {"covariates": ["age_group", "index_period"], "strata": ["comorbidity_index"]},
            "undertreatment": {"covariates": ["prior_treatment", "region"], "survived_days": 60},
        },
    }
)
INDEX = date(2012, 6, 1)

# A person's days are counted from INDEX. observed: end of observation; end: of survival.
# person, age, region, informed, Charlson, (follow_up_end, reason), observed, (end, reason)
PEOPLE = [
    ("two lines, dies on the second", 50, "west", True, 0, (500, "death"), 2000, (500, "death")),
    ("one line, ends by a gap", 75, "west", True, 0, (2000, "study_end"), 2000, (2000, "study_end")),
    ("one line, on it at the end", 76, "north", True, 0, (2000, "study_end"), 2000, (2000, "study_end")),
    ("line too late to be judged", 40, None, True, 2, (600, "information_end"), 600, (2000, "study_end")),
    ("line before index, second cancer", 60, "west", True, None, (300, "second_cancer"), 300, (900, "death")),
    ("treated under long only", 60, "west", True, 4, (100, "emigration"), 100, (100, "emigration")),
    ("never treated", 90, "west", True, 0, (30, "death"), 2000, (30, "death")),
    ("no information", 55, "north", False, 1, (10, "death"), 2000, (10, "death")),
]
T, TP, U = ["trastuzumab"], ["pertuzumab", "trastuzumab"], ["lapatinib"]
# rule set, person number, line, regimen, start, end, end reason, next state, its day
LINES = [
    ("primary", 0, 1, TP, 10, 200, "switch", "next_line", 210),
    ("primary", 0, 2, U, 210, 500, "death", "died", 500),
    ("long", 0, 1, TP, 10, 200, "switch", "next_line", 210),
    ("long", 0, 2, U, 210, 500, "death", "died", 500),
    ("primary", 1, 1, T, 5, 400, "gap", "alive", 2000),
    ("primary", 2, 1, T, 7, 2000, "study_end", "alive", 2000),
    ("primary", 3, 1, T, 510, 580, "information_end", "information_end", 600),
    ("primary", 4, 1, T, -20, 150, "gap", "next_line", 250),
    ("primary", 4, 2, T, 250, 300, "second_cancer", "second_cancer", 300),
    ("primary", 4, 3, TP, 299, 300, "second_cancer", "second_cancer", 300),
    ("long", 5, 1, T, 9, 100, "emigration", "emigrated", 100),
    ("primary", 7, 1, T, 1, 10, "death", "died", 10),
]


def on(day: int) -> date:
    return INDEX + timedelta(days=day)


def made(spark: SparkSession, table: str, rows: list[dict[str, Any]]) -> DataFrame:
    names = TABLES[table].column_names
    return spark.createDataFrame([[row.get(name) for name in names] for row in rows], TABLES[table].struct())


def inputs(spark: SparkSession, numbers: set[int]) -> tuple[DataFrame, DataFrame, DataFrame]:
    cohort = [
        {
            "person_id": f"p{number}",
            "birth_date": date(2012 - age, 1, 1),
            "index_date": INDEX,
            "index_kind": "de_novo",
            "age_at_index": age,
            "sex": "female",
            "receptor": "unknown",
            "receptor_disagrees": False,
            "comorbidity_index": comorbidity,
            "region": region,
            "prior_treatment": number == 4,
            "months_since_prior": 6.5 if number == 4 else None,
            "disease_free_days": 0,
            "has_treatment_information": informed,
            "follow_up_end": on(end[0]),
            "follow_up_end_reason": end[1],
            "observation_end": on(observed),
            "survival_end": on(survival[0]),
            "survival_end_reason": survival[1],
        }
        for number, (_, age, region, informed, comorbidity, end, observed, survival) in enumerate(PEOPLE)
        if number in numbers
    ]
    lines = [
        {
            "rule_set": rule_set,
            "person_id": f"p{number}",
            "line_number": line,
            "regimen": regimen,
            "line_start": on(start),
            "line_end": on(end),
            "duration_days": end - start,
            "end_reason": reason,
            "end_observed": reason in ("switch", "gap", "death"),
            "next_state": state,
            "next_state_date": on(state_day),
        }
        for rule_set, number, line, regimen, start, end, reason, state, state_day in LINES
        if number in numbers
    ]
    attrition = [{"step": 0, "label": "everyone", "persons": len(numbers), "rows": len(numbers)}]
    return made(spark, "attrition", attrition), made(spark, "cohort", cohort), made(spark, "treatment_lines", lines)


Counts = dict[str, dict[tuple[Any, ...], tuple[int, ...]]]


def counts(spark: SparkSession, numbers: set[int]) -> Counts:
    """Each frame as key -> sums."""
    found: Counts = {}
    life_table = made(spark, "life_table", [
        {"country": "no", "sex": "female", "year": 2012, "age": age, "probability_of_death": (age + 1) / 1000}
        for age in range(100)
    ])  # fmt: skip
    for name, frame in build_frames(*inputs(spark, numbers), STUDY, life_table).items():
        width = len(FRAMES[name].key)
        assert frame.schema.simpleString() == FRAMES[name].struct().simpleString()
        rows = [tuple(row) for row in frame.collect()]
        found[name] = {row[:width]: row[width:] for row in rows}
        assert len(found[name]) == len(rows)
    return found


@pytest.fixture(scope="module")
def frames(spark: SparkSession) -> Counts:
    return counts(spark, set(range(len(PEOPLE))))


def test_frames_of_two_sites_add_up(spark: SparkSession, frames: Counts) -> None:
    one, other = counts(spark, {0, 2, 4, 7}), counts(spark, {1, 3, 5, 6})
    for name in FRAMES:
        both = {
            key: tuple(a + b for a, b in zip(one[name].get(key, ()), other[name].get(key, ()), strict=True))
            if key in one[name] and key in other[name]
            else one[name].get(key, other[name].get(key))
            for key in {*one[name], *other[name]}
        }
        assert set(both) == set(frames[name])
        whole = [type(column) is int for column in next(iter(both.values()))]
        for key, sums in both.items():
            for exact, found, expected in zip(whole, sums, frames[name][key], strict=True):
                assert found == (expected if exact else pytest.approx(expected, rel=1e-12)), (name, key)


def test_characteristics(frames: Counts) -> None:
    n = {key: sums[0] for key, sums in frames["frame_characteristics"].items()}
    assert {group: n[group, "all", "all"] for group in ("treated", "untreated", "no_information")} == {
        "treated": 5, "untreated": 2, "no_information": 1,
    }  # fmt: skip

    def of(variable: str) -> dict[tuple[str, str], int]:
        return {(key[0], key[2]): value for key, value in n.items() if key[1] == variable}

    assert of("age_group") == {
        ("treated", "<50"): 1, ("treated", "50-59"): 1, ("treated", "60-69"): 1, ("treated", "70-79"): 2,
        ("untreated", "60-69"): 1, ("untreated", "80+"): 1, ("no_information", "50-59"): 1,
    }  # fmt: skip
    assert of("at_most_75_without_comorbidity") == {
        ("treated", "yes"): 2, ("treated", "no"): 2, ("treated", "unknown"): 1,
        ("untreated", "no"): 2, ("no_information", "no"): 1,
    }  # fmt: skip
    assert of("comorbidity_index")["untreated", "3+"] == 1
    assert of("comorbidity_index")["treated", "unknown"] == 1
    assert of("time_since_prior")["treated", "6 to 11 months"] == 1
    assert of("region")["treated", "unknown"] == 1
    assert of("age_at_index")["untreated", "90"] == 1
    variables = {key[1] for key in n}
    assert all(sum(of(variable).values()) == len(PEOPLE) for variable in variables)


def test_uptake_is_of_the_primary_rule_set(frames: Counts) -> None:
    assert frames["frame_uptake"] == {
        (2012, "trastuzumab"): (5, 7), (2012, "pertuzumab"): (2, 7), (2012, "lapatinib"): (1, 7),
    }  # fmt: skip


def test_flows_start_from_everyone_with_information(frames: Counts) -> None:
    lines = frames["frame_lines"]
    at_index = {key[2:]: sums[0] for key, sums in lines.items() if key[:2] == ("primary", 0)}
    assert at_index == {
        ("", "", "next_line", "pertuzumab + trastuzumab"): 1,
        ("", "", "next_line", "trastuzumab"): 4,
        ("untreated", "emigration", "emigrated", ""): 1,
        ("untreated", "death", "died", ""): 1,
    }
    assert sum(sums[0] for key, sums in lines.items() if key[:2] == ("long", 0)) == 7
    first = {key[2:]: sums[0] for key, sums in lines.items() if key[:2] == ("primary", 1)}
    assert first == {
        ("pertuzumab + trastuzumab", "switch", "next_line", "lapatinib"): 1,
        ("trastuzumab", "gap", "next_line", "trastuzumab"): 1,
        ("trastuzumab", "gap", "alive", ""): 1,
        ("trastuzumab", "study_end", "alive", ""): 1,
        ("trastuzumab", "information_end", "information_end", ""): 1,
    }


def times(frames: Counts, outcome: str, *line: Any) -> dict[tuple[int, int], int]:
    """(day, cause) -> n of everyone in a line's slice."""
    chosen = {key: sums[0] for key, sums in frames["frame_time"].items() if key[:4] == (outcome, *line)}
    assert all(key[6] == 0 for key in chosen)
    return {key[7:]: n for key, n in chosen.items() if key[4:6] == ("all", "all")}


def test_overall_survival_is_of_everyone_by_stratum(frames: Counts) -> None:
    assert times(frames, "overall_survival", "", 0, "") == {
        (500, 1): 1, (2000, 0): 3, (900, 1): 1, (100, 0): 1, (30, 1): 1, (10, 1): 1,
    }  # fmt: skip
    levels: dict[tuple[str, str], int] = {}
    for key, sums in frames["frame_time"].items():
        if key[0] == "overall_survival":
            levels[key[4:6]] = levels.get(key[4:6], 0) + sums[0]
    assert {level: n for (stratum, level), n in levels.items() if stratum == "treated"} == {
        "treated": 5, "untreated": 2, "no_information": 1,
    }  # fmt: skip
    assert levels["region", "unknown"] == 1
    assert {stratum for stratum, _ in levels} == {"all", "age_group", "region", "treated", "age_group x region"}
    assert {level: n for (stratum, level), n in levels.items() if stratum == "age_group x region"} == {
        "50-59 x west": 1, "70-79 x west": 1, "70-79 x north": 1, "<50 x unknown": 1, "60-69 x west": 2,
        "80+ x west": 1, "50-59 x north": 1,
    }  # fmt: skip


def test_first_line_competes_with_death_and_second_cancer(frames: Counts) -> None:
    """From index; who began before counts from day 0; only those with information, by what is known at index."""
    assert times(frames, "first_line", "primary", 1, "") == {
        (10, 1): 1, (5, 1): 1, (7, 1): 1, (510, 1): 1, (0, 1): 1, (100, 0): 1, (30, 2): 1,
    }  # fmt: skip
    strata = {key[4] for key in frames["frame_time"] if key[0] == "first_line"}
    assert strata == {"all", "age_group", "region", "age_group x region"}


def test_patterns_of_the_models(frames: Counts) -> None:
    """What a model does not have is empty; the survivors are those who did not die within 60 days."""
    names = FRAMES["frame_patterns"].key
    rows = [dict(zip(names, key, strict=True)) | {"n": sums[0]} for key, sums in frames["frame_patterns"].items()]
    survival = [row for row in rows if row["model"] == "overall_survival"]
    assert sum(row["n"] for row in survival) == len(PEOPLE)
    assert {row["index_period"] for row in survival} == {"2012"}
    assert {row["region"] for row in survival} == {""}
    assert {(row["day"], row["event"], row["comorbidity_index"]) for row in survival if row["age_group"] == "80+"} == {
        (30, 1, "0")
    }
    untreated = [row for row in rows if row["model"] == "untreated"]
    assert {(row["region"], row["prior_treatment"], row["event"]): row["n"] for row in untreated} == {
        ("west", "no", 0): 2, ("north", "no", 0): 1, ("unknown", "no", 0): 1, ("west", "yes", 0): 1,
        ("west", "no", 1): 2,
    }  # fmt: skip
    lived = {(row["region"], row["event"]): row["n"] for row in rows if row["model"] == "untreated_survivors"}
    assert lived["west", 1] == 1


def test_net_survival_of_a_period_and_expected_survival(frames: Counts) -> None:
    """Of the period only what happens in it: nobody is at risk before 2013."""
    net = frames["frame_net_survival"]
    everyone = {key[3]: sums for key, sums in net.items() if key[:3] == ("net_survival", "all", "all")}
    period = {key[3]: sums for key, sums in net.items() if key[:3] == ("net_survival_period", "all", "all")}
    before = (date(2012, 12, 31) - INDEX).days
    assert (everyone[1][0], everyone[2000][0]) == (8, 3)
    assert {day for day in period if day <= before} == {0}
    assert (period[0][0], period[before + 1][0], max(period)) == (3, 5, (date(2014, 12, 31) - INDEX).days)
    assert everyone[700] == period[700]
    expected = {key[2]: sums for key, sums in frames["frame_expected_survival"].items() if key[:2] == ("all", "all")}
    assert all(n == 8 for n, _ in expected.values())
    alive = [expected[day][1] for day in sorted(expected)]
    assert alive == sorted(alive, reverse=True)


def test_duration_is_judged_until_a_gap_before_the_end_of_observation(frames: Counts) -> None:
    """A = 1910 for those observed to 2000: on day 2000 nobody can tell that a line went on. With A = 510 a line that
    starts on day 510 tells nothing; with A = 210 a line on 150 has ended and one from 250 tells nothing."""
    assert times(frames, "line_duration", "primary", 1, "all") == {
        (190, 1): 1, (395, 1): 1, (1903, 0): 1, (170, 1): 1,
    }  # fmt: skip
    assert times(frames, "line_duration_left_out", "primary", 1, "all") == {(0, 0): 1}
    assert times(frames, "line_duration", "primary", 2, "all") == {(290, 2): 1}
    assert times(frames, "line_duration_left_out", "primary", 2, "trastuzumab") == {(0, 0): 1}
    # The largest gap of the rule set counts, whatever the regimen: A = 100 - 200.
    assert times(frames, "line_duration", "long", 1, "trastuzumab") == {}
    assert times(frames, "line_duration_left_out", "long", 1, "all") == {(0, 0): 1}
    assert times(frames, "line_duration", "long", 2, "lapatinib") == {(290, 2): 1}


def test_other_outcomes_of_lines(frames: Counts) -> None:
    assert times(frames, "line_duration_naive", "primary", 1, "trastuzumab") == {
        (395, 1): 1, (1993, 1): 1, (70, 1): 1, (170, 1): 1,
    }  # fmt: skip
    assert times(frames, "next_treatment", "primary", 1, "all") == {
        (200, 1): 1, (1995, 0): 1, (1993, 0): 1, (90, 0): 1, (270, 1): 1,
    }  # fmt: skip
    assert times(frames, "next_treatment", "primary", 2, "all") == {(290, 2): 1, (50, 3): 1}
    # The clock of a line that starts before the index starts at the index.
    assert times(frames, "survival_from_line", "primary", 1, "all") == {
        (490, 1): 1, (1995, 0): 1, (1993, 0): 1, (1490, 0): 1, (900, 1): 1,
    }  # fmt: skip
    assert not any(key[2] > 2 for key in frames["frame_time"])


def test_nobody(spark: SparkSession) -> None:
    found = counts(spark, set())
    assert {name: len(rows) for name, rows in found.items() if rows} == {"frame_attrition": 1}
