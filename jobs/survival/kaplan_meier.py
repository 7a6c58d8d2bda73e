"""Kaplan-Meier from counts by day, through lifelines with weights; medians by the conventions of R's survfit."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from jobs.survival.risk import risk_sets, usable

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]
TOLERANCE = float(np.sqrt(np.finfo(float).eps))  # R's, for a plateau at exactly the quantile


@dataclass(frozen=True)
class Point:
    """A curve on one day; NaN is what cannot be estimated. `at_risk` counts those observed until that day or later."""

    estimate: float
    se: float
    lower: float
    upper: float
    at_risk: int


@dataclass(frozen=True)
class Quantile:
    """A median or another quantile in days and its limits; NaN is not reached."""

    days: float
    lower: float
    upper: float


@dataclass(frozen=True)
class RestrictedMean:
    """A mean in days and its standard error; NaN cannot be estimated."""

    days: float
    se: float


@dataclass(frozen=True)
class Curve:
    """A step curve that is `before` until the first of `days` (ascending: those with an event or a censoring). On each
    of them: people at risk just before, events, the estimate after, its standard error and its limits. `n` people;
    `left_out` of them without a usable time are not among them. `is_settled`: nobody is left who could change it."""

    days: Floats
    at_risk: npt.NDArray[np.int64]
    events: npt.NDArray[np.int64]
    estimate: Floats
    se: Floats
    lower: Floats
    upper: Floats
    n: int
    left_out: int = 0
    before: float = 1.0
    is_settled: bool = False

    @staticmethod
    def of_nobody(left_out: int = 0, before: float = 1.0) -> Curve:
        """What is known of nobody."""
        none, nobody = np.empty(0), np.empty(0, np.int64)
        return Curve(none, nobody, nobody, none, none, none, none, 0, left_out, before)

    def at(self, day: float) -> Point:
        """The curve on `day`. Beyond the last observed day it is not known, unless it is settled."""
        later = int(np.searchsorted(self.days, day, side="left"))
        at_risk = int(self.at_risk[later]) if later < len(self.days) else 0
        step = int(np.searchsorted(self.days, day, side="right")) - 1
        if self.n == 0 or (day > self.days[-1] and not self.is_settled):
            return Point(np.nan, np.nan, np.nan, np.nan, at_risk)
        if step < 0:
            return Point(self.before, 0.0, np.nan, np.nan, at_risk)
        return Point(
            float(self.estimate[step]), float(self.se[step]), float(self.lower[step]), float(self.upper[step]), at_risk
        )


def kaplan_meier(frame: pd.DataFrame, level: float, causes: Collection[int] = (1,)) -> Curve:
    """The curve of a slice of frame_time (entry_day, day, cause, n): the events are `causes`, all else is censored.

    On one day events come before censorings, and both before entries. Greenwood's standard error (NaN where
    the estimate is 0), limits on the log(-log) scale (Kalbfleisch and Prentice 1980; NaN where the estimate is 0 or 1).
    Who is not usable (jobs.survival.risk) is counted in `left_out`.
    """
    counted, left_out = usable(frame)
    if counted.empty:
        return Curve.of_nobody(left_out)

    if (counted["entry_day"] != 0).any():
        # lifelines counts those who enter on a day among those at risk on it, and stops where nobody is left early.
        sets = risk_sets(counted, list(causes))
        days, at_risk, events = sets.days, sets.at_risk, sets.events.sum(axis=1)
        estimate = np.cumprod(1 - events / at_risk)
    else:
        from lifelines import KaplanMeierFitter

        fitter = KaplanMeierFitter().fit(
            counted["day"].to_numpy(),
            counted["cause"].isin(list(causes)).to_numpy(),
            weights=counted["n"].to_numpy(),
        )
        table = fitter.event_table[fitter.event_table["removed"] > 0]  # without lifelines' own row for day 0
        days, estimate = table.index.to_numpy(float), fitter.survival_function_["KM_estimate"]
        estimate = estimate.reindex(table.index).to_numpy(float)
        at_risk, events = table["at_risk"].to_numpy(np.int64), table["observed"].to_numpy(np.int64)
    survivors = at_risk - events
    estimate = np.where(np.cumsum(survivors == 0) > 0, 0.0, estimate)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_variance = np.cumsum(np.where(events > 0, events / (at_risk * survivors.astype(float)), 0.0))
        log_se = np.sqrt(log_variance)
        spread = NormalDist().inv_cdf((1 + level) / 2) * log_se / np.log(estimate)
        is_inside = (estimate > 0) & (estimate < 1)
        lower = np.where(is_inside, np.exp(-np.exp(np.log(-np.log(estimate)) - spread)), np.nan)
        upper = np.where(is_inside, np.exp(-np.exp(np.log(-np.log(estimate)) + spread)), np.nan)
        se = np.where(estimate > 0, estimate * log_se, np.nan)
    return Curve(
        days, at_risk, events, estimate, se, lower, upper, int(counted["n"].sum()), left_out,
        is_settled=bool(estimate[-1] == 0),
    )  # fmt: skip


def quantile(curve: Curve, share: float) -> Quantile:
    """When a `share` of all have had the event, with the limits of Brookmeyer and Crowley (1982): where the curve's own
    limits cross.

    As R's quantile.survfit: of a plateau at exactly that share its midpoint, which for the last plateau ends on the
    last observed day.
    """
    return Quantile(*(_crossing(curve.days, values, share) for values in (curve.estimate, curve.lower, curve.upper)))


def restricted_mean(curve: Curve, until: float) -> RestrictedMean:
    """The mean time to the event or `until`, whichever comes first: the area under the curve. NaN where the curve ends
    before `until` without having come to 0.

    Variance: sum A^2 d/(n(n-d)) over the event days, A the area from that day to `until` (R's print.survfit).
    """
    if curve.n == 0 or (curve.days[-1] < until and not curve.is_settled):
        return RestrictedMean(np.nan, np.nan)
    inside = curve.days < until
    days, height = curve.days[inside], np.concatenate([[1.0], curve.estimate[inside]])
    areas = height * np.diff(np.concatenate([[0.0], days, [until]]))
    beyond = areas[1:][::-1].cumsum()[::-1]
    n, d = curve.at_risk[inside].astype(float), curve.events[inside].astype(float)
    is_step = (d > 0) & (n > d)
    terms = np.where(is_step, beyond**2 * d / np.where(is_step, n * (n - d), 1.0), 0.0)
    return RestrictedMean(float(areas.sum()), float(np.sqrt(terms.sum())))


def plain_quantile(values: pd.Series, counts: pd.Series, share: float) -> float:
    """The quantile of `values`, each counted so many times: the mean of the two in question where it lies between
    them (R's type 2). NaN for nothing."""
    until = counts.to_numpy()[np.argsort(values.to_numpy())].cumsum()
    if len(until) == 0 or until[-1] == 0:
        return float("nan")
    place = share * int(until[-1])
    between = np.searchsorted(until, [math.ceil(place), math.floor(place) + 1])
    return float(np.sort(values.to_numpy(float))[between].mean())


def _crossing(days: Floats, curve: Floats, share: float) -> float:
    if len(days) == 0:
        return float("nan")
    times, gone = np.concatenate([[0.0], days]), np.concatenate([[0.0], 1 - curve])
    last = gone[-1]
    gone, first = np.unique(gone, return_index=True)  # sorted, the first day of each plateau; NaN is last
    times = times[first]
    times, gone = times[~np.isnan(gone)], gone[~np.isnan(gone)]
    reached, passed = (np.flatnonzero(gone + margin >= share) for margin in (TOLERANCE, -TOLERANCE))
    if len(reached) == 0:
        return float("nan")
    if abs(last - share) < TOLERANCE:
        return float((times[reached[0]] + days[-1]) / 2)
    return float((times[reached[0]] + times[passed[0]]) / 2) if len(passed) else float("nan")
