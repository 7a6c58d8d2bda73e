"""Rules on a delivery as a whole, from its counts: a column that was lost or retyped stops the run before any table is
written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs.delivery_profile import EMPTY, OTHER
from jobs.errors import QualityError
from jobs.gate import RuleOutcome

if TYPE_CHECKING:
    import pandas as pd

RAW_TABLE = "raw table "
READABLE = "no reason to hold back holds for more than half of the rows"
FILLED = "columns that were filled before are filled"
CODED = "columns whose cells were mostly known codes before still hold mostly known codes"
# Reasons that say that cells are not what the column should hold. Others, such as a date that a source does not know,
# may rightly hold for most rows.
KINDS = ("impossible_date", "impossible_number", "unknown_code", "missing_identifier", "malformed_row",
         "damaged_text")  # fmt: skip
FEWEST_ROWS = 20  # of fewer rows half may well be wrong
FEWEST_EXPECTED = 10  # filled cells; with so many expected, none at all is no accident


@dataclass(frozen=True)
class Judgement:
    """The outcome of a rule on one raw table, and the reasons or columns that break it."""

    outcome: RuleOutcome
    broken_by: tuple[str, ...]


def held_back(ledger: pd.DataFrame) -> list[str]:
    """The raw tables of which any row is held back."""
    return [str(name) for name in ledger["raw_table"][ledger["rows_quarantined"] > 0]]


def mostly_held_back(ledger: pd.DataFrame) -> list[str]:
    """The raw tables of which more than half of the rows are held back, for whatever reasons."""
    is_most = (ledger["rows_in"] >= FEWEST_ROWS) & (ledger["rows_quarantined"] > ledger["rows_in"] / 2)
    return [str(name) for name in ledger["raw_table"][is_most]]


def judge_delivery(
    now: Mapping[str, pd.DataFrame], before: Mapping[str, pd.DataFrame] | None, absent: Mapping[str, Sequence[str]]
) -> dict[str, list[Judgement]]:
    """`raw table <name>` -> the outcome of every rule.

    `now`: ledger, profile and quarantine_reasons (raw_table, reason, n; of raw tables mostly held back); `before`:
    ledger and profile of the delivery before; `absent`: raw table -> columns that may be empty from now on.
    """
    rows = now["ledger"].set_index("raw_table")["rows_in"].astype(int).to_dict()
    filled, were_filled = _filled(now), _filled(before) if before is not None else {}
    coded, were_coded = _coded(now), _coded(before) if before is not None else {}
    judged = {}
    for name, rows_in in rows.items():
        reasons = now["quarantine_reasons"][now["quarantine_reasons"]["raw_table"] == name]
        most = {
            str(reason): int(n)
            for reason, n in zip(reasons["reason"], reasons["n"], strict=True)
            if reason.partition(":")[0] in KINDS and rows_in >= FEWEST_ROWS and n > rows_in / 2
        }
        lost = [
            column
            for (table, column), share in sorted(were_filled.items())
            if table == name and round(share * rows_in, 6) >= FEWEST_EXPECTED
            and filled.get((table, column)) == 0.0 and column not in absent.get(name, ())
        ]  # fmt: skip
        strange = {
            column: others
            for (table, column), (known, others) in sorted(coded.items())
            if table == name and known + others >= FEWEST_ROWS and others > known
            and _mostly_known(were_coded.get((table, column)))
        }  # fmt: skip
        held = max(most.values(), default=0)
        judged[f"{RAW_TABLE}{name}"] = [
            Judgement(RuleOutcome(READABLE, "critical", not held, held, rows_in), tuple(sorted(most))),
            Judgement(RuleOutcome(FILLED, "critical", not lost, rows_in if lost else 0, rows_in), tuple(lost)),
            Judgement(
                RuleOutcome(CODED, "critical", not strange, max(strange.values(), default=0), rows_in), tuple(strange)
            ),
        ]
    return judged


def _filled(tables: Mapping[str, pd.DataFrame]) -> dict[tuple[str, str], float]:
    """(raw table, column) -> share of rows in which it is filled."""
    rows = tables["ledger"].set_index("raw_table")["rows_in"].astype(int).to_dict()
    empty = tables["profile"][tables["profile"]["code"] == EMPTY]
    return {
        (str(table), str(column)): 1 - int(n) / rows[table] if rows.get(table) else 0.0
        for table, column, n in zip(empty["raw_table"], empty["column"], empty["n"], strict=True)
    }


def _coded(tables: Mapping[str, pd.DataFrame]) -> dict[tuple[str, str], tuple[int, int]]:
    """(raw table, column of codes) -> cells with a code that has a meaning, and filled cells without one."""
    profile = tables["profile"][tables["profile"]["code"] != EMPTY]
    counts: dict[tuple[str, str], tuple[int, int]] = {}
    for table, column, code, n in profile[["raw_table", "column", "code", "n"]].itertuples(index=False):
        known, others = counts.get((str(table), str(column)), (0, 0))
        is_other = code == OTHER
        counts[str(table), str(column)] = (known + int(n) * (not is_other), others + int(n) * is_other)
    return counts


def _mostly_known(counts: tuple[int, int] | None) -> bool:
    return counts is not None and sum(counts) >= FEWEST_ROWS and counts[0] >= counts[1]


def raise_if_refused(judged: Mapping[str, Sequence[Judgement]], shown_at: str) -> None:
    """QualityError that names raw tables, reasons or columns, counts, and the keys of the site file to look at.
    `shown_at`: the page that shows every rule, below `out`."""
    said = [
        _told(name, name.removeprefix(RAW_TABLE), one)
        for name, ones in judged.items()
        for one in ones
        if not one.outcome.passed
    ]
    if said:
        raise QualityError(f"{'; '.join(said)}; no table was written; {shown_at} below out shows every rule")


def _told(name: str, table: str, judgement: Judgement) -> str:
    outcome, what = judgement.outcome, ", ".join(judgement.broken_by)
    column = "the column" if len(judgement.broken_by) == 1 else "each of the columns"
    share = f"{outcome.violations:,} of {outcome.rows:,} rows"
    if outcome.rule == FILLED:
        return (
            f"{name}: {column} {what} was filled in the delivery before and is empty or absent in all "
            f"{outcome.rows:,} rows; if it has another name now, say so in inputs.{table}.columns of the site file; if "
            f"it is rightly empty, list it in inputs.{table}.absent"
        )
    if outcome.rule == CODED:
        return (
            f"{name}: {column} {what} mostly held known codes in the delivery before and mostly holds others now (in "
            f"{share}); if the codes are new, give them a meaning under adapter of the site file"
        )
    return (
        f"{name}: more than half of the rows would be held back as {what} ({share}), so a column seems not to hold "
        f"what it should; see inputs.{table}.columns and inputs.{table}.options of the site file"
    )
