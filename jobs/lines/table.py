"""The kernel over Arrow tables: a cohort and its exposures in, treatment lines and counts out, for every rule set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobs.config import RuleSet, Study
from jobs.lines import kernel
from schemas import TABLES
from schemas.derived import LINE_REASONS

PERSON_ROW = -1  # `what` of a cohort row; line-defining substances count from 0, other classes from CLASS on
CLASS = 64

NARROW = pa.schema(
    [
        pa.field("person_id", pa.string()),
        pa.field("what", pa.int8()),
        pa.field("day", pa.int32()),  # given_from; of a cohort row the index date
        pa.field("last", pa.int32()),  # given_to; of a cohort row the end of follow-up
        pa.field("until", pa.int32()),  # covered_until; of a cohort row the place of its reason in LINE_REASONS
    ]
)
NEXT_STATE = {
    "death": "died",
    "emigration": "emigrated",
    "second_cancer": "second_cancer",
    "information_end": "information_end",
    "study_end": "alive",
}
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


def _starts(codes: npt.NDArray[np.int64], people: int) -> npt.NDArray[np.int64]:
    return np.searchsorted(codes, np.arange(people + 1))


def _sets(masks: npt.NDArray[np.int64], names: tuple[str, ...]) -> pa.Array:
    """Bit masks as sorted lists of names."""
    distinct, inverse = np.unique(masks, return_inverse=True)
    lists = [[name for bit, name in enumerate(names) if mask >> bit & 1] for mask in distinct.tolist()]
    return pa.array(lists, pa.list_(pa.string())).take(pa.array(inverse.astype(np.int64)))


def fold_rows(rows: pa.Table, rules: LineRules) -> tuple[pa.Table, pa.Table]:
    """Treatment lines and line counts (schemas.TABLES) of the people in `rows` (NARROW, any order).

    Rows of people without a cohort row are ignored; a person's rows must all be here.
    """
    people = rows.filter(pc.equal(rows["what"], PERSON_ROW)).combine_chunks()
    ids = people["person_id"].combine_chunks() if people.num_rows else pa.array([], pa.string())
    index, end, reason = (people[name].to_numpy() for name in ("day", "last", "until"))
    events = rows.filter(pc.greater(rows["what"], PERSON_ROW))
    person = pc.index_in(events["person_id"], value_set=ids)
    events = events.set_column(0, "person", person).filter(pc.is_valid(person))
    codes = events["person"].to_numpy().astype(np.int64)
    day = events["day"].to_numpy()
    order = np.argsort(codes << 32 | (day.astype(np.int64) + 2**31), kind="stable")
    what = events["what"].to_numpy()[order]
    codes = codes[order]
    defining = what < CLASS
    first_day = day[order]
    last = events["last"].to_numpy()[order]
    until = events["until"].to_numpy()[order]

    def part(chosen: npt.NDArray[np.bool_], base: int) -> list[kernel.Ints]:
        return [np.ascontiguousarray(c[chosen], np.int32) for c in (what - base, first_day, last, until)]

    starts, class_starts = _starts(codes[defining], len(ids)), _starts(codes[~defining], len(ids))
    substance, given_from, given_to, covered = part(defining, 0)
    class_, class_from, _, class_until = part(~defining, CLASS)
    parts, counts = [], []
    for name, rule in rules.rule_sets.items():
        counted = np.zeros(len(kernel.COUNTED), np.int64)
        lines = kernel.fold_partition(
            starts, substance, given_from, given_to, covered, index, end, rule, len(rules.substances), counted
        )
        during, around = kernel.present_classes(
            lines, class_starts, class_, class_from, class_until, len(rules.classes)
        )
        parts.append(_line_table(name, rules, lines, ids, end, reason, during, around))
        counts += [(name, what_, int(n)) for what_, n in zip(kernel.COUNTED, counted, strict=True)]
    columns = list(zip(*counts, strict=True)) if counts else [(), (), ()]
    schema = TABLES["line_counts"].arrow()
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    empty = TABLES["treatment_lines"].arrow().empty_table()
    return pa.concat_tables([empty, *parts]), pa.table(arrays, schema=schema)


def _line_table(
    name: str,
    rules: LineRules,
    lines: npt.NDArray[np.int64],
    ids: pa.Array,
    follow_up_end: npt.NDArray[np.int32],
    reason: npt.NDArray[np.int32],
    during: npt.NDArray[np.int64],
    around: npt.NDArray[np.int64],
) -> pa.Table:
    person, number, regimen, start, end, ended = lines.T
    followed = np.zeros(len(lines), bool)
    followed[:-1] = person[1:] == person[:-1]
    next_start = np.zeros(len(lines), np.int64)
    next_start[:-1] = start[1:]
    why = np.where(ended == kernel.FOLLOW_UP, kernel.FOLLOW_UP + reason[person], ended)
    state = np.where(followed, len(LINE_REASONS), reason[person])
    values = {
        "rule_set": pa.repeat(pa.scalar(name), len(lines)),
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
    schema = TABLES["treatment_lines"].arrow()
    return pa.table([pa.array(values[column]) for column in schema.names], schema=schema)


def narrow_rows(cohort: pa.Table, exposures: pa.Table, rules: LineRules) -> pa.Table:
    """The cohort (person_id, index_date, follow_up_end, follow_up_end_reason) and exposures (schemas) as NARROW."""

    def days(column: pa.ChunkedArray) -> pa.ChunkedArray:
        return column.cast(pa.date32()).cast(pa.int32())

    reason = pc.index_in(cohort["follow_up_end_reason"], value_set=pa.array(LINE_REASONS))
    people = pa.table(
        [
            cohort["person_id"],
            pa.array(np.full(cohort.num_rows, PERSON_ROW, np.int8)),
            days(cohort["index_date"]),
            days(cohort["follow_up_end"]),
            reason,
        ],
        schema=NARROW,
    )
    substance = pc.index_in(exposures["substance"], value_set=pa.array(rules.substances, pa.string()))
    class_ = pc.add(pc.index_in(exposures["class"], value_set=pa.array(rules.classes, pa.string())), CLASS)
    what = pc.coalesce(substance, class_)
    given_to, covered = days(exposures["given_to"]), days(exposures["covered_until"])
    is_tablet_class = pc.or_(pc.is_valid(substance), pc.equal(exposures["source"], "dispensing"))
    until = pc.if_else(is_tablet_class, covered, pc.add(given_to, 1))
    events = pa.table(
        [exposures["person_id"], what.cast(pa.int8()), days(exposures["given_from"]), given_to, until],
        schema=NARROW,
    ).filter(pc.is_valid(what))
    return pa.concat_tables([people, events])


def lines_of(cohort: pa.Table, exposures: pa.Table, study: Study) -> tuple[pa.Table, pa.Table]:
    """Treatment lines and line counts without Spark, for a notebook: the same results as the stage `lines`.

    `cohort` needs person_id, index_date, follow_up_end, follow_up_end_reason; `exposures` is as in schemas.
    """
    rules = LineRules.of(study)
    return fold_rows(narrow_rows(cohort, exposures, rules), rules)
