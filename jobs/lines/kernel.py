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
WORK_ROWS = 6
# What a day did, in the order of the page's rules; a trace row is day, rule, given, present, regimen, covered.
OPENED, AFTER_GAP, IN_WINDOW, NOTHING_NEW, JOINED_LATER, SWITCHED = range(6)
TRACE_COLUMNS = 6
LINE_COLUMNS = 6  # person, number, regimen, start, end, end reason
# Within which gaps and windows every decision about a person would have been the same.
LEAST_GAP, MOST_GAP, LEAST_WINDOW, MOST_WINDOW = range(4)
LIMITS = 4


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
    excluders: Mask  # the keys of `excludes`


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
def _excluded_by(regimen: Mask, excludes: Masks, n: int) -> np.int64:
    excluded = np.int64(0)
    for s in range(n):
        if regimen >> s & 1:
            excluded |= excludes[s]
    return excluded


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
    work: npt.NDArray[np.int64],
    lines: npt.NDArray[np.int64],
    written: int,
    counts: npt.NDArray[np.int64],
    trace: npt.NDArray[np.int64],
    limits: npt.NDArray[np.int64],
) -> int:
    """Write a person's lines into `lines` from row `written` on; returns the row after the last one.

    Rows `first_row .. last_row - 1` of the exposure columns are the person's line-defining ones, sorted by given_from.
    `work` is (WORK_ROWS, n) scratch, reused from person to person. The days go into `trace`, as many as it has rows.
    `limits` (LIMITS) gets between which values of gap and window, all else the same, nothing would have changed.
    """
    window, gap, lead, carry_in, gap_of, coverage_of, companion, excludes, excluders = rules
    F = follow_up_end
    one = np.int64(1)
    max_to, max_cover, cover_before, updated, carried_to, carried_cover = (
        work[0], work[1], work[2], work[3], work[4], work[5],
    )  # fmt: skip
    for s in range(n):
        max_to[s] = max_cover[s] = cover_before[s] = updated[s] = -FAR

    least_gap, most_gap, least_window, most_window = np.int64(0), FAR, np.int64(0), FAR
    running = np.int64(0)
    for i in range(first_row, last_row):
        if given_from[i] >= index - lead:
            break
        s = substance[i]
        cover = given_to[i] + coverage_of[s] if coverage_of[s] > 0 else covered_until[i]
        if index - cover < gap:
            running |= one << s
            least_gap = max(least_gap, np.int64(index - cover + 1))
        else:
            most_gap = min(most_gap, np.int64(index - cover))

    # Of substances running at index, what reaches over the index counts from the index day on.
    carried = np.int64(0)
    for i in range(first_row, last_row):
        if given_from[i] >= index:
            break
        s = substance[i]
        runs = running >> s & 1
        first = index if runs else index - lead
        if given_to[i] < first or given_from[i] > F:
            counts[OUTSIDE] += 1
        elif runs:
            cover = given_to[i] + coverage_of[s] if coverage_of[s] > 0 else covered_until[i]
            if not carried >> s & 1:
                carried |= one << s
                carried_to[s] = carried_cover[s] = -FAR
            carried_to[s] = max(carried_to[s], min(given_to[i], F))
            carried_cover[s] = max(carried_cover[s], cover)
    while last_row > first_row and given_from[last_row - 1] > F and given_from[last_row - 1] >= index:
        counts[OUTSIDE] += 1
        last_row -= 1

    first_written = written
    is_open = False
    start = covered = np.int64(0)
    regimen = held = refused = regimen_excludes = np.int64(0)
    line_gap = gap
    row = first_row
    traced = 0
    day: Any = -FAR
    given = ongoing = np.int64(0)  # of `day`, and what of it goes on after it
    while True:
        # Between two of these days nothing that the rules look at changes.
        while row < last_row:
            first = index if running >> substance[row] & 1 else index - lead
            if given_from[row] < first or given_from[row] > F:
                row += 1
            else:
                break
        following: Any = FAR
        if row < last_row:
            following = min(following, given_from[row])
        if carried:
            following = min(following, index)
        if ongoing:
            least_window = most_window = np.int64(window)
            if start + window + 1 > day:
                following = min(following, start + window + 1)
            if given & excluders:
                for s in range(n):
                    if given & excluders & one << s:
                        following = min(following, max_to[s] + 1)
        if following > F:
            break
        day = following

        before = ongoing
        given = ongoing = np.int64(0)
        reach = -FAR
        if carried and day == index:
            for s in range(n):
                if carried >> s & 1:
                    max_to[s], max_cover[s] = carried_to[s], carried_cover[s]
                    updated[s] = day
                    reach = max(reach, max_cover[s])
                    if max_to[s] > day:
                        ongoing |= one << s
            given |= carried
            carried = np.int64(0)
        while row < last_row and given_from[row] == day:
            s = substance[row]
            first = index if running >> s & 1 else index - lead
            if day >= first:
                cover = given_to[row] + coverage_of[s] if coverage_of[s] > 0 else covered_until[row]
                if updated[s] != day:
                    cover_before[s], updated[s] = max_cover[s], day
                max_to[s] = max(max_to[s], min(given_to[row], F))
                max_cover[s] = max(max_cover[s], cover)
                reach = max(reach, max_cover[s])
                given |= one << s
                if max_to[s] > day:
                    ongoing |= one << s
            row += 1
        if before & ~given:
            for s in range(n):
                if before & ~given & one << s and max_to[s] >= day:
                    given |= one << s
                    reach = max(reach, max_cover[s])
                    if max_to[s] > day:
                        ongoing |= one << s
        if given == 0:
            continue

        present = given
        if given & excluders and given & (given - 1):
            for s in range(n):
                if given >> s & 1:
                    present &= ~excludes[s]
        opens = False
        changed = False
        rule = NOTHING_NEW
        if not is_open:
            rule = OPENED
            opens = True
            held = np.int64(0)
        elif day - covered >= line_gap:
            most_gap = min(most_gap, np.int64(day - covered))
            rule = AFTER_GAP
            lines[written, 3], lines[written, 4], lines[written, 5] = start, covered, GAP
            written = _close(lines, written, person, regimen, held, refused, counts, n)
            opens = True
            held = np.int64(0)
        elif day <= start + window:
            least_gap = max(least_gap, np.int64(day - covered + 1))
            least_window = max(least_window, np.int64(day - start))
            rule = IN_WINDOW
            joining = present & ~regimen & ~held & ~regimen_excludes
            while joining:
                for s in range(n):
                    if joining >> s & 1:
                        regimen = (regimen | one << s) & ~excludes[s]
                        break
                changed = True
                regimen_excludes = _excluded_by(regimen, excludes, n)
                joining = present & ~regimen & ~held & ~regimen_excludes
        else:
            least_gap = max(least_gap, np.int64(day - covered + 1))
            most_window = min(most_window, np.int64(day - start - 1))
            new = present & ~regimen
            if new:
                all_join = not new & regimen_excludes
                for s in range(n):
                    if all_join and new >> s & 1:
                        joins = not excludes[s] & regimen
                        if joins:
                            reached = cover_before[s] if updated[s] == day else max_cover[s]
                            joins = bool(held >> s & 1) and day < reached + window
                            if joins:
                                least_window = max(least_window, np.int64(day - reached + 1))
                            elif held >> s & 1:
                                most_window = min(most_window, np.int64(day - reached))
                            for other in range(n):
                                days = companion[s, other]
                                if regimen >> other & 1 and days >= 0 and day <= start + days:
                                    joins = True
                        all_join = joins
                if all_join:
                    rule = JOINED_LATER
                    regimen |= new
                    changed = True
                else:
                    rule = SWITCHED
                    end = min(covered, day)
                    lines[written, 3], lines[written, 4], lines[written, 5] = start, end, SWITCH
                    written = _close(lines, written, person, regimen, held, refused, counts, n)
                    held = regimen & ~present
                    opens = True
        if opens:
            is_open = True
            start = np.int64(day)
            regimen = present
            refused = np.int64(0)
            covered = np.int64(reach)
            changed = True
        else:
            covered = max(covered, np.int64(reach))
        if changed:
            regimen_excludes = _excluded_by(regimen, excludes, n)
            line_gap = gap
            for s in range(n):
                if regimen >> s & 1:
                    line_gap = max(line_gap, gap_of[s])
        refused |= given & (~present | regimen_excludes)
        if traced < len(trace):
            trace[traced, 0], trace[traced, 1], trace[traced, 2] = day, rule, given
            trace[traced, 3], trace[traced, 4], trace[traced, 5] = present, regimen, covered
            traced += 1

    if is_open:
        end, reason = covered, FOLLOW_UP
        if covered > F:
            end = np.int64(F)
        elif F - covered >= line_gap:
            reason = GAP
            most_gap = min(most_gap, np.int64(F - covered))
        else:
            least_gap = max(least_gap, np.int64(F - covered + 1))
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
    limits[LEAST_GAP], limits[MOST_GAP] = least_gap, most_gap
    limits[LEAST_WINDOW], limits[MOST_WINDOW] = least_window, most_window
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
    passed_over: npt.NDArray[np.bool_],
    counts: npt.NDArray[np.int64],
    trace: npt.NDArray[np.int64],
    limits: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Lines of every person who is not `passed_over` for one rule set, int64 (lines, LINE_COLUMNS).

    `starts` (people + 1) are the first rows of each person in the exposure columns. `counts` (people, COUNTED) are
    added to; `limits` (people, LIMITS) are written. `trace` (days, TRACE_COLUMNS) is for a single person; give it no
    rows otherwise.
    """
    people = len(index)
    work = np.empty((WORK_ROWS, n), np.int64)
    lines = np.empty((people + 16, LINE_COLUMNS), np.int64)
    written = 0
    for person in range(people):
        rows = 0 if passed_over[person] else starts[person + 1] - starts[person]
        # A line opens on a given day, so there are at most three candidate days for each row.
        most = written + 3 * rows + 2
        if rows and most > len(lines):
            larger = np.empty((2 * most, LINE_COLUMNS), np.int64)
            larger[:written] = lines[:written]
            lines = larger
        if rows:
            written = fold_person(
                starts[person], starts[person + 1], substance, given_from, given_to, covered_until,
                person, index[person], follow_up_end[person], rules, n, work, lines, written, counts[person], trace,
                limits[person],
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

    A person's lines of one rule set stand together. Class rows are sorted by person and present_from; `present_until`
    is the first day without. A class was present on [a, b) if, of its rows that begin before b, the one that lasts
    longest lasts beyond a.
    """
    during = np.zeros(len(lines), np.int64)
    around = np.zeros(len(lines), np.int64)
    line = 0
    until = np.empty(n, np.int64)
    while line < len(lines):
        person = lines[line, 0]
        last = line
        while last < len(lines) and lines[last, 0] == person and lines[last, 1] == last - line + 1:
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


@compiled
def first_alike(
    lines: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], passed_over: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """For each rule set and person the first rule set that gives the person the same lines.

    `starts` (rule sets, people + 1) are the first lines of each person in `lines`, which holds all rule sets' lines.
    Those `passed_over` (rule sets, people) have none there, because they are those of the first.
    """
    rule_sets, people = starts.shape[0], starts.shape[1] - 1
    alike = np.empty((rule_sets, people), np.int64)
    for person in range(people):
        for later in range(rule_sets):
            alike[later, person] = 0 if passed_over[later, person] else later
            if passed_over[later, person]:
                continue
            number = starts[later, person + 1] - starts[later, person]
            for earlier in range(later):
                same = (
                    not passed_over[earlier, person] and starts[earlier, person + 1] - starts[earlier, person] == number
                )
                for i in range(number):
                    for column in range(2, LINE_COLUMNS):
                        if same:
                            same = (
                                lines[starts[earlier, person] + i, column] == lines[starts[later, person] + i, column]
                            )
                if same:
                    alike[later, person] = earlier
                    break
    return alike
