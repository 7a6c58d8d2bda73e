"""The tables page of the documentation: `python -m schemas.page > docs/tables.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from schemas import CONFORMED, DERIVED, FRAMES, SITE, Table, quarantine

INTRODUCTION = """\
# Tables

Made from the contracts in `schemas/` by `python -m schemas.page > docs/tables.md`; change those, not this page.

Every table is a Delta table in the warehouse: conformed tables, quarantine, ledger and unknown codes in
`<warehouse>/conformed/<table>`, the others in `<warehouse>/<study>/<table>`. Missing is NULL. A column that is
**required** is never NULL; the columns of the **key** are unique together. A column that **identifies** holds a
pseudonym: whoever reads it reads about one person, so it never leaves the site. Which rules a table has to pass stands
in `expectations/`.
"""
SECTIONS = (
    ("Conformed tables", "One shape for all countries; `ingest` writes them.", tuple(CONFORMED.values())),
    (
        "Tables of a study",
        "From the cohort to treatment lines; still one row per person or more.",
        tuple(DERIVED.values()),
    ),
    ("Frames", "Counts over people: all that statistics and reports are made from.", tuple(FRAMES.values())),
    ("Deliveries and runs", "Where every row went, and what was run.", (*SITE.values(), quarantine)),
)
NAMES = {quarantine.name: "quarantine_&lt;raw table&gt;"}


def _table(table: Table) -> Iterator[str]:
    key = ", ".join(f"`{name}`" for name in table.key)
    yield f"### {NAMES.get(table.name, table.name)}\n"
    empty = "" if table.may_be_empty else " Never empty."
    yield f"{table.grain[0].upper()}{table.grain[1:]}. Key: {key}.{empty}\n"
    yield "| column | type | required | identifies | meaning |"
    yield "|---|---|---|---|---|"
    for column in table.columns:
        codes = f"; one of {', '.join(f'`{code}`' for code in column.codes)}" if column.codes else ""
        required, identifies = ("yes" if flag else "" for flag in (not column.nullable, column.identifies))
        yield f"| `{column.name}` | `{column.type}` | {required} | {identifies} | {column.doc}{codes} |"
    yield ""


def tables_page() -> str:
    """The whole page as Markdown."""
    lines = [INTRODUCTION]
    for title, text, tables in SECTIONS:
        lines += [f"## {title}\n", f"{text}\n"]
        for table in tables:
            lines += _table(table)
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    sys.stdout.write(tables_page())
