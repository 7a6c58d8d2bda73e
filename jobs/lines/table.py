"""The kernel over Arrow tables: a cohort and its exposures in, treatment lines and counts out, for every rule set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobs.config import RuleSet, Study
from jobs.lines import kernel, packed
from schemas import TABLES
from schemas.derived import LINE_REASONS

NARROW = pa.schema(
    [
        pa.field("person_id", pa.string()),  # of a cohort row; NULL elsewhere, for it is long
        pa.field("key", pa.int64()),  # the same for all rows of a person, and for nobody else's
        pa.field("row", pa.int64()),  # jobs.lines.packed
    ]
)
NEXT_STATE = {
    "death": "died",
    "emigration": "emigrated",
    "second_cancer": "second_cancer",
    "information_end": "information_end",
    "study_end": "alive",
}
RECORDS = pa.schema(
    [
        pa.field("rule_sets", pa.list_(pa.string())),  # those that give the person the same lines
        *(field for field in TABLES["treatment_lines"].arrow() if field.name != "rule_set"),
    ]
)
Masks = npt.NDArray[np.int64]
NO_TRACE = np.empty((0, kernel.TRACE_COLUMNS), np.int64)
OBSERVED = ("switch", "gap", "death")
END_REASONS = ("switch", "gap", *LINE_REASONS)  # the kernel's SWITCH, GAP, and FOLLOW_UP + the place of the reason
NEXT_STATES = (*(NEXT_STATE[why] for why in LINE_REASONS), "next_line")


@dataclass(frozen=True)
class LineRules:
    """A study's rule sets as the kernel takes them."""

    substances: tuple[str, ...]
    classes: tuple[str, ...]
    rule_sets: dict[str, kernel.Rules]

    @staticmethod
    def of(study: Study) -> LineRules:
        """The rule sets of a study file, with substances and classes in sorted order."""
        substances = tuple(sorted(study.drugs.line_defining))
        return LineRules(
            substances,
            tuple(sorted(study.drugs.classes)),
            {name: _kernel_rules(rules, substances) for name, rules in study.rule_sets.items()},
        )


def _kernel_rules(rules: RuleSet, substances: tuple[str, ...]) -> kernel.Rules:
    place = {substance: i for i, substance in enumerate(substances)}
    n = max(len(substances), 1)
    companion = np.full((n, n), -1, np.int32)
    for key, others in rules.companions.items():
        for other, days in others.items():
            if key in place and other in place:
                companion[place[key], place[other]] = days
    excludes = np.zeros(n, np.int64)
    for key, excluded in rules.excludes.items():
        if key in place:
            excludes[place[key]] = sum(1 << place[other] for other in excluded if other in place)

    def by_substance(days: dict[str, int]) -> npt.NDArray[np.int32]:
        return np.array([days.get(s, days.get("default", 0)) for s in substances] or [0], np.int32)

    return kernel.Rules(
        rules.combination_window_days,
        rules.gap_days,
        rules.index_lead_days,
        rules.carry_in_days,
        by_substance(rules.gap_days_by_substance),
        by_substance(rules.coverage_days),
        companion,
        excludes,
        np.int64(sum(1 << place for place, others in enumerate(excludes) if others)),
    )


def _sets(masks: npt.NDArray[np.int64], names: tuple[str, ...]) -> pa.Array:
    """Bit masks as sorted lists of names."""
    distinct, inverse = np.unique(masks, return_inverse=True)
    lists = [[name for bit, name in enumerate(names) if mask >> bit & 1] for mask in distinct.tolist()]
    return pa.array(lists, pa.list_(pa.string())).take(pa.array(inverse.astype(np.int64)))


