"""The rows of cox.csv, undertreatment.csv and survival_tests.csv, from frames alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from jobs.survival.cox import CoxFit, cox
from jobs.survival.curves import slices
from jobs.survival.design import SEPARATED, Design, Term
from jobs.survival.levels import levels_of
from jobs.survival.log_rank import ChiSquared, log_rank
from jobs.survival.logistic import Estimate, LogisticFit, logistic, odds_ratio, standardised_risk
from jobs.survival.net import graffeo_test
from jobs.survival.risk import usable
from schemas.frames import ALL, CROSS

if TYPE_CHECKING:
    from jobs.config import Study

Row = dict[str, Any]
COX_COLUMNS = (
    "model", "statistic", "covariate", "level", "reference", "estimate", "se", "lower", "upper", "df", "p_value",
    "n", "events", "reason",
)  # fmt: skip
UNDERTREATMENT_COLUMNS = (
    "model", "statistic", "covariate", "level", "reference", "estimate", "se", "lower", "upper", "p_value",
    "n", "events", "denominator", "reason",
)  # fmt: skip
TEST_COLUMNS = ("test", "outcome", "stratum", "within", "statistic", "df", "p_value", "n", "events", "reason")
FORMED_LATER = "the groups are formed after the clock starts"
REFERENCE = "reference"
NO_TEST = "a coefficient without a finite value, or events on too few days"
NOTHING_TO_TEST = "no level can be estimated"
OTHERS_SEPARATE = "other covariates separate those with the event from those without"


def cox_rows(patterns: pd.DataFrame, study: Study) -> Iterator[Row]:
    """Hazard ratios of overall survival from index, one row per level, and tests that they do not change with time.

    `se` is that of the logarithm; `n` and `events` are those of the level. What cannot be estimated has its reason.
    """
    model = study.survival.cox
    if model is None:
        return
    part = patterns[patterns["model"] == "overall_survival"]
    levels = _levels(part, model.covariates, study)
    timed = usable(part.rename(columns={"event": "cause"}))[0].rename(columns={"cause": "event"})
    fit = cox(part, levels, model.strata, model.ties, model.time_transform)
    name = f"overall_survival_{model.ties}"
    left_out = f"{fit.left_out} left out without a usable time" if fit.left_out else ""
    for term, about in _terms(timed, fit.design, levels, fit.reason):
        row = {"model": name, "statistic": "hazard_ratio", **about}
        if not about["reason"]:
            row |= _hazard_ratio(fit, term, study.survival.level)
        yield row | {"reason": "; ".join(filter(None, [about["reason"], left_out]))}
    whole = ("", "")
    if whole not in fit.proportionality:
        why = fit.reason or (NO_TEST if fit.design.terms else NOTHING_TO_TEST)
        yield {
            "model": name,
            "statistic": f"proportional_hazards_{model.time_transform}",
            "covariate": ALL,
            "level": ALL,
            "n": fit.n,
            "events": fit.events,
            "reason": why,
        }
    for term, test in fit.proportionality.items():
        yield {
            "model": name,
            "statistic": f"proportional_hazards_{model.time_transform}",
            "covariate": term[0] or ALL,
            "level": term[1] or ALL,
            "estimate": test.statistic,
            "df": test.df,
            "p_value": test.p_value,
            "n": fit.n,
            "events": fit.events,
            "reason": "",
        }


def _hazard_ratio(fit: CoxFit, term: Term, level: float) -> Row:
    place = fit.design.terms.index(term)
    log, se = float(fit.coefficients[place]), float(np.sqrt(fit.covariance[place, place]))
    z = NormalDist().inv_cdf((1 + level) / 2)
    return {
        "estimate": math.exp(log), "se": se, "lower": math.exp(log - z * se), "upper": math.exp(log + z * se),
        "p_value": _p_value(log, se),
    }  # fmt: skip


def _p_value(log: float, se: float) -> float:
    return math.erfc(abs(log / se) / math.sqrt(2))


def undertreatment_rows(patterns: pd.DataFrame, study: Study) -> Iterator[Row]:
    """Who has no line of treatment: odds ratios, and risks standardised to all who were fitted with their differences
    and ratios, one row each. `events` are the untreated of the level's `n`."""
    model = study.survival.undertreatment
    if model is None:
        return
    for name, denominator in (
        ("untreated", "people with treatment information"),
        (
            "untreated_survivors",
            f"people with treatment information who did not die within {model.survived_days} days",
        ),
    ):
        part = patterns[patterns["model"] == name]
        levels = _levels(part, model.covariates, study)
        fit = logistic(part, levels)
        is_lost = np.zeros(len(part), bool)
        for (covariate, level), _ in fit.design.left_out.items():
            is_lost |= (part[covariate] == level).to_numpy()
        left_out = [
            f"{n} left out: {covariate} {level}, {fit.design.missing[covariate, level]}"
            for (covariate, level), n in fit.design.left_out.items()
        ]
        why = OTHERS_SEPARATE if fit.reason == SEPARATED else fit.reason
        for term, about in _terms(part, fit.design, levels, why, part[~is_lost]):
            about |= {"model": name, "denominator": denominator}
            if fit.reason and about["reason"] == REFERENCE:
                about["reason"] = why
            if left_out and about["reason"] in ("", REFERENCE):
                yield from _with_left_out(fit, term, about, left_out, study)
                continue
            yield {**about, "statistic": "odds_ratio"} | (
                {} if about["reason"] else _shown(odds_ratio(fit, term, study.survival.level), is_ratio=True)
            )
            yield from _risk_rows(fit, term, about, study)


