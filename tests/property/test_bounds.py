"""Histories of a size that no register has: the lines stay those that the rules give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from jobs.config import Study
from jobs.lines import packed
from jobs.lines.build import build_line_records, select_lines
from jobs.lines.table import NARROW, LineRules, fold_rows, lines_of

MANY = 100_000
INDEX = 10_000  # days from 1970-01-01
SUBSTANCES = [f"s{number:02}" for number in range(63)]


def _study(**rules: Any) -> Study:
    return Study.model_validate(
        {
            "name": "bounds",
            "period": {"index_from": "1990-01-01", "index_until": "2000-01-01", "follow_up_until": "9999-12-31"},
            "cohort": {"tumour": {"icd10": ["C50"]}, "index": "diagnosis"},
            "drugs": {"line_defining": SUBSTANCES},
            "rule_sets": {"primary": rules},
        }
    )


def _days(days: Any) -> pa.Array:
    return pa.array(np.asarray(days, np.int32)).cast(pa.date32())


def _cohort(people: list[str], end: int) -> pa.Table:
    n = len(people)
    return pa.table(
        {
            "person_id": people,
            "index_date": _days([INDEX] * n),
            "follow_up_end": _days([INDEX + end] * n),
            "follow_up_end_reason": ["study_end"] * n,
        }
    )


def _exposures(people: Any, substances: Any, days: Any) -> pa.Table:
    days = INDEX + np.asarray(days, np.int64)
    n = len(days)
    columns = {
        "person_id": pa.array(people, pa.string()),
        "substance": pa.array(substances, pa.string()),
        "class": pa.array(["other"] * n),
        "given_from": _days(days),
        "given_to": _days(days),
        "covered_until": _days(days + 21),
        "source": pa.array(["hospital_drug"] * n),
    }
    return pa.table(columns)


def _said(lines: pa.Table) -> list[tuple[int, int, int, str]]:
    """regimen's size, start and end from the index, and why it ended."""
    return [
        (len(regimen), start - INDEX, end - INDEX, reason)
        for regimen, start, end, reason in zip(
            lines["regimen"].to_pylist(),
            lines["line_start"].cast(pa.int32()).to_pylist(),
            lines["line_end"].cast(pa.int32()).to_pylist(),
            lines["end_reason"].to_pylist(),
            strict=True,
        )
    ]


def test_a_person_with_a_hundred_thousand_days_in_reverse() -> None:
    exposures = _exposures(["p"] * MANY, ["s00"] * MANY, np.arange(MANY)[::-1])
    lines, _ = lines_of(_cohort(["p"], MANY), exposures, _study())
    assert _said(lines) == [(1, 0, MANY, "study_end")]


def test_a_hundred_thousand_rows_on_one_day() -> None:
    exposures = _exposures(["p"] * MANY, [SUBSTANCES[i % 63] for i in range(MANY)], np.full(MANY, 5))
    lines, _ = lines_of(_cohort(["p"], 1_000), exposures, _study())
    assert _said(lines) == [(63, 5, 26, "gap")]


def test_a_hundred_thousand_switches() -> None:
    days = 7 * np.arange(MANY)
    exposures = _exposures(["p"] * MANY, [SUBSTANCES[i % 4] for i in range(MANY)], days)
    rules = _study(combination_window_days=0, carry_in_days=0)
    lines, counts = lines_of(_cohort(["p"], 7 * MANY), exposures, rules)
    assert lines.num_rows == MANY
    assert set(lines["duration_days"].to_pylist()[:-1]) == {7}
    assert set(lines["end_reason"].to_pylist()[:-1]) == {"switch"}
    counted = {row["counted"]: row["n"] for row in counts.to_pylist()}
    assert counted["lines_shorter_than_28_days"] == MANY


def test_sixty_three_substances_that_exclude_one_another() -> None:
    """Each excludes all before it, so the last one given is the regimen."""
    excludes = {substance: SUBSTANCES[:place] for place, substance in enumerate(SUBSTANCES) if place}
    exposures = _exposures(["p"] * 63, SUBSTANCES, np.zeros(63))
    lines, counts = lines_of(_cohort(["p"], 1_000), exposures, _study(excludes=excludes))
    assert lines["regimen"].to_pylist() == [["s62"]]
    assert {row["counted"]: row["n"] for row in counts.to_pylist()}["excluded_leftovers"] == 62


def test_a_million_people_with_one_row_each() -> None:
    n = 1_000_000
    people = [f"{number:032x}" for number in range(n)]
    day = np.arange(n) % 300
    lines, _ = lines_of(_cohort(people, 1_000), _exposures(people, ["s07"] * n, day), _study())
    assert lines.num_rows == n
    assert lines["person_id"].to_pylist() == people
    start = np.asarray(lines["line_start"].cast(pa.int32())) - INDEX
    assert (start == day).all()
    assert (np.asarray(lines["duration_days"]) == 21).all()


def test_one_giant_person_beside_others_on_spark(spark: SparkSession) -> None:
    people = ["giant", *(f"small {number}" for number in range(50))]
    whose = ["giant"] * MANY + people[1:]
    days = [*range(MANY), *range(50)]
    cohort, exposures = _cohort(people, MANY), _exposures(whose, ["s00"] * len(days), days)
    records = build_line_records(spark.createDataFrame(cohort), spark.createDataFrame(exposures), _study(), 3)
    lines = select_lines(records).toArrow()
    expected, _ = lines_of(cohort, exposures, _study())
    by_person = [("person_id", "ascending")]
    assert lines.sort_by(by_person).to_pylist() == expected.sort_by(by_person).to_pylist()
    assert lines.num_rows == 51


def test_two_people_with_one_key_are_refused() -> None:
    row = packed.pack_people(np.array([INDEX, INDEX]), np.array([INDEX + 9, INDEX + 9]), np.array([0, 0]))
    rows = pa.table([pa.array(["a", "b"]), pa.array([7, 7]), pa.array(row)], schema=NARROW)
    with pytest.raises(ValueError, match="two people have one key"):
        fold_rows(rows, LineRules.of(_study()))


def test_packing_keeps_every_day_that_a_date_can_be() -> None:
    first = np.array([-719_162, -1, 0, 20_000, 2_932_896])  # years 1 to 9999
    packed_rows = packed.pack(np.array([0, 62, 63, 126, 5]), first, first + [0, 3, 100, 36_500, 0], first + 36_600)
    assert (np.argsort(packed_rows) == np.arange(5)).all()
    owner = np.zeros(5, np.int32)
    defining, classes = packed.histories(owner, packed_rows, 1)
    assert defining.what.tolist() == [0, 62, 5]
    assert classes.what.tolist() == [0, 63]
    assert defining.first.tolist() == [-719_162, -1, 2_932_896]
    assert classes.last.tolist() == [100, 56_500]
    assert classes.until.tolist() == [36_600, 56_600]
    people = packed.pack_people(first[:2], first[:2] + [0, 3_652_058], np.array([4, 1]))
    index, end, reason = packed.unpack_people(people)
    assert (index.tolist(), end.tolist(), reason.tolist()) == ([-719_162, -1], [-719_162, 3_652_057], [4, 1])
