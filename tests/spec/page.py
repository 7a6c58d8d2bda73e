"""The page of drawn rules: `python -m tests.spec.page > docs/rules/lines.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from jobs.lines.timeline import DrawnLine, Span, draw
from tests.spec.drawn import CASES, SHORT, Drawn

PAGE = "docs/rules/lines.md"
INTRODUCTION = """\
# The line rules, drawn

Each picture is a test: the histories stand in `tests/spec/drawn.py`, and what comes out is compared with the lines
below each. Made by `python -m tests.spec.page > docs/rules/lines.md`; change the tests, not this page. The rules in
words: [treatment_lines.md](../treatment_lines.md).

Days count from the index. `#` is a day with something given, `-` cover only, `=` a line that begins with its number,
`|` the end of follow-up. Parameters are those of the rule set `primary` of `conf/studies/her2_mbc.yaml`.
"""


def _section(case: Drawn) -> Iterator[str]:
    yield f"## {case.rule[0].upper()}{case.rule[1:]}\n"
    spans = [Span(SHORT[substance], first, last, until) for substance, first, last, until in case.given]
    drawn = draw(spans, [DrawnLine(start, end) for _, start, end, _, _ in case.lines], case.end)
    yield f"```\n{drawn}\n```\n"
    if not case.lines:
        yield "No line.\n"
        return
    yield "| line | regimen | from | to | days | ended by | then |\n|---|---|---|---|---|---|---|"
    for number, (regimen, start, end, reason, state) in enumerate(case.lines, 1):
        names = " + ".join(sorted(SHORT[letter] for letter in regimen))
        yield f"| {number} | {names} | {start} | {end} | {end - start} | {reason} | {state} |"
    yield ""


def rules_page() -> str:
    """The whole page as Markdown."""
    return "\n".join([INTRODUCTION, *(part for case in CASES for part in _section(case))]).rstrip() + "\n"


if __name__ == "__main__":
    sys.stdout.write(rules_page())
