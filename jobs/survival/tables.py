"""The tables of results/: tidy, one row per estimate, from frames alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from jobs.survival.curves import (
    QUARTILES,
    SURVIVAL_COLUMNS,
    TIME_COLUMNS,
    Slice,
    all_curves,
    lines_of,
    median_row,
    slices,
    survival_rows,
    time_rows,
)
from jobs.survival.kaplan_meier import Curve, kaplan_meier, plain_quantile
from jobs.survival.levels import levels_of, years_of
from jobs.survival.models import (
    COX_COLUMNS,
    TEST_COLUMNS,
    UNDERTREATMENT_COLUMNS,
    comparison_rows,
    cox_rows,
    undertreatment_rows,
)
from schemas.frames import ALL, GROUPS

if TYPE_CHECKING:
    from jobs.config import Study


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
    "survival": SURVIVAL_COLUMNS,
    "survival_times": TIME_COLUMNS,
    "survival_tests": TEST_COLUMNS,
    "cox": COX_COLUMNS,
    "undertreatment": UNDERTREATMENT_COLUMNS,
}
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

NOBODY_JUDGED = "no line started early enough to be judged"


def result_tables(frames: Mapping[str, pd.DataFrame], study: Study) -> dict[str, pd.DataFrame]:
    """Every table of results/ by name, with the columns of COLUMNS and rows in a fixed order.

    What cannot be estimated is NULL, with the reason beside it.
    """
    time = frames["frame_time"]
    curves = all_curves(time, study)
    patterns = frames["frame_patterns"]
    tables = {
        "attrition": frames["frame_attrition"].sort_values(["step", "label"]),
        "characteristics": characteristics(frames["frame_characteristics"], study),
        "line_starts": line_starts(frames["frame_lines"], study),
        "line_durations": line_durations(time, study, curves),
        "line_transitions": line_transitions(frames["frame_lines"], study),
        "drug_uptake": drug_uptake(frames["frame_uptake"], study),
        "survival": _table("survival", survival_rows(frames, curves, study)),
        "survival_times": _table("survival_times", time_rows(time, curves, study)),
        "survival_tests": _table("survival_tests", comparison_rows(frames, study)),
        "cox": _table("cox", cox_rows(patterns, study)),
        "undertreatment": _table("undertreatment", undertreatment_rows(patterns, study)),
    }
    return {name: tables[name][list(columns)].reset_index(drop=True) for name, columns in COLUMNS.items()}


def csv_bytes(table: pd.DataFrame) -> bytes:
    """A table as UTF-8 CSV: ten significant digits, nothing for NULL, the same bytes on every machine."""
    text: str = table.to_csv(index=False, float_format="%.10g", lineterminator="\n", na_rep="")
    return text.encode()


def line_durations(frame: pd.DataFrame, study: Study, curves: Mapping[Slice, Curve]) -> pd.DataFrame:
    """One row per rule set x line x regimen: the Kaplan-Meier median of the lines that can be judged (`curves` of
    line_duration; `n`, `events`), the plain median of all that started, and how many cannot be judged."""
    started, left_out = slices(frame, "line_duration_naive"), slices(frame, "line_duration_left_out")
    nobody = frame.iloc[:0]
    rows = []
    of_lines = {key: curve for key, curve in curves.items() if key.outcome == "line_duration"}
    for key in {**of_lines, **{replace(key, outcome="line_duration"): None for key in started}}:
        of_line = started.get(replace(key, outcome="line_duration_naive"), nobody)
        too_late = left_out.get(replace(key, outcome="line_duration_left_out"), nobody)
        judged = median_row(curves.get(key) or kaplan_meier(nobody, study.survival.level))
        row = {
            **asdict(key),
            **judged,
            "median_naive_days": plain_quantile(of_line["day"], of_line["n"], 0.5),
            "n_naive": int(of_line["n"].sum()),
            "n_left_out": int(too_late["n"].sum()),
        }
        rows.append(row | ({"reason": NOBODY_JUDGED} if row["n_naive"] and not row["n"] else {}))
    return _sorted(_table("line_durations", rows), ["rule_set", "line_number", "regimen"], study)


def line_starts(frame: pd.DataFrame, study: Study) -> pd.DataFrame:
    """One row per rule set x line x regimen of frame_lines, the most common first, and `all` regimens of every line
    that the study asks for."""
    lines = frame[frame["line_number"] > 0]
    asked = pd.DataFrame([(*line, ALL, 0) for line in lines_of(study)], columns=list(COLUMNS["line_starts"]))
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
        for year in sorted({*years_of(study), *people})
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
