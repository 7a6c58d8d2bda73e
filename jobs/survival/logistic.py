"""Logistic regression on counts of people by covariate pattern, and risks standardised to all of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from jobs.survival.design import SEPARATED, Design, Term, design_of, informative

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LogisticFit:
    """Log odds: `coefficients` are the intercept's and those of `design.terms`, with their covariance.

    `design.missing` has the reason of every level without one; `reason` is why there is no fit at all. `people` are
    those of each pattern that was fitted.
    """

    design: Design
    coefficients: Floats
    covariance: Floats
    people: Floats
    n: int
    events: int
    reason: str = ""


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error and limits; the error of a ratio is that of its logarithm."""

    value: float
    se: float
    lower: float
    upper: float


def logistic(patterns: pd.DataFrame, levels: Mapping[str, Sequence[str]]) -> LogisticFit:
    """Fit the odds of event 1 on `levels` (covariate -> its levels, the first that anybody has is the reference).

    `patterns`: the covariates as columns, event (0 or 1) and n. A level of which all or none have the event has no
    coefficient; its people are left out, as they say nothing about the others. Where covariates together separate the
    people the levels concerned get that reason. statsmodels fits the binomial model; the same as R's glm.
    """
    counted = patterns[patterns["n"] > 0]
    names = list(levels)
    n, has_event = counted["n"].to_numpy(float), counted["event"].to_numpy() == 1
    table = counted.assign(_n=n, _events=n * has_event).groupby(names, as_index=False)[["_n", "_events"]].sum()
    people, events = table["_n"].to_numpy(float), table["_events"].to_numpy(float)
    design = design_of(table, levels, people, events, whole=True)
    kept = informative(people, events, table, levels, whole=True)[0]
    design = replace(design, matrix=design.matrix[kept])
    table, people, events = table[kept], people[kept], events[kept]
    fit = LogisticFit(design, np.empty(0), np.empty((0, 0)), people, int(people.sum()), int(events.sum()))
    if not people.sum():
        return replace(fit, reason="nobody is observed")
    if events.sum() in (0, people.sum()):
        return replace(fit, reason="nobody has the event" if not events.sum() else "everybody has the event")
    separating = _separating(design, people, events)
    if separating:
        return replace(fit, design=design.without({term: SEPARATED for term in separating}), reason=SEPARATED)
    import statsmodels.api as sm

    columns = np.column_stack([np.ones(len(table)), design.matrix])
    model = sm.GLM(np.column_stack([events, people - events]), columns, family=sm.families.Binomial())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a perfect fit, which as many patterns as coefficients are
        fitted = model.fit(maxiter=100, tol=1e-14, tol_criterion="params")
    return replace(fit, coefficients=np.asarray(fitted.params), covariance=np.asarray(fitted.cov_params()))


def _separating(design: Design, people: Floats, events: Floats) -> list[Term]:
    """The terms along which no finite coefficient is best: a linear program finds a direction in which every pattern's
    fit gets better or stays (Konis 2007)."""
    from scipy.optimize import linprog

    columns = np.column_stack([np.ones(len(people)), design.matrix])
    only_events, no_events = events == people, events == 0
    mixed = ~only_events & ~no_events
    gain = columns[only_events].sum(axis=0) - columns[no_events].sum(axis=0)
    found = linprog(
        -gain,
        A_ub=np.vstack([-columns[only_events], columns[no_events]]),
        b_ub=np.zeros(int(only_events.sum() + no_events.sum())),
        A_eq=columns[mixed] if mixed.any() else None,
        b_eq=np.zeros(int(mixed.sum())) if mixed.any() else None,
        bounds=(-1, 1),
    )
    if found.x is None or -found.fun < 1e-7:
        return []
    return [term for term, size in zip(design.terms, found.x[1:], strict=True) if abs(size) > 1e-7]


def odds_ratio(fit: LogisticFit, term: Term, level: float) -> Estimate:
    """Of a level against its covariate's reference."""
    place = fit.design.terms.index(term) + 1
    return _ratio(float(fit.coefficients[place]), float(np.sqrt(fit.covariance[place, place])), level)


def standardised_risk(
    fit: LogisticFit, covariate: str, of: str, level: float
) -> tuple[Estimate, Estimate | None, Estimate | None]:
    """The risk if everybody had this level of `covariate` and kept the rest; its difference from and ratio to that of
    the reference (None for the reference itself).

    r = sum n expit(x b)/N, with variance J V J', J = sum n p (1 - p) x/N: the people are held fixed. The risk's limits
    are on the logit, those of the ratio on the logarithm.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)

    def risk_of(value: str) -> tuple[float, Floats]:
        columns = fit.design.matrix.copy()
        for place, (name, named) in enumerate(fit.design.terms):
            if name == covariate:
                columns[:, place] = float(named == value)
        columns = np.column_stack([np.ones(len(columns)), columns])
        p = 1 / (1 + np.exp(-columns @ fit.coefficients))
        share = fit.people / fit.people.sum()
        return float(share @ p), (share * p * (1 - p)) @ columns

    def se_of(gradient: Floats) -> float:
        return float(np.sqrt(gradient @ fit.covariance @ gradient))

    risk, gradient = risk_of(of)
    se = se_of(gradient)
    logit, spread = np.log(risk / (1 - risk)), z * se / (risk * (1 - risk))
    own = Estimate(risk, se, float(1 / (1 + np.exp(-logit + spread))), float(1 / (1 + np.exp(-logit - spread))))
    reference = fit.design.reference[covariate]
    if of == reference:
        return own, None, None
    other, other_gradient = risk_of(reference)
    se_difference = se_of(gradient - other_gradient)
    difference = risk - other
    return (
        own,
        Estimate(difference, se_difference, difference - z * se_difference, difference + z * se_difference),
        _ratio(float(np.log(risk / other)), se_of(gradient / risk - other_gradient / other), level),
    )


def _ratio(log: float, se: float, level: float) -> Estimate:
    z = NormalDist().inv_cdf((1 + level) / 2)
    return Estimate(float(np.exp(log)), se, float(np.exp(log - z * se)), float(np.exp(log + z * se)))
