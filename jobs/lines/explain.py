"""One person's treatment, rule by rule: what was given, what each day did to the lines, and the lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.config import RuleSet, Study
from jobs.lines import kernel, packed, table
from jobs.lines.timeline import DrawnLine, Span, draw

EPOCH = date(1970, 1, 1)
WARNING = "These are one person's days. They are for those who may read the warehouse and must not be copied out of it."
NEW_LINE = (kernel.OPENED, kernel.AFTER_GAP, kernel.SWITCHED)
SAYS = {
    kernel.OPENED: "Rule 1: no line is open, one opens",
    kernel.AFTER_GAP: "Rule 2: a gap has passed, another line opens",
    kernel.IN_WINDOW: "Rule 3: within the window",
    kernel.NOTHING_NEW: "Rule 4: nothing new",
    kernel.JOINED_LATER: "Rule 4: after the window, what is new may join",
    kernel.SWITCHED: "Rule 4: after the window, what is new may not join: a switch, another line opens",
}


def explain(cohort: pa.Table, exposures: pa.Table, study: Study, rule_set: str) -> str:
    """The explanation as text. `cohort` has the person's one row, `exposures` theirs, both as in schemas.

    ValueError where `cohort` has not exactly one row.
    """
    if cohort.num_rows != 1:
        raise ValueError("the cohort has not exactly one row of this person")
    chosen = study.model_copy(update={"rule_sets": {rule_set: study.rule_sets[rule_set]}})
    rules = table.LineRules.of(chosen)
    person = cohort.to_pylist()[0]
    rows = [row for row in exposures.to_pylist() if row["substance"] in rules.substances]
    lines, counts = table.lines_of(cohort, exposures, chosen)
    parts = [
        WARNING,
        _frame(person, rule_set, study.rule_sets[rule_set]),
        _drawn(person, rows, lines.to_pylist()),
        "\n".join(_exposures(person, rows, study.rule_sets[rule_set])),
        "\n".join(_days(person, cohort, exposures, rules, rule_set)),
        "\n".join(_lines(lines.to_pylist())),
    ]
    counted = [f"{row['counted'].replace('_', ' ')}: {row['n']}" for row in counts.to_pylist() if row["n"]]
    return "\n\n".join([*parts, *(["counted: " + "; ".join(counted)] if counted else [])])


def _frame(person: dict[str, date], rule_set: str, rules: RuleSet) -> str:
    followed = (person["follow_up_end"] - person["index_date"]).days
    return (
        f"index {person['index_date']} (day 0), follow-up for lines ends {person['follow_up_end']} (day {followed}): "
        f"{person['follow_up_end_reason']}\n"
        f"rule set {rule_set}: window {rules.combination_window_days} days, gap {rules.gap_days} days, lead "
        f"{rules.index_lead_days} days, carry-in {rules.carry_in_days} days"
    )


def _drawn(person: dict[str, date], rows: Sequence[dict[str, date]], lines: Sequence[dict[str, date]]) -> str:
    index = person["index_date"]
    spans = [
        Span(
            str(row["substance"]),
            (row["given_from"] - index).days,
            (row["given_to"] - index).days,
            (row["covered_until"] - index).days,
        )
        for row in rows
    ]
    drawn = [DrawnLine((line["line_start"] - index).days, (line["line_end"] - index).days) for line in lines]
    return draw(spans, drawn, (person["follow_up_end"] - index).days)


def _exposures(person: dict[str, date], rows: Sequence[dict[str, date]], rules: RuleSet) -> Iterator[str]:
    index, end = person["index_date"], person["follow_up_end"]
    first = index - timedelta(rules.index_lead_days)
    still_covered = index - timedelta(rules.gap_days)

    def covered(row: dict[str, date]) -> date:
        days = rules.coverage_days.get(str(row["substance"]), rules.coverage_days.get("default", 0))
        return row["given_to"] + timedelta(days) if days else row["covered_until"]

    running = {row["substance"] for row in rows if row["given_from"] < first and covered(row) > still_covered}
    yield "exposures"
    for row in sorted(rows, key=lambda row: (row["given_from"], row["substance"], row["given_to"])):
        counts_from = index if row["substance"] in running else first
        note = ""
        if row["given_to"] < counts_from:
            note = "before the window"
        elif row["given_from"] > end:
            note = "after follow-up"
        if row["substance"] in running:
            note = f"{note}; running at index".removeprefix("; ")
        days = f"{row['given_from']} to {row['given_to']}, covers until {covered(row)}"
        yield f"  {days}  {row['substance']} ({row['source']}){'  ' + note if note else ''}"


def _days(
    person: dict[str, date], cohort: pa.Table, exposures: pa.Table, rules: table.LineRules, rule_set: str
) -> Iterator[str]:
    """What the kernel did on each day that it looked at."""
    narrow = table.narrow_rows(cohort, exposures, rules)
    rows = narrow["row"].to_numpy()
    owner = np.where(rows & packed.PERSON == packed.PERSON, -1, 0).astype(np.int32)
    defining, _ = packed.histories(owner, rows, 1)
    index, end, _ = packed.unpack_people(rows[owner == -1])
    trace = np.full((4 * len(rows) + 8, kernel.TRACE_COLUMNS), -1, np.int64)
    counts, limits = np.zeros((1, len(kernel.COUNTED)), np.int64), np.zeros((1, kernel.LIMITS), np.int64)
    kernel.fold_partition(
        *defining,
        index,
        end,
        rules.rule_sets[rule_set],
        len(rules.substances),
        np.zeros(1, bool),
        counts,
        trace,
        limits,
    )
    yield "days"
    before = 0
    for day, rule, given, present, regimen, covered in trace[trace[:, 1] >= 0].tolist():
        when = EPOCH + timedelta(day)
        said = SAYS[rule]
        if rule == kernel.IN_WINDOW:
            joined = regimen & ~before
            said += f", {_named(joined, rules)} joins" if joined else ", nothing joins"
        leftover = given & ~present
        beside = f", {_named(leftover, rules)} is a leftover" if leftover else ""
        so = f"; {_named(regimen, rules)}" if regimen != before or rule in NEW_LINE else ""
        yield (
            f"  {when} day {(when - person['index_date']).days}: {_named(given, rules)}. {said}{beside}{so}, covered "
            f"until {EPOCH + timedelta(covered)}"
        )
        before = regimen


def _named(mask: int, rules: table.LineRules) -> str:
    return " + ".join(name for bit, name in enumerate(rules.substances) if mask >> bit & 1) or "nothing"


def _lines(lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "lines" if lines else "lines: none"
    for line in lines:
        regimen = " + ".join(line["regimen"])
        beside = ", ".join(line["concomitant"]) or "nothing"
        yield (
            f"  {line['line_number']}  {line['line_start']} to {line['line_end']} ({line['duration_days']} days)  "
            f"{regimen}; ended: {line['end_reason']}; then: {line['next_state']}; beside it: {beside}"
        )
