"""The tables of results/: tidy, one row per estimate, from frames alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from jobs.survival.kaplan_meier import Curve, kaplan_meier, median, plain_quantile
from jobs.survival.net import ESTIMATORS, net_curve
from schemas import TABLES
from schemas.frames import ALL, GROUPS, LEVELS, UNKNOWN

if TYPE_CHECKING:
    from jobs.config import Study


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
COLUMNS = {
    "attrition": ("step", "label", "persons", "rows"),
    "characteristics": ("group", "variable", "level", "n", "denominator", "value"),
    "line_starts": ("rule_set", "line_number", "regimen", "n"),
    "line_durations": (
        "rule_set",
        "line_number",
        "regimen",
        "n",
        "events",
        "median_days",
        "lower",
        "upper",
        "median_naive_days",
        "n_naive",
        "n_left_out",
        "reason",
    ),
    "line_transitions": ("rule_set", "line_number", "regimen", "next_state", "next_regimen", "n"),
    "drug_uptake": ("year", "substance", "n", "denominator"),
    "survival": (
        "estimator",
        *SLICE,
        "time_days",
        "estimate",
        "se",
        "lower",
        "upper",
        "at_risk",
        "n",
        "events",
        "reason",
    ),
    "survival_medians": ("estimator", *SLICE, "n", "events", "median_days", "lower", "upper", "reason"),
}
CAUSES = {"overall_survival": (1,), "survival_from_line": (1,), "line_duration": (1, 2)}  # jobs/aggregate.py
QUARTILES = {"lower_quartile": 0.25, "median": 0.5, "upper_quartile": 0.75}
DESCRIBED = (  # in this order, then the others
    ALL,
    "age_at_index",
    "age_group",
    "sex",
    "index_kind",
    "receptor",
    "disease_free_time",
    "prior_treatment",
    "time_since_prior",
    "comorbidity_index",
)

MONTH = 30.4375
DAYS_PER_YEAR = 365.241  # as R's relsurv counts

NOBODY = "nobody"
BEYOND = "beyond the last observed day"
NOT_REACHED = "not reached"
NO_LIMITS = "no limits where the estimate is 0 or 1"
LIMIT_NOT_REACHED = "a limit is not reached"
NOBODY_JUDGED = "no line started early enough to be judged"


def result_tables(frames: Mapping[str, pd.DataFrame], study: Study) -> dict[str, pd.DataFrame]:
    """Every table of results/ by name, with the columns of COLUMNS and rows in a fixed order.

    What cannot be estimated is NULL, with the reason beside it.
    """
    time = frames["frame_time"]
    of_lines = survival_curves(time, study, "line_duration")
    of_people = {
        **survival_curves(time, study, "overall_survival"),
        **survival_curves(time, study, "survival_from_line"),
    }
    curves = {**of_people, **of_lines}
    tables = {
        "attrition": frames["frame_attrition"].sort_values(["step", "label"]),
        "characteristics": characteristics(frames["frame_characteristics"], study),
        "line_starts": line_starts(frames["frame_lines"], study),
        "line_durations": line_durations(time, study, of_lines),
        "line_transitions": line_transitions(frames["frame_lines"], study),
        "drug_uptake": drug_uptake(frames["frame_uptake"], study),
        "survival": _table(
            "survival",
            [
                *(row for key in curves for row in _survival_rows(key, curves[key], study)),
                *_net_survival_rows(frames["frame_net_survival"], study),
            ],
        ),
        "survival_medians": survival_medians(of_people),
    }
    return {name: tables[name][list(columns)].reset_index(drop=True) for name, columns in COLUMNS.items()}


def csv_bytes(table: pd.DataFrame) -> bytes:
    """A table as UTF-8 CSV: ten significant digits, nothing for NULL, the same bytes on every machine."""
    text: str = table.to_csv(index=False, float_format="%.10g", lineterminator="\n", na_rep="")
    return text.encode()


def levels_of(variable: str, study: Study, seen: Iterable[str] = ()) -> list[str]:
    """The levels of a variable in the order in which they are shown: those that the study or a contract names, seen
    or not, then the others that were seen."""
    known: tuple[str, ...] = LEVELS.get(variable, ())
    if variable == "age_group":
        known = study.age_groups.labels()
    elif variable == "index_year":
        known = tuple(str(year) for year in _years(study))
    elif variable == "index_kind":
        known = ("de_novo", "relapse") if study.cohort.index == "metastasis" else ("diagnosis",)
    elif variable in ("sex", "stage", "receptor"):
        known = TABLES["cohort"].column(variable).codes
    elif variable.startswith("at_most_"):
        known = ("yes", "no", UNKNOWN)
    return [*known, *sorted(set(seen) - set(known), key=lambda level: (level == UNKNOWN, level))]


def survival_curves(frame: pd.DataFrame, study: Study, outcome: str) -> dict[Slice, Curve]:
    """The full step curve of every slice of an outcome of CAUSES, in a fixed order. What the study asks for is there
    even if nobody is in it."""
    if outcome == "overall_survival":
        levels = ((stratum, level) for stratum in study.strata for level in levels_of(stratum, study))
        wanted = [Slice(outcome), *(Slice(outcome, stratum=stratum, level=level) for stratum, level in levels)]
    else:
        wanted = [Slice(outcome, rule_set, number, ALL) for rule_set, number in _lines(study)]
    parts = {key: frame.iloc[:0] for key in wanted} | _slices(frame, outcome)
    rule_sets, strata = ["", *study.rule_sets], [ALL, *study.strata]
    places = {key: place for place, key in enumerate(wanted)}

    def order(key: Slice) -> tuple[Any, ...]:
        of_line = (rule_sets.index(key.rule_set), key.line_number, key.regimen != ALL, key.regimen)
        return (*of_line, strata.index(key.stratum), places.get(key, len(places)), key.level)

    return {key: kaplan_meier(parts[key], study.survival.level, CAUSES[outcome]) for key in sorted(parts, key=order)}


def line_durations(frame: pd.DataFrame, study: Study, curves: Mapping[Slice, Curve]) -> pd.DataFrame:
    """One row per rule set x line x regimen: the Kaplan-Meier median of the lines that can be judged (`curves` of
    line_duration; `n`, `events`), the plain median of all that started, and how many cannot be judged."""
    started, left_out = _slices(frame, "line_duration_naive"), _slices(frame, "line_duration_left_out")
    nobody = frame.iloc[:0]
    rows = []
    for key in {**curves, **{replace(key, outcome="line_duration"): None for key in started}}:
        of_line = started.get(replace(key, outcome="line_duration_naive"), nobody)
        too_late = left_out.get(replace(key, outcome="line_duration_left_out"), nobody)
        judged = _median_row(curves.get(key) or kaplan_meier(nobody, study.survival.level))
        row = {
            **asdict(key),
            **judged,
            "median_naive_days": plain_quantile(of_line["day"], of_line["n"], 0.5),
            "n_naive": int(of_line["n"].sum()),
            "n_left_out": int(too_late["n"].sum()),
        }
        rows.append(row | ({"reason": NOBODY_JUDGED} if row["n_naive"] and not row["n"] else {}))
    return _sorted(_table("line_durations", rows), ["rule_set", "line_number", "regimen"], study)


def survival_medians(curves: Mapping[Slice, Curve]) -> pd.DataFrame:
    """One row per curve."""
    rows = ({"estimator": "kaplan_meier", **asdict(key), **_median_row(curve)} for key, curve in curves.items())
    return _table("survival_medians", rows)


def line_starts(frame: pd.DataFrame, study: Study) -> pd.DataFrame:
    """One row per rule set x line x regimen of frame_lines, the most common first, and `all` regimens of every line
    that the study asks for."""
    lines = frame[frame["line_number"] > 0]
    asked = pd.DataFrame([(*line, ALL, 0) for line in _lines(study)], columns=list(COLUMNS["line_starts"]))
    counted = pd.concat([asked, lines.assign(regimen=ALL), lines])
    table = counted.groupby(["rule_set", "line_number", "regimen"], as_index=False)["n"].sum()
    by = ["rule_set", "line_number", "n", "regimen"]
    return _sorted(table, by, study, ascending=[True, True, False, True])


def line_transitions(frame: pd.DataFrame, study: Study) -> pd.DataFrame:
    """One row per rule set x line x regimen x what came next; line 0 is the index (schemas: frame_lines)."""
    key = list(COLUMNS["line_transitions"][:-1])
    return _sorted(frame.groupby(key, as_index=False)["n"].sum(), key, study)


def drug_uptake(frame: pd.DataFrame, study: Study) -> pd.DataFrame:
    """One row per year of index x line-defining substance of the study; a year without people has denominator 0."""
    people = frame.groupby("year")["denominator"].max().to_dict()
    counts = frame.set_index(["year", "substance"])["n"].to_dict()
    rows = [
        {"year": year, "substance": name, "n": counts.get((year, name), 0), "denominator": people.get(year, 0)}
        for year in sorted({*_years(study), *people})
        for name in study.drugs.line_defining
    ]
    return _table("drug_uptake", rows)


def characteristics(frame: pd.DataFrame, study: Study) -> pd.DataFrame:
    """One row per group (`all`: the three together) x variable x level: `n` of `denominator`, the people of the group.
    Of age_at_index the quartiles, as `value` in completed years."""
    together = frame.groupby(["variable", "level"], as_index=False)["n"].sum().assign(group=ALL)
    frame = pd.concat([together, frame])
    counts = frame.set_index(["group", "variable", "level"])["n"].to_dict()
    seen = frame.groupby("variable")["level"].agg(set).to_dict()
    rows = []
    for group in (ALL, *GROUPS):
        people = counts.get((group, ALL, ALL), 0)
        for variable in sorted(seen, key=lambda name: (DESCRIBED.index(name) if name in DESCRIBED else 99, name)):
            if variable == "age_at_index":
                ages = frame[(frame["group"] == group) & (frame["variable"] == variable)]
                years = ages["level"].astype(int)
                rows += [
                    {"level": level, "n": people, "value": plain_quantile(years, ages["n"], share)}
                    | {"group": group, "variable": variable, "denominator": people}
                    for level, share in QUARTILES.items()
                ]
                continue
            rows += [
                {"level": level, "n": counts.get((group, variable, level), 0)}
                | {"group": group, "variable": variable, "denominator": people}
                for level in levels_of(variable, study, seen[variable])
            ]
    return _table("characteristics", rows)


def _years(study: Study) -> range:
    return range(study.period.index_from.year, study.period.index_until.year + 1)


def _lines(study: Study) -> list[tuple[str, int]]:
    return [(rule_set, number) for rule_set in study.rule_sets for number in range(1, study.survival.lines + 1)]


def _slices(frame: pd.DataFrame, outcome: str) -> dict[Slice, pd.DataFrame]:
    of_outcome = frame[frame["outcome"] == outcome]
    return {Slice(*key): part for key, part in of_outcome.groupby(list(SLICE))}


def _table(name: str, rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(COLUMNS[name]))


def _sorted(table: pd.DataFrame, by: list[str], study: Study, ascending: bool | list[bool] = True) -> pd.DataFrame:
    """Sorted with rule sets in the study's order, and `all` before single regimens."""
    places = {name: place for place, name in enumerate(study.rule_sets)}

    def key(column: pd.Series) -> pd.Series:
        if column.name == "rule_set":
            return column.map(places)
        return column.replace(ALL, "") if column.name == "regimen" else column

    return table.sort_values(by, ascending=ascending, key=key, kind="stable")


