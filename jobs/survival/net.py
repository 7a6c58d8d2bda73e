"""Net survival from its frame: Pohar Perme (Biometrics 2012;68:113-120) and Ederer II, on a daily grid as in R; what is
made of the same sums: crude probabilities of death, the test of Grafféo; age standardisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from jobs.survival.kaplan_meier import Point
from jobs.survival.log_rank import ChiSquared, chi_squared

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]
ESTIMATORS = ("net_survival_pohar_perme", "net_survival_ederer2")


@dataclass(frozen=True)
class NetCurve:
    """Net survival on days 1, 2, ... until nobody is at risk: `estimate`, and `log_se`, the error of its logarithm.

    It is not monotone and may exceed 1. `n` people observed for at least a day; `left_out` for none; `uncovered` whom
    the life table says nothing about.
    """

    days: npt.NDArray[np.int64]
    estimate: Floats
    log_se: Floats
    at_risk: npt.NDArray[np.int64]
    n: int
    events: int
    left_out: int
    uncovered: int

    def at(self, time: float, level: float) -> Point:
        """The curve at `time` days, with limits exp(log S +- z se). Beyond the last observed day it is not known."""
        place, at_risk = _place(self.days, self.at_risk, time)
        if place is None:
            return Point(np.nan, np.nan, np.nan, np.nan, at_risk)
        estimate, log_se = float(self.estimate[place]), float(self.log_se[place])
        return _on_log_scale(estimate, log_se, level, at_risk)


@dataclass(frozen=True)
class CrudeCurve:
    """Probability of having died from one kind of cause on days 1, 2, ..., with its standard error."""

    days: npt.NDArray[np.int64]
    estimate: Floats
    se: Floats
    at_risk: npt.NDArray[np.int64]

    def at(self, time: float, level: float) -> Point:
        """The curve at `time` days, with plain limits, as R's cmp.rel."""
        place, at_risk = _place(self.days, self.at_risk, time)
        if place is None:
            return Point(np.nan, np.nan, np.nan, np.nan, at_risk)
        estimate, se = float(self.estimate[place]), float(self.se[place])
        spread = NormalDist().inv_cdf((1 + level) / 2) * se
        return Point(estimate, se, estimate - spread, estimate + spread, at_risk)


def _place(days: npt.NDArray[np.int64], at_risk: npt.NDArray[np.int64], time: float) -> tuple[int | None, int]:
    """The last of `days` by `time`, None where nothing is known so late, and the people at risk then."""
    following = int(np.searchsorted(days, np.ceil(time)))
    if len(days) == 0 or following >= len(days):
        return None, 0
    place = int(np.searchsorted(days, time, side="right")) - 1
    return (place if place >= 0 else None), int(at_risk[following])


def _on_log_scale(estimate: float, log_se: float, level: float, at_risk: int) -> Point:
    if log_se == 0:  # nobody has died yet, which is not certainty
        return Point(estimate, 0.0, np.nan, np.nan, at_risk)
    spread = float(np.exp(NormalDist().inv_cdf((1 + level) / 2) * log_se))
    return Point(estimate, estimate * log_se, estimate / spread, estimate * spread, at_risk)


