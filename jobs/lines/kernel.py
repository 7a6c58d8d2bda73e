"""The fold: one walk through each person's given days, for every rule set. Plain loops that Numba compiles; no Spark.

The rules and their words are those of docs/treatment_lines.md. Days are integers, sets of substances are bit masks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int32]
Masks = npt.NDArray[np.int64]
Mask = int | np.int64
Function = TypeVar("Function", bound=Callable[..., Any])

SWITCH, GAP, FOLLOW_UP = 0, 1, 2
FAR = np.int64(1) << 40
SHORT_DAYS = 28
OUTSIDE, HELD_NEVER_JOINED, LEFTOVERS, CARRIED_IN, SHORT, REPEATED = range(6)
COUNTED = (
    "exposures_outside_window",
    "held_substances_never_joined",
    "excluded_leftovers",
    "carry_in_lines_removed",
    "lines_shorter_than_28_days",
    "lines_repeating_the_regimen",
)
LINE_COLUMNS = 6  # person, number, regimen, start, end, end reason


class Rules(NamedTuple):
    """One rule set for `n` substances: days, and n-sized arrays by substance (-1 or 0: no rule)."""

    window: int
    gap: int
    lead: int
    carry_in: int
    gap_of: Ints  # 0: the general gap
    coverage_of: Ints  # 0: as the exposure says
    companion: Ints  # (n, n): days after the start within which [key] may join a regimen with [other]; -1: never
    excludes: Masks  # substances that the key excludes


def compiled(function: Function) -> Function:
    """The function compiled by Numba, `.py_func` being the plain one. The cache needs a folder that can be written,
    which a module inside a zip has not."""
    import numba

    try:
        return cast(Function, numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:
        return cast(Function, numba.njit(nogil=True)(function))


@compiled
def _size(mask: Mask, n: int) -> int:
    count = 0
    for s in range(n):
        if mask >> s & 1:
            count += 1
    return count


@compiled
def _close(
    lines: npt.NDArray[np.int64],
    at: int,
    person: int,
    regimen: Mask,
    held: Mask,
    refused: Mask,
    counts: npt.NDArray[np.int64],
    n: int,
) -> int:
    lines[at, 0] = person
    lines[at, 2] = regimen
    counts[HELD_NEVER_JOINED] += _size(held & ~regimen, n)
    counts[LEFTOVERS] += _size(refused & ~regimen, n)
    return at + 1


@compiled
def fold_person(
    first_row: int,
    last_row: int,
    substance: Ints,
    given_from: Ints,
    given_to: Ints,
    covered_until: Ints,
    person: int,
    index: int,
    follow_up_end: int,
    rules: Rules,
    n: int,
    lines: npt.NDArray[np.int64],
    written: int,
    counts: npt.NDArray[np.int64],
) -> int:
    """Write a person's lines into `lines` from row `written` on; returns the row after the last one.

    Rows `first_row .. last_row - 1` of the exposure columns are the person's line-defining ones, sorted by given_from.
    """
    window, gap, lead, carry_in, gap_of, coverage_of, companion, excludes = rules
    F = follow_up_end
    max_to = np.full(n, -FAR, np.int64)
    max_cover = np.full(n, -FAR, np.int64)
    cover_before = np.full(n, -FAR, np.int64)

    running = np.int64(0)
    for i in range(first_row, last_row):
        s = substance[i]
        cover = given_to[i] + coverage_of[s] if coverage_of[s] > 0 else covered_until[i]
        if given_from[i] < index - lead and cover > index - gap:
            running |= np.int64(1) << s

    # Of substances running at index, what reaches over the index counts from the index day on.
    carried_to = np.full(n, -FAR, np.int64)
    carried_cover = np.full(n, -FAR, np.int64)
    carried = np.int64(0)
    for i in range(first_row, last_row):
        s = substance[i]
        runs = running >> s & 1
        first = index if runs else index - lead
        if given_to[i] < first or given_from[i] > F:
            counts[OUTSIDE] += 1
        elif runs and given_from[i] < index:
            cover = given_to[i] + coverage_of[s] if coverage_of[s] > 0 else covered_until[i]
            carried |= np.int64(1) << s
            carried_to[s] = max(carried_to[s], min(given_to[i], F))
            carried_cover[s] = max(carried_cover[s], cover)

    first_written = written
    seen = np.int64(0)
    is_open = False
    start = covered = np.int64(0)
    regimen = held = refused = np.int64(0)
    line_gap = gap
    row = first_row
    day: Any = -FAR
    while True:
        while row < last_row:
            s = substance[row]
            runs = running >> s & 1
            first = index if runs else index - lead
            if given_from[row] < first or given_to[row] < first or given_from[row] > F:
                row += 1
            else:
                break
        following: Any = FAR
        if row < last_row:
            following = min(following, given_from[row])
        if carried:
            following = min(following, index)
        if is_open and start + window + 1 > day:
            following = min(following, start + window + 1)
        for s in range(n):
            if seen >> s & 1:
                cover_before[s] = max_cover[s]
                if excludes[s] and max_to[s] >= day:
                    following = min(following, max_to[s] + 1)
        if following > F:
            break
        day = following
        if carried and day == index:
            for s in range(n):
                if carried >> s & 1:
                    max_to[s] = max(max_to[s], carried_to[s])
                    max_cover[s] = max(max_cover[s], carried_cover[s])
            seen |= carried
            carried = np.int64(0)
        while row < last_row and given_from[row] == day:
            s = substance[row]
            runs = running >> s & 1
            first = index if runs else index - lead
            if given_from[row] >= first and given_to[row] >= first:
                cover = given_to[row] + coverage_of[s] if coverage_of[s] > 0 else covered_until[row]
                max_to[s] = max(max_to[s], min(given_to[row], F))
                max_cover[s] = max(max_cover[s], cover)
                seen |= np.int64(1) << s
            row += 1

        given = np.int64(0)
        reach = -FAR
        for s in range(n):
            if seen >> s & 1 and max_to[s] >= day:
                given |= np.int64(1) << s
                reach = max(reach, max_cover[s])
        if given == 0:
            continue
        present = given
        for s in range(n):
            if given >> s & 1:
                present &= ~excludes[s]
        opens = False
        if not is_open:
            opens = True
            held = np.int64(0)
        elif day - covered >= line_gap:
            lines[written, 3], lines[written, 4], lines[written, 5] = start, covered, GAP
            written = _close(lines, written, person, regimen, held, refused, counts, n)
            opens = True
            held = np.int64(0)
        elif day <= start + window:
            grew = True
            while grew:
                grew = False
                barred = held
                for s in range(n):
                    if regimen >> s & 1:
                        barred |= excludes[s]
                for s in range(n):
                    bit = np.int64(1) << s
                    if present & bit and not regimen & bit and not barred & bit:
                        regimen = (regimen | bit) & ~excludes[s]
                        grew = True
                        break
        else:
            new = present & ~regimen
            if new:
                barred = np.int64(0)
                for s in range(n):
                    if regimen >> s & 1:
                        barred |= excludes[s]
                all_join = True
                for s in range(n):
                    bit = np.int64(1) << s
                    if new & bit:
                        joins = not barred & bit and not excludes[s] & regimen
                        if joins:
                            joins = bool(held & bit) and day < cover_before[s] + window
                            if not joins:
                                for other in range(n):
                                    days = companion[s, other]
                                    if regimen >> other & 1 and days >= 0 and day <= start + days:
                                        joins = True
                        if not joins:
                            all_join = False
                if all_join:
                    regimen |= new
                else:
                    end = min(covered, day)
                    lines[written, 3], lines[written, 4], lines[written, 5] = start, end, SWITCH
                    written = _close(lines, written, person, regimen, held, refused, counts, n)
                    held = regimen & ~present
                    opens = True
        if opens:
            is_open = True
            start = np.int64(day)
            regimen = present
            refused = given & ~present
            covered = np.int64(reach)
        else:
            refused |= given & ~present
            covered = max(covered, np.int64(reach))
        line_gap = gap
        for s in range(n):
            if regimen >> s & 1:
                line_gap = max(line_gap, gap_of[s])

    if is_open:
        end, reason = covered, FOLLOW_UP
        if covered > F:
            end = np.int64(F)
        elif F - covered >= line_gap:
            reason = GAP
        lines[written, 3], lines[written, 4], lines[written, 5] = start, end, reason
        written = _close(lines, written, person, regimen, held, refused, counts, n)

    if (
        carry_in > 0
        and written - first_written >= 2
        and lines[first_written, 2] & ~running == 0
        and lines[first_written, 5] == SWITCH
        and lines[first_written + 1, 3] < index + carry_in
    ):
        for i in range(first_written + 1, written):
            for column in range(LINE_COLUMNS):
                lines[i - 1, column] = lines[i, column]
        written -= 1
        counts[CARRIED_IN] += 1
    for i in range(first_written, written):
        lines[i, 1] = i - first_written + 1
        if lines[i, 4] - lines[i, 3] < SHORT_DAYS:
            counts[SHORT] += 1
        if i > first_written and lines[i, 2] == lines[i - 1, 2]:
            counts[REPEATED] += 1
    return written


@compiled
def fold_partition(
    starts: npt.NDArray[np.int64],
    substance: Ints,
    given_from: Ints,
    given_to: Ints,
    covered_until: Ints,
    index: Ints,
    follow_up_end: Ints,
    rules: Rules,
    n: int,
    counts: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Lines of every person for one rule set, int64 (lines, LINE_COLUMNS).

    `starts` (people + 1) are the first rows of each person in the exposure columns; counts are added to.
    """
    people = len(index)
    lines = np.empty((people + 16, LINE_COLUMNS), np.int64)
    written = 0
    for person in range(people):
        rows = starts[person + 1] - starts[person]
        # A line opens on a given day, so there are at most three candidate days for each row.
        most = written + 3 * rows + 2
        if rows and most > len(lines):
            larger = np.empty((2 * most, LINE_COLUMNS), np.int64)
            larger[:written] = lines[:written]
            lines = larger
        if rows:
            written = fold_person(
                starts[person], starts[person + 1], substance, given_from, given_to, covered_until,
                person, index[person], follow_up_end[person], rules, n, lines, written, counts,
            )  # fmt: skip
    return lines[:written]


