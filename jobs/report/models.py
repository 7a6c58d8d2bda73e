"""The report's tables of competing events and of models, from the rows of results/."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from jobs.report.printed import HEAD, Column, Table, count, level_name, variable_name
from jobs.survival.curves import Slice, competing_curves, still_free
from jobs.survival.models import COX_COLUMNS, REFERENCE, UNDERTREATMENT_COLUMNS, cox_rows, undertreatment_rows
from schemas.frames import ALL, PRIMARY

if TYPE_CHECKING:
    from jobs.config import Study

MONTH = 30.4375


def first_line_table(time: pd.DataFrame, study: Study) -> Table:
    """The share of everyone with treatment information who has started line 1 by some days, death competing."""
    curves = competing_curves(time, study, "first_line")
    starts = {key: curve for (key, cause), curve in curves.items() if cause == 1}
    deaths = {key: curve for (key, cause), curve in curves.items() if cause == 2}
    rows: list[list[str]] = []
    heading = ALL
    for key, curve in starts.items():
        if key.stratum != heading:
            rows.append([HEAD, variable_name(key.stratum)])
        heading = key.stratum
        cells = [_percent(curve.at(day)) for day in study.survival.first_line_days]
        died = deaths[key].at(study.survival.first_line_days[-1])
        rows.append([level_name(key.level), count(curve.n), *cells, _percent(died)])
    days = study.survival.first_line_days
    columns = [Column("", False), Column("people"), *(Column(f"by day {day}, %") for day in days)]
    columns.append(Column(f"died before, by day {days[-1]}, %"))
    return Table("Started line 1, in percent (limits), with death and second cancer competing.", columns, rows)


def next_table(time: pd.DataFrame, study: Study) -> Table:
    """What has come after the start of a line by some days: the next line, death, a second cancer, none of them."""
    primary = time[(time["rule_set"] == PRIMARY) & (time["regimen"] == ALL)]
    curves = competing_curves(primary, study, "next_treatment")
    free = still_free(primary, study)
    rows: list[list[str]] = []
    for number in range(1, study.survival.lines + 1):
        key = Slice("next_treatment", PRIMARY, number, ALL)
        of_cause = [curves[key, cause] for cause in (1, 2, 3)]
        rows.append([HEAD, f"from the start of line {number}: {count(of_cause[0].n)} people"])
        rest = free[Slice("no_next_treatment", PRIMARY, number, ALL)]
        for day in study.survival.next_days:
            points = [curve.at(day) for curve in (*of_cause, rest)]
            months = day / MONTH
            said = f"{months:.0f} months" if abs(months - round(months)) < 0.05 else f"{day} days"
            rows.append([said, *(_percent(point) for point in points), count(points[0].at_risk)])
    names = ("next line, %", "died, %", "second cancer, %", "none of these, %", "followed, none yet")
    columns = [Column("", False), *(Column(name) for name in names)]
    return Table("What came next, in percent of those who started the line (limits).", columns, rows)


def hazard_table(patterns: pd.DataFrame, study: Study) -> Table | None:
    """Hazard ratios of death from any cause, or nothing where the study has no such model."""
    table = pd.DataFrame(cox_rows(patterns, study), columns=list(COX_COLUMNS))
    if table.empty:
        return None
    rows = _of_covariates(table[table["statistic"] == "hazard_ratio"], lambda row: [_ratio(row), _p_value(row.p_value)])
    whole = table[(table["covariate"] == ALL) & table["statistic"].str.startswith("proportional")]
    for row in whole.itertuples():
        said = f"p {_p_value(row.p_value)}" if not pd.isna(row.p_value) else f"not estimable: {row.reason}"
        rows.append([HEAD, f"Test that the ratios do not change with time: {said}"])
    columns = [Column("", False), Column("people"), Column("deaths"), Column("hazard ratio (limits)"), Column("p")]
    return Table("Death from any cause by what is known at index: Cox model, all in one.", columns, rows)


def untreated_tables(patterns: pd.DataFrame, study: Study) -> list[Table]:
    """Who has no line: odds ratios, and risks standardised to all people of the model. Of everyone with treatment
    information, and of those who lived long enough to start."""
    found = pd.DataFrame(undertreatment_rows(patterns, study), columns=list(UNDERTREATMENT_COLUMNS))
    tables = []
    for denominator, part in found.groupby("denominator", sort=False) if len(found) else ():
        risks = part[part["statistic"] == "standardised_risk"].set_index(["covariate", "level"])

        def cells(row: Any, risks: pd.DataFrame = risks) -> list[str]:
            risk = risks.loc[(row.covariate, row.level)]
            shown = "–" if pd.isna(risk["estimate"]) else _range(100 * risk[["estimate", "lower", "upper"]], 0)
            return [_ratio(row), shown]

        rows = _of_covariates(part[part["statistic"] == "odds_ratio"], cells)
        names = ("people", "untreated", "odds ratio (limits)", "standardised risk, % (limits)")
        columns = [Column("", False), *(Column(name) for name in names)]
        tables.append(
            Table(f"Without a line of treatment, of {denominator}: logistic model, all in one.", columns, rows)
        )
    return tables


def _of_covariates(table: pd.DataFrame, cells: Any) -> list[list[str]]:
    """A heading per covariate and a row per level that somebody has."""
    rows: list[list[str]] = []
    for covariate, part in table[table["n"] > 0].groupby("covariate", sort=False):
        rows.append([HEAD, variable_name(covariate)])
        rows += [[level_name(row.level), count(row.n), count(row.events), *cells(row)] for row in part.itertuples()]
    return rows


def _ratio(row: Any) -> str:
    if str(row.reason).startswith(REFERENCE):
        return "1 (reference)"
    if pd.isna(row.estimate):
        return f"not estimable: {row.reason}"
    return _range((row.estimate, row.lower, row.upper), 2)


def _range(values: Any, decimals: int) -> str:
    estimate, lower, upper = (f"{value:,.{decimals}f}" for value in values)
    return f"{estimate} ({lower} to {upper})"


def _p_value(p: float) -> str:
    return "" if pd.isna(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _percent(point: Any) -> str:
    if pd.isna(point.estimate):
        return "–"
    if pd.isna(point.lower):
        return f"{100 * point.estimate:.1f}"
    return _range((100 * point.estimate, 100 * point.lower, 100 * point.upper), 1)