def _with_left_out(fit: LogisticFit, term: Term, about: Row, left_out: list[str], study: Study) -> Iterator[Row]:
    """The rows of a level that is estimated without some people, who are named in every one of them."""
    ratio = {} if about["reason"] else _shown(odds_ratio(fit, term, study.survival.level), is_ratio=True)
    for row in ({**about, "statistic": "odds_ratio", **ratio}, *_risk_rows(fit, term, about, study)):
        yield row | {"reason": "; ".join(filter(None, [row["reason"], *left_out]))}


def _risk_rows(fit: LogisticFit, term: Term, about: Row, study: Study) -> Iterator[Row]:
    statistics = ("standardised_risk", "risk_difference", "risk_ratio")
    if about["reason"] not in ("", REFERENCE) or not len(fit.coefficients):
        yield from ({**about, "statistic": statistic} for statistic in statistics)
        return
    found = standardised_risk(fit, *term, study.survival.level)
    for statistic, estimate in zip(statistics, found, strict=True):
        if estimate is None:
            yield {**about, "statistic": statistic}
        else:
            shown = _shown(estimate, statistic == "risk_ratio")
            yield {**about, "statistic": statistic, **shown, "reason": ""}


def _shown(estimate: Estimate, is_ratio: bool) -> Row:
    p_value = _p_value(math.log(estimate.value), estimate.se) if is_ratio else math.nan
    return {
        "estimate": estimate.value, "se": estimate.se, "lower": estimate.lower, "upper": estimate.upper,
        "p_value": p_value,
    }  # fmt: skip


def _levels(patterns: pd.DataFrame, covariates: Iterable[str], study: Study) -> dict[str, list[str]]:
    return {name: levels_of(name, study, set(patterns[name])) for name in covariates}


def _terms(
    patterns: pd.DataFrame,
    design: Design,
    levels: Mapping[str, list[str]],
    why: str,
    fitted: pd.DataFrame | None = None,
) -> Iterator[tuple[Term, Row]]:
    """Every level of every covariate: people and events, its reference, and why it has no estimate. Of a level with one
    they are those who were `fitted`, if not everybody is."""
    for covariate, named in levels.items():
        reference = design.reference.get(covariate, "")
        for level in named:
            is_missing = (covariate, level) in design.missing
            among = patterns if fitted is None or is_missing else fitted
            own = among[among[covariate] == level]
            reason = design.missing.get((covariate, level), "") or (REFERENCE if level == reference else why)
            yield (
                (covariate, level),
                {
                    "covariate": covariate,
                    "level": level,
                    "reference": reference,
                    "n": int(own["n"].sum()),
                    "events": int(own.loc[own["event"] == 1, "n"].sum()),
                    "reason": reason,
                },
            )


def comparison_rows(frames: Mapping[str, pd.DataFrame], study: Study) -> Iterator[Row]:
    """Do the levels of a stratum differ? Overall survival by the log-rank test, of a cross each variable within the
    levels of the others; net survival by that of Grafféo."""
    parts = slices(frames["frame_time"], "overall_survival")
    for stratum in study.strata:
        of_level = {key.level: part for key, part in parts.items() if key.stratum == stratum}
        for variable, within, groups in _groupings(stratum, of_level):
            if "treated" in (variable, *within.split(CROSS)):
                test = ChiSquared(math.nan, 0, math.nan, 0, 0, FORMED_LATER)
            else:
                test = log_rank(groups) if groups else ChiSquared(math.nan, 0, math.nan, 0, 0, "nobody")
            yield _test_row("log_rank", "overall_survival", variable, within, test)
    net = frames["frame_net_survival"]
    net = net[net["outcome"] == "net_survival"]
    for stratum in study.survival.net_strata or ():
        groups_of_net = {level: part for level, part in net[net["stratum"] == stratum].groupby("level")}
        if "treated" in stratum.split(CROSS):
            test = ChiSquared(math.nan, 0, math.nan, 0, 0, FORMED_LATER)
        else:
            test = graffeo_test(groups_of_net)
        yield _test_row("graffeo", "net_survival", stratum, "", test)


def _test_row(name: str, outcome: str, stratum: str, within: str, test: ChiSquared) -> Row:
    return {
        "test": name, "outcome": outcome, "stratum": stratum, "within": within, "statistic": test.statistic,
        "df": test.df, "p_value": test.p_value, "n": test.n, "events": test.events, "reason": test.reason,
    }  # fmt: skip


def _groupings(
    stratum: str, of_level: Mapping[str, pd.DataFrame]
) -> Iterator[tuple[str, str, dict[str, dict[str, pd.DataFrame]]]]:
    """(variable, what it is within, stratum -> group -> frame) for each variable of a cross."""
    variables = stratum.split(CROSS)
    for place, variable in enumerate(variables):
        groups: dict[str, dict[str, pd.DataFrame]] = {}
        for level, part in of_level.items():
            levels = level.split(CROSS)
            rest = CROSS.join(itertools.chain(levels[:place], levels[place + 1 :]))
            groups.setdefault(rest, {})[levels[place]] = part
        yield variable, CROSS.join([*variables[:place], *variables[place + 1 :]]), groups
