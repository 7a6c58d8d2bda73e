"""Kaplan-Meier from counts against R's survfit; expected/kaplan_meier.R made the tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jobs.survival.kaplan_meier import kaplan_meier, plain_quantile, quantile

EXPECTED = Path(__file__).parent / "expected"
CLOSE = {"rtol": 0.0, "atol": 1e-9}


def expected(table: str) -> pd.DataFrame:
    return pd.read_csv(EXPECTED / f"kaplan_meier_{table}.csv")


COUNTS = {name: part.assign(entry_day=0) for name, part in expected("counts").groupby("data", sort=False)}
LEVELS = (0.95, 0.8)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", list(COUNTS))
def test_curve_is_that_of_survfit(name: str, level: float) -> None:
    curve = kaplan_meier(COUNTS[name], level)
    truth = expected("curves").query("data == @name and level == @level")
    np.testing.assert_array_equal(curve.days, truth["day"])
    np.testing.assert_array_equal(curve.at_risk, truth["at_risk"])
    np.testing.assert_array_equal(curve.events, truth["events"])
    for column in ("estimate", "se", "lower", "upper"):
        np.testing.assert_allclose(getattr(curve, column), truth[column], **CLOSE, err_msg=column)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", list(COUNTS))
def test_median_is_that_of_survfit(name: str, level: float) -> None:
    found = quantile(kaplan_meier(COUNTS[name], level), 0.5)
    truth = expected("medians").query("data == @name and level == @level")[["days", "lower", "upper"]].iloc[0]
    np.testing.assert_allclose([found.days, found.lower, found.upper], truth.to_numpy(float), **CLOSE)


def test_points_are_those_of_summary_survfit() -> None:
    truth = expected("times")
    assert len(truth) > 40
    for row in truth.itertuples():
        point = kaplan_meier(COUNTS[row.data], row.level).at(row.day)
        assert point.at_risk == row.at_risk
        # R gives the limits 1 and 1 before the first event; here they are not known.
        limits = [np.nan, np.nan] if row.estimate == 1 else [row.lower, row.upper]
        np.testing.assert_allclose([point.estimate, point.lower, point.upper], [row.estimate, *limits], **CLOSE)


def test_beyond_the_last_day() -> None:
    """Nothing is known after the last one was censored; after the last one died, nobody lives."""
    after_censoring = kaplan_meier(COUNTS["no_event"], 0.95).at(8)
    assert np.isnan([after_censoring.estimate, after_censoring.se, after_censoring.lower]).all()
    assert after_censoring.at_risk == 0
    after_death = kaplan_meier(COUNTS["one"], 0.95).at(8)
    assert after_death.estimate == 0
    assert np.isnan([after_death.se, after_death.lower, after_death.upper]).all()


def test_nobody() -> None:
    curve = kaplan_meier(COUNTS["one"].iloc[:0], 0.95)
    assert curve.n == 0
    assert np.isnan([curve.at(0).estimate, quantile(curve, 0.5).days]).all()


def test_a_count_of_seven_is_seven_people() -> None:
    """A frame and the sum of its parts, in any order, give the same curve to the last bit."""
    whole = COUNTS["lung"].assign(n=COUNTS["lung"]["n"] * 7)
    parts = pd.concat([COUNTS["lung"]] * 7).sample(frac=1, random_state=3)
    one, other = kaplan_meier(whole, 0.95), kaplan_meier(parts, 0.95)
    for column in ("days", "at_risk", "events", "estimate", "se", "lower", "upper"):
        np.testing.assert_array_equal(getattr(one, column), getattr(other, column))
    assert one.n == 7 * COUNTS["lung"]["n"].sum()


def test_causes_that_are_events() -> None:
    frame = pd.DataFrame({"entry_day": 0, "day": [1, 2, 3], "cause": [1, 2, 0], "n": [1, 1, 2]})
    assert kaplan_meier(frame, 0.95).at(3).estimate == pytest.approx(3 / 4)
    assert kaplan_meier(frame, 0.95, (1, 2)).at(3).estimate == pytest.approx(2 / 4)


def test_plain_quantile() -> None:
    """R's quantile(rep(values, counts), share, type = 2)."""
    values, counts = pd.Series([30, 10, 20]), pd.Series([2, 3, 1])  # 10 10 10 20 30 30
    assert [plain_quantile(values, counts, share) for share in (0.25, 0.5, 0.75)] == [10, 15, 30]
    assert plain_quantile(values, pd.Series([1, 1, 1]), 0.5) == 20
    assert np.isnan(plain_quantile(values[:0], counts[:0], 0.5))