def fold_rows(rows: pa.Table, rules: LineRules) -> tuple[pa.Table, pa.Table]:
    """Line records (RECORDS) and line counts (schemas.TABLES) of the people in `rows` (NARROW, any order).

    Rows of people without a cohort row are ignored; a person's rows must all be here. ValueError where two people have
    one key.
    """
    packed_rows = rows["row"].to_numpy()
    is_person = packed_rows & packed.PERSON == packed.PERSON
    keys = rows["key"].combine_chunks()
    people = rows.filter(pa.array(is_person))
    ids, own_keys = people["person_id"].combine_chunks(), people["key"].combine_chunks()
    if pc.count_distinct(own_keys).as_py() != len(own_keys):
        raise ValueError("two people have one key")
    index, end, reason = packed.unpack_people(packed_rows[is_person])
    person = pc.index_in(keys, value_set=own_keys).fill_null(-1).to_numpy().copy()
    person[is_person] = -1
    defining, classes = packed.histories(person, packed_rows, len(ids))
    parts, starts, counts, like_first = [], [], [], []
    before = 0
    first = next(iter(rules.rule_sets.values()))
    of_first = np.zeros((len(ids), len(kernel.COUNTED)), np.int64)
    limits = np.zeros((len(ids), kernel.LIMITS), np.int64)
    for name, rule in rules.rule_sets.items():
        is_first = rule is first
        passed_over = np.zeros(len(ids), bool) if is_first else _like_first(first, rule, limits, defining, index)
        counted = of_first if is_first else np.zeros_like(of_first)
        lines = kernel.fold_partition(
            *defining, index, end, rule, len(rules.substances), passed_over, counted, NO_TRACE,
            limits if is_first else np.empty_like(limits),
        )  # fmt: skip
        parts.append(lines)
        like_first.append(passed_over)
        starts.append(before + np.searchsorted(lines[:, 0], np.arange(len(ids) + 1)))
        before += len(lines)
        total = counted.sum(axis=0) + of_first[passed_over].sum(axis=0)
        counts += [(name, what, int(n)) for what, n in zip(kernel.COUNTED, total, strict=True)]
    columns = list(zip(*counts, strict=True))
    schema = TABLES["line_counts"].arrow()
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    lines, rule_sets = _without_repeats(np.concatenate(parts), np.stack(starts), np.stack(like_first))
    during, around = kernel.present_classes(
        lines, classes.starts, classes.what, classes.first, classes.until, len(rules.classes)
    )
    return _records(rules, lines, rule_sets, ids, end, reason, during, around), pa.table(arrays, schema=schema)


def _like_first(
    first: kernel.Rules, rules: kernel.Rules, limits: Masks, defining: packed.History, index: kernel.Ints
) -> npt.NDArray[np.bool_]:
    """The people for whom `rules` decide everything as the first rule set does, by the limits that it found.

    Gaps and windows within a person's limits change nothing; lead and carry-in nothing for people who were given
    nothing before the index. Anything else may.
    """
    same = np.full(len(index), all(
        np.array_equal(getattr(first, name), getattr(rules, name))
        for name in ("gap_of", "coverage_of", "companion", "excludes")
    ))  # fmt: skip
    if rules.gap != first.gap:
        within = (limits[:, kernel.LEAST_GAP] <= rules.gap) & (rules.gap <= limits[:, kernel.MOST_GAP])
        same &= within & ~first.gap_of.any()
    if rules.window != first.window:
        same &= (limits[:, kernel.LEAST_WINDOW] <= rules.window) & (rules.window <= limits[:, kernel.MOST_WINDOW])
    if rules.lead != first.lead or rules.carry_in != first.carry_in:
        has_rows = defining.starts[:-1] < defining.starts[1:]
        earliest = np.zeros(len(index), np.int64)
        earliest[has_rows] = defining.first[defining.starts[:-1][has_rows]]
        same &= ~has_rows | (earliest >= index)
    return same


def _without_repeats(
    lines: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], like_first: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Each person's lines once for all rule sets that give the same, and the set of those rule sets by line."""
    alike = kernel.first_alike(lines, starts, like_first)
    rule_sets = np.zeros_like(alike)
    for place, first in enumerate(alike):
        np.bitwise_or.at(rule_sets, (first, np.arange(alike.shape[1])), np.int64(1) << place)
    number = np.diff(starts, axis=1).ravel()
    kept = np.repeat((alike == np.arange(len(alike))[:, None]).ravel(), number)
    return lines[kept], np.repeat(rule_sets.ravel(), number)[kept]


