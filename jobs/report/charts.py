"""Charts as inline SVG: step curves with their limits and the numbers at risk; bars by year."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from markupsafe import Markup

from jobs.report.svg import COLOURS, Points, drawing, element, points, shortened, text, text_width
from jobs.survival.kaplan_meier import Curve

DAYS_PER_YEAR = 365.25
TICKS = (DAYS_PER_YEAR / 4, DAYS_PER_YEAR / 2, DAYS_PER_YEAR, 2 * DAYS_PER_YEAR, 5 * DAYS_PER_YEAR)  # days apart
MOST_TICKS = 6
DASHES = ("none", "7 3", "2 3", "9 3 2 3", "12 4", "4 2", "1 2")
NOTHING_LEFT = 0.02  # an axis ends where no curve is above

WIDTH, PLOT_HEIGHT, RIGHT, TOP = 440, 230, 16, 12
SIZE, ROW = 12, 17
LABEL_CHARACTERS = 20


def survival_chart(title: str, curves: Sequence[tuple[str, Curve]], until_day: float) -> Markup:
    """Step curves with bands between their limits, and below them the number at risk in each group.

    The axis ends at `until_day`, or before where all curves have come down or ended. Groups of nobody are left out.
    """
    shown = [(shortened(name, LABEL_CHARACTERS), curve) for name, curve in curves if curve.n]
    tick, last = _time_axis([curve for _, curve in shown], until_day)
    names = max([text_width("at risk", SIZE), *(text_width(name, SIZE) for name, _ in shown)])
    most = max([curve.n for _, curve in shown], default=0)
    left = 38 + names + text_width(f"{most:,}", SIZE) / 2  # the first number stands below day 0
    bottom = TOP + PLOT_HEIGHT

    def x(day: float) -> float:
        return left + (WIDTH - RIGHT - left) * min(day, last) / last

    def y(share: float) -> float:
        return TOP + PLOT_HEIGHT * (1 - share)

    body = []
    for percent in range(0, 101, 20):
        body.append(element("line", class_="grid", x1=left, x2=WIDTH - RIGHT, y1=y(percent / 100), y2=y(percent / 100)))
        body.append(text(left - 6, y(percent / 100) + 4, f"{percent} %", text_anchor="end"))
    ticks = [number * tick for number in range(round(last / tick) + 1)]
    unit, days_of_unit = ("years", DAYS_PER_YEAR) if tick >= DAYS_PER_YEAR else ("months", DAYS_PER_YEAR / 12)
    for day in ticks:
        body.append(element("line", class_="axis", x1=x(day), x2=x(day), y1=bottom, y2=bottom + 4))
        body.append(text(x(day), bottom + 17, f"{round(day / days_of_unit)}", text_anchor="middle"))
    body.append(text((left + WIDTH - RIGHT) / 2, bottom + 33, unit, text_anchor="middle"))

    for place, (_, curve) in enumerate(shown):
        body.append(_band(curve, last, x, y, COLOURS[place % len(COLOURS)]))
    for place, (_, curve) in enumerate(shown):
        line = points(_steps(curve.days, curve.estimate, last, x, y, from_one=True))
        body.append(element("polyline", points=line, class_="curve", **_stroke(place)))

    body.append(text(4, bottom + 52, "at risk", class_="head"))
    for place, (name, curve) in enumerate(shown):
        row = bottom + 52 + ROW * (place + 1)
        body.append(element("line", x1=4, x2=26, y1=row - 4, y2=row - 4, class_="curve", **_stroke(place)))
        body.append(text(30, row, name))
        body += [text(x(day), row, f"{curve.at(day).at_risk:,}", text_anchor="middle") for day in ticks]
    return drawing(title, WIDTH, bottom + 58 + ROW * len(shown), body)


def year_chart(title: str, shares: Mapping[int, float | None], top: float) -> Markup:
    """One bar a year, `top` the share that fills the chart; each says its percentage unless there are many. None: a
    year without people."""
    width, height, size = 300, 84, 11
    years = sorted(shares)
    step = width / max(len(years), 1)
    body = []
    for place, year in enumerate(years):
        share = shares[year]
        if share is None:
            continue
        tall = height * share / top if top > 0 else 0.0
        middle = step * (place + 0.5)
        bar = {"x": step * place + 1, "width": step - 2, "y": 14 + height - tall, "height": tall}
        body.append(element("rect", element("title", f"{year}: {100 * share:.1f} %"), class_="bar", **bar))
        if len(years) <= 12 and share > 0:
            body.append(text(middle, 10 + height - tall, f"{100 * share:.0f}", text_anchor="middle", font_size=size))
    body.append(element("line", class_="axis", x1=0, x2=width, y1=14 + height, y2=14 + height))
    every = max(1, math.ceil(len(years) / 6))
    for place, year in enumerate(years):
        if place % every == 0:
            said = f"{year}" if every > 1 or len(years) <= 6 else f"{year % 100:02d}"
            body.append(text(step * (place + 0.5), 28 + height, said, text_anchor="middle", font_size=size))
    return drawing(title, width, height + 34, body)


def _stroke(place: int) -> dict[str, str]:
    return {"stroke": COLOURS[place % len(COLOURS)], "stroke_dasharray": DASHES[place % len(DASHES)]}


def _time_axis(curves: Sequence[Curve], until_day: float) -> tuple[float, float]:
    """Days between two ticks, and the last tick."""
    ends = []
    for curve in curves:
        down = np.flatnonzero(curve.estimate <= NOTHING_LEFT)
        ends.append(curve.days[down[0]] if len(down) else curve.days[-1])
    end = min(until_day, max(ends, default=until_day))
    tick = next((tick for tick in TICKS if end / tick <= MOST_TICKS + 0.1), TICKS[-1])
    return tick, tick * max(1, math.ceil(end / tick - 0.1))


def _band(curve: Curve, last: float, x: Callable[[float], float], y: Callable[[float], float], colour: str) -> Markup:
    known = ~np.isnan(curve.lower)
    if not known.any():
        return Markup("")
    # Limits are known from the first event to the last estimate above 0.
    sides = [_steps(curve.days[known], side[known], last, x, y) for side in (curve.upper, curve.lower)]
    return element("polygon", points=points([*sides[0], *reversed(sides[1])]), class_="band", fill=colour)


def _steps(
    days: np.ndarray,
    values: np.ndarray,
    last: float,
    x: Callable[[float], float],
    y: Callable[[float], float],
    from_one: bool = False,
) -> Points:
    """The corners of a step curve up to day `last`."""
    line: list[tuple[float, float]] = [(x(0), y(1.0))] if from_one else []
    for day, value in zip(days, values, strict=True):
        if line:
            line.append((x(day), line[-1][1]))
        if day > last:
            break
        line.append((x(day), y(value)))
    return line
