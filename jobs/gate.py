"""The gate after a write: one scan counts what violates each rule, a Great Expectations suite judges the counts.

Where rows were added to a table that passed, and its rules look at a row alone, only the added ones are counted.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from pyspark.sql import functions as F

from expectations import EXPECTATIONS, HAS_COLUMNS, HAS_ROWS, IS_UNIQUE, rules_of, suite_of
from expectations.rule import unprepared
from expectations.suite import ROWS
from jobs.deliveries import extent, within
from jobs.errors import QualityError
from jobs.flags import BITS, flags
from schemas import TABLES, Table

if TYPE_CHECKING:
    import pyarrow as pa
    from great_expectations import ExpectationSuite
    from great_expectations.core.batch_definition import BatchDefinition
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
    from pyspark.sql import DataFrame

_ONE_AT_A_TIME = threading.RLock()
ALL, REPEATED, COUNTED = -1, -2, -3
PARTS, KEYS_AT_A_TIME = 64, 1 << 16  # a thousand keys in a cell: a batch of cells to Python stays small


@dataclass(frozen=True)
class RuleOutcome:
    """What became of one rule on one table: how many of its rows violate it, and whether that is too many."""

    rule: str
    severity: str
    passed: bool
    violations: int
    rows: int


def check_table(name: str, frame: DataFrame, context: Mapping[str, Any]) -> list[RuleOutcome]:
    """The outcome of every rule of a table, in the order of its suite. `context`: see expectations.rule.Context.

    One Spark action. A table whose columns are not those of its contract is judged on that alone.
    """
    strange = _strange_columns(TABLES[name], frame)
    if strange:
        counts = dict.fromkeys([ROWS, IS_UNIQUE, *(rule.name for rule in rules_of(name))], 0)
        return [one for one in judge(name, {**counts, HAS_COLUMNS: strange}) if one.rule == HAS_COLUMNS]
    return judge(name, count_violations(name, frame, context))


def looks_at_rows_alone(name: str) -> bool:
    """Whether no rule of the table looks at other rows or tables, but for the uniqueness of its key."""
    return EXPECTATIONS[name].prepare is unprepared


def looks_into(name: str) -> tuple[str, ...]:
    """The other tables that rules of the table look into."""
    return EXPECTATIONS[name].looks_into


def check_added(
    name: str,
    frame: DataFrame,
    delivery: str,
    day: str | None,
    compared: bool,
    before: Mapping[str, int],
    context: Mapping[str, Any],
) -> list[RuleOutcome]:
    """The same outcomes for a table that passed with `before` (`rows`, and violations by rule) and to which nothing but
    the rows of a new delivery was added since.

    Of the others only the columns of the key are read; where rows of the same key have the same `day` (see
    jobs.deliveries.day_of), only those of the days that were added; where they were `compared` already, and have no key
    of the added rows, none. ValueError for a table whose rules look further than a row.
    """
    if not looks_at_rows_alone(name):
        raise ValueError(f"a row of {name} cannot be judged alone")
    key = TABLES[name].key
    added = frame.where(F.col("delivery") == delivery).persist()
    try:
        more = _counted(name, added, context)
        repeated = more[REPEATED]
        if "delivery" not in key and not compared:  # rows of other deliveries may have the same
            hashed = F.xxhash64(*key).alias("key")
            keys = added.select(hashed).distinct()
            near = frame if day is None else within(frame, day, extent(day, added)[1])
            repeated = near.select(hashed).join(keys, "key", "left_semi").count() - (more[ALL] - repeated)
    finally:
        added.unpersist()
    counts = {rule.name: before[rule.name] + more[place] for place, rule in enumerate(rules_of(name))}
    unique = {IS_UNIQUE: _repeated(frame, key) if repeated else 0}
    return judge(name, {HAS_COLUMNS: 0, ROWS: before[ROWS] + more[ALL], **unique, **counts})


def raise_if_critical(judged: Mapping[str, Sequence[RuleOutcome]], shown_at: str = "") -> None:
    """QualityError with the names and counts of all critical rules that failed, by table. `shown_at`: the page that
    shows them, below `out`."""
    said = []
    for table, outcomes in judged.items():
        failed = [outcome for outcome in outcomes if outcome.severity == "critical" and not outcome.passed]
        if failed:
            said.append(f"table {table} fails its gate: {'; '.join(map(_said, failed))}")
    if said:
        see = f"; {shown_at} below out shows every rule" if shown_at else ""
        raise QualityError(f"{'; '.join(said)}; correct the source or its adapter and run again{see}")


def _said(outcome: RuleOutcome) -> str:
    if outcome.rule in (HAS_ROWS, HAS_COLUMNS):
        return f"not true: {outcome.rule}"
    return f"not true: {outcome.rule}, in {outcome.violations:,} of {outcome.rows:,} rows"


def _strange_columns(table: Table, frame: DataFrame) -> int:
    """How many columns are missing, too many, or of another type than the contract's."""
    expected = {(column.name, column.type) for column in table.columns}
    found = {(field.name, field.dataType.simpleString()) for field in frame.schema.fields}
    return len({name for name, _ in expected ^ found})


def count_violations(name: str, frame: DataFrame, context: Mapping[str, Any]) -> dict[str, int]:
    """`rows`, and by rule the number of rows that violate it (by key: rows beyond the first of each key).

    One scan. Of each row a hash of its key travels to where the equal hashes come together, many in one cell; the rules
    that it violates are counted where it is read. Where hashes of 64 bits repeat, which unequal keys may do once in ten
    thousand tables of 60 million rows, 96 bits decide. Hashes pass over NULL, so no key may have two nullable columns
    that could be exchanged.
    """
    counts = _counted(name, frame, context)
    repeated = _repeated(frame, TABLES[name].key) if counts[REPEATED] else 0
    by_rule = {rule.name: counts[place] for place, rule in enumerate(rules_of(name))}
    return {HAS_COLUMNS: 0, ROWS: counts[ALL], IS_UNIQUE: repeated, **by_rule}


