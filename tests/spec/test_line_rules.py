"""The drawn histories through the kernel: alone, on Spark, explained; and their page of the documentation."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyspark.sql import SparkSession

from jobs.config import conf_folder, load_study
from jobs.lines.build import build_line_records, partitions_for, select_line_counts, select_lines
from jobs.lines.explain import SAYS, explain
from jobs.lines.table import lines_of
from jobs.lines.timeline import DrawnLine, Span, draw
from schemas import TABLES
from tests.spec.drawn import CASES, INDEX, SHORT, Drawn
from tests.spec.page import PAGE, rules_page

STUDY = load_study(conf_folder() / "studies" / "her2_mbc.yaml")
PRIMARY = STUDY.model_copy(update={"rule_sets": {"primary": STUDY.rule_sets["primary"]}})


def _tables() -> tuple[pa.Table, pa.Table]:
    def day(number: int) -> date:
        return INDEX + timedelta(days=number)

    cohort = pa.table(
        {
            "person_id": [case.rule for case in CASES],
            "index_date": [INDEX] * len(CASES),
            "follow_up_end": [day(case.end) for case in CASES],
            "follow_up_end_reason": [case.end_reason for case in CASES],
        }
    )
    rows = [(case.rule, SHORT[s], day(a), day(b), day(c)) for case in CASES for s, a, b, c in case.given]
    person, substance, given_from, given_to, covered = zip(*rows, strict=True)
    exposures = pa.table(
        {
            "person_id": list(person), "substance": list(substance), "class": ["anti_her2"] * len(rows),
            "given_from": list(given_from), "given_to": list(given_to), "covered_until": list(covered),
            "source": ["hospital_drug"] * len(rows),
        }
    )  # fmt: skip
    return cohort, exposures


def _by_person(lines: pa.Table) -> dict[str, list[tuple[str, int, int, str, str]]]:
    letter = {name: short for short, name in SHORT.items()}
    found: dict[str, list[tuple[str, int, int, str, str]]] = {case.rule: [] for case in CASES}
    for row in sorted(lines.to_pylist(), key=lambda row: row["line_number"]):
        found[row["person_id"]].append(
            (
                "".join(sorted(letter[name] for name in row["regimen"])),
                (row["line_start"] - INDEX).days,
                (row["line_end"] - INDEX).days,
                row["end_reason"],
                row["next_state"],
            )
        )
    return found


@pytest.fixture(scope="module")
def found() -> dict[str, list[tuple[str, int, int, str, str]]]:
    lines, _ = lines_of(*_tables(), PRIMARY)
    return _by_person(lines)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_lines(case: Drawn, found: dict[str, list[tuple[str, int, int, str, str]]]) -> None:
    assert found[case.rule] == case.lines


def test_every_end_reason_and_next_state_is_drawn() -> None:
    drawn = [line for case in CASES for line in case.lines]
    assert {reason for *_, reason, _ in drawn} == set(TABLES["treatment_lines"].column("end_reason").codes)
    assert {state for *_, state in drawn} == set(TABLES["treatment_lines"].column("next_state").codes)


@pytest.fixture(scope="module")
def spark_frames(spark: SparkSession) -> Callable[[], tuple]:  # type: ignore[type-arg]
    cohort, exposures = _tables()
    return lambda: (spark.createDataFrame(cohort), spark.createDataFrame(exposures))


def test_spark_gives_the_same_lines_whatever_the_partitions(spark_frames: Callable[[], tuple]) -> None:  # type: ignore[type-arg]
    expected, counts = lines_of(*_tables(), STUDY)
    key = [("rule_set", "ascending"), ("person_id", "ascending"), ("line_number", "ascending")]
    for partitions in (1, 3):
        records = build_line_records(*spark_frames(), STUDY, partitions).cache()
        assert select_lines(records).toArrow().sort_by(key).to_pylist() == expected.sort_by(key).to_pylist()
        rows = select_line_counts(records).collect()
        assert {(r.rule_set, r.counted): r.n for r in rows} == {
            (r["rule_set"], r["counted"]): r["n"] for r in counts.to_pylist()
        }
        records.unpersist()


def test_data_frames_give_the_same_lines() -> None:
    expected, counts = lines_of(*_tables(), STUDY)
    cohort, exposures = (table.to_pandas() for table in _tables())
    days = ["given_from", "given_to", "covered_until"]
    as_timestamps = exposures.assign(**{name: pd.to_datetime(exposures[name]) for name in days})
    for frame in (exposures, as_timestamps):
        found = lines_of(pa.Table.from_pandas(cohort), pa.Table.from_pandas(frame), STUDY)
        assert (found[0].to_pylist(), found[1].to_pylist()) == (expected.to_pylist(), counts.to_pylist())


def test_one_exchange_whatever_the_number_of_rule_sets(spark_frames: Callable[[], tuple]) -> None:  # type: ignore[type-arg]
    for study in (PRIMARY, STUDY):
        plan = build_line_records(*spark_frames(), study, 4)._jdf.queryExecution().executedPlan().toString()
        assert plan.count("Exchange") == 1


def test_partitions() -> None:
    assert [partitions_for(rows, 100) for rows in (0, 1, 100, 101, 1000)] == [1, 1, 1, 2, 10]
    assert [partitions_for(rows, 100, 2) for rows in (50, 101, 250, 400)] == [1, 2, 4, 4]


def _explained(case: Drawn) -> str:
    cohort, exposures = (table.filter(pc.equal(table["person_id"], case.rule)) for table in _tables())
    return explain(cohort, exposures, STUDY, "primary")


def test_every_rule_is_explained_in_some_drawn_history() -> None:
    said = "\n".join(_explained(case) for case in CASES)
    assert [rule for rule in SAYS.values() if rule not in said] == []
    assert all(_explained(case).startswith("These are one person's days.") for case in CASES)


def test_an_explanation() -> None:
    carried = next(case for case in CASES if case.rule.startswith("carry-in"))
    said = _explained(carried)
    assert "  2015-06-12 day 11: trastuzumab. Rule 1: no line is open, one opens; trastuzumab, covered until" in said
    assert "2015-05-22  trastuzumab (hospital_drug)  before the window; running at index" in said
    assert "  1  2015-07-24 to 2017-08-09 (747 days)  trastuzumab_emtansine; ended: study_end; then: alive" in said
    assert "carry in lines removed: 1" in said
    nobody = _tables()[0].slice(0, 0)
    with pytest.raises(ValueError, match="not exactly one row"):
        explain(nobody, _tables()[1], STUDY, "primary")


def test_a_drawing_is_to_scale() -> None:
    spans = [Span("a", 0, 0, 21), Span("a", 21, 21, 42), Span("b", 40, 60, 61)]
    rows = draw(spans, [DrawnLine(0, 40), DrawnLine(40, 61)], 70).splitlines()
    assert rows[1] == "a     #" + "-" * 20 + "#" + "-" * 20
    assert rows[2] == "b     " + " " * 40 + "#" * 21
    assert rows[3] == "line  1" + "=" * 39 + "2" + "=" * 20 + " " * 10 + "|"
    assert [rows[0].index(str(day)) - 6 for day in (10, 20, 70)] == [10, 20, 70]


def test_the_committed_page_is_made_from_the_drawn_histories() -> None:
    committed = (Path(__file__).parents[2] / PAGE).read_text(encoding="utf-8")
    assert committed == rules_page(), f"run: python -m tests.spec.page > {PAGE}"
