"""What one page of the documentation says about another file is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PAGES = [*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(CHECKOUT).as_posix())
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_files_that_code_and_configuration_point_to() -> None:
    named = set()
    for folder in ("jobs", "schemas", "expectations", "conf"):
        for path in (CHECKOUT / folder).rglob("*"):
            if path.suffix in (".py", ".yaml", ".conf"):
                named |= set(re.findall(r"\b(?:docs|jobs|schemas|conf)/[a-z0-9_/]+\.[a-z]+\b", path.read_text("utf-8")))
    assert len(named) > 5
    assert [name for name in sorted(named) if not (CHECKOUT / name).exists()] == []
