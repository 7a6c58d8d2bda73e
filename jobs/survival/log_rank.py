"""The log-rank test, plain and stratified, from counts by day (Mantel 1966)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from jobs.survival.risk import risk_sets, usable

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]
SINGULAR = 1e-9


@dataclass(frozen=True)
class ChiSquared:
    """A chi-squared statistic, its degrees of freedom and p-value; NaN with the reason where there is none."""

    statistic: float
    df: int
    p_value: float
    n: int
    events: int
    reason: str = ""


def log_rank(groups: Mapping[str, Mapping[str, pd.DataFrame]], causes: tuple[int, ...] = (1,)) -> ChiSquared:
    """Do the groups differ? `groups`: stratum -> group -> slice of frame_time (entry_day, day, cause, n).

    Observed less expected events of each group, with the hypergeometric variance, are added over strata, as R's
    survdiff does; one stratum is the plain test. Groups that nobody is in, or that could have no event, do not count.
    Late entry is allowed.
    """
    names = sorted({name for of_stratum in groups.values() for name in of_stratum})
    excess, variance = np.zeros(len(names)), np.zeros((len(names), len(names)))
    expected_events = np.zeros(len(names))
    people = events = 0
    for of_stratum in groups.values():
        rows = {name: usable(frame)[0] for name, frame in of_stratum.items()}
        days = np.unique(np.concatenate([frame["day"].to_numpy(float) for frame in rows.values()]))
        at_risk, died = np.zeros((len(days), len(names))), np.zeros((len(days), len(names)))
        for name, frame in rows.items():
            sets = risk_sets(frame, causes, days)
            at_risk[:, names.index(name)], died[:, names.index(name)] = sets.at_risk, sets.events.sum(axis=1)
            people += sets.n
        n, d = at_risk.sum(axis=1), died.sum(axis=1)
        events += int(d.sum())
        share = at_risk / np.maximum(n, 1)[:, None]
        excess += (died - share * d[:, None]).sum(axis=0)
        expected_events += (share * d[:, None]).sum(axis=0)
        spread = np.where(n > 1, d * (n - d) / np.maximum(n - 1, 1), 0.0)
        variance += np.diag((share * spread[:, None]).sum(axis=0)) - (share * spread[:, None]).T @ share
    return chi_squared(excess, variance, expected_events > 0, people, events)


def chi_squared(excess: Floats, variance: Floats, counts: npt.NDArray[np.bool_], n: int, events: int) -> ChiSquared:
    """The test that sums over groups are chance, of those that `counts`.

    They add up to 0, and to 0 within every set of groups that are at risk together, so the degrees of freedom are the
    rank of the variance.
    """
    from scipy.stats import chi2

    kept = np.flatnonzero(counts)
    if len(kept) < 2:
        return ChiSquared(np.nan, 0, np.nan, n, events, "fewer than two groups with people and events to expect")
    values, vectors = np.linalg.eigh(variance[np.ix_(kept, kept)])
    solid = values > SINGULAR * max(values.max(), 0.0)
    if values.max() <= 0 or not solid.any():
        return ChiSquared(np.nan, 0, np.nan, n, events, "no event that could have been in another group")
    statistic = float(((vectors[:, solid].T @ excess[kept]) ** 2 / values[solid]).sum())
    return ChiSquared(statistic, int(solid.sum()), float(chi2.sf(statistic, int(solid.sum()))), n, events)
