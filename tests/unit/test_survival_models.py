"""Competing risks, tests, means, Cox and logistic models from counts against R; expected/models.R made the values."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lifelines import AalenJohansenFitter, CoxPHFitter

from jobs.survival.competing_risks import cumulative_incidence
from jobs.survival.cox import cox
from jobs.survival.design import ALL_EVENTS, COLLINEAR, NO_EVENT, NOBODY, SEPARATED, UNINFORMED
from jobs.survival.kaplan_meier import kaplan_meier, quantile, restricted_mean
from jobs.survival.log_rank import log_rank
from jobs.survival.logistic import logistic, odds_ratio, standardised_risk

FOLDER = Path(__file__).parent / "expected" / "models"
LEVELS = {"size": ["<=20", "20-50", ">50"], "meno": ["post", "pre"], "hormon": ["no", "yes"]}
NUMBER = {**LEVELS, "grade": ["2", "3"]}


def expected(name: str, **kinds: Any) -> pd.DataFrame:
    return pd.read_csv(FOLDER / f"{name}.csv", dtype=kinds)


@pytest.fixture(scope="module")
def competing() -> pd.DataFrame:
    return expected("competing_counts")


@pytest.fixture(scope="module")
def rotterdam() -> pd.DataFrame:
    return expected("rotterdam", grade=str)


@pytest.fixture(scope="module")
def on_time(rotterdam: pd.DataFrame) -> pd.DataFrame:
    return rotterdam.assign(entry_day=0)


def timed(patterns: pd.DataFrame) -> pd.DataFrame:
    return patterns.rename(columns={"event": "cause"})


def rows_of(*rows: tuple[int, int, int], **more: Any) -> pd.DataFrame:
    """Slices of frame_time: (day, cause, n)."""
    return pd.DataFrame(rows, columns=["day", "cause", "n"]).assign(entry_day=0, **more)


def test_cumulative_incidence_is_that_of_survfit(competing: pd.DataFrame) -> None:
    truth = expected("competing")
    assert len(truth) == 42
    for row in truth.itertuples():
        part = competing[competing["level"] == row.level]
        point = cumulative_incidence(part, 0.95, row.cause, (1, 2)).at(row.day)
        found = [point.estimate, point.se, point.lower, point.upper]
        np.testing.assert_allclose(found, [row.estimate, row.se, row.lower, row.upper], rtol=0, atol=1e-9)
        assert point.at_risk == row.at_risk


def test_causes_and_survival_add_up_to_one(competing: pd.DataFrame) -> None:
    everyone = competing[competing["level"] == "all"]
    free = kaplan_meier(everyone, 0.95, (1, 2))
    curves = [cumulative_incidence(everyone, 0.95, cause, (1, 2)) for cause in (1, 2)]
    np.testing.assert_allclose(sum(c.estimate for c in curves) + free.estimate, 1, atol=1e-12)


def test_lifelines_moves_tied_causes_apart(competing: pd.DataFrame) -> None:
    """Why the estimator is this program's own: with ties lifelines' answer is another one each time."""
    everyone = competing[competing["level"] == "all"]
    own = cumulative_incidence(everyone, 0.95, 1, (1, 2)).estimate[-1]
    one_by_one = everyone.loc[everyone.index.repeat(everyone["n"])].reset_index(drop=True)
    found = set()
    for seed in range(2):
        fitter = AalenJohansenFitter(seed=seed, calculate_variance=False)
        with pytest.warns(Warning, match="[Tt]ied"):
            fitter.fit(one_by_one["day"], one_by_one["cause"], event_of_interest=1)
        found.add(float(fitter.cumulative_density_.iloc[-1, 0]))
    assert len(found) == 2
    assert all(abs(value - own) > 1e-5 for value in found)


def test_cumulative_incidence_at_its_ends() -> None:
    """Nobody; no event; everyone on one day; beyond the last day it is known only where nobody is left."""
    nobody = cumulative_incidence(rows_of(), 0.95, 1, (1, 2))
    assert nobody.n == 0
    assert np.isnan(nobody.at(10).estimate)
    censored = cumulative_incidence(rows_of((0, 0, 5)), 0.95, 1, (1, 2))
    assert (censored.n, censored.at(0).estimate, censored.at(0).se) == (5, 0.0, 0.0)
    assert np.isnan(censored.at(1).estimate)
    settled = cumulative_incidence(rows_of((4, 1, 3), (4, 2, 1)), 0.95, 1, (1, 2))
    assert (settled.at(3).estimate, settled.at(4).estimate, settled.at(400).estimate) == (0.0, 0.75, 0.75)
    half = cumulative_incidence(rows_of((4, 1, 3), (4, 0, 1)), 0.95, 1, (1, 2))
    assert half.at(4).estimate == 0.75
    assert np.isnan(half.at(5).estimate)


def test_unusable_times_are_left_out_and_counted() -> None:
    frame = rows_of((-3, 1, 2), (np.nan, 0, 4), (5, 1, 3), (9, 0, 3))
    for curve in (kaplan_meier(frame, 0.95), cumulative_incidence(frame, 0.95, 1, (1, 2))):
        assert (curve.n, curve.left_out) == (6, 6)
    assert kaplan_meier(frame, 0.95).at(5).estimate == pytest.approx(0.5)
    assert cox(frame.rename(columns={"cause": "event"}).assign(x="a"), {"x": ["a"]}).left_out == 6


def test_delayed_entry_is_that_of_survfit(rotterdam: pd.DataFrame) -> None:
    truth = expected("delayed_entry")
    curve = kaplan_meier(timed(rotterdam), 0.95)
    own = cumulative_incidence(timed(rotterdam), 0.95, 1, (1,))
    assert curve.left_out > 0
    for row in truth.itertuples():
        point = curve.at(row.day)
        # R gives the limits 1 and 1 before the first event; here they are not known.
        limits = [np.nan, np.nan] if row.estimate == 1 else [row.lower, row.upper]
        found = [point.estimate, point.se, point.lower, point.upper]
        np.testing.assert_allclose(found, [row.estimate, row.se, *limits], rtol=0, atol=1e-9)
        assert point.at_risk == own.at(row.day).at_risk == row.at_risk
        assert own.at(row.day).estimate == pytest.approx(1 - row.estimate, abs=1e-12)


def test_restricted_mean_is_that_of_survfit(on_time: pd.DataFrame) -> None:
    for row in expected("restricted_means").itertuples():
        mean = restricted_mean(kaplan_meier(timed(on_time[on_time["hormon"] == row.hormon]), 0.95), row.tau)
        assert (mean.days, mean.se) == pytest.approx((row.mean, row.se), abs=1e-9)
    curve = kaplan_meier(timed(on_time), 0.95)
    assert np.isnan(restricted_mean(curve, curve.days[-1] + 1).days)
    assert restricted_mean(kaplan_meier(rows_of((4, 1, 3)), 0.95), 100).days == 4
    assert np.isnan(restricted_mean(kaplan_meier(rows_of(), 0.95), 100).days)


def test_quantiles(on_time: pd.DataFrame) -> None:
    curve = kaplan_meier(timed(on_time), 0.95)
    quarter, half = quantile(curve, 0.25), quantile(curve, 0.5)
    assert curve.at(quarter.days).estimate <= 0.75 < curve.at(quarter.days - 1).estimate
    assert quarter.days < half.days
    assert np.isnan(quantile(curve, 0.9).days)


def test_log_rank_is_that_of_survdiff(on_time: pd.DataFrame) -> None:
    truth = expected("log_rank").set_index("name")

    def groups(rows: pd.DataFrame, by: str) -> dict[str, pd.DataFrame]:
        return {level: timed(part) for level, part in rows.groupby(by)}

    tests = {
        "hormon": log_rank({"": groups(on_time, "hormon")}),
        "size": log_rank({"": groups(on_time, "size")}),
        "size within grade": log_rank({grade: groups(part, "size") for grade, part in on_time.groupby("grade")}),
        "size after late entry": log_rank({"": groups(expected("few_late"), "size")}),
    }
    for name, test in tests.items():
        assert test.statistic == pytest.approx(truth["statistic"][name], abs=1e-9), name
        assert test.df == truth["df"][name]
        assert 0 <= test.p_value < 0.5


def test_log_rank_of_too_little() -> None:
    assert "fewer than two groups" in log_rank({"": {"a": rows_of((3, 1, 2)), "b": rows_of()}}).reason
    assert np.isnan(log_rank({"": {"a": rows_of((3, 0, 2)), "b": rows_of((2, 0, 1))}}).statistic)


@pytest.mark.parametrize("ties", ["efron", "breslow"])
@pytest.mark.parametrize("strata", [(), ("grade",)])
@pytest.mark.parametrize("data", ["months", "late"])
def test_cox_is_coxph(
    rotterdam: pd.DataFrame, on_time: pd.DataFrame, data: str, strata: tuple[str, ...], ties: str
) -> None:
    rows = on_time if data == "months" else rotterdam
    truth = expected("cox")
    truth = truth[truth["name"] == f"{data} {ties}" + " + strata(grade)" * bool(strata)]
    assert len(truth) == 4
    fit = cox(rows, LEVELS, strata, ties)
    np.testing.assert_allclose(fit.coefficients, truth["coefficient"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(np.sqrt(np.diag(fit.covariance)), truth["se"], rtol=0, atol=1e-9)
    assert fit.log_likelihood == pytest.approx(truth["log_likelihood"].iloc[0], abs=1e-6)
    assert (fit.events, fit.left_out > 0) == (1272 if data == "months" else fit.events, data == "late")


@pytest.mark.parametrize("transform", ["km", "identity"])
def test_proportional_hazards_test_is_cox_zph(
    rotterdam: pd.DataFrame, on_time: pd.DataFrame, transform: str
) -> None:
    truth = expected("proportional_hazards")
    for name, part in truth[truth["transform"] == transform].groupby("name"):
        rows = on_time if name.startswith("months") else rotterdam
        fit = cox(rows, LEVELS, ("grade",) if "strata" in name else (), transform=transform)
        tests = [*(fit.proportionality[term] for term in fit.design.terms), fit.proportionality["", ""]]
        np.testing.assert_allclose([test.statistic for test in tests], part["chisq"], rtol=1e-6)
        assert [test.df for test in tests] == part["df"].tolist()


def test_lifelines_weights_are_not_people(on_time: pd.DataFrame) -> None:
    """Why grouped Cox is this program's own: with ties lifelines' weighted Efron is another estimate."""
    table = on_time.assign(yes=(on_time["hormon"] == "yes").astype(float))[["day", "event", "n", "yes"]]
    table["day"] = table["day"] // 12
    weighted = CoxPHFitter().fit(table.groupby(["day", "event", "yes"], as_index=False).sum(), "day", "event",
                                 weights_col="n", robust=True).params_["yes"]  # fmt: skip
    one_by_one = table.loc[table.index.repeat(table["n"]), ["day", "event", "yes"]]
    truth = CoxPHFitter().fit(one_by_one, "day", "event").params_["yes"]
    patterns = on_time.assign(day=on_time["day"] // 12)
    own = cox(patterns, {"hormon": ["no", "yes"]}).coefficients[0]
    assert own == pytest.approx(truth, abs=1e-5)
    assert abs(weighted - truth) > 1e-4


def test_weights_that_are_not_people_get_a_robust_error() -> None:
    truth = expected("weighted_cox")
    rows = expected("weighted").rename(columns={"weight": "n"}).assign(entry_day=0)
    levels = {"meno": ["post", "pre"], "hormon": ["no", "yes"]}
    fit = cox(rows, levels, robust=True)
    np.testing.assert_allclose(fit.coefficients, truth["coefficient"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(np.sqrt(np.diag(fit.covariance)), truth["se"], rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match="not people"):
        cox(rows, levels)


def _crowd(people: int) -> pd.DataFrame:
    """400 rows of `people` or more each: on every day some of both sexes die and some leave."""
    days, sexes, events = np.meshgrid(np.arange(1, 101), ["f", "m"], [0, 1], indexing="ij")
    rows = pd.DataFrame({"day": days.ravel(), "sex": sexes.ravel(), "event": events.ravel(), "entry_day": 0})
    return rows.assign(n=people + rows["day"] * (rows["sex"] == "m"))


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_cox_of_deaths_in_parts_is_that_of_all_together(ties: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pd.concat([_crowd(3).assign(ward="a"), _crowd(5).assign(ward="b")], ignore_index=True)
    whole = cox(rows, {"sex": ["f", "m"]}, ["ward"], ties)
    for at_a_time in (1, 7, 400):  # a day's dead are cut in two; a day is whole; many days are
        monkeypatch.setattr("jobs.survival.cox.DEATHS_AT_A_TIME", at_a_time)
        parts = cox(rows, {"sex": ["f", "m"]}, ["ward"], ties)
        np.testing.assert_allclose(parts.coefficients, whole.coefficients, rtol=1e-12)
        np.testing.assert_allclose(parts.covariance, whole.covariance, rtol=1e-12)
        np.testing.assert_allclose(parts.log_likelihood, whole.log_likelihood, rtol=1e-12)
        assert parts.proportionality["", ""].statistic == pytest.approx(whole.proportionality["", ""].statistic, 1e-9)


def test_the_memory_of_cox_does_not_grow_with_people() -> None:
    peaks = []
    for people in (5_000, 20_000):  # 2 and 8 million in 400 rows
        rows = _crowd(people)
        tracemalloc.start()
        cox(rows, {"sex": ["f", "m"]})
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_cox_says_what_it_cannot_estimate(on_time: pd.DataFrame) -> None:
    twice = on_time.assign(again=on_time["meno"], none=np.where(on_time["event"] == 1, "a", "b"))
    fit = cox(twice, {**LEVELS, "again": ["post", "pre"]})
    assert fit.design.missing == {("again", "pre"): COLLINEAR}
    np.testing.assert_allclose(fit.coefficients, cox(on_time, LEVELS).coefficients)
    fit = cox(twice, {"hormon": ["no", "yes"], "none": ["a", "b", "c"]})
    assert fit.design.missing == {("none", "b"): NO_EVENT, ("none", "c"): NOBODY}
    assert [term[0] for term in fit.design.terms] == ["hormon"]
    assert cox(on_time.assign(event=0), LEVELS).reason == "no event"
    assert cox(on_time.iloc[:0], LEVELS).reason == "nobody is observed"
    one = cox(on_time.iloc[[-1]].assign(event=1, n=1), LEVELS)
    assert (one.n, one.events, len(one.coefficients)) == (1, 1, 0)


def test_cox_of_separated_people_goes_on() -> None:
    """Everyone of one level dies before anyone of the other: that coefficient has no finite best value."""
    days = [(day, 1, 1, "early", "ab"[day % 2]) for day in range(1, 7)]
    days += [(day, 1, 1, "late", "ab"[day % 3 == 0]) for day in range(10, 20)]
    rows = pd.DataFrame(days, columns=["day", "event", "n", "when", "other"]).assign(entry_day=0)
    fit = cox(rows, {"when": ["early", "late"], "other": ["a", "b"]})
    assert fit.design.missing == {("when", "late"): SEPARATED}
    within = cox(rows, {"other": ["a", "b"]}, strata=("when",))
    np.testing.assert_allclose(fit.coefficients, within.coefficients, atol=1e-3)


@pytest.mark.parametrize("seed", range(60))
def test_cox_of_few_people_gives_numbers_or_reasons(seed: int) -> None:
    """Whatever a handful of people with five covariates and strata say: no crash, and nothing but estimates."""
    random = np.random.default_rng(seed)
    people = int(random.integers(4, 60))
    levels = {name: list("abcd"[: 2 + place % 3]) for place, name in enumerate(("u", "v", "w", "x", "y"))}
    table = pd.DataFrame({name: random.choice(named, people) for name, named in levels.items()})
    table = table.assign(s=random.choice(list("pq"), people), entry_day=0, n=1)
    table = table.assign(day=random.integers(0, 12, people), event=(random.random(people) < 0.4).astype(int))
    for strata in ((), ("s",)):
        fit = cox(table, levels, strata)
        terms = set(fit.design.terms)
        assert not terms & set(fit.design.missing)
        if fit.reason:
            continue
        assert np.isfinite(fit.coefficients).all()
        assert (np.sqrt(np.diag(fit.covariance)) < 50).all()
        everything = {(name, level) for name, named in levels.items() for level in named}
        assert everything == terms | set(fit.design.missing) | set(fit.design.reference.items())
        assert all(0 <= test.p_value <= 1 for test in fit.proportionality.values())


def test_cox_of_a_level_that_only_an_eventless_stratum_has() -> None:
    rows = pd.DataFrame(
        [("A", "2", 8, 1), ("A", "1", 2, 0), ("B", "1", 8, 1)], columns=["x", "s", "day", "event"]
    ).assign(entry_day=0, n=1)
    assert cox(rows, {"x": ["A", "B"]}, ("s",)).design.missing == {("x", "B"): UNINFORMED}


def test_groups_that_are_never_at_risk_together_have_fewer_degrees_of_freedom() -> None:
    random = np.random.default_rng(5)

    def group() -> pd.DataFrame:
        return rows_of(*((int(day), int(cause), 1) for day, cause in zip(
            random.integers(1, 30, 40), random.integers(0, 2, 40), strict=True)))  # fmt: skip

    apart = {"one": {"a": group(), "b": group()}, "other": {"c": group(), "d": group()}}
    alone = [log_rank({"": groups}) for groups in apart.values()]
    together = log_rank(apart)
    assert together.df == 2
    assert together.statistic == pytest.approx(sum(test.statistic for test in alone))
    renamed = {"one": {"d": apart["one"]["a"], "a": apart["one"]["b"]}, "other": {"b": apart["other"]["c"],
               "c": apart["other"]["d"]}}  # fmt: skip
    assert log_rank(renamed).statistic == pytest.approx(together.statistic)
    at_once = log_rank({"": {"a": rows_of((3, 1, 4)), "b": rows_of((3, 1, 2))}})
    assert (at_once.df, at_once.reason) == (0, "no event that could have been in another group")


def test_late_entry_after_everyone_has_left() -> None:
    """As R: the curve stays at 0 once the few who were there have died."""
    frame = pd.DataFrame([(0, 2, 1, 1), (2, 8, 1, 2), (3, 10, 0, 2)], columns=["entry_day", "day", "cause", "n"])
    curve = kaplan_meier(frame, 0.95)
    assert curve.estimate.tolist() == [0, 0, 0]
    assert curve.is_settled


def test_logistic_is_glm(on_time: pd.DataFrame) -> None:
    rows = on_time.assign(event=(on_time["hormon"] == "no").astype(int))
    truth = expected("logistic")
    levels = {"size": LEVELS["size"], "meno": LEVELS["meno"], "grade": NUMBER["grade"]}
    fit = logistic(rows, levels)
    np.testing.assert_allclose(fit.coefficients, truth["coefficient"], rtol=0, atol=1e-8)
    np.testing.assert_allclose(np.sqrt(np.diag(fit.covariance)), truth["se"], rtol=0, atol=1e-8)
    assert odds_ratio(fit, ("meno", "pre"), 0.95).value == pytest.approx(np.exp(truth["coefficient"][3]))
    for row in expected("standardised_risks").itertuples():
        risk, difference, ratio = standardised_risk(fit, "size", row.level, 0.95)
        assert (risk.value, risk.se) == pytest.approx((row.risk, row.se), abs=1e-8)
        assert 0 < risk.lower < risk.value < risk.upper < 1
        if difference and ratio:
            assert (difference.value, difference.se) == pytest.approx((row.difference, row.se_difference), abs=1e-8)
            assert (ratio.value, ratio.se) == pytest.approx((row.ratio, row.se_log_ratio), abs=1e-8)
        else:
            assert row.level == "<=20"


def test_logistic_says_what_it_cannot_estimate(on_time: pd.DataFrame) -> None:
    rows = on_time.assign(event=(on_time["hormon"] == "no").astype(int), again=on_time["meno"])
    fit = logistic(rows, {"meno": ["post", "pre"], "again": ["post", "pre"]})
    assert fit.design.missing == {("again", "pre"): COLLINEAR}
    assert logistic(rows.assign(event=1), {"meno": ["post", "pre"]}).reason == "everybody has the event"
    assert logistic(rows.iloc[:0], {"meno": ["post", "pre"]}).reason == "nobody is observed"
    few = pd.DataFrame(
        [("a", "x", 1, 5), ("a", "x", 0, 5), ("b", "x", 1, 4), ("b", "x", 0, 1), ("c", "x", 1, 3), ("c", "y", 0, 3)],
        columns=["one", "two", "event", "n"],
    )
    fit = logistic(few, {"one": ["a", "b", "c"], "two": ["x", "y"]})
    assert fit.design.missing == {("two", "y"): NO_EVENT, ("one", "c"): ALL_EVENTS}
    assert fit.design.left_out == {("two", "y"): 3, ("one", "c"): 3}
    np.testing.assert_allclose(np.exp(fit.coefficients), [1, 4])
    separated = pd.DataFrame(
        [("a", "x", 1, 5), ("a", "y", 0, 5), ("a", "y", 1, 2), ("b", "y", 0, 4), ("b", "x", 0, 2), ("b", "x", 1, 2)],
        columns=["one", "two", "event", "n"],
    )
    fit = logistic(separated, {"one": ["a", "b"], "two": ["x", "y"]})
    assert fit.reason == SEPARATED
    assert set(fit.design.missing.values()) == {SEPARATED}