def _records(
    rules: LineRules,
    lines: npt.NDArray[np.int64],
    rule_sets: npt.NDArray[np.int64],
    ids: pa.Array,
    follow_up_end: npt.NDArray[np.int32],
    reason: npt.NDArray[np.int32],
    during: npt.NDArray[np.int64],
    around: npt.NDArray[np.int64],
) -> pa.Table:
    person, number, regimen, start, end, ended = lines.T
    followed = np.zeros(len(lines), bool)
    followed[:-1] = (person[1:] == person[:-1]) & (number[1:] > number[:-1])
    next_start = np.zeros(len(lines), np.int64)
    next_start[:-1] = start[1:]
    why = np.where(ended == kernel.FOLLOW_UP, kernel.FOLLOW_UP + reason[person], ended)
    state = np.where(followed, len(LINE_REASONS), reason[person])
    values = {
        "rule_sets": _sets(rule_sets, tuple(rules.rule_sets)),
        "person_id": ids.take(pa.array(person)),
        "line_number": number.astype(np.int32),
        "regimen": _sets(regimen, rules.substances),
        "line_start": pa.array(start.astype(np.int32), pa.int32()).cast(pa.date32()),
        "line_end": pa.array(end.astype(np.int32), pa.int32()).cast(pa.date32()),
        "duration_days": (end - start).astype(np.int32),
        "end_reason": pa.array(END_REASONS).take(pa.array(why)),
        "end_observed": np.isin(END_REASONS, OBSERVED)[why],
        "next_state": pa.array(NEXT_STATES).take(pa.array(state)),
        "next_state_date": pa.array(
            np.where(followed, next_start, follow_up_end[person]).astype(np.int32), pa.int32()
        ).cast(pa.date32()),
        "concomitant": _sets(during, rules.classes),
        "concomitant_at_start": _sets(around, rules.classes),
    }
    return pa.table([pa.array(values[column]) for column in RECORDS.names], schema=RECORDS)


def narrow_rows(cohort: pa.Table, exposures: pa.Table, rules: LineRules) -> pa.Table:
    """The cohort (person_id, index_date, follow_up_end, follow_up_end_reason) and exposures (schemas) as NARROW."""

    def days(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
        return np.asarray(column.cast(pa.date32()).cast(pa.int32()), np.int64)

    def place(column: pa.ChunkedArray, names: tuple[str, ...]) -> pa.ChunkedArray:
        return pc.index_in(column, value_set=pa.array(names, pa.string()))

    reason = np.asarray(place(cohort["follow_up_end_reason"], LINE_REASONS), np.int64)
    people = pa.table(
        [
            cohort["person_id"],
            np.arange(cohort.num_rows),
            packed.pack_people(days(cohort["index_date"]), days(cohort["follow_up_end"]), reason),
        ],
        schema=NARROW,
    )
    substance, class_ = place(exposures["substance"], rules.substances), place(exposures["class"], rules.classes)
    what = pc.coalesce(substance, pc.add(class_, packed.CLASS))
    key = pc.index_in(exposures["person_id"], value_set=cohort["person_id"].combine_chunks())
    counts_cover = np.asarray(pc.or_(pc.is_valid(substance), pc.equal(exposures["source"], "dispensing")))
    given_to = days(exposures["given_to"])
    until = np.where(counts_cover, days(exposures["covered_until"]), given_to + 1)
    row = packed.pack(np.asarray(what.fill_null(0), np.int64), days(exposures["given_from"]), given_to, until)
    events = pa.table([pa.nulls(len(row), pa.string()), key.cast(pa.int64()), row], schema=NARROW)
    return pa.concat_tables([people, events.filter(pc.and_(pc.is_valid(what), pc.is_valid(key)))])


def lines_of(cohort: pa.Table, exposures: pa.Table, study: Study) -> tuple[pa.Table, pa.Table]:
    """Treatment lines and line counts without Spark, for a notebook: the same results as the stage `lines`.

    `cohort` needs person_id, index_date, follow_up_end, follow_up_end_reason; `exposures` is as in schemas. Data frames
    become tables by `pyarrow.Table.from_pandas`.
    """
    rules = LineRules.of(study)
    records, counts = fold_rows(narrow_rows(cohort, exposures, rules), rules)
    rule_set = pc.list_flatten(records["rule_sets"])
    each = records.take(pc.list_parent_indices(records["rule_sets"])).append_column("rule_set", rule_set)
    return each.select(TABLES["treatment_lines"].column_names), counts
