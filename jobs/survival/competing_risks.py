"""Cumulative incidence of one of several competing events from counts by day (Aalen and Johansen 1978)."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from jobs.survival.kaplan_meier import Curve
from jobs.survival.risk import risk_sets, usable

if TYPE_CHECKING:
    import pandas as pd


def cumulative_incidence(frame: pd.DataFrame, level: float, cause: int, causes: Sequence[int]) -> Curve:
    """The probability that `cause` has come first, by a slice of frame_time (entry_day, day, cause, n).

    `causes` are all that compete, `cause` among them; any other is censoring. Ties are kept as they are (lifelines'
    own fitter moves tied times apart at random). The variance is sum b^2 d/(n(n-d)) + sum S^2 d1(n-d1)/n^3 -
    2 sum b S d1/n^2 over the days so far, with S just before the day and b = F(t) - F(day): without late entry that is
    the infinitesimal jackknife of R's survfit, with it a variance of Greenwood's type. Limits are on the complementary
    log-log scale, log(-log(1 - F)), and NaN where F is 0 or 1.
    """
    rows, left_out = usable(frame)
    sets = risk_sets(rows, causes)
    if sets.n == 0:
        return Curve.of_nobody(left_out, before=0.0)
    n, any_event = sets.at_risk.astype(float), sets.events.sum(axis=1).astype(float)
    own = sets.events[:, list(causes).index(cause)].astype(float)
    survivors = n - any_event
    free = np.cumprod(np.where(n > 0, survivors / np.maximum(n, 1), 1.0))
    free_before = np.concatenate([[1.0], free[:-1]])
    estimate = np.cumsum(free_before * own / np.maximum(n, 1))
    # After a day on which everybody leaves the estimate stays, and the day's own term is nothing.
    leaves_some = np.where((any_event > 0) & (survivors > 0), any_event / np.maximum(n * survivors, 1), 0.0)
    jump = free_before * own / np.maximum(n, 1) ** 2
    variance = (
        estimate**2 * np.cumsum(leaves_some)
        - 2 * estimate * np.cumsum(leaves_some * estimate)
        + np.cumsum(leaves_some * estimate**2)
        + np.cumsum(free_before**2 * own * (n - own) / np.maximum(n, 1) ** 3)
        - 2 * (estimate * np.cumsum(jump) - np.cumsum(jump * estimate))
    )
    se = np.sqrt(np.maximum(variance, 0.0))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # close to 1 the upper limit is 1
        gone = np.log1p(-estimate)
        spread = NormalDist().inv_cdf((1 + level) / 2) * se / ((1 - estimate) * np.abs(gone))
        is_inside = (estimate > 0) & (estimate < 1)
        lower = np.where(is_inside, -np.expm1(gone * np.exp(-spread)), np.nan)
        upper = np.where(is_inside, -np.expm1(gone * np.exp(spread)), np.nan)
    is_settled = bool(survivors[-1] == 0 and sets.leaving[-1] == any_event[-1])
    return Curve(
        sets.days, sets.at_risk, own.astype(np.int64), estimate, se, lower, upper, sets.n, left_out, 0.0, is_settled
    )