@compiled
def present_classes(
    lines: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    class_: Ints,
    present_from: Ints,
    present_until: Ints,
    n: int,
) -> tuple[Masks, Masks]:
    """For each line the classes present during it, and those present from 21 days before to 28 days after its start.

    Class rows are sorted by person and present_from; `present_until` is the first day without. A class was present on
    [a, b) if, of its rows that begin before b, the one that lasts longest lasts beyond a.
    """
    during = np.zeros(len(lines), np.int64)
    around = np.zeros(len(lines), np.int64)
    line = 0
    until = np.empty(n, np.int64)
    while line < len(lines):
        person = lines[line, 0]
        last = line
        while last < len(lines) and lines[last, 0] == person:
            last += 1
        for window in range(2):
            until[:] = -FAR
            row = starts[person]
            for i in range(line, last):
                begin, end = lines[i, 3], max(lines[i, 4], lines[i, 3] + 1)
                if window == 1:
                    begin, end = lines[i, 3] - 21, lines[i, 3] + 29
                while row < starts[person + 1] and present_from[row] < end:
                    until[class_[row]] = max(until[class_[row]], present_until[row])
                    row += 1
                for c in range(n):
                    if until[c] > begin:
                        if window == 0:
                            during[i] |= np.int64(1) << c
                        else:
                            around[i] |= np.int64(1) << c
        line = last
    return during, around
