"""One suite of expectations per table: the rules that follow from its contract and those written for it."""

from expectations.conformed import CONFORMED
from expectations.contract import contract_rules
from expectations.derived import DERIVED
from expectations.rule import Context, Expectations, Rule
from expectations.suite import HAS_COLUMNS, HAS_ROWS, IS_UNIQUE, rules_of, suite_of

EXPECTATIONS = {entry.table: entry for entry in (*CONFORMED, *DERIVED)}

__all__ = [
    "EXPECTATIONS",
    "HAS_COLUMNS",
    "HAS_ROWS",
    "IS_UNIQUE",
    "Context",
    "Expectations",
    "Rule",
    "contract_rules",
    "rules_of",
    "suite_of",
]
