"""The flow of lines as inline SVG: from the index through the regimens of each line to what came after it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pandas as pd
from markupsafe import Markup, escape

from jobs.report.svg import COLOURS, GREY, drawing, element, text
from schemas.frames import UNTREATED

OTHER, FURTHER = "other regimens", "a further line"
ENDS = {
    "alive": "alive, no further line",
    "information_end": "lost: information ended",
    "emigrated": "lost: emigrated",
    "second_cancer": "second cancer",
    "died": "died",
}
END_COLOURS = {
    "alive": "#b9b9b9",
    "information_end": GREY,
    "emigrated": GREY,
    "second_cancer": "#5c5c5c",
    "died": "#1a1a1a",
}

LEAVING = "#b0b0b0"  # bands to what is no line

COLUMN, BAR, TOP, FLOW = 196, 12, 34, 400
SIZE, LEADING, BETWEEN = 12, 14, 9
LABEL_CHARACTERS = 25


@dataclass
class Node:
    """A bar of the picture: `column` from 0, the index; `kind` is index, regimen, untreated, further or end."""

    column: int
    kind: str
    name: str
    n: int = 0
    label: list[Markup | str] = field(default_factory=list)
    y: float = 0.0
    sent: float = 0.0
    received: float = 0.0


def flows(transitions: pd.DataFrame, lines: int, most_regimens: int) -> pd.DataFrame:
    """One row per column, from, to, n of one rule set's transitions; from and to are (kind, name).

    Of each line the `most_regimens` most common regimens stand alone, the rest together. Those who never start a
    line go to `untreated`, whatever ended their follow-up.
    """
    wanted = transitions[transitions["line_number"] <= lines]
    common: dict[int, list[str]] = {}
    for number, of_line in wanted.groupby("line_number"):
        sums = of_line.groupby("regimen")["n"].sum().sort_values(ascending=False, kind="stable")
        common[int(number)] = list(sums.index[:most_regimens] if len(sums) > most_regimens + 1 else sums.index)

    def regimen(number: int, name: str) -> tuple[str, str]:
        return ("regimen", name if name in common.get(number, ()) else OTHER)

    rows = []
    for row in wanted.itertuples():
        number = int(row.line_number)
        source = regimen(number, row.regimen) if number else ("index", "")
        if row.next_state == "next_line":
            target = regimen(number + 1, row.next_regimen) if number < lines else ("further", FURTHER)
        else:
            target = ("end", row.next_state) if number else ("untreated", UNTREATED)
        rows.append((number, source, target, int(row.n)))
    table = pd.DataFrame(rows, columns=["column", "source", "target", "n"])
    return table.groupby(["column", "source", "target"], as_index=False)["n"].sum()


def sankey(
    table: pd.DataFrame, named: Callable[[str], str], medians: Mapping[tuple[int, str], str], start: str
) -> Markup:
    """The picture of `flows`. `named` gives a regimen its printed name, `medians` a line's regimen the text below its
    number. Every bar says its number; nothing where there is nobody."""
    if table.empty:
        return Markup("")
    columns = _nodes(table)
    colours = _regimen_colours(columns)
    total = columns[0][0].n
    per_person = FLOW / total
    for nodes in columns:
        y = float(TOP)
        for node in nodes:
            node.label = _label(node, named, medians, start)
            slot = max(per_person * node.n, LEADING * len(node.label))
            node.y = y + (slot - per_person * node.n) / 2
            y += slot + BETWEEN
    height = max(node.y + max(per_person * node.n, LEADING * len(node.label)) for nodes in columns for node in nodes)
    by_key = {(node.column, node.kind, node.name): node for nodes in columns for node in nodes}

    links = []
    for column, source, target, n in table.itertuples(index=False):
        links.append((by_key[(column, *source)], by_key[(column + 1, *target)], n))
    starts: dict[int, float] = {}
    for number, (source, _, n) in sorted(enumerate(links), key=lambda link: (link[1][0].y, link[1][1].y)):
        starts[number] = source.y + per_person * source.sent
        source.sent += n
    body = []
    for number, (source, target, n) in sorted(enumerate(links), key=lambda link: (link[1][1].y, link[1][0].y)):
        y1, y2 = starts[number], target.y + per_person * target.received
        target.received += n
        said = f"{_plain(source, named, start)} → {_plain(target, named, start)}: {n:,}"
        colour = _colour(target, colours) if target.kind in ("regimen", "further") else LEAVING
        body.append(_ribbon(_x(source) + BAR, y1, _x(target), y2, per_person * n, said, colour))
    for nodes in columns:
        body.append(text(_x(nodes[0]), 16, _heading(nodes[0].column, len(columns)), class_="head"))
        for node in nodes:
            tall = max(per_person * node.n, 1.5)
            bar = {"x": _x(node), "y": node.y, "width": float(BAR), "height": tall}
            body.append(element("rect", fill=_colour(node, colours), **bar))
            top = node.y + (per_person * node.n - LEADING * len(node.label)) / 2 + SIZE - 1
            for line, said in enumerate(node.label):
                body.append(text(_x(node) + BAR + 5, top + LEADING * line, said, class_="halo", font_size=SIZE))
    return drawing("Flow of people through the lines of treatment", COLUMN * len(columns), height + 12, body)


def _nodes(table: pd.DataFrame) -> list[list[Node]]:
    """The bars of each column from top to bottom: regimens by size, the rest of them, then those who leave."""
    found: dict[tuple[int, str, str], Node] = {}
    for column, source, target, n in table.itertuples(index=False):
        if column == 0:
            found.setdefault((0, *source), Node(0, *source)).n += n
        found.setdefault((column + 1, *target), Node(column + 1, *target)).n += n
    kinds = ("index", "regimen", "further", "untreated", "end")
    ends = list(ENDS)

    def order(node: Node) -> tuple[int, bool, int, str]:
        size = ends.index(node.name) if node.kind == "end" and node.name in ends else -node.n
        return (kinds.index(node.kind), node.name == OTHER, size, node.name)

    last = max(column for column, _, _ in found)
    return [sorted((node for node in found.values() if node.column == column), key=order) for column in range(last + 1)]


def _regimen_colours(columns: list[list[Node]]) -> dict[str, str]:
    people: dict[str, int] = {}
    for node in (node for nodes in columns for node in nodes if node.kind == "regimen" and node.name != OTHER):
        people[node.name] = people.get(node.name, 0) + node.n
    names = sorted(people, key=lambda name: (-people[name], name))
    return dict(zip(names, COLOURS[:-1], strict=False))


def _colour(node: Node, regimens: Mapping[str, str]) -> str:
    if node.kind == "index":
        return "#444444"
    if node.kind == "end":
        return END_COLOURS.get(node.name, GREY)
    return regimens.get(node.name, GREY)


def _heading(column: int, columns: int) -> str:
    if column == 0:
        return "index"
    return f"after line {column - 1}" if column == columns - 1 > 1 else f"line {column}"


def _x(node: Node) -> float:
    return 2 + COLUMN * node.column


def _plain(node: Node, named: Callable[[str], str], start: str) -> str:
    if node.kind == "index":
        return start
    if node.kind == "end":
        return ENDS.get(node.name, node.name)
    return named(node.name) if node.kind == "regimen" else node.name


def _label(
    node: Node, named: Callable[[str], str], medians: Mapping[tuple[int, str], str], start: str
) -> list[Markup | str]:
    said = _plain(node, named, start)
    median = medians.get((node.column, node.name), "") if node.kind == "regimen" else ""
    number = element("tspan", f"{node.n:,}", class_="strong") + (f" · {median}" if median else "")
    if node.kind == "end":
        return [escape(f"{said} ") + number]
    return [*textwrap.wrap(said, LABEL_CHARACTERS, max_lines=2, placeholder=" …"), number]


def _ribbon(x1: float, y1: float, x2: float, y2: float, tall: float, said: str, colour: str) -> Markup:
    middle, tall = (x1 + x2) / 2, max(tall, 0.6)
    path = (
        f"M{x1:.1f},{y1:.1f}C{middle:.1f},{y1:.1f} {middle:.1f},{y2:.1f} {x2:.1f},{y2:.1f}v{tall:.1f}"
        f"C{middle:.1f},{y2 + tall:.1f} {middle:.1f},{y1 + tall:.1f} {x1:.1f},{y1 + tall:.1f}z"
    )
    return element("path", element("title", said), d=path, fill=colour, class_="ribbon")
