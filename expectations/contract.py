"""The rules that follow from a table's contract: what may not be missing, which codes there are, what is unique."""

from __future__ import annotations

from pyspark.sql import functions as F

from expectations.rule import Rule
from schemas import Column, Table


def contract_rules(table: Table) -> list[Rule]:
    """One rule per column that may not be missing and per column with codes."""
    rules = []
    for column in table.columns:
        if not column.nullable:
            rules.append(_present(column))
        if column.codes:
            rules.append(_coded(column))
    return rules


def _present(column: Column) -> Rule:
    return Rule(f"{column.name} is present", lambda _: F.col(column.name).isNull())


def _coded(column: Column) -> Rule:
    return Rule(f"{column.name} is one of its codes", lambda _: ~F.col(column.name).isin(*column.codes))
