"""Proportional hazards from counts of people by covariate pattern and day (Cox 1972; ties by Efron 1977 or Breslow).

A count of 7 is seven people: the risk sets and ties are those of one row per person, which lifelines' weights are not;
nor are its robust errors with weights those of R.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from jobs.survival.design import COLLINEAR, SEPARATED, UNINFORMED, Design, Term, design_of, informative
from jobs.survival.kaplan_meier import Curve, kaplan_meier
from jobs.survival.risk import usable

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]
ITERATIONS = 60
ENOUGH = 1e-9  # a smaller step changes nothing
FLAT = 1e-10  # relative gain of log-likelihood below which it has come to rest
NOTHING = 1e-9  # information that is none
SINGULAR = 1e-8  # share of its information that a column has beyond the others
VAGUE = 50.0  # a standard error of a log hazard ratio beyond which there is no estimate
DEATHS_AT_A_TIME = 100_000  # bounds the memory, whatever the number of people
STILL_MOVING = 0.1  # a coefficient that takes such steps where the likelihood rests goes to infinity


@dataclass(frozen=True)
class Proportionality:
    """The score test that a coefficient does not change with time (Grambsch and Therneau 1994, as R's cox.zph)."""

    statistic: float
    df: int
    p_value: float


@dataclass(frozen=True)
class CoxFit:
    """Log hazard ratios of `design.terms` with their covariance; `design.missing` has the reason of every other level.

    `reason` is why there is no fit at all. `proportionality`: by term, and of all under ('', '').
    """

    design: Design
    coefficients: Floats
    covariance: Floats
    log_likelihood: float
    n: int
    events: int
    left_out: int
    reason: str = ""
    proportionality: dict[Term, Proportionality] = field(default_factory=dict)


@dataclass(frozen=True)
class _Stratum:
    """Of one stratum's event days: people at risk and dying by pattern (days, patterns), and how many die together."""

    at_risk: Floats
    deaths: Floats
    tied: npt.NDArray[np.int64]  # deaths of each day
    weight: Floats  # of a death, on average over each day; people weigh 1
    days: Floats
    transformed: Floats  # of each day
    ties: str

    def each_death(self, at_a_time: int) -> Iterator[tuple[npt.NDArray[np.int64], Floats]]:
        """The day of each death, and Efron's share: how much of the day's dead are no longer at risk. So many deaths
        at a time, for there may be as many as people."""
        ends = self.tied.cumsum()
        begins = ends - self.tied
        for start in range(0, int(ends[-1]), at_a_time):
            stop = min(start + at_a_time, int(ends[-1]))
            first, last = np.searchsorted(ends, (start, stop - 1), side="right")
            of = np.arange(first, last + 1)
            day_of = np.repeat(of, np.minimum(ends[of], stop) - np.maximum(begins[of], start))
            place = np.arange(start, stop) - begins[day_of]
            yield day_of, place / self.tied[day_of] if self.ties == "efron" else np.zeros(len(day_of))


@dataclass(frozen=True)
class _Sums:
    log_likelihood: float
    score: Floats
    information: Floats
    score_by_time: Floats
    information_by_time: Floats
    information_by_time2: Floats


def cox(
    patterns: pd.DataFrame,
    levels: Mapping[str, Sequence[str]],
    strata: Sequence[str] = (),
    ties: str = "efron",
    transform: str = "km",
    robust: bool = False,
) -> CoxFit:
    """Fit the hazard of event 1 on `levels` (covariate -> its levels, the first that anybody has is the reference).

    `patterns`: the covariates and `strata` as columns, entry_day, day, event (0 or 1) and n, whole people. Efron's
    ties or 'breslow'. The proportional-hazards test weighs days by `transform`: 'km', one less the Kaplan-Meier
    estimate just before, or 'identity'. A level without an event, or whose coefficient runs to infinity, gets its
    reason instead of a number, and what follows from other covariates too. ValueError for an unknown word or people in
    parts.

    `robust`: every row is one person, and n a weight that need not be whole; the covariance is the sandwich of Lin and
    Wei (1989), as of R's coxph(weights =, robust = TRUE).
    """
    if ties not in ("efron", "breslow") or transform not in ("km", "identity"):
        raise ValueError("ties are efron or breslow; transform is km or identity")
    rows, left_out = usable(patterns.rename(columns={"event": "cause"}))
    if not robust and (rows["n"] % 1 != 0).any():
        raise ValueError("n counts people; weights that are not people need robust")
    names = list(dict.fromkeys([*levels, *strata]))
    table = rows[names].drop_duplicates().reset_index(drop=True) if names else rows.iloc[:1][[]]
    number = rows[names].merge(table.assign(_number=range(len(table))), how="left")["_number"] if names else 0
    number = np.asarray(number, np.int64) if names else np.zeros(len(rows), np.int64)
    n = rows["n"].to_numpy(float)
    events = rows["cause"].to_numpy() == 1
    people = np.bincount(number, n, len(table)).astype(float)
    group = table.groupby(list(strata)).ngroup().to_numpy() if strata else np.zeros(len(table), np.int64)
    died = np.bincount(number[events], n[events], len(table)).astype(float)
    design = design_of(table, levels, people, died, group)
    nothing = CoxFit(
        design, np.empty(0), np.empty((0, 0)), np.nan, len(rows) if robust else int(n.sum()),
        int(events.sum()) if robust else int(died.sum()), left_out,
    )  # fmt: skip
    if not n.sum() or not died.sum():
        return replace(nothing, reason="nobody is observed" if not n.sum() else "no event")
    of_kept = informative(people, died, table, levels, whole=False)[0][number]
    overall = Curve.of_nobody() if robust else kaplan_meier(rows, 0.95)
    members = [np.flatnonzero(of_kept & (group[number] == s)) for s in np.unique(group)]
    members = [inside for inside in members if events[inside].any()]
    parts = [
        _stratum(rows.iloc[inside], number[inside], len(table), ties, transform, overall, robust) for inside in members
    ]
    fit = _fitted(nothing, parts)
    if robust:
        x = fit.design.matrix
        middle = sum(_robust(fit, part, x, rows.iloc[i], number[i]) for part, i in zip(parts, members, strict=True))
        fit = replace(fit, covariance=fit.covariance @ middle @ fit.covariance, proportionality={})
    return fit


def _stratum(
    rows: pd.DataFrame, number: npt.NDArray[np.int64], patterns: int, ties: str, transform: str, overall: Curve,
    robust: bool,
) -> _Stratum:  # fmt: skip
    day, entry = rows["day"].to_numpy(float), rows["entry_day"].to_numpy(float)
    n, is_event = rows["n"].to_numpy(float), rows["cause"].to_numpy() == 1
    at = np.unique(day[is_event])
    late = (entry != 0).any()

    def table(place: npt.NDArray[np.int64], keep: npt.NDArray[np.bool_]) -> Floats:
        cells = np.bincount(place[keep] * patterns + number[keep], n[keep], (len(at) + 1) * patterns)
        return cells.reshape(len(at) + 1, patterns).astype(float)

    everyone = np.ones(len(n), bool)
    # Who leaves on or after a day is at risk on it, unless they entered on or after it.
    last = np.searchsorted(at, day, side="right") - 1
    at_risk = table(np.maximum(last, 0), last >= 0)[:-1][::-1].cumsum(axis=0)[::-1]
    if late:
        first = np.searchsorted(at, entry, side="right") - 1
        at_risk = at_risk - table(np.maximum(first, 0), (first >= 0) & everyone)[:-1][::-1].cumsum(axis=0)[::-1]
    deaths = table(np.searchsorted(at, day), is_event)[: len(at)]
    weight = deaths.sum(axis=1)
    d = np.bincount(np.searchsorted(at, day[is_event])) if robust else weight.astype(np.int64)
    before = np.searchsorted(overall.days, at, side="left")
    transformed = at if robust or transform == "identity" else 1 - np.concatenate([[1.0], overall.estimate])[before]
    return _Stratum(at_risk, deaths, d, weight / d, at, transformed, ties)


def _sums(parts: list[_Stratum], x: Floats, beta: Floats) -> _Sums:
    """Log partial likelihood, score and information at `beta`, and those of coefficients that grow with time."""
    columns = x.shape[1]
    xx = (x[:, :, None] * x[:, None, :]).reshape(len(x), columns * columns)
    log_likelihood = 0.0
    score, by_time = np.zeros(columns), np.zeros(columns)
    information, with_time, with_time2 = (np.zeros((columns, columns)) for _ in range(3))
    linear = x @ beta
    for part in parts:
        shift = linear[part.at_risk.any(axis=0)].max()
        risk = np.exp(linear - shift)
        s0, s1, s2 = part.at_risk @ risk, part.at_risk @ (risk[:, None] * x), part.at_risk @ (risk[:, None] * xx)
        d0, d1, d2 = part.deaths @ risk, part.deaths @ (risk[:, None] * x), part.deaths @ (risk[:, None] * xx)
        days = len(s0)
        tied = np.zeros((6, days))
        for day_of, share in part.each_death(DEATHS_AT_A_TIME):
            inverse = 1 / (s0[day_of] - share * d0[day_of])
            terms = (inverse, share * inverse, inverse**2, share * inverse**2, (share * inverse) ** 2, -np.log(inverse))
            tied += [np.bincount(day_of, term, days) for term in terms]
        a, b, c, e, g, logarithm = part.weight * tied
        died = part.deaths @ x
        log_likelihood += float((died @ beta).sum() - shift * part.deaths.sum() - logarithm.sum())
        of_day = died - (a[:, None] * s1 - b[:, None] * d1)
        cross = s1[:, :, None] * d1[:, None, :]
        variance = (
            (a[:, None] * s2 - b[:, None] * d2).reshape(days, columns, columns)
            - c[:, None, None] * s1[:, :, None] * s1[:, None, :]
            + e[:, None, None] * (cross + cross.transpose(0, 2, 1))
            - g[:, None, None] * d1[:, :, None] * d1[:, None, :]
        )
        time = part.transformed
        score += of_day.sum(axis=0)
        by_time += time @ of_day
        information += variance.sum(axis=0)
        with_time += np.tensordot(time, variance, 1)
        with_time2 += np.tensordot(time**2, variance, 1)
    return _Sums(log_likelihood, score, information, by_time, with_time, with_time2)


def _uninformed(terms: list[Term], information: Floats) -> dict[Term, str]:
    """Terms that the risk sets say nothing about, or nothing beyond those before them."""
    kept: list[int] = []
    dropped = {}
    for place, term in enumerate(terms):
        own = information[place, place]
        rest = own
        if kept:
            across = information[np.ix_(kept, [place])]
            rest = own - (across.T @ np.linalg.solve(information[np.ix_(kept, kept)], across)).item()
        if own <= NOTHING:
            dropped[term] = UNINFORMED
        elif rest <= SINGULAR * own:
            dropped[term] = COLLINEAR
        else:
            kept.append(place)
    return dropped


def _fitted(fit: CoxFit, parts: list[_Stratum]) -> CoxFit:
    beta = np.zeros(len(fit.design.terms))
    sums = _sums(parts, fit.design.matrix, beta)
    dropped = _uninformed(fit.design.terms, sums.information)
    if dropped:
        return _fitted(replace(fit, design=fit.design.without(dropped)), parts)
    x = fit.design.matrix
    if not len(beta):
        return replace(fit, coefficients=beta, covariance=np.empty((0, 0)), log_likelihood=sums.log_likelihood)
    step = np.zeros(len(beta))
    for _ in range(ITERATIONS):
        try:
            step = np.asarray(np.linalg.solve(sums.information, sums.score), float)
        except np.linalg.LinAlgError:
            break
        largest = np.abs(step).max()
        if largest < ENOUGH:
            break
        if not np.isfinite(largest):
            break
        step = step / max(1.0, largest / 5)
        following = _sums(parts, x, beta + step)
        while following.log_likelihood < sums.log_likelihood - 1e-9 * abs(sums.log_likelihood) and largest > ENOUGH:
            step, largest = step / 2, largest / 2
            following = _sums(parts, x, beta + step)
        rests = abs(following.log_likelihood - sums.log_likelihood) <= FLAT * abs(sums.log_likelihood)
        beta, sums = beta + step, following
        if rests and np.abs(step).max() > STILL_MOVING:
            break
    runs_away = (np.abs(step) > STILL_MOVING) | ~np.isfinite(step) | _is_vague(sums.information)
    if runs_away.any():
        lost = {fit.design.terms[place]: SEPARATED for place in np.flatnonzero(runs_away)}
        return _fitted_beside(fit, parts, beta, runs_away, lost)
    covariance = np.asarray(np.linalg.inv(sums.information), float)
    tests = _proportionality(fit.design.terms, sums)
    return replace(
        fit, coefficients=beta, covariance=covariance, log_likelihood=sums.log_likelihood, proportionality=tests
    )


def _is_vague(information: Floats) -> npt.NDArray[np.bool_]:
    """Coefficients whose standard error is so large that it is none."""
    if not len(information):
        return np.zeros(0, bool)
    try:
        variance = np.diag(np.linalg.inv(information))
    except np.linalg.LinAlgError:
        return np.ones(len(information), bool)
    return ~((variance > 0) & (variance < VAGUE**2))


def _fitted_beside(
    fit: CoxFit, parts: list[_Stratum], beta: Floats, runs_away: npt.NDArray[np.bool_], lost: dict[Term, str]
) -> CoxFit:
    """The other coefficients where some run to infinity: those are held where they have got to."""
    sums = _sums(parts, fit.design.matrix, beta)
    kept = np.flatnonzero(~runs_away)
    information = sums.information[np.ix_(kept, kept)]
    also = _is_vague(information)
    if also.any():
        lost = lost | {fit.design.terms[place]: SEPARATED for place in kept[also]}
        runs_away = runs_away.copy()
        runs_away[kept[also]] = True
        return _fitted_beside(fit, parts, beta, runs_away, lost)
    covariance = np.asarray(np.linalg.inv(information), float)
    return replace(
        fit,
        design=fit.design.without(lost),
        coefficients=beta[kept],
        covariance=covariance,
        log_likelihood=sums.log_likelihood,
    )


def _proportionality(terms: list[Term], sums: _Sums) -> dict[Term, Proportionality]:
    from scipy.stats import chi2

    between = np.linalg.solve(sums.information, sums.information_by_time)
    spread = sums.information_by_time2 - sums.information_by_time.T @ between
    tests = {}
    for places, name in [*(([place], term) for place, term in enumerate(terms)), (list(range(len(terms))), ("", ""))]:
        u = sums.score_by_time[places]
        own = spread[np.ix_(places, places)]
        if np.linalg.matrix_rank(own, hermitian=True) < len(places) or (np.diag(own) <= NOTHING).any():
            continue
        statistic = float(u @ np.linalg.solve(own, u))
        tests[name] = Proportionality(statistic, len(places), float(chi2.sf(statistic, len(places))))
    return tests


def _robust(fit: CoxFit, part: _Stratum, x: Floats, rows: pd.DataFrame, number: npt.NDArray[np.int64]) -> Floats:
    """The sandwich of Lin and Wei (1989): each row is one person, whose weight is n."""
    beta = fit.coefficients
    risk = np.exp(x @ beta)
    s0, s1 = part.at_risk @ risk, part.at_risk @ (risk[:, None] * x)
    d0, d1 = part.deaths @ risk, part.deaths @ (risk[:, None] * x)
    ((of, share),) = part.each_death(int(part.tied.sum()))
    days = len(s0)
    denominator = s0[of] - share * d0[of]
    mean = (s1[of] - share[:, None] * d1[of]) / denominator[:, None]
    hazard = part.weight[of] / denominator

    def by_day(terms: Floats) -> Floats:
        sums = np.zeros((days, *terms.shape[1:]))
        np.add.at(sums, of, terms)
        return sums

    def until(sums: Floats, day: Floats) -> Floats:
        ends = np.searchsorted(part.days, day, side="right")
        return np.concatenate([np.zeros((1, *sums.shape[1:])), sums.cumsum(axis=0)])[ends]

    h0, h1 = by_day(hazard), by_day(hazard[:, None] * mean)
    own, own_risk = x[number], risk[number]
    day, entry = rows["day"].to_numpy(float), rows["entry_day"].to_numpy(float)
    entry = np.where(entry == 0, -1.0, entry)
    expected = own * (until(h0, day) - until(h0, entry))[:, None] - (until(h1, day) - until(h1, entry))
    died = rows["cause"].to_numpy() == 1
    place = np.searchsorted(part.days, day[died])
    # Efron: of the tied, each is at risk for a part of the day only, and dies against the day's average.
    spared = by_day(hazard * share), by_day((hazard * share)[:, None] * mean)
    expected[died] -= own[died] * spared[0][place][:, None] - spared[1][place]
    score = -own_risk[:, None] * expected
    average = by_day(mean) / np.bincount(of, minlength=days)[:, None]
    score[died] += own[died] - average[place]
    weighted = score * rows["n"].to_numpy(float)[:, None]
    return np.asarray(weighted.T @ weighted, float)
