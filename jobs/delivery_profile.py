"""A delivery's raw tables in counts: empty cells by column, and how often each known code stands where."""

from __future__ import annotations

from jobs.config import Site
from jobs.sources.adapter import RawTable

EMPTY, OTHER = "(empty)", "(other)"
MAXIMUM_CODES = 60


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def profiled(raw: RawTable, site: Site) -> list[tuple[str, str, str]]:
    """(column, code, condition in SQL) of what is counted over the rows of a raw table: `(empty)` for every column,
    each code that has a meaning, `(other)` for codes without one. No cell that is not a known code is in it."""
    shown = [column for column in (*raw.columns, *raw.optional) if not column.endswith("*")]
    hidden = {raw.id_column, *raw.id_parts, *raw.discarded}
    shown = [column for column in shown if column not in hidden]
    counted = [(column, EMPTY, f"`{column}` IS NULL") for column in shown]
    for column, known in raw.known_codes(site).items():
        codes = sorted(known)
        if column in shown and len(codes) <= MAXIMUM_CODES:
            counted += [(column, code, f"`{column}` = {_literal(code)}") for code in codes]
            others = f"`{column}` NOT IN ({', '.join(map(_literal, codes))})" if codes else f"`{column}` IS NOT NULL"
            counted.append((column, OTHER, others))
    return counted
