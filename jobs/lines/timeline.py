"""A person's exposures and lines drawn in characters: for the terminal and for the page of drawn rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

GIVEN, COVERED, LINE, END = "#", "-", "=", "|"
WIDTH = 90  # characters of the days
TICK = 10  # characters between two numbers of the axis
STEPS = (1, 2, 5, 7, 10, 14, 20, 28, 50, 100, 200, 500, 1000, 2000)


class Span(NamedTuple):
    """Days on which something is given, both included, and the first day it no longer covers."""

    name: str
    first: int
    last: int
    until: int


class DrawnLine(NamedTuple):
    """A line of treatment on [start, end)."""

    start: int
    end: int


def draw(spans: Sequence[Span], lines: Sequence[DrawnLine], follow_up_end: int) -> str:
    """One row per name and one for the lines, under an axis of days from the index.

    `#` is a character's days with something given, `-` with cover only, `=` a line, which begins with its number; `|`
    is the end of follow-up. Nothing is drawn after that but what was given.
    """
    days = [0, follow_up_end, *(span.first for span in spans), *(span.last for span in spans)]
    first, last = min(days), max(days)
    step = next((step for step in STEPS if (last - first) // step < WIDTH), (last - first) // WIDTH + 1)
    origin = first // step * step
    columns = (last - origin) // step + 1

    def column(day: int) -> int:
        return (day - origin) // step

    names = sorted({span.name for span in spans})
    margin = max([len(name) for name in (*names, "line", "day")]) + 2
    axis = ""
    for place in range(0, columns, TICK):
        axis = axis.ljust(place) + str(origin + place * step)
    rows = [f"{'day':<{margin}}{axis}   (a character is {step} day{'s' if step > 1 else ''})"]
    for name in names:
        cells = [" "] * columns
        own = [span for span in spans if span.name == name]
        for span in own:
            for place in range(max(column(span.first), 0), min(column(span.until - 1), column(follow_up_end)) + 1):
                cells[place] = COVERED
        for span in own:
            for place in range(column(span.first), column(span.last) + 1):
                cells[place] = GIVEN
        rows.append(f"{name:<{margin}}{''.join(cells).rstrip()}")
    cells = [" "] * columns
    for number, line in enumerate(lines, 1):
        start, end = column(line.start), column(max(line.end - 1, line.start))
        for place, character in enumerate(f"{number}".ljust(end - start + 1, LINE)[: end - start + 1]):
            cells[start + place] = character
    at_end = column(follow_up_end)
    cells = [*cells[: at_end + 1], END]
    rows.append(f"{'line':<{margin}}{''.join(cells)}")
    return "\n".join(rows)
