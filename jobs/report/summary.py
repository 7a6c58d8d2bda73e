"""The main table of a run, for the terminal."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from jobs.report.printed import days
from schemas.frames import ALL, PRIMARY

TOP_REGIMENS = 3


def main_table(results: Path) -> str:
    """Of each line of the primary rule set in `results`: how many started it, its most common regimens, and both
    medians of days on it."""
    starts, durations = (
        pd.read_csv(
            results / f"{name}.csv", keep_default_na=False, na_values={"median_days": "", "median_naive_days": ""}
        )
        for name in ("line_starts", "line_durations")
    )
    is_shown = (starts["rule_set"] == PRIMARY) & (starts["n"] > 0)
    starts = starts[is_shown & starts["line_number"].isin(durations["line_number"])]
    table = starts.merge(durations.drop(columns="n"), how="left", on=["rule_set", "line_number", "regimen"])
    said = [f"{'line':<4}  {'regimen':<46} {'started':>8} {'median days':>12} {'plain median':>13}"]
    for number, of_line in table.groupby("line_number"):
        for row in of_line.head(TOP_REGIMENS + 1).itertuples():
            line = str(number) if row.regimen == ALL else ""
            name = "all regimens" if row.regimen == ALL else f"  {row.regimen.replace('_', ' ')}"
            medians = [_days(row.median_days), _days(row.median_naive_days)]
            said.append(f"{line:<4}  {name:<46} {row.n:>8,} {medians[0]:>12} {medians[1]:>13}")
    return "\n".join(said)


def _days(value: float) -> str:
    return "-" if pd.isna(value) else days(value)