def _observed(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[(frame["day"] > 0) & (frame["n"] > 0)].sort_values("day")


def _without_gap(observed: pd.DataFrame) -> pd.DataFrame:
    """Until the first day on which nobody is at risk: what comes after is conditional on having lived until then."""
    days = observed["day"].to_numpy()
    return observed[days == np.arange(1, len(days) + 1)]


def net_curve(frame: pd.DataFrame, estimator: str) -> NetCurve:
    """The curve of one stratum's level of frame_net_survival by one of ESTIMATORS.

    The increment of day d is, for Pohar Perme with w = 1 / the person's expected survival,
    sum(w dN)/sum(w Y) less the mean, over the day's start and end, of sum(w hazard)/sum(w), with the variance of the
    log sum(w^2 dN)/sum(w Y)^2; for Ederer II sum(dN)/sum(Y) less sum(hazard)/sum(Y), with sum(dN)/sum(Y)^2. As in R,
    Ederer II steps only on days on which somebody dies or leaves, with the hazard since the one before; where people
    enter late (a period), on every day.
    """
    if estimator not in ESTIMATORS:
        raise ValueError(f"{estimator} is none of {', '.join(ESTIMATORS)}")
    left_out, uncovered = (int(frame.loc[frame["day"] == day, "n"].sum()) for day in (0, -1))
    observed = _without_gap(_observed(frame))
    days = observed["day"].to_numpy(np.int64)
    if not len(days):
        none = np.empty(0)
        return NetCurve(days, none, none, np.empty(0, np.int64), 0, 0, left_out, uncovered)
    n, events = observed["n"].to_numpy(float), observed["events"].to_numpy(float)
    if estimator == "net_survival_pohar_perme":
        sums = {name: observed[name].to_numpy(float) for name in observed.columns if name.startswith("w")}
        start = sums["w_hazard_start"] / sums["w_start"]
        end = sums["w_hazard_end"] / sums["w_end"]
        increment = sums["w_events"] / sums["w"] - (start + end) / 2
        variance = sums["w2_events"] / sums["w"] ** 2
    else:
        expected = np.cumsum(observed["hazard"].to_numpy(float) / n)
        entered = observed["entered"].to_numpy(float)
        leave = np.flatnonzero(np.append(n[:-1] > n[1:] - entered[1:], True))
        leave = leave if not entered[1:].any() else np.arange(len(n))
        increment = np.zeros(len(n))
        increment[leave] = events[leave] / n[leave] - np.diff(expected[leave], prepend=0.0)
        variance = events / n**2
    people = int(observed["entered"].sum())
    return NetCurve(
        days, np.cumprod(1 - increment), np.sqrt(np.cumsum(variance)), n.astype(np.int64), people, int(events.sum()),
        left_out, uncovered,
    )  # fmt: skip


def crude_curves(frame: pd.DataFrame) -> tuple[CrudeCurve, CrudeCurve]:
    """The probabilities of having died from the cancer and from anything else (Cronin and Feuer 2000), of one level.

    Sums of S(u-) times the day's excess hazard, and times the population's, with S the observed survival; their
    variance is that of R's cmp.rel, to which the population's hazard is known.
    """
    observed = _without_gap(_observed(frame))
    days = observed["day"].to_numpy(np.int64)
    n, events, hazard = (observed[name].to_numpy(float) for name in ("n", "events", "hazard"))
    survival = np.cumprod(1 - events / n)
    before = np.concatenate([[1.0], survival[:-1]])
    variance_of_deaths = events / n**2

    def curve(increment: Floats, own: Floats) -> CrudeCurve:
        estimate = np.cumsum(before * increment)
        weighted = survival * own
        variance = (
            estimate**2 * np.cumsum(variance_of_deaths)
            - 2 * estimate * np.cumsum(estimate * variance_of_deaths)
            + np.cumsum(estimate**2 * variance_of_deaths)
            + np.cumsum(survival * weighted)
            - 2 * (estimate * np.cumsum(weighted) - np.cumsum(estimate * weighted))
        )
        return CrudeCurve(days, estimate, np.sqrt(np.maximum(variance, 0)), n.astype(np.int64))

    return (
        curve(events / n - hazard / n, variance_of_deaths),
        curve(hazard / n, np.zeros(len(n))),
    )


def standardised(curves: Sequence[NetCurve], weights: Sequence[float], time: float, level: float) -> Point:
    """Net survival of a standard population: S = sum w S_g, SE^2 = sum w^2 S_g^2 se_g^2, se_g of the logarithm.

    NaN where a group has nobody left: its weight is never given to the others. `weights` add up to 1.
    """
    if len(curves) != len(weights) or abs(sum(weights) - 1) > 1e-9:
        raise ValueError("one weight per group, together 1")
    points = [curve.at(time, level) for curve in curves]
    at_risk = sum(point.at_risk for point in points)
    estimate = sum(weight * point.estimate for weight, point in zip(weights, points, strict=True))
    if np.isnan(estimate) or estimate <= 0:
        return Point(np.nan, np.nan, np.nan, np.nan, at_risk)
    se = float(np.sqrt(sum((weight * point.se) ** 2 for weight, point in zip(weights, points, strict=True))))
    return _on_log_scale(float(estimate), se / estimate, level, at_risk)


def graffeo_test(groups: Mapping[str, pd.DataFrame]) -> ChiSquared:
    """Do the groups' net survivals differ (Grafféo et al., Biometrics 2016;72:872-879)? `groups`: level -> its rows of
    frame_net_survival. As R's rs.diff."""
    import pandas as pd

    frames = {name: _observed(frame).set_index("day") for name, frame in groups.items()}
    frames = {name: frame for name, frame in sorted(frames.items()) if len(frame)}
    people = sum(int(frame["entered"].sum()) for frame in frames.values())
    events = sum(int(frame["events"].sum()) for frame in frames.values())
    if len(frames) < 2:
        return chi_squared(np.zeros(0), np.zeros((0, 0)), np.zeros(0, bool), people, events)
    names = ["w", "w_events", "w2_events", "w_hazard_end"]
    table = pd.concat({name: frame[names] for name, frame in frames.items()}, axis=1).sort_index().fillna(0.0)
    w, w_events, w2_events, w_hazard = (table.xs(name, axis=1, level=1).to_numpy(float) for name in names)
    share = w / w.sum(axis=1, keepdims=True)
    excess_events = w_events - w_hazard
    excess = (excess_events - share * excess_events.sum(axis=1, keepdims=True)).sum(axis=0)
    variance = np.zeros((len(frames), len(frames)))
    for group, own in enumerate(np.eye(len(frames))):
        distance = own - share
        variance += (distance * w2_events[:, [group]]).T @ distance
    return chi_squared(excess, variance, np.ones(len(frames), bool), people, events)
