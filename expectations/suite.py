"""The Great Expectations suite of a table. It judges one row: `rows`, and for each rule what violates it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from expectations.contract import contract_rules
from expectations.rule import Rule
from schemas import TABLES

if TYPE_CHECKING:
    from great_expectations import ExpectationSuite

ROWS = "rows"
HAS_COLUMNS, HAS_ROWS, IS_UNIQUE = "columns are those of the contract", "table has rows", "key is unique"


def rules_of(name: str) -> list[Rule]:
    """Every rule on a table's rows: its contract's, then its own."""
    from expectations import EXPECTATIONS

    return [*contract_rules(TABLES[name]), *EXPECTATIONS[name].rules]


def suite_of(name: str) -> ExpectationSuite:
    """The suite of a table: an expectation per rule, on the column of that name.

    The column holds the number of violating rows, for a rule with a share that share of the rows. The names and
    severities are those of the rules; nothing in a suite depends on data.
    """
    from great_expectations import ExpectationSuite
    from great_expectations.expectations.core.expect_column_values_to_be_between import (
        ExpectColumnValuesToBeBetween as Between,
    )
    from great_expectations.expectations.metadata_types import FailureSeverity

    critical = FailureSeverity.CRITICAL
    judged = []
    if not TABLES[name].may_be_empty:
        judged.append(Between(column=ROWS, min_value=1, severity=critical, description=HAS_ROWS))
    for whole in (HAS_COLUMNS, IS_UNIQUE):
        judged.append(Between(column=whole, max_value=0, severity=critical, description=whole))
    for rule in rules_of(name):
        severity = FailureSeverity(rule.severity)
        judged.append(Between(column=rule.name, max_value=rule.share, severity=severity, description=rule.name))
    return ExpectationSuite(name=name, expectations=judged)
