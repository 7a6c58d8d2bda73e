"""The line rules in plain Python, one day at a time, written from docs/treatment_lines.md and not from the kernel."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Exposure:
    """Days are integers; given on every day of [given_from, given_to]."""

    substance: str
    given_from: int
    given_to: int
    covered_until: int


@dataclass(frozen=True)
class Rules:
    """A rule set, by the names of the study file."""

    combination_window_days: int = 28
    gap_days: int = 90
    gap_days_by_substance: dict[str, int] = field(default_factory=dict)
    companions: dict[str, dict[str, int]] = field(default_factory=dict)
    excludes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    index_lead_days: int = 28
    carry_in_days: int = 90
    coverage_days: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    """A line; `reason` is switch, gap or the follow-up end's."""

    start: int
    end: int
    regimen: frozenset[str]
    reason: str


def reference_lines(
    exposures: list[Exposure], index: int, follow_up_end: int, reason: str, rules: Rules
) -> tuple[list[Line], Counter[str]]:
    """The lines of one person, and what is counted of them."""
    counts: Counter[str] = Counter()
    F, W = follow_up_end, rules.combination_window_days
    rows = []
    for e in exposures:
        days = rules.coverage_days.get(e.substance, rules.coverage_days.get("default"))
        covered = e.covered_until if days is None else e.given_to + days
        rows.append(Exposure(e.substance, e.given_from, e.given_to, covered))
    running = {
        e.substance
        for e in rows
        if e.given_from < index - rules.index_lead_days and e.covered_until > index - rules.gap_days
    }
    window = []
    for e in rows:
        first = index if e.substance in running else index - rules.index_lead_days
        if e.given_to < first or e.given_from > F:
            counts["exposures_outside_window"] += 1
            continue
        window.append(Exposure(e.substance, max(e.given_from, first), min(e.given_to, F), e.covered_until))

    def excluded_by(substances: set[str]) -> set[str]:
        return {other for s in substances for other in rules.excludes.get(s, ())}

    def cover(s: str, d: int) -> int:
        return max((e.covered_until for e in window if e.substance == s and e.given_from <= d), default=-(10**9))

    def gap_of(regimen: set[str]) -> int:
        general = rules.gap_days_by_substance.get("default", 0)
        return max([rules.gap_days, *(rules.gap_days_by_substance.get(s, general) for s in regimen)])

    lines: list[Line] = []
    start = covered = 0
    regimen: set[str] = set()
    held: set[str] = set()
    leftovers: set[str] = set()

    def close(end: int, why: str) -> None:
        lines.append(Line(start, end, frozenset(regimen), why))
        counts["held_substances_never_joined"] += len(held - regimen)
        counts["excluded_leftovers"] += len(leftovers - regimen)
        leftovers.clear()

    is_open = False
    days = range(min((e.given_from for e in window), default=0), max((e.given_to for e in window), default=-1) + 1)
    for d in days:
        given = {e.substance for e in window if e.given_from <= d <= e.given_to}
        if not given:
            continue
        present = given - excluded_by(given)
        reach = max(cover(s, d) for s in given)
        if is_open and d - covered >= gap_of(regimen):
            close(covered, "gap")
            is_open = False
        if not is_open:
            is_open, start, regimen, held, covered = True, d, set(present), set(), reach
            leftovers |= given - present
            continue
        if d <= start + W:
            while True:
                joining = present - regimen - held - excluded_by(regimen)
                if not joining:
                    break
                regimen = (regimen | joining) - excluded_by(joining)
            covered = max(covered, reach)
            leftovers |= given & (excluded_by(given) | excluded_by(regimen))
            continue
        new = present - regimen

        def may_join(
            s: str, d: int = d, regimen: set[str] = regimen, held: set[str] = held, start: int = start
        ) -> bool:
            if s in excluded_by(regimen) or set(rules.excludes.get(s, ())) & regimen:
                return False
            if s in held and d < cover(s, d - 1) + W:
                return True
            return any(d <= start + days for other, days in rules.companions.get(s, {}).items() if other in regimen)

        if all(may_join(s) for s in new):
            regimen = regimen | new
            covered = max(covered, reach)
        else:
            close(min(covered, d), "switch")
            held = regimen - present
            start, regimen, covered = d, set(present), reach
        leftovers |= given & (excluded_by(given) | excluded_by(regimen))
    if is_open:
        if covered > F:
            close(F, reason)
        elif F - covered >= gap_of(regimen):
            close(covered, "gap")
        else:
            close(covered, reason)
    if (
        rules.carry_in_days > 0
        and len(lines) >= 2
        and lines[0].regimen <= running
        and lines[0].reason == "switch"
        and lines[1].start < index + rules.carry_in_days
    ):
        del lines[0]
        counts["carry_in_lines_removed"] += 1
    counts["lines_shorter_than_28_days"] = sum(line.end - line.start < 28 for line in lines)
    counts["lines_repeating_the_regimen"] = sum(
        later.regimen == earlier.regimen for earlier, later in zip(lines, lines[1:], strict=False)
    )
    return lines, counts
