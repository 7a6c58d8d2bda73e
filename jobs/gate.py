"""The gate after a write: one native aggregate counts what violates each rule, a Great Expectations suite judges."""

from __future__ import annotations

import functools
import logging
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from expectations import EXPECTATIONS, Context, Rule, contract_rules
from jobs.errors import QualityError
from schemas import TABLES

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

HAS_ROWS, UNIQUE = "table has rows", "key is unique"


@dataclass(frozen=True)
class RuleOutcome:
    """What became of one rule on one table."""

    rule: str
    severity: str
    passed: bool
    violations: int
    rows: int


def count_violations(name: str, frame: DataFrame, context: Context) -> dict[str, int]:
    """`rows` and, by rule, the number of rows that violate it: one aggregate, one row back."""
    expectations = EXPECTATIONS[name]
    key = F.count_distinct(F.struct(*TABLES[name].key))
    columns = [F.count("*").alias("rows"), (F.count("*") - key).alias(UNIQUE)]
    for rule in _rules(name):
        columns.append(F.count_if(F.coalesce(rule.violates(context), F.lit(False))).alias(rule.name))
    row = expectations.prepare(frame, context).agg(*columns).collect()[0]
    return {column: int(row[column]) for column in row.asDict()}


def _rules(name: str) -> list[Rule]:
    return [*contract_rules(TABLES[name]), *EXPECTATIONS[name].rules]


@functools.cache
def _context() -> Any:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    logging.getLogger("great_expectations").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import great_expectations as gx

        context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    return context


def judge(name: str, counts: dict[str, int]) -> list[RuleOutcome]:
    """The suite of a table on its counts."""
    import pandas as pd

    context = _context()
    import great_expectations as gx

    rows = counts["rows"]
    limits: list[tuple[str, str, int]] = [(UNIQUE, "critical", 0)]
    limits += [(rule.name, rule.severity, int(rule.share * rows)) for rule in _rules(name)]
    suite = gx.ExpectationSuite(name=name)
    if not TABLES[name].may_be_empty:
        suite.add_expectation(
            gx.expectations.ExpectColumnValuesToBeBetween(column="rows", min_value=1, severity="critical")
        )
    for rule, severity, most in limits:
        suite.add_expectation(
            gx.expectations.ExpectColumnValuesToBeBetween(column=rule, max_value=most, severity=severity)
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = context.data_sources.add_or_update_pandas(name)
        batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("counts").get_batch(
            {"dataframe": pd.DataFrame([counts])}
        )
        result = batch.validate(suite, result_format="BOOLEAN_ONLY")
    passed = {r.expectation_config.kwargs["column"]: bool(r.success) for r in result.results}
    outcomes = [RuleOutcome(rule, severity, passed[rule], counts[rule], rows) for rule, severity, _ in limits]
    if "rows" in passed:
        outcomes.insert(0, RuleOutcome(HAS_ROWS, "critical", passed["rows"], int(rows == 0), rows))
    return outcomes


def check_table(name: str, frame: DataFrame, context: Context) -> list[RuleOutcome]:
    """The outcome of every rule of a table: its contract's and its own."""
    return judge(name, count_violations(name, frame, context))


def raise_if_critical(table: str, outcomes: Sequence[RuleOutcome]) -> None:
    """QualityError with the names and counts of the critical rules that failed."""
    failed = [outcome for outcome in outcomes if outcome.severity == "critical" and not outcome.passed]
    if failed:
        said = "; ".join(f"{o.rule}: {o.violations:,} of {o.rows:,} rows do not" for o in failed)
        raise QualityError(f"table {table} fails its gate: {said}; see quarantine and the source")
