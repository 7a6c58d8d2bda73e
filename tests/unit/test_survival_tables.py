"""The tables of results/ from small frames: columns, order, what cannot be estimated, and equal bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from jobs.config import Study
from jobs.survival.tables import COLUMNS, csv_bytes, levels_of, result_tables
from schemas import FRAMES

STUDY = Study.model_validate(
    {
        "name": "drawn",
        "period": {"index_from": "2012-01-01", "index_until": "2013-12-31", "follow_up_until": "2020-12-31"},
        "cohort": {"tumour": {"icd10": ["C50"]}, "index": "metastasis"},
        "drugs": {"line_defining": ["trastuzumab", "lapatinib"]},
        "rule_sets": {"primary": {}, "gap_45": {"gap_days": 45}},
        "strata": ["age_group"],
        "survival": {"times_days": [100, 300], "lines": 2},
    }
)


def frame(name: str, rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=FRAMES[name].column_names)


def timed(outcome: str, line: tuple[str, int, str], *counts: tuple[int, int, int]) -> list[tuple[Any, ...]]:
    return [(outcome, *line, "all", "all", 0, day, cause, n) for day, cause, n in counts]


P1, P1_T, P1_L = ("primary", 1, "all"), ("primary", 1, "trastuzumab"), ("primary", 1, "lapatinib")
FRAME_LINES = [
    ("primary", 0, "", "", "next_line", "trastuzumab", 4),
    ("primary", 0, "", "", "next_line", "lapatinib", 1),
    ("primary", 0, "untreated", "death", "died", "", 2),
    ("primary", 1, "trastuzumab", "switch", "next_line", "lapatinib", 1),
    ("primary", 1, "trastuzumab", "gap", "alive", "", 2),
    ("primary", 1, "trastuzumab", "study_end", "alive", "", 1),
    ("primary", 1, "lapatinib", "study_end", "alive", "", 1),
    ("primary", 2, "lapatinib", "death", "died", "", 1),
]
FRAME_TIME = [
    ("overall_survival", "", 0, "", "all", "all", 0, 100, 1, 1),
    ("overall_survival", "", 0, "", "all", "all", 0, 200, 0, 3),
    ("overall_survival", "", 0, "", "age_group", "<50", 0, 100, 1, 1),
    ("overall_survival", "", 0, "", "age_group", "60-69", 0, 200, 0, 3),
    *timed("line_duration", P1, (50, 1, 1), (90, 2, 1), (150, 0, 2)),
    *timed("line_duration", P1_T, (50, 1, 1), (90, 2, 1), (150, 0, 2)),
    *timed("line_duration_naive", P1, (50, 1, 1), (90, 1, 1), (250, 1, 2), (10, 1, 1)),
    *timed("line_duration_naive", P1_T, (50, 1, 1), (90, 1, 1), (250, 1, 2)),
    *timed("line_duration_naive", P1_L, (10, 1, 1)),
    *timed("line_duration_left_out", P1, (0, 0, 1)),
    *timed("line_duration_left_out", P1_L, (0, 0, 1)),
    *timed("survival_from_line", P1, (400, 1, 5)),
]
CHARACTERISTICS = [
    ("treated", "all", "all", 5), ("untreated", "all", "all", 2),
    ("treated", "age_at_index", "40", 2), ("treated", "age_at_index", "61", 3), ("untreated", "age_at_index", "70", 2),
    ("treated", "age_group", "<50", 2), ("treated", "age_group", "60-69", 3), ("untreated", "age_group", "70-79", 2),
    ("treated", "region", "unknown", 1), ("treated", "region", "west", 4), ("untreated", "region", "west", 2),
]  # fmt: skip
MADE = {
    "frame_attrition": frame("frame_attrition", [(1, "invasive", 7, 8), (0, "everyone", 9, 10)]),
    "frame_characteristics": frame("frame_characteristics", CHARACTERISTICS),
    "frame_uptake": frame("frame_uptake", [(2012, "trastuzumab", 4, 7), (2012, "lapatinib", 2, 7)]),
    "frame_lines": frame("frame_lines", FRAME_LINES),
    "frame_time": frame("frame_time", FRAME_TIME),
    "frame_net_survival": frame("frame_net_survival", []),
    "frame_expected_survival": frame("frame_expected_survival", []),
    "frame_patterns": frame("frame_patterns", []),
}


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    return result_tables(MADE, STUDY)


def test_columns(tables: dict[str, pd.DataFrame]) -> None:
    assert {name: tuple(table.columns) for name, table in tables.items()} == COLUMNS


def test_the_order_of_a_frame_changes_no_byte(tables: dict[str, pd.DataFrame]) -> None:
    for seed in range(3):
        shuffled = {name: made.sample(frac=1, random_state=seed) for name, made in MADE.items()}
        for name, table in result_tables(shuffled, STUDY).items():
            assert csv_bytes(table) == csv_bytes(tables[name]), name


def test_line_starts(tables: dict[str, pd.DataFrame]) -> None:
    assert list(tables["line_starts"].itertuples(index=False, name=None)) == [
        ("primary", 1, "all", 5),
        ("primary", 1, "trastuzumab", 4),
        ("primary", 1, "lapatinib", 1),
        ("primary", 2, "all", 1),
        ("primary", 2, "lapatinib", 1),
        ("gap_45", 1, "all", 0),
        ("gap_45", 2, "all", 0),
    ]


def test_transitions_start_from_everyone(tables: dict[str, pd.DataFrame]) -> None:
    table = tables["line_transitions"]
    assert table[table["line_number"] == 0]["n"].sum() == 7
    first = table[(table["line_number"] == 1) & (table["regimen"] == "trastuzumab") & (table["next_state"] == "alive")]
    assert first["n"].to_list() == [3]


def test_line_durations(tables: dict[str, pd.DataFrame]) -> None:
    """Death ends a line (S = 3/4, then 1/2 to the end: the median is the middle of 90 and 150)."""
    said = csv_bytes(tables["line_durations"]).decode().splitlines()
    assert said[1].startswith("primary,1,all,4,2,120,")
    assert said[1].endswith(",90,5,1,a limit is not reached")
    assert said[2] == "primary,1,lapatinib,0,0,,,,10,1,1,no line started early enough to be judged"
    assert said[3].split(",")[8] == "170"
    assert [line for line in said if line.endswith("nobody")] == [
        f"{line},0,0,,,,,0,0,nobody" for line in ("primary,2,all", "gap_45,1,all", "gap_45,2,all")
    ]


def test_what_cannot_be_estimated_is_a_row_with_its_reason(tables: dict[str, pd.DataFrame]) -> None:
    survival = tables["survival"]
    of_index = survival[survival["outcome"] == "overall_survival"]
    assert of_index["level"].unique().tolist() == ["all", "<50", "50-59", "60-69", "70-79", "80+"]
    rows = {(row.level, row.time_days): row for row in of_index.itertuples()}
    assert rows["all", 100].estimate == pytest.approx(0.75)
    assert (rows["all", 100].at_risk, rows["all", 100].n, rows["all", 100].events) == (4, 4, 1)
    assert rows["all", 100].reason == ""
    assert rows["all", 300].reason == "beyond the last observed day"
    assert np.isnan(rows["all", 300].estimate)
    assert rows["60-69", 100].reason == "no limits where the estimate is 0 or 1"
    assert (rows["<50", 300].estimate, rows["<50", 300].at_risk) == (0, 0)
    assert (rows["80+", 100].n, rows["80+", 100].reason) == (0, "nobody")
    times = tables["survival_times"].query("statistic == 'median' and estimator == 'kaplan_meier'")
    medians = times.set_index(["outcome", "line_number", "rule_set", "level"])["reason"]
    assert medians["overall_survival", 0, "", "all"] == "not reached"
    assert medians["survival_from_line", 2, "gap_45", "all"] == "nobody"


def test_uptake_has_every_year_and_substance(tables: dict[str, pd.DataFrame]) -> None:
    assert list(tables["drug_uptake"].itertuples(index=False, name=None)) == [
        (2012, "trastuzumab", 4, 7), (2012, "lapatinib", 2, 7), (2013, "trastuzumab", 0, 0), (2013, "lapatinib", 0, 0),
    ]  # fmt: skip


def test_characteristics(tables: dict[str, pd.DataFrame]) -> None:
    table = tables["characteristics"]
    ages = table[(table["variable"] == "age_at_index") & (table["level"] == "median")].set_index("group")["value"]
    assert (ages["all"], ages["treated"], ages["untreated"]) == (61, 61, 70)
    assert np.isnan(ages["no_information"])
    counts = table.set_index(["group", "variable", "level"])
    assert counts.loc[("all", "age_group", "60-69"), ["n", "denominator"]].tolist() == [3, 7]
    assert counts.loc[("untreated", "age_group", "<50"), "n"] == 0
    regions = table[(table["group"] == "all") & (table["variable"] == "region")]["level"]
    assert regions.tolist() == ["west", "unknown"]


def test_levels_in_the_order_of_the_study() -> None:
    assert levels_of("age_group", STUDY, ["80+"]) == ["<50", "50-59", "60-69", "70-79", "80+"]
    assert levels_of("index_year", STUDY) == ["2012", "2013"]
    assert levels_of("region", STUDY, {"b", "unknown", "a"}) == ["a", "b", "unknown"]
    assert levels_of("at_most_75_without_comorbidity", STUDY) == ["yes", "no", "unknown"]


def test_csv() -> None:
    table = pd.DataFrame({"a": [1, 2], "b": [1 / 3, None], "c": ['x "y"', ""]})
    assert csv_bytes(table) == b'a,b,c\n1,0.3333333333,"x ""y"""\n2,,\n'


def test_nobody_at_all() -> None:
    nobody = {name: table.iloc[:0] for name, table in MADE.items()}
    tables = result_tables({**nobody, "frame_attrition": MADE["frame_attrition"]}, STUDY)
    assert set(tables["survival"]["reason"]) == {"nobody"}
    assert tables["line_starts"]["n"].sum() == 0
