"""The rows of survival.csv and survival_times.csv: every curve of a study at its days, its quantiles and means."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from jobs.survival.competing_risks import cumulative_incidence
from jobs.survival.kaplan_meier import Curve, Point, kaplan_meier, quantile, restricted_mean
from jobs.survival.levels import levels_of
from jobs.survival.net import ESTIMATORS, NetCurve, crude_curves, net_curve, standardised
from schemas.frames import ALL, CROSS, PRIMARY

if TYPE_CHECKING:
    from jobs.config import Study

Row = dict[str, Any]
Curves = Mapping["Slice", Curve]


@dataclass(frozen=True)
class Slice:
    """What one curve is about: the key of frame_time without its days and causes."""

    outcome: str
    rule_set: str = ""
    line_number: int = 0
    regimen: str = ""
    stratum: str = ALL
    level: str = ALL


SLICE = tuple(field.name for field in fields(Slice))
SURVIVAL_COLUMNS = (
    "estimator", *SLICE, "time_days", "estimate", "se", "lower", "upper", "at_risk", "n", "events", "reason",
)  # fmt: skip
TIME_COLUMNS = (
    "estimator", *SLICE, "statistic", "until_days", "n", "events", "days", "se", "lower", "upper", "reason",
)  # fmt: skip
CAUSES = {"overall_survival": (1,), "survival_from_line": (1,), "line_duration": (1, 2)}  # jobs/aggregate.py
# What each of several events that compete is called, by its number in jobs/aggregate.py.
COMPETING = {
    "first_line": {1: "first_line", 2: "death_before_first_line", 3: "second_cancer_before_first_line"},
    "line_duration": {1: "line_end", 2: "death_on_line"},
    "next_treatment": {
        1: "next_treatment",
        2: "death_before_next_treatment",
        3: "second_cancer_before_next_treatment",
    },
}
NEXT_OR_DEATH = "next_treatment_or_death"
QUARTILES = {"lower_quartile": 0.25, "median": 0.5, "upper_quartile": 0.75}
MONTH = 30.4375
DAYS_PER_YEAR = 365.241  # as R's relsurv counts

NOBODY = "nobody"
BEYOND = "beyond the last observed day"
NOT_REACHED = "not reached"
NO_LIMITS = "no limits where the estimate is 0 or 1"
LIMIT_NOT_REACHED = "a limit is not reached"
NOT_FROM_INDEX = "nobody is at risk in the period from index on"
NO_DEATHS = "no limits before the first death"
EMPTY_GROUP = "an age group is empty or has nobody left"


def survival_curves(frame: pd.DataFrame, study: Study, outcome: str) -> dict[Slice, Curve]:
    """The full step curve of every slice of an outcome of CAUSES, in a fixed order. What the study asks for is there
    even if nobody is in it."""
    return _kaplan_meier(_slices(frame, study, outcome), study, CAUSES[outcome])


def all_curves(time: pd.DataFrame, study: Study) -> dict[Slice, Curve]:
    """The Kaplan-Meier curves of CAUSES and of the time to the next line or death."""
    of_causes = {key: curve for outcome in CAUSES for key, curve in survival_curves(time, study, outcome).items()}
    return of_causes | _next_or_death(time, study)


def survival_rows(frames: Mapping[str, pd.DataFrame], curves: Curves, study: Study) -> Iterator[Row]:
    """All rows of survival.csv; `curves` are all_curves."""
    chosen, time = study.survival, frames["frame_time"]
    for key, curve in curves.items():
        of_next = key.outcome == NEXT_OR_DEATH
        yield from _rows("kaplan_meier", key, curve, chosen.next_days if of_next else chosen.times_days)
    days = {
        "first_line": chosen.first_line_days,
        "line_duration": chosen.times_days,
        "next_treatment": chosen.next_days,
    }
    for outcome, names in COMPETING.items():
        for (key, cause), curve in competing_curves(time, study, outcome).items():
            yield from _rows("cumulative_incidence", replace(key, outcome=names[cause]), curve, days[outcome])
    for key, curve in still_free(time, study).items():
        yield from _rows("kaplan_meier", key, curve, chosen.next_days)
    yield from net_rows(frames["frame_net_survival"], study)
    yield from _expected_rows(frames["frame_expected_survival"], study)


def competing_curves(time: pd.DataFrame, study: Study, outcome: str) -> dict[tuple[Slice, int], Curve]:
    """Cumulative incidence by slice and cause of an outcome of COMPETING."""
    causes = tuple(COMPETING[outcome])
    parts = _slices(time, study, outcome)
    return {
        (key, cause): cumulative_incidence(part, study.survival.level, cause, causes)
        for cause in causes
        for key, part in parts.items()
    }


def still_free(time: pd.DataFrame, study: Study) -> dict[Slice, Curve]:
    """Neither the next line nor death nor a second cancer so far."""
    curves = _kaplan_meier(_slices(time, study, "next_treatment"), study, (1, 2, 3))
    return {replace(key, outcome="no_next_treatment"): curve for key, curve in curves.items()}


def _next_or_death(time: pd.DataFrame, study: Study) -> dict[Slice, Curve]:
    """Time to the next line or death; a second cancer ends what is known of lines, and is censored."""
    curves = _kaplan_meier(_slices(time, study, "next_treatment"), study, (1, 2))
    return {replace(key, outcome=NEXT_OR_DEATH): curve for key, curve in curves.items()}


def time_rows(time: pd.DataFrame, curves: Curves, study: Study) -> Iterator[Row]:
    """All rows of survival_times.csv: quartiles and restricted means of `curves` (all_curves; of the duration of lines
    line_durations.csv has the medians); the median potential follow-up, by Kaplan-Meier with deaths and censorings
    exchanged."""
    for key, curve in curves.items():
        if key.outcome == "line_duration":
            continue
        for statistic, share in QUARTILES.items():
            yield _quantile_row("kaplan_meier", key, curve, statistic, share)
        yield _mean_row(key, curve, study.survival.restricted_mean_days)
    followed = _kaplan_meier(_slices(time, study, "overall_survival"), study, (0,))
    for key, curve in followed.items():
        yield _quantile_row("reverse_kaplan_meier", replace(key, outcome="potential_follow_up"), curve, "median", 0.5)


def median_row(curve: Curve) -> Row:
    """The median of a curve: n, events, median_days, lower, upper, reason."""
    row = _quantile_row("", Slice(""), curve, "", 0.5)
    return {"median_days": row["days"]} | {name: row[name] for name in ("n", "events", "lower", "upper", "reason")}


def slices(frame: pd.DataFrame, outcome: str) -> dict[Slice, pd.DataFrame]:
    """The slices of an outcome that somebody is in."""
    of_outcome = frame[frame["outcome"] == outcome]
    return {Slice(*key): part for key, part in of_outcome.groupby(list(SLICE))}


def lines_of(study: Study) -> list[tuple[str, int]]:
    """Rule sets and the lines of each that the study asks for."""
    return [(rule_set, number) for rule_set in study.rule_sets for number in range(1, study.survival.lines + 1)]


def _slices(frame: pd.DataFrame, study: Study, outcome: str) -> dict[Slice, pd.DataFrame]:
    """Those of an outcome in a fixed order, with the empty ones that the study asks for."""
    if outcome in ("overall_survival", "first_line"):
        everyone = Slice(outcome) if outcome == "overall_survival" else Slice(outcome, PRIMARY, 1)
        found = slices(frame, outcome)
        wanted = [everyone]
        for stratum in study.strata:
            seen = {key.level for key in found if key.stratum == stratum}
            if outcome == "overall_survival" or "treated" not in stratum.split(CROSS):
                wanted += [replace(everyone, stratum=stratum, level=name) for name in levels_of(stratum, study, seen)]
        if outcome == "first_line" and not study.survival.lines:
            wanted = []
    else:
        wanted = [Slice(outcome, rule_set, number, ALL) for rule_set, number in lines_of(study)]
    parts = {key: frame.iloc[:0] for key in wanted} | slices(frame, outcome)
    rule_sets, strata = ["", *study.rule_sets], [ALL, *study.strata]
    places = {key: place for place, key in enumerate(wanted)}

    def order(key: Slice) -> tuple[Any, ...]:
        of_line = (rule_sets.index(key.rule_set), key.line_number, key.regimen != ALL, key.regimen)
        return (*of_line, strata.index(key.stratum), places.get(key, len(places)), key.level)

    return {key: parts[key] for key in sorted(parts, key=order)}


def _kaplan_meier(parts: Mapping[Slice, pd.DataFrame], study: Study, causes: tuple[int, ...]) -> dict[Slice, Curve]:
    return {key: kaplan_meier(part, study.survival.level, causes) for key, part in parts.items()}


def _rows(estimator: str, key: Slice, curve: Curve, days: tuple[int, ...]) -> Iterator[Row]:
    for day in days:
        point = curve.at(day)
        reason = ""
        if math.isnan(point.estimate):
            reason = BEYOND if curve.n else NOBODY
        elif math.isnan(point.lower):
            reason = NO_LIMITS
        if curve.left_out:
            reason = "; ".join(filter(None, [reason, f"{curve.left_out} left out without a usable time"]))
        yield _row(estimator, key, day, point, curve.n, int(curve.events.sum()), reason)


def _row(estimator: str, key: Slice, day: float, point: Point, n: int, events: int | None, reason: str) -> Row:
    about = {"estimator": estimator, **asdict(key), "time_days": day}
    return {**about, **asdict(point), "n": n, "events": events, "reason": reason}


def _quantile_row(estimator: str, key: Slice, curve: Curve, statistic: str, share: float) -> Row:
    found = quantile(curve, share)
    reason = ""
    if math.isnan(found.days):
        reason = NOT_REACHED if curve.n else NOBODY
    elif math.isnan(found.lower) or math.isnan(found.upper):
        reason = LIMIT_NOT_REACHED
    return {
        "estimator": estimator,
        **asdict(key),
        "statistic": statistic,
        "n": curve.n,
        "events": int(curve.events.sum()),
        **asdict(found),
        "reason": reason,
    }


def _mean_row(key: Slice, curve: Curve, until: int) -> Row:
    mean = restricted_mean(curve, until)
    reason = "" if not math.isnan(mean.days) else BEYOND if curve.n else NOBODY
    about = {"estimator": "kaplan_meier", **asdict(key), "statistic": "restricted_mean", "until_days": until}
    return {
        **about,
        "n": curve.n,
        "events": int(curve.events.sum()),
        "days": mean.days,
        "se": mean.se,
        "reason": reason,
    }


def whole_years(frame: pd.DataFrame) -> dict[int, int]:
    """The days of frame_net_survival that end a whole year of follow-up: year -> day."""
    last = _last_day(frame)
    return {year: math.floor(DAYS_PER_YEAR * year) for year in range(1, int(last // DAYS_PER_YEAR) + 1)}


def net_rows(frame: pd.DataFrame, study: Study) -> Iterator[Row]:
    """Net survival of everyone and by the study's strata, at months and whole years up to the last day on which anybody
    was at risk, standardised by age where the study says so, and the crude probabilities of death. Nothing where the
    study asks for none."""
    if study.survival.net_strata is None:
        return
    times = _net_times(_last_day(frame))
    for outcome in ("net_survival", *(["net_survival_period"] if study.survival.net_period else [])):
        parts = _net_parts(frame[frame["outcome"] == outcome], study)
        for estimator in ESTIMATORS:
            curves = {key: net_curve(part, estimator) for key, part in parts.items()}
            for (stratum, level), curve in curves.items():
                key = Slice(outcome, stratum=stratum, level=level)
                yield from _net_curve_rows(estimator, key, curve, parts[stratum, level], times, study)
            yield from _standardised_rows(estimator, outcome, curves, times, study)
        if outcome == "net_survival":
            yield from _crude_rows(parts, times, study)


def _last_day(frame: pd.DataFrame) -> int:
    return int(frame["day"].max()) if len(frame) else 0


def _net_times(last: int) -> list[float]:
    months = {MONTH * number for number in range(1, int(last // MONTH) + 1)}
    return sorted(months | {math.floor(DAYS_PER_YEAR * year) for year in range(1, int(last // DAYS_PER_YEAR) + 1)})


def _net_parts(frame: pd.DataFrame, study: Study) -> dict[tuple[str, str], pd.DataFrame]:
    parts = {key: part for key, part in frame.groupby(["stratum", "level"])}
    wanted: dict[tuple[str, str], None] = {(ALL, ALL): None}
    for stratum in study.survival.net_strata or ():
        seen = {level for variable, level in parts if variable == stratum}
        wanted.update({(stratum, level): None for level in levels_of(stratum, study, seen)})
    return {key: parts.get(key, frame.iloc[:0]) for key in wanted}


def net_left_out(part: pd.DataFrame) -> dict[str, int]:
    """Who of a slice of frame_net_survival says nothing: why -> people."""
    said = {0: "observed for no day", -1: "whom the life table does not cover"}
    people = {why: int(part.loc[part["day"] == day, "n"].sum()) for day, why in said.items()}
    return {why: n for why, n in people.items() if n}


def _why_no_net(part: pd.DataFrame) -> str:
    days = part.loc[part["day"] > 0, "day"]
    if days.empty:
        return NOBODY
    return BEYOND if days.min() == 1 else NOT_FROM_INDEX


def _net_reason(part: pd.DataFrame, point: Point) -> str:
    reason = ""
    if math.isnan(point.estimate):
        reason = _why_no_net(part)
    elif math.isnan(point.lower):
        reason = NO_DEATHS
    left_out = [f"{n} left out {why}" for why, n in net_left_out(part).items()]
    return "; ".join(filter(None, [reason, *left_out]))


def _net_curve_rows(
    estimator: str, key: Slice, curve: NetCurve, part: pd.DataFrame, times: list[float], study: Study
) -> Iterator[Row]:
    for time in times:
        point = curve.at(time, study.survival.level)
        yield _row(estimator, key, time, point, curve.n, curve.events, _net_reason(part, point))


def _standardised_rows(
    estimator: str, outcome: str, curves: Mapping[tuple[str, str], NetCurve], times: list[float], study: Study
) -> Iterator[Row]:
    """Of each stratum that is crossed with age_group, over it; of age_group alone, everyone."""
    from jobs.config import STANDARDS

    if study.survival.net_standard is None:
        return
    weights = STANDARDS[study.survival.net_standard]
    for stratum in study.survival.net_strata or ():
        variables = stratum.split(CROSS)
        if "age_group" not in variables:
            continue
        place = variables.index("age_group")
        others = [*variables[:place], *variables[place + 1 :]]
        groups: dict[str, dict[str, NetCurve]] = {}
        for (variable, level), curve in curves.items():
            if variable == stratum:
                parts = level.split(CROSS)
                rest = CROSS.join([*parts[:place], *parts[place + 1 :]])
                groups.setdefault(rest, {})[parts[place]] = curve
        for rest, of_age in groups.items():
            in_order = [of_age[label] for label in study.age_groups.labels()]
            key = Slice(outcome, stratum=CROSS.join(others) or ALL, level=rest or ALL)
            n, events = sum(curve.n for curve in in_order), sum(curve.events for curve in in_order)
            left_out = sum(curve.left_out + curve.uncovered for curve in in_order)
            beside = f"{left_out} left out, observed for no day or not covered by the life table" if left_out else ""
            for time in times:
                point = standardised(in_order, weights, time, study.survival.level)
                reason = EMPTY_GROUP if math.isnan(point.estimate) else ""
                reason = "; ".join(filter(None, [reason, beside]))
                name = f"{estimator}_{study.survival.net_standard}"
                yield _row(name, key, time, point, n, events, reason)


def _crude_rows(parts: Mapping[tuple[str, str], pd.DataFrame], times: list[float], study: Study) -> Iterator[Row]:
    for (stratum, level), part in parts.items():
        own = part[part["day"] > 0]
        n, events = int(own["entered"].sum()), int(own["events"].sum())
        for outcome, curve in zip(
            ("death_from_the_cancer", "death_from_other_causes"), crude_curves(part), strict=True
        ):
            for time in times:
                point = curve.at(time, study.survival.level)
                key = Slice(outcome, stratum=stratum, level=level)
                yield _row("crude_probability", key, time, point, n, events, _net_reason(part, point))


def _expected_rows(frame: pd.DataFrame, study: Study) -> Iterator[Row]:
    """Survival that everyone would have had with the hazards of the population (Ederer I); not estimated, so without
    error."""
    for (stratum, level), part in _net_parts(frame.assign(outcome=""), study).items() if len(frame) else ():
        for row in part.sort_values("day").itertuples():
            point = Point(row.expected / row.n, math.nan, math.nan, math.nan, row.n)
            yield _row("expected_survival", Slice("expected_survival", stratum=stratum, level=level), row.day, point,
                       row.n, None, "")  # fmt: skip
