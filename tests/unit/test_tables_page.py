"""The committed tables page is the one that the contracts make."""

from __future__ import annotations

from pathlib import Path

import schemas
from schemas.page import tables_page

PAGE = Path(__file__).parents[2] / "docs" / "tables.md"


def test_the_committed_page_is_made_from_the_contracts() -> None:
    assert PAGE.read_text(encoding="utf-8") == tables_page(), "run: python -m schemas.page > docs/tables.md"


def test_every_table_and_column_is_on_the_page() -> None:
    sections = tables_page().split("\n### ")[1:]
    by_title = {section.split("\n", 1)[0]: section for section in sections}
    assert set(schemas.TABLES) == {title for title in by_title if not title.startswith("quarantine")}
    for name, table in schemas.TABLES.items():
        rows = [line for line in by_title[name].splitlines() if line.startswith("| `")]
        assert [row.split("`")[1] for row in rows] == table.column_names
        assert all(row.count("|") == 6 for row in rows)
