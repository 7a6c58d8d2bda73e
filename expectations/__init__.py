"""One suite of expectations per table: the rules that follow from its contract and those written for it."""

from expectations.conformed import CONFORMED
from expectations.contract import contract_rules
from expectations.derived import DERIVED
from expectations.rule import Context, Expectations, Rule

EXPECTATIONS = {entry.table: entry for entry in (*CONFORMED, *DERIVED)}

__all__ = ["EXPECTATIONS", "Context", "Expectations", "Rule", "contract_rules"]
