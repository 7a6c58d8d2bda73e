"""The main table of a run, for the terminal."""

from __future__ import annotations

from pathlib import Path

import pandas as pd


def main_table(results: Path) -> str:
    """Lines of the primary rule set: how many started each, its most common regimens, the median days on it."""
    starts = pd.read_csv(results / "line_starts.csv", keep_default_na=False)
    durations = pd.read_csv(results / "line_durations.csv")
    starts, durations = (table[table["rule_set"] == "primary"] for table in (starts, durations))
    medians = durations.set_index(["line_number", "regimen"])["median_days"]
    said = ["line  regimen                                      people   median days"]
    for number, of_line in starts.groupby("line_number"):
        for row in of_line.head(4).itertuples():
            median = medians.get((number, row.regimen))
            days = "not reached" if median is None or pd.isna(median) else f"{median:.0f}"
            said.append(f"{number:<5} {row.regimen:<44} {row.n:>6,} {days:>13}")
    return "\n".join(said)
