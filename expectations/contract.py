"""The rules that follow from a table's contract."""

from __future__ import annotations

from pyspark.sql import Column as Condition
from pyspark.sql import functions as F

from expectations.rule import Context, Rule
from schemas import Column, Table

PSEUDONYM_DIGITS = 32


def contract_rules(table: Table) -> list[Rule]:
    """What may not be missing, which codes there are, that identifiers are pseudonyms, that precision has a date.

    That the key is unique, that there are rows and which columns there are is no matter of one row: see
    expectations/suite.py.
    """
    rules = []
    for column in table.columns:
        if not column.nullable:
            rules.append(_present(column))
        if column.codes:
            rules.append(_coded(column))
        if column.identifies:
            rules.append(_pseudonym(column))
        if column.name.endswith("_precision"):
            rules.append(_has_date(column))
    return rules


def _present(column: Column) -> Rule:
    return Rule(f"{column.name} is present", lambda _: F.col(column.name).isNull())


def _coded(column: Column) -> Rule:
    return Rule(f"{column.name} is one of its codes", lambda _: ~F.col(column.name).isin(*column.codes))


def _pseudonym(column: Column) -> Rule:
    def violates(_: Context) -> Condition:
        # Cheaper than a regular expression: what decodes as hexadecimal, in lower case, of the right length.
        text = F.col(column.name)
        is_strange = F.unhex(text).isNull() | (F.octet_length(text) != PSEUDONYM_DIGITS) | (F.lower(text) != text)
        return text.isNotNull() & is_strange

    return Rule(f"{column.name} is a pseudonym", violates)


def _has_date(column: Column) -> Rule:
    date = column.name.removesuffix("_precision")
    return Rule(
        f"{column.name} is only where {date} is",
        lambda _: F.col(column.name).isNotNull() & F.col(date).isNull(),
        "warning",
    )
