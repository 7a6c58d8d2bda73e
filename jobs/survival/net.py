"""Net survival from its frame: Pohar Perme (Biometrics 2012;68:113-120) and Ederer II, on a daily grid as in R."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from jobs.survival.kaplan_meier import Point

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]
ESTIMATORS = ("net_survival_pohar_perme", "net_survival_ederer2")


@dataclass(frozen=True)
class NetCurve:
    """Net survival on days 1, 2, ... (`estimate`, and `log_se`, the standard error of its logarithm).

    It is not monotone and may exceed 1. `n` people observed for at least a day, `left_out` for none.
    """

    estimate: Floats
    log_se: Floats
    at_risk: npt.NDArray[np.int64]
    n: int
    events: int
    left_out: int

    def at(self, time: float, level: float) -> Point:
        """The curve at `time` days, with limits exp(log S +- z se). Beyond the last observed day it is not known."""
        day, next_day = int(np.floor(time)), int(np.ceil(time))
        at_risk = int(self.at_risk[next_day - 1]) if 0 < next_day <= len(self.at_risk) else 0
        if self.n == 0 or next_day > len(self.estimate):
            return Point(np.nan, np.nan, np.nan, np.nan, at_risk)
        estimate, log_se = float(self.estimate[day - 1]), float(self.log_se[day - 1])
        spread = np.exp(NormalDist().inv_cdf((1 + level) / 2) * log_se)
        return Point(estimate, estimate * log_se, estimate / spread, float(estimate * spread), at_risk)


def net_curve(frame: pd.DataFrame, estimator: str) -> NetCurve:
    """The curve of one stratum's level of frame_net_survival by one of ESTIMATORS.

    The increment of day d is, for Pohar Perme with w = 1 / the person's expected survival,
    sum(w dN)/sum(w Y) less the mean, over the day's start and end, of sum(w hazard)/sum(w), with the variance of the
    log sum(w^2 dN)/sum(w Y)^2; for Ederer II sum(dN)/sum(Y) less sum(hazard)/sum(Y), with sum(dN)/sum(Y)^2. As in R,
    Ederer II steps only on days on which somebody dies or leaves, with the hazard since the one before.
    """
    if estimator not in ESTIMATORS:
        raise ValueError(f"{estimator} is none of {', '.join(ESTIMATORS)}")
    by_day = frame.set_index("day").sort_index()
    left_out = int(by_day["n"].get(0, 0))
    observed = by_day[by_day.index > 0]
    if observed.empty:
        none = np.empty(0)
        return NetCurve(none, none, np.empty(0, np.int64), 0, 0, left_out)
    n, events = observed["n"].to_numpy(float), observed["events"].to_numpy(float)
    if estimator == "net_survival_pohar_perme":
        sums = {name: observed[name].to_numpy(float) for name in observed.columns if name not in ("stratum", "level")}
        start = sums["w_hazard_start"] / sums["w_start"]
        end = sums["w_hazard_end"] / sums["w_end"]
        increment = sums["w_events"] / sums["w"] - (start + end) / 2
        variance = sums["w2_events"] / sums["w"] ** 2
    else:
        expected = np.cumsum(observed["hazard"].to_numpy(float) / n)
        leave = np.flatnonzero(np.append(n[:-1] > n[1:], True))
        increment = np.zeros(len(n))
        increment[leave] = events[leave] / n[leave] - np.diff(expected[leave], prepend=0.0)
        variance = events / n**2
    return NetCurve(
        np.cumprod(1 - increment),
        np.sqrt(np.cumsum(variance)),
        n.astype(np.int64),
        int(n[0]),
        int(events.sum()),
        left_out,
    )
