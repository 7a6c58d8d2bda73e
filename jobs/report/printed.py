"""Printed tables, and how names and numbers are written in them."""

from __future__ import annotations

from typing import NamedTuple

VARIABLES = {
    "age_at_index": "age at index",
    "age_group": "age at index, years",
    "comorbidity_index": "Charlson index",
    "disease_free_time": "from diagnosis to index",
    "index_kind": "kind of index",
    "index_year": "year of index",
    "prior_treatment": "treated before index",
    "receptor": "hormone receptors",
    "receptor_disagrees": "tumours disagree on receptors",
    "time_since_prior": "last treated before index",
    "stage": "stage at diagnosis",
    "treated": "treated or not",
}
LEVEL_NAMES = {
    "all": "everyone",
    "hormone_negative": "negative",
    "hormone_positive": "positive",
    "no_information": "no information",
}


class Column(NamedTuple):
    """A column of a printed table."""

    name: str
    is_number: bool = True


class Table(NamedTuple):
    """A printed table; a row that starts with `HEAD` is a heading of its own."""

    caption: str
    columns: list[Column]
    rows: list[list[str]]


HEAD = "\0"


def spaced(name: str) -> str:
    return name.replace("_", " ")


def variable_name(name: str) -> str:
    return VARIABLES.get(name, spaced(name))


def level_name(name: str) -> str:
    return LEVEL_NAMES.get(name, spaced(name))


def count(n: float) -> str:
    return f"{int(n):,}"


def days(value: float) -> str:
    """A median of whole days, which may lie in the middle of two; rounded, 192.5 and 193.5 would be 192 and 194."""
    return f"{value:,.1f}".removesuffix(".0")


def counted(n: int, one: str, several: str) -> str:
    return f"{count(n)} {one if n == 1 else several}"


def share(n: float, of: float, decimals: int = 0) -> str:
    return f"{100 * n / of:.{decimals}f} %" if of else "–"