def _survival_rows(key: Slice, curve: Curve, study: Study) -> Iterator[dict[str, Any]]:
    for day in study.survival.times_days:
        point = curve.at(day)
        reason = ""
        if math.isnan(point.estimate):
            reason = BEYOND if curve.n else NOBODY
        elif math.isnan(point.lower):
            reason = NO_LIMITS
        yield {
            "estimator": "kaplan_meier",
            **asdict(key),
            "time_days": day,
            **asdict(point),
            "n": curve.n,
            "events": int(curve.events.sum()),
            "reason": reason,
        }


def net_survival(frame: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Net survival by both estimators, of everyone and by the study's strata, at months and whole years up to the last
    day on which anybody was at risk; columns of `survival`. Empty where the study asks for none."""
    return _table("survival", _net_survival_rows(frame, study))


def whole_years(frame: pd.DataFrame) -> dict[int, int]:
    """The days of frame_net_survival that end a whole year of follow-up: year -> day."""
    last = int(frame["day"].max()) if len(frame) else 0
    return {year: math.floor(DAYS_PER_YEAR * year) for year in range(1, int(last // DAYS_PER_YEAR) + 1)}


def _net_survival_rows(frame: pd.DataFrame, study: Study) -> Iterator[dict[str, Any]]:
    if study.survival.net_strata is None:
        return
    parts = {key: part for key, part in frame.groupby(["stratum", "level"])}
    wanted: dict[tuple[str, str], None] = {(ALL, ALL): None}
    for stratum in study.survival.net_strata:
        seen = {level for variable, level in parts if variable == stratum}
        wanted.update({(stratum, level): None for level in levels_of(stratum, study, seen)})
    last = int(frame["day"].max()) if len(frame) else 0
    months = {MONTH * number for number in range(1, int(last // MONTH) + 1)}
    years = set(whole_years(frame).values())
    for estimator in ESTIMATORS:
        for variable, level in wanted:
            curve = net_curve(parts.get((variable, level), frame.iloc[:0]), estimator)
            for time in sorted(months | years):
                point = curve.at(time, study.survival.level)
                reason = ""
                if math.isnan(point.estimate):
                    reason = BEYOND if curve.n else NOBODY
                yield {
                    "estimator": estimator,
                    **asdict(Slice("net_survival", stratum=variable, level=level)),
                    "time_days": time,
                    **asdict(point),
                    "n": curve.n,
                    "events": curve.events,
                    "reason": reason,
                }


def _median_row(curve: Curve) -> dict[str, Any]:
    middle = median(curve)
    reason = ""
    if math.isnan(middle.days):
        reason = NOT_REACHED if curve.n else NOBODY
    elif math.isnan(middle.lower) or math.isnan(middle.upper):
        reason = LIMIT_NOT_REACHED
    return {
        "n": curve.n,
        "events": int(curve.events.sum()),
        "median_days": middle.days,
        "lower": middle.lower,
        "upper": middle.upper,
        "reason": reason,
    }
