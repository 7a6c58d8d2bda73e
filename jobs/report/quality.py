"""The quality page of a delivery: what became of its rows, what the rules say, unknown codes, and what changed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jobs.report.printed import HEAD, Column, Table, count, counted
from jobs.report.template import template

if TYPE_CHECKING:
    import pandas as pd

CODE = re.compile(r"[A-Za-z0-9.+\-/*]{1,8}")  # no longer: national identifiers have ten characters or more
FEWEST_ROWS = 5  # a code in fewer rows may be a slip of the hand, even somebody's name: it stays in the warehouse
NOTABLE = 0.01  # shares that change by less are not listed
NOTABLE_ROWS = 0.10


def render_quality(
    site: str,
    delivery: str,
    synthetic: bool,
    tables: Mapping[str, pd.DataFrame],
    rules: Sequence[Mapping[str, Any]],
    previous: tuple[str, Mapping[str, pd.DataFrame]] | None,
    unknown_columns: Mapping[str, Sequence[str]],
    additions: bool = False,
) -> str:
    """The page as text.

    `tables`: ledger, unknown_codes, quarantine_reasons (raw_table, reason, n) and profile of this delivery; `previous`:
    the date of the delivery before and its ledger and profile; `rules`: outcomes with table, rule, severity, passed,
    violations, rows; `unknown_columns`: raw table -> columns that were ignored; `additions`: deliveries add
    to each other, so that their sizes say nothing. The same arguments give the same text.
    """
    failed = [rule for rule in rules if not rule["passed"]]
    return template("quality.html.j2").render(
        site=site,
        delivery=delivery,
        synthetic=synthetic,
        verdict=_verdict(failed),
        ledger=_ledger(tables["ledger"]),
        reasons=_reasons(tables["quarantine_reasons"]),
        unknown=_unknown(tables["unknown_codes"]),
        columns=_columns(unknown_columns),
        rules=_rules(rules),
        before=previous[0] if previous else "",
        rows=_rows_changed(tables["ledger"], previous[1]["ledger"], additions) if previous else None,
        drift=_drift(tables, previous[1]) if previous else None,
    )


def _verdict(failed: Sequence[Mapping[str, Any]]) -> str:
    critical = sum(rule["severity"] == "critical" for rule in failed)
    if critical:
        return f"Refused: {critical} critical {'rule' if critical == 1 else 'rules'} failed."
    if failed:
        return f"Accepted with {len(failed)} {'warning' if len(failed) == 1 else 'warnings'}."
    return "Accepted without warnings."


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _ledger(table: pd.DataFrame) -> Table:
    counts = ["rows_in", "rows_accepted", "rows_quarantined", "rows_duplicate", "rows_suppressed"]
    rows = [[row["raw_table"], *(count(row[one]) for one in counts)] for _, row in table.iterrows()]
    columns = [Column("raw table", False), *map(Column, ("rows in", "accepted", "held back", "repeated", "erased"))]
    return Table("Every row of the delivery ends in one of four ways.", columns, rows)


def _reasons(table: pd.DataFrame) -> Table:
    rows = [[row["raw_table"], row["reason"], count(row["n"])] for _, row in table.iterrows()]
    return Table(
        "Why rows were held back; a row may have several reasons.",
        [Column("raw table", False), Column("reason", False), Column("rows")],
        rows,
    )


def _unknown(table: pd.DataFrame) -> Table:
    rows = []
    for (raw_table, column), part in table.groupby(["raw_table", "column"]):
        is_shown = part["code"].map(lambda code: CODE.fullmatch(code) is not None) & (part["n"] >= FEWEST_ROWS)
        for _, row in part[is_shown].sort_values(["n", "code"], ascending=[False, True]).iterrows():
            rows.append([raw_table, column, row["code"], count(row["n"])])
        hidden = part[~is_shown]
        if len(hidden):
            rows.append(
                [
                    raw_table,
                    column,
                    f"{counted(len(hidden), 'other', 'others')}, rare or no codes",
                    count(hidden["n"].sum()),
                ]
            )
    return Table(
        f"Codes without a meaning for the adapter; those in fewer than {FEWEST_ROWS} rows stand in the table "
        "unknown_codes only.",
        [Column("raw table", False), Column("column", False), Column("code", False), Column("rows")],
        rows,
    )


def _columns(unknown: Mapping[str, Sequence[str]]) -> Table:
    rows = [[name, count(len(columns))] for name, columns in sorted(unknown.items()) if columns]
    return Table(
        "Columns that the adapter does not know; they were ignored.",
        [Column("raw table", False), Column("columns")],
        rows,
    )


def _rules(rules: Sequence[Mapping[str, Any]]) -> Table:
    def outcome(rule: Mapping[str, Any]) -> str:
        return "holds" if rule["passed"] else "FAILED" if rule["severity"] == "critical" else "warning"

    rows: list[list[str]] = []
    for table in dict.fromkeys(rule["table"] for rule in rules):
        rows.append([HEAD, table])
        rows += [
            [rule["rule"], outcome(rule), count(rule["violations"]), count(rule["rows"])]
            for rule in rules
            if rule["table"] == table
        ]
    columns = [Column("rule", False), Column("outcome", False), Column("rows against it"), Column("rows")]
    return Table("Rules on the raw tables, and on the conformed tables made of them.", columns, rows)


def _rows_changed(now: pd.DataFrame, before: pd.DataFrame, additions: bool) -> Table:
    earlier = before.set_index("raw_table")["rows_in"].to_dict()
    rows = []
    for _, row in now.iterrows():
        was = earlier.get(row["raw_table"])
        change = "new" if was is None else "–" if not was else f"{100 * (row['rows_in'] / was - 1):+.1f} %"
        is_notable = bool(was) and not additions and abs(row["rows_in"] / was - 1) > NOTABLE_ROWS
        rows.append(
            [row["raw_table"], "–" if was is None else count(was), count(row["rows_in"]),
             f"{change}{' !' if is_notable else ''}"]
        )  # fmt: skip
    marked = f"! marks a change of more than {100 * NOTABLE_ROWS:.0f} %"
    return Table(
        f"Rows in, before and now; {'deliveries that add to each other differ in size' if additions else marked}.",
        [Column("raw table", False), Column("before"), Column("now"), Column("change")],
        rows,
    )


def _drift(now: Mapping[str, pd.DataFrame], before: Mapping[str, pd.DataFrame]) -> Table:
    """Shares of empty cells and of codes that changed notably."""

    def shares(tables: Mapping[str, pd.DataFrame]) -> pd.Series:
        rows_in = tables["ledger"].set_index("raw_table")["rows_in"]
        profile = tables["profile"].set_index(["raw_table", "column", "code"])["n"]
        return profile / profile.index.get_level_values("raw_table").map(rows_in).to_numpy()

    after, earlier = shares(now), shares(before)
    both = after.to_frame("now").join(earlier.to_frame("before"), how="inner").dropna()
    both["change"] = both["now"] - both["before"]
    notable = both[both["change"].abs() >= NOTABLE].sort_values("change", key=abs, ascending=False, kind="stable")
    rows = [
        [raw_table, column, code, _percent(row["before"]), _percent(row["now"]), f"{100 * row['change']:+.1f}"]
        for (raw_table, column, code), row in notable.iterrows()
    ]
    columns = [Column("raw table", False), Column("column", False), Column("code", False), Column("before"),
               Column("now"), Column("points")]  # fmt: skip
    return Table(f"Shares of rows that changed by {100 * NOTABLE:.0f} point or more.", columns, rows)
