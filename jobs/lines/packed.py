"""A row of a person's history as one integer, as it travels from Spark to the kernel, and how rows are put in order.

Bits from the highest: the day (23, signed: every date that Spark knows), the days until the last day (17), the days
from there until the cover ends (17), and what it is about (7). Integers in their order are days in theirs. A row of the
cohort has the index date, the days until the end of follow-up (31), the place of its reason (3), and PERSON.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jobs.lines.kernel import Ints, compiled

WHAT_BITS, COVER_BITS, SPAN_BITS, REASON_BITS = 7, 17, 17, 3
SPAN_AT = WHAT_BITS + COVER_BITS
DAY_AT = SPAN_AT + SPAN_BITS
END_AT = WHAT_BITS + REASON_BITS
LONGEST = (1 << SPAN_BITS) - 1  # days, 358 years; what is longer is cut to it
CLASS = 63  # substances count from 0, classes from here
PERSON = 127
INSERTION_ROWS = 64

Packed = npt.NDArray[np.int64]


class History(NamedTuple):
    """Rows of several people in columns, by person and day. `starts` (people + 1) are each person's first rows."""

    starts: npt.NDArray[np.int64]
    what: Ints
    first: Ints
    last: Ints
    until: Ints


def pack(what: Packed, first: Packed, last: Packed, until: Packed) -> Packed:
    """Exposure rows as integers; the arguments are int64."""
    span = np.clip(last - first, 0, LONGEST)
    cover = np.clip(until - last, 0, LONGEST)
    packed: Packed = first << DAY_AT | span << SPAN_AT | cover << WHAT_BITS | what
    return packed


def pack_people(index: Packed, end: Packed, reason: Packed) -> Packed:
    """Cohort rows as integers; the arguments are int64."""
    packed: Packed = index << DAY_AT | np.maximum(end - index, 0) << END_AT | reason << WHAT_BITS | PERSON
    return packed


def unpack_people(packed: Packed) -> tuple[Ints, Ints, Ints]:
    """Index date, end of follow-up, and the place of its reason."""
    index = packed >> DAY_AT
    end = index + (packed >> END_AT & (1 << DAY_AT - END_AT) - 1)
    reason = packed >> WHAT_BITS & (1 << REASON_BITS) - 1
    return index.astype(np.int32), end.astype(np.int32), reason.astype(np.int32)


@compiled
def _in_order(person: Ints, packed: Packed, people: int) -> tuple[Packed, Packed]:
    """The starts of each person's rows and the rows, by person and day. Rows of person -1 are left out."""
    starts = np.zeros(people + 1, np.int64)
    for p in person:
        if p >= 0:
            starts[p + 1] += 1
    for p in range(people):
        starts[p + 1] += starts[p]
    place = starts[:-1].copy()
    rows = np.empty(starts[people], np.int64)
    for i in range(len(person)):
        p = person[i]
        if p >= 0:
            rows[place[p]] = packed[i]
            place[p] += 1
    for p in range(people):
        first, after = starts[p], starts[p + 1]
        # Registers deliver by day, so few rows are out of place; a person with many rows may be anything.
        if after - first > INSERTION_ROWS:
            rows[first:after].sort()
            continue
        for i in range(first + 1, after):
            row = rows[i]
            j = i - 1
            while j >= first and rows[j] > row:
                rows[j + 1] = rows[j]
                j -= 1
            rows[j + 1] = row
    return starts, rows


@compiled
def _unpack(
    starts: Packed, rows: Packed, lowest: int, highest: int
) -> tuple[npt.NDArray[np.int64], Ints, Ints, Ints, Ints]:
    """Columns of the rows whose `what` is in [lowest, highest], counted from lowest."""
    people = len(starts) - 1
    own = np.zeros(people + 1, np.int64)
    for p in range(people):
        own[p + 1] = own[p]
        for i in range(starts[p], starts[p + 1]):
            what = rows[i] & PERSON
            if lowest <= what <= highest:
                own[p + 1] += 1
    number = own[people]
    columns = (
        np.empty(number, np.int32), np.empty(number, np.int32), np.empty(number, np.int32), np.empty(number, np.int32),
    )  # fmt: skip
    at = 0
    for row in rows:
        what = row & PERSON
        if lowest <= what <= highest:
            columns[0][at] = what - lowest
            columns[1][at] = row >> DAY_AT
            columns[2][at] = columns[1][at] + (row >> SPAN_AT & LONGEST)
            columns[3][at] = columns[2][at] + (row >> WHAT_BITS & LONGEST)
            at += 1
    return own, columns[0], columns[1], columns[2], columns[3]


def histories(person: Ints, packed: Packed, people: int) -> tuple[History, History]:
    """Line-defining rows and class rows of `people` people, each by person and day; `person` is -1 for nobody."""
    starts, rows = _in_order(person, packed, people)
    return History(*_unpack(starts, rows, 0, CLASS - 1)), History(*_unpack(starts, rows, CLASS, PERSON - 1))
