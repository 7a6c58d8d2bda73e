"""What an expectation is here: a condition on a row that must not hold, its severity, and how often it may."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

Severity = Literal["critical", "warning"]
Context = Mapping[str, Any]  # study (or None), delivery (YYYY-MM-DD), tables (name -> DataFrame)


@dataclass(frozen=True)
class Rule:
    """`violates` gives a boolean column (NULL: no violation). At most `share` of the rows may violate it."""

    name: str
    violates: Callable[[Context], Column]
    severity: Severity = "critical"
    share: float = 0.0


@dataclass(frozen=True)
class Expectations:
    """The rules of one table beyond its contract; `prepare` adds the columns of other rows or tables they need."""

    table: str
    rules: tuple[Rule, ...] = ()
    prepare: Callable[[DataFrame, Context], DataFrame] = lambda frame, _: frame
