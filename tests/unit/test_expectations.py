"""Suites and how they judge counts, without Spark."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

import jobs.gate
from expectations import EXPECTATIONS, HAS_COLUMNS, HAS_ROWS, IS_UNIQUE, rules_of, suite_of
from expectations.suite import ROWS
from jobs.errors import QualityError
from jobs.flags import BITS
from jobs.gate import ALL, REPEATED, RuleOutcome, judge, raise_if_critical
from schemas import CONFORMED, TABLES

QUIET = """
import os, sys
reached = []
sys.addaudithook(lambda event, _: reached.append(event) if event in ("socket.connect", "socket.getaddrinfo") else None)
from jobs.gate import judge
assert "great_expectations" not in sys.modules, "importing the gate imports Great Expectations"
from expectations import rules_of, HAS_COLUMNS, IS_UNIQUE
judge("tumour", {"rows": 3, HAS_COLUMNS: 1, IS_UNIQUE: 0, **{rule.name: 1 for rule in rules_of("tumour")}})
assert not reached, reached
assert os.environ["GX_ANALYTICS_ENABLED"] == "false"
"""


def _counts(name: str, rows: int = 1000, **violations: int) -> dict[str, int]:
    zero = dict.fromkeys([HAS_COLUMNS, IS_UNIQUE, *(rule.name for rule in rules_of(name))], 0)
    return {ROWS: rows, **zero, **{rule.replace("__", " "): n for rule, n in violations.items()}}


def _failed(outcomes: list[RuleOutcome]) -> list[tuple[str, str, int]]:
    return [(one.rule, one.severity, one.violations) for one in outcomes if not one.passed]


def test_every_table_with_a_gate_has_a_suite() -> None:
    assert set(EXPECTATIONS) == {*CONFORMED, "cohort", "exposures", "treatment_lines"}
    for name, entry in EXPECTATIONS.items():
        assert entry.table == name
        assert len(entry.rules) >= 3


@pytest.mark.parametrize("name", EXPECTATIONS)
def test_a_suite_has_an_expectation_per_rule_and_what_the_contract_says(name: str) -> None:
    judged = [expectation.configuration for expectation in suite_of(name).expectations]
    rules = {str(one.description): (one.severity.value, one.kwargs.get("max_value")) for one in judged}
    assert len(rules) == len(judged), "two rules of one name"
    table = TABLES[name]
    assert (HAS_ROWS in rules) == (not table.may_be_empty)
    assert rules[IS_UNIQUE] == rules[HAS_COLUMNS] == ("critical", 0)
    for column in table.columns:
        assert (f"{column.name} is present" in rules) == (not column.nullable)
        assert (f"{column.name} is one of its codes" in rules) == bool(column.codes)
        assert (f"{column.name} is a pseudonym" in rules) == column.identifies
    for rule in EXPECTATIONS[name].rules:
        assert rules[rule.name] == (rule.severity, rule.share)


@pytest.mark.parametrize("name", EXPECTATIONS)
def test_columns_of_a_key_that_may_be_missing_hold_different_things(name: str) -> None:
    # The gate counts keys by a hash that passes over NULL.
    missing = [one for one in map(TABLES[name].column, TABLES[name].key) if one.nullable]
    assert sum(not one.codes for one in missing) <= 1
    codes = [code for one in missing for code in one.codes]
    assert len(codes) == len(set(codes))


def test_what_no_row_violates_passes() -> None:
    outcomes = judge("person", _counts("person"))
    assert [one.rule for one in outcomes[:3]] == [HAS_ROWS, HAS_COLUMNS, IS_UNIQUE]
    assert len(outcomes) == 3 + len(rules_of("person"))
    assert _failed(outcomes) == []
    assert {one.rows for one in outcomes} == {1000}


def test_one_violation_fails_its_rule_and_no_other() -> None:
    counts = _counts("person", death__is__not__before__birth=1, nobody__is__older__than__115__years=2)
    assert _failed(judge("person", counts)) == [
        ("death is not before birth", "critical", 1),
        ("nobody is older than 115 years", "warning", 2),
    ]
    assert _failed(judge("person", _counts("person", key__is__unique=3))) == [(IS_UNIQUE, "critical", 3)]


@pytest.mark.parametrize(("rows", "unknown", "failed"), [(1000, 250, False), (1000, 251, True), (4, 1, False)])
def test_a_rule_with_a_share_fails_above_it(rows: int, unknown: int, failed: bool) -> None:
    outcomes = judge("tumour", {**_counts("tumour", rows), "stage is known for 75 % or more": unknown})
    assert _failed(outcomes) == ([("stage is known for 75 % or more", "warning", unknown)] if failed else [])


def test_an_empty_table_fails_where_it_must() -> None:
    empty_may_be = {name for name in EXPECTATIONS if not _failed(judge(name, _counts(name, rows=0)))}
    assert empty_may_be == {name for name in EXPECTATIONS if TABLES[name].may_be_empty}
    assert _failed(judge("cohort", _counts("cohort", rows=0))) == [(HAS_ROWS, "critical", 1)]


def test_critical_failures_are_one_error_with_names_and_counts() -> None:
    outcomes = [
        RuleOutcome("key is unique", "critical", False, 3, 12_000),
        RuleOutcome("stage is known", "warning", False, 7, 12_000),
        RuleOutcome("sex is present", "critical", True, 0, 12_000),
        RuleOutcome(HAS_ROWS, "critical", False, 1, 0),
    ]
    raise_if_critical({"tumour": outcomes[1:3], "person": []}, "page.html")
    judged = {"person": outcomes[:1], "cohort": outcomes[1:3], "tumour": outcomes}
    said = (
        "table person fails its gate: not true: key is unique, in 3 of 12,000 rows; "
        "table tumour fails its gate: not true: key is unique, in 3 of 12,000 rows; not true: table has rows; "
        "correct the source or its adapter and run again"
    )
    page = "quality/2026-01-01.html"
    for shown_at, more in (("", ""), (page, f"; {page} below out shows every rule")):
        with pytest.raises(QualityError) as caught:
            raise_if_critical(judged, shown_at)
        assert str(caught.value) == said + more


def test_rows_are_counted_as_plain_python_counts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """However rows are spread over tasks and batches, and whichever partition a part comes to."""
    monkeypatch.setattr(jobs.gate, "KEYS_AT_A_TIME", 50)
    draw = random.Random(1)
    for rows in (0, 1, 10, 1000):
        lowest, highest = -(2**63), 2**63 - 1
        keys = [draw.choice((lowest, highest, 0, -1, draw.randint(lowest, highest))) for _ in range(rows)]
        broken = [draw.choice((0, 0, 1, 1 << (BITS - 1), draw.getrandbits(BITS))) for _ in range(rows)]
        of_row = list(zip(keys, broken, strict=True))
        packed = []
        for task in range(3):
            part = of_row[task::3]
            batches = [part[start : start + 7] for start in range(0, len(part), 7)]
            packed += jobs.gate._pack(
                pa.record_batch({"key": pa.array([k for k, _ in one], pa.int64()),
                                 "broken": pa.array([b for _, b in one], pa.int64())})
                for one in batches
            )  # fmt: skip
        counted = Counter[int]()
        for partition in (0, 1):
            here = [one.filter(pa.array([part % 2 == partition for part in one["part"].to_pylist()])) for one in packed]
            for batch in jobs.gate._count(iter(here)):
                counted.update(dict(zip(batch["what"].to_pylist(), batch["n"].to_pylist(), strict=True)))
        expected = Counter({ALL: rows, REPEATED: rows - len(set(keys))})
        expected.update(place for one in broken for place in range(BITS) if one >> place & 1)
        assert +counted == +expected


def test_judging_is_silent_stays_on_the_machine_and_leaves_no_file(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        "HOME": str(home),
        "TMPDIR": str(home),
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    script = tmp_path / "quiet.py"
    script.write_text(QUIET)
    done = subprocess.run(
        [sys.executable, str(script)], cwd=home, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(home.rglob("*")) == []
