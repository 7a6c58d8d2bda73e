"""What an expectation is here: a condition that no row may meet, its severity, and the share of rows that still may."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

Severity = Literal["critical", "warning"]
Context = Mapping[str, Any]
"""`study` (jobs.config.Study, or None), `delivery` (YYYY-MM-DD) and `tables` (name -> DataFrame, those at hand)."""


@dataclass(frozen=True)
class Rule:
    """`name` says what holds. `violates` gives a boolean column that is true where it does not (NULL: it does).

    At most `share` of the table's rows may violate the rule.
    """

    name: str
    violates: Callable[[Context], Column]
    severity: Severity = "critical"
    share: float = 0.0


def unprepared(frame: DataFrame, _: Context) -> DataFrame:
    """The table as it is."""
    return frame


@dataclass(frozen=True)
class Expectations:
    """The rules of one table beyond its contract.

    `prepare` adds the columns of other rows and of the tables that it `looks_into`. It keeps the rows; where a table is
    not at hand it adds columns that violate nothing.
    """

    table: str
    rules: tuple[Rule, ...]
    prepare: Callable[[DataFrame, Context], DataFrame] = unprepared
    looks_into: tuple[str, ...] = ()
