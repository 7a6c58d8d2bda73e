"""Who is at risk, and what happens, from counts by day: a slice of frame_time or of frame_patterns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RiskSets:
    """On each of `days` (ascending, those on which somebody leaves): `at_risk` just before, `events` by cause
    (days, causes), `leaving` for any reason. `n` people."""

    days: npt.NDArray[np.float64]
    at_risk: Counts
    events: Counts
    leaving: Counts
    n: int


def usable(frame: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The rows that say something about time, and how many people the others are.

    Left out: a missing or negative day, and, where anybody enters late, an entry that is not before the day, as R does.
    """
    counted = frame[frame["n"] > 0]
    is_timed = counted["day"].notna() & (counted["day"] >= 0) & counted["entry_day"].notna()
    late = counted["entry_day"] != 0
    if (late & is_timed).any():
        is_timed &= counted["entry_day"] < counted["day"]
    return counted[is_timed], int(counted.loc[~is_timed, "n"].sum())


def risk_sets(frame: pd.DataFrame, causes: Sequence[int], days: npt.NDArray[np.float64] | None = None) -> RiskSets:
    """Risk sets of usable rows (entry_day, day, cause, n), on `days` if they are given.

    Somebody is at risk on the days after their entry until the day they leave; without late entry from day 0 on. On
    one day events come before censorings, and both before entries.
    """
    day, n = frame["day"].to_numpy(float), frame["n"].to_numpy(np.int64)
    entry, cause = frame["entry_day"].to_numpy(float), frame["cause"].to_numpy()
    at = np.unique(day) if days is None else days
    place = np.searchsorted(at, day)

    def added(keep: npt.NDArray[np.bool_]) -> Counts:
        return np.bincount(place[keep], n[keep], len(at)).astype(np.int64)

    entered = entry if (entry != 0).any() else np.full(len(entry), -1.0)
    in_order = np.argsort(entered, kind="stable")
    before = np.searchsorted(entered[in_order], at, side="left")
    so_far = np.concatenate([[0], np.cumsum(n[in_order])])[before]
    leaving = added(np.ones(len(n), bool))
    events = np.stack([added(cause == number) for number in causes], axis=1)
    return RiskSets(at, so_far - np.concatenate([[0], np.cumsum(leaving)[:-1]]), events, leaving, int(n.sum()))
