"""A delivery whose columns were lost or retyped is refused as a whole, from counts alone."""

from __future__ import annotations

import pandas as pd
import pytest

from jobs.delivery_rules import judge_delivery, raise_if_refused
from jobs.errors import QualityError


def _counts(rows: int, empty: dict[str, int], reasons: dict[str, int]) -> dict[str, pd.DataFrame]:
    profile = [("cancer", column, "(empty)", n) for column, n in empty.items()] + [("cancer", "sex", "1", rows)]
    return {
        "ledger": pd.DataFrame([("cancer", rows)], columns=["raw_table", "rows_in"]),
        "profile": pd.DataFrame(profile, columns=["raw_table", "column", "code", "n"]),
        "quarantine_reasons": pd.DataFrame(
            [("cancer", reason, n) for reason, n in reasons.items()], columns=["raw_table", "reason", "n"]
        ),
    }


@pytest.mark.parametrize(
    ("rows", "reasons", "passes"),
    [
        (100, {}, True),
        (100, {"impossible_date:born": 50}, True),
        (100, {"impossible_date:born": 51}, False),
        (100, {"missing_identifier": 90}, False),
        (100, {"missing_date:born": 90, "death_before_birth": 80}, True),
        (100, {"impossible_date:born": 40, "unknown_code:sex": 40}, True),
        (19, {"impossible_date:born": 19}, True),
        (0, {}, True),
    ],
)
def test_one_reason_for_more_than_half_of_the_rows(rows: int, reasons: dict[str, int], passes: bool) -> None:
    judged = judge_delivery(_counts(rows, {}, reasons), None, {})
    assert judged["raw table cancer"][0].outcome.passed is passes
    if passes:
        raise_if_refused(judged, "quality/2026-01-01.html")
    else:
        with pytest.raises(QualityError, match="raw table cancer: .* (impossible_date:born|missing_identifier) \\("):
            raise_if_refused(judged, "quality/2026-01-01.html")


@pytest.mark.parametrize(
    ("before", "now", "absent", "passes"),
    [
        ({"death": 50}, {"death": 100}, (), False),
        ({"death": 50}, {"death": 100}, ("death",), True),
        ({"death": 50}, {"death": 99}, (), True),
        ({"death": 91}, {"death": 100}, (), True),  # nine are expected: none may be an accident
        ({"death": 90}, {"death": 100}, (), False),
        ({}, {"death": 100}, (), True),
    ],
)
def test_a_column_that_was_filled_before(
    before: dict[str, int], now: dict[str, int], absent: tuple[str, ...], passes: bool
) -> None:
    judged = judge_delivery(_counts(100, now, {}), _counts(100, before, {}), {"cancer": absent})
    assert judged["raw table cancer"][1].outcome.passed is passes
    assert judged["raw table cancer"][1].broken_by == (() if passes else ("death",))
    if not passes:
        says = "the column death was filled in the delivery before and is empty or absent .* inputs.cancer.absent"
        with pytest.raises(QualityError, match=says):
            raise_if_refused(judged, "quality/2026-01-01.html")


@pytest.mark.parametrize(
    ("before", "now", "passes"),
    [
        ((90, 10), (49, 51), False),
        ((90, 10), (50, 50), True),
        ((10, 10), (0, 20), False),
        ((10, 9), (0, 20), True),  # too few to know
        ((90, 10), (0, 19), True),
        ((10, 90), (0, 100), True),  # such as a register of findings of which few are looked for
        (None, (0, 100), True),
    ],
)
def test_a_column_that_held_known_codes_before(
    before: tuple[int, int] | None, now: tuple[int, int], passes: bool
) -> None:
    def counts(of: tuple[int, int] | None) -> dict[str, pd.DataFrame]:
        told = _counts(100, {}, {})
        known, others = of or (0, 0)
        rows = [("cancer", "stage", "(empty)", 100 - known - others), ("cancer", "stage", "1", known - known // 3),
                ("cancer", "stage", "2", known // 3), ("cancer", "stage", "(other)", others)]  # fmt: skip
        profile = pd.DataFrame(rows if of else [], columns=told["profile"].columns)
        return {**told, "profile": pd.concat([told["profile"], profile])}

    judged = judge_delivery(counts(now), counts(before), {})
    outcome = judged["raw table cancer"][2]
    assert outcome.outcome.passed is passes
    assert (outcome.broken_by, outcome.outcome.violations) == ((), 0) if passes else (("stage",), now[1])
    if not passes:
        says = "the column stage mostly held known codes .* mostly holds others now .* under adapter of the site file"
        with pytest.raises(QualityError, match=says):
            raise_if_refused(judged, "quality/2026-01-01.html")