def _repeated(frame: DataFrame, key: Sequence[str]) -> int:
    """Rows beyond the first of each key, by 96 bits of hash."""
    distinct = F.count_distinct(F.xxhash64(*key), F.hash(*key))
    return int(frame.agg(F.count("*") - distinct).collect()[0][0])


def _counted(name: str, frame: DataFrame, context: Mapping[str, Any]) -> Counter[int]:
    """ALL, REPEATED (by 64 bits of hash) and, by a rule's place, the rows that violate it."""
    rules = rules_of(name)
    if len(rules) > BITS:
        raise ValueError(f"{name} has more rules than bits")
    (broken,) = flags(rule.violates(context) for rule in rules).values()
    of_row = (
        EXPECTATIONS[name]
        .prepare(frame, context)
        .select(F.xxhash64(*TABLES[name].key).alias("key"), broken.alias("broken"))
    )
    packed = of_row.mapInArrow(_pack, "part int, packed binary").repartition("part")
    counts: Counter[int] = Counter()
    for what, n in packed.mapInArrow(_count, "what int, n long").collect():
        counts[what] += n
    return counts


def _pack(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """(part, packed): many numbers of 64 bits in one cell, so that few rows travel. In part COUNTED the number of rows,
    and of rows by bit; in the other parts keys, those that are equal in the same part."""
    import numpy as np
    import pyarrow as pa

    def told(parts: Iterable[int], numbers: Iterable[np.ndarray[Any, Any]]) -> pa.RecordBatch:
        cells = pa.array([one.tobytes() for one in numbers], pa.binary())
        return pa.RecordBatch.from_pydict({"part": pa.array(parts, pa.int32()), "packed": cells})

    def by_part(keys: list[np.ndarray[Any, Any]]) -> pa.RecordBatch:
        together = np.concatenate(keys)
        together.sort()
        lowest = np.arange(-PARTS // 2 + 1, PARTS // 2) * (2**64 // PARTS)
        return told(range(PARTS), np.split(together, np.searchsorted(together, lowest)))

    keys, held = [], 0
    counts = np.zeros(1 + BITS, np.int64)
    for batch in batches:
        keys.append(batch.column(0).to_numpy(zero_copy_only=False))
        held += len(keys[-1])
        broken = batch.column(1).to_numpy(zero_copy_only=False)
        broken = broken[broken != 0]
        counts[0] += len(keys[-1])
        if len(broken):
            counts[1:] += [int(((broken >> place) & 1).sum()) for place in range(BITS)]
        if held >= KEYS_AT_A_TIME:
            yield by_part(keys)
            keys, held = [], 0
    if held:
        yield by_part(keys)
    yield told([COUNTED], [counts])


def _count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """(what, n) of what `_pack` gives: ALL rows, rows by bit, and REPEATED, keys that are those of another row."""
    import numpy as np
    import pyarrow as pa

    parts: dict[int, list[np.ndarray[Any, Any]]] = {}
    for batch in batches:
        for part, packed in zip(batch.column(0).to_pylist(), batch.column(1), strict=True):
            parts.setdefault(part, []).append(np.frombuffer(packed.as_buffer(), np.int64))
    counts = Counter[int]()
    for numbers in parts.pop(COUNTED, []):
        counts.update({ALL: int(numbers[0]), **{place: int(n) for place, n in enumerate(numbers[1:]) if n}})
    while parts:
        keys = np.concatenate(parts.popitem()[1])
        keys.sort()
        counts[REPEATED] += int((keys[1:] == keys[:-1]).sum())
    yield pa.RecordBatch.from_pydict(
        {"what": pa.array(counts.keys(), pa.int32()), "n": pa.array(counts.values(), pa.int64())}
    )


def judge(name: str, counts: Mapping[str, int]) -> list[RuleOutcome]:
    """What the suite of a table says of `counts`: `rows`, and violations by rule."""
    import pandas as pd

    rows = counts[ROWS]
    with_share = {rule.name for rule in rules_of(name) if rule.share > 0}
    judged = {column: n / max(rows, 1) if column in with_share else n for column, n in counts.items()}
    violations = {**counts, HAS_ROWS: int(rows == 0)}
    with _quiet():
        batch = _batch_definition().get_batch({"dataframe": pd.DataFrame([judged])})
        result = batch.validate(_suite(name), result_format="BOOLEAN_ONLY")
    outcomes = []
    for one in result.results:
        config = cast("ExpectationConfiguration", one.expectation_config)
        rule = str(config.description)
        outcomes.append(RuleOutcome(rule, config.severity.value, bool(one.success), violations[rule], rows))
    return outcomes


@contextmanager
def _quiet() -> Iterator[None]:
    """One table at a time: neither Great Expectations nor the filter of warnings belongs to a thread."""
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@functools.cache
def _batch_definition() -> BatchDefinition[Any]:
    """Great Expectations in memory, once per process: no files, no telemetry, no progress bars, no log lines."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    logging.getLogger("great_expectations").setLevel(logging.CRITICAL)
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("counts").add_dataframe_asset("counts")
    return asset.add_batch_definition_whole_dataframe("counts")


@functools.cache
def _suite(name: str) -> ExpectationSuite:
    return suite_of(name)
