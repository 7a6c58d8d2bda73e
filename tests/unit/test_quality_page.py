"""The quality page of a delivery, from counts."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from jobs.report.quality import FEWEST_ROWS, render_quality


def _ledger(rows: int) -> pd.DataFrame:
    return pd.DataFrame(
        [("cancer", "2023-06-30", rows, rows - 7, 4, 2, 1)],
        columns=["raw_table", "delivery", "rows_in", "rows_accepted", "rows_quarantined", "rows_duplicate",
                 "rows_suppressed"],
    )  # fmt: skip


def _profile(empty: int, known: int) -> pd.DataFrame:
    return pd.DataFrame(
        [("d", "cancer", "S_met", "(empty)", empty), ("d", "cancer", "S_met", "B", known)],
        columns=["delivery", "raw_table", "column", "code", "n"],
    )


def _tables(rows: int = 1_000, empty: int = 10) -> dict[str, pd.DataFrame]:
    unknown = [("cancer", "S_basis", "33", 12), ("cancer", "S_basis", "44", FEWEST_ROWS - 1),
               ("cancer", "S_basis", "Kari Nordmann", 500), ("cancer", "S_basis", "0101501234", 500),
               ("cancer", "S_basis", "36769180", 500)]  # fmt: skip
    return {
        "ledger": _ledger(rows),
        "profile": _profile(empty, 200),
        "unknown_codes": pd.DataFrame(unknown, columns=["raw_table", "column", "code", "n"]),
        "quarantine_reasons": pd.DataFrame(
            [("cancer", "impossible_date:S_diagnosedato", 3)], columns=["raw_table", "reason", "n"]
        ),
    }


def _rule(passed: bool, severity: str) -> dict[str, Any]:
    rule = {"table": "tumour", "rule": "icd10 is a code without dot", "severity": severity, "passed": passed}
    return {**rule, "violations": 0 if passed else 9, "rows": 993}


def _page(**changed: Any) -> str:
    arguments: dict[str, Any] = {
        "site": "norway", "delivery": "2023-06-30", "synthetic": False, "tables": _tables(),
        "rules": [_rule(True, "critical")], "previous": None, "unknown_columns": {"cancer": ["extra", "more"]},
    }  # fmt: skip
    return render_quality(**{**arguments, **changed})


def test_every_row_and_every_reason_is_shown() -> None:
    page = _page()
    for shown in ("1,000", "993", "impossible_date:S_diagnosedato", "Internal, not cleared for release", "holds"):
        assert shown in page
    assert "Accepted without warnings." in page
    assert "There is no earlier delivery" in page
    assert "SYNTHETIC" not in page
    assert page == _page()


def test_only_what_looks_like_a_code_and_is_not_rare_is_shown() -> None:
    page = _page()
    assert ">33<" in page
    assert ">44<" not in page
    assert ">36769180<" in page
    assert "Nordmann" not in page
    assert "0101501234" not in page, "a number of that length may be somebody's"
    assert "3 others, rare or no codes" in page
    one = _tables()
    one["unknown_codes"] = one["unknown_codes"].iloc[:2]
    assert "1 other, rare or no codes" in _page(tables=one)
    assert "extra" not in page, "names of unknown columns may be anything"


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (_rule(False, "critical"), "Refused: 1 critical rule failed."),
        (_rule(False, "warning"), "Accepted with 1 warning."),
    ],
)
def test_the_verdict_follows_the_rules(rule: dict[str, Any], says: str) -> None:
    page = _page(rules=[_rule(True, "critical"), rule])
    assert says in page
    assert ">9<" in page


def test_what_changed_since_the_delivery_before() -> None:
    before = _tables(rows=800, empty=200)
    page = _page(previous=("2023-02-28", before))
    assert "2023-02-28" in page
    assert "+25.0 % !" in page
    assert "25.0 %" in page
    assert "-24.0" in page
    assert "Rules on the raw tables, and on the conformed tables made of them." in page
    adds = _page(previous=("2023-02-28", before), additions=True)
    assert "+25.0 %<" in adds
    assert "-24.0" in adds, "shares do not depend on how much is delivered"
    assert "differ in size" in adds
    assert "No share of empty cells" in _page(previous=("2023-02-28", _tables()))


def test_nothing_is_loaded_from_a_network() -> None:
    page = _page()
    assert "http:" not in page
    assert "https:" not in page
    assert "<script" not in page
