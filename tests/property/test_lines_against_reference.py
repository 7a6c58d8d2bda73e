"""The kernel against the plain-Python reference on random people, and the properties that must hold for any input."""

from __future__ import annotations

import random
from collections import Counter
from datetime import date, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.config import Study
from jobs.lines.table import lines_of
from tests.property.reference import Exposure, Line, Rules, reference_lines

SUBSTANCES = ("a", "b", "c", "d")
REAL = ("lapatinib", "pertuzumab", "trastuzumab", "trastuzumab_emtansine")  # stand for a, b, c, d
NAME = dict(zip(SUBSTANCES, REAL, strict=True))
EPOCH = date(2015, 1, 1)
REASONS = ("death", "emigration", "second_cancer", "information_end", "study_end")
Person = tuple[list[Exposure], int, str]  # exposures, follow-up end, reason; the index is day 0


def _day(number: int) -> date:
    return EPOCH + timedelta(days=number)


def _study(rule_sets: dict[str, Rules]) -> Study:
    def renamed(rules: Rules) -> dict[str, Any]:
        return {
            "combination_window_days": rules.combination_window_days,
            "gap_days": rules.gap_days,
            "gap_days_by_substance": {NAME[s]: g for s, g in rules.gap_days_by_substance.items()},
            "companions": {NAME[s]: {NAME[o]: d for o, d in of.items()} for s, of in rules.companions.items()},
            "excludes": {NAME[s]: [NAME[o] for o in others] for s, others in rules.excludes.items()},
            "index_lead_days": rules.index_lead_days,
            "carry_in_days": rules.carry_in_days,
            "coverage_days": {NAME[s]: d for s, d in rules.coverage_days.items()},
        }

    return Study.model_validate(
        {
            "name": "random",
            "period": {"index_from": "2012-01-01", "index_until": "2020-01-01", "follow_up_until": "2030-01-01"},
            "cohort": {"tumour": {"icd10": ["C50"]}, "index": "diagnosis"},
            "drugs": {"line_defining": list(REAL), "classes": ["chemotherapy"]},
            "rule_sets": {name: renamed(rules) for name, rules in rule_sets.items()},
        }
    )


def kernel_lines(people: list[Person], rule_sets: dict[str, Rules]) -> dict[str, list[list[Line]]]:
    """The lines of each person for each rule set, as the kernel gives them."""
    return kernel_lines_and_counts(people, rule_sets)[0]


def kernel_lines_and_counts(
    people: list[Person], rule_sets: dict[str, Rules]
) -> tuple[dict[str, list[list[Line]]], dict[str, Counter[str]]]:
    """The same with what is counted by rule set; zeros left out."""
    cohort = pa.table(
        {
            "person_id": [str(i) for i in range(len(people))],
            "index_date": pa.array([EPOCH] * len(people), pa.date32()),
            "follow_up_end": pa.array([_day(end) for _, end, _ in people], pa.date32()),
            "follow_up_end_reason": [reason for _, _, reason in people],
        }
    )
    rows = [(str(i), e) for i, (exposures, _, _) in enumerate(people) for e in exposures]
    exposures = pa.table(
        {
            "person_id": pa.array([person for person, _ in rows], pa.string()),
            "substance": pa.array([NAME[e.substance] for _, e in rows], pa.string()),
            "class": pa.array(["anti_her2"] * len(rows), pa.string()),
            "given_from": pa.array([_day(e.given_from) for _, e in rows], pa.date32()),
            "given_to": pa.array([_day(e.given_to) for _, e in rows], pa.date32()),
            "covered_until": pa.array([_day(e.covered_until) for _, e in rows], pa.date32()),
            "source": pa.array(["hospital_drug"] * len(rows), pa.string()),
        }
    )
    lines, counts = lines_of(cohort, exposures, _study(rule_sets))
    letters = {real: letter for letter, real in NAME.items()}
    found: dict[str, list[list[Line]]] = {name: [[] for _ in people] for name in rule_sets}
    for row in lines.to_pylist():
        of_person = found[row["rule_set"]][int(row["person_id"])]
        assert row["line_number"] == len(of_person) + 1
        assert row["duration_days"] == (row["line_end"] - row["line_start"]).days
        assert row["end_observed"] == (row["end_reason"] in ("switch", "gap", "death"))
        of_person.append(
            Line(
                (row["line_start"] - EPOCH).days,
                (row["line_end"] - EPOCH).days,
                frozenset(letters[name] for name in row["regimen"]),
                row["end_reason"],
            )
        )
    counted: dict[str, Counter[str]] = {name: Counter() for name in rule_sets}
    for row in counts.to_pylist():
        counted[row["rule_set"]][row["counted"]] = row["n"]
    return found, {name: +of for name, of in counted.items()}


def random_rules(r: random.Random) -> Rules:
    gap = r.choice([1, 5, 20, 45, 90, 90, 90, 180])
    excludes: dict[str, tuple[str, ...]] = {}
    for place, s in enumerate(SUBSTANCES):
        below = SUBSTANCES[:place]
        if below and r.random() < 0.4:
            excludes[s] = tuple(r.sample(below, r.randint(1, len(below))))
    companions: dict[str, dict[str, int]] = {}
    for s in SUBSTANCES:
        if r.random() < 0.4:
            companions[s] = {r.choice(SUBSTANCES): r.randint(0, 150)}
    return Rules(
        combination_window_days=r.choice([0, 1, 7, 28, 28, 60]),
        gap_days=gap,
        gap_days_by_substance={s: r.randint(1, 200) for s in SUBSTANCES if r.random() < 0.15},
        companions=companions,
        excludes=excludes,
        index_lead_days=r.randint(0, min(gap, 90)),
        carry_in_days=r.choice([0, 30, 90, 200]),
        coverage_days={s: r.randint(1, 60) for s in SUBSTANCES if r.random() < 0.15},
    )


def changed(r: random.Random, rules: Rules) -> Rules:
    """The rules with one or two of the numbers changed that rule sets of a study differ in."""
    gap = r.choice([1, 20, 45, 89, 90, 91, 120, 180, 200])
    choices: dict[str, Any] = {
        "combination_window_days": r.choice([0, 1, 6, 7, 8, 27, 28, 29, 30, 60, 90]),
        "gap_days": max(gap, rules.index_lead_days),
        "index_lead_days": r.randint(0, min(rules.gap_days, 90)),
        "carry_in_days": r.choice([0, 30, 90, 200]),
    }
    names = r.sample(sorted(choices), r.choice([1, 1, 2]))
    if set(names) >= {"gap_days", "index_lead_days"}:
        names = names[:1]
    return Rules(**{**rules.__dict__, **{name: choices[name] for name in names}})


def random_person(r: random.Random) -> Person:
    exposures = []
    for _ in range(r.randint(0, 5)):
        s, start = r.choice(SUBSTANCES), r.randint(-150, 300)
        kind = r.random()
        if kind < 0.5:
            step = r.choice([7, 14, 21, 28])
            for k in range(r.randint(1, 8)):
                day = start + k * step + r.choice([0, 0, 0, r.randint(0, 5)])
                exposures.append(Exposure(s, day, day, day + r.choice([1, 21, 21, 28, 60])))
        elif kind < 0.8:
            end = start + r.randint(0, 120)
            exposures.append(Exposure(s, start, end, end + r.choice([1, 21])))
        else:
            exposures.append(Exposure(s, start, start, start + r.randint(1, 90)))
    r.shuffle(exposures)
    return exposures, r.randint(0, 400), r.choice(REASONS)


@pytest.mark.parametrize("seed", range(20))
def test_the_kernel_agrees_with_the_reference(seed: int) -> None:
    """100,000 people in all, in groups of 500 under rules of their own."""
    r = random.Random(seed)
    for _ in range(10):
        rules = random_rules(r)
        people = [random_person(r) for _ in range(500)]
        found, counted = kernel_lines_and_counts(people, {"primary": rules})
        expected_counts: Counter[str] = Counter()
        for place, (exposures, end, reason) in enumerate(people):
            expected, counts = reference_lines(exposures, 0, end, reason, rules)
            assert found["primary"][place] == expected, (rules, people[place])
            expected_counts += counts
        assert counted["primary"] == expected_counts, rules


def test_rule_sets_computed_together_are_those_computed_alone() -> None:
    r = random.Random(100)
    rule_sets = {"primary": random_rules(r), **{f"other_{i}": random_rules(r) for i in range(9)}}
    people = [random_person(r) for _ in range(500)]
    lines, counts = kernel_lines_and_counts(people, rule_sets)
    for name, rules in rule_sets.items():
        alone, counts_alone = kernel_lines_and_counts(people, {"primary": rules})
        assert lines[name] == alone["primary"]
        assert counts[name] == counts_alone["primary"]


@pytest.mark.parametrize("seed", range(10))
def test_rule_sets_that_differ_a_little_are_those_of_the_reference(seed: int) -> None:
    """What is taken over from the first rule set for people whom the change does not concern is what each of them would
    have got: 90,000 comparisons in all."""
    r = random.Random(1_000 + seed)
    for _ in range(3):
        primary = random_rules(r)
        if r.random() < 0.7:
            primary = Rules(**{**primary.__dict__, "gap_days_by_substance": {}})
        rule_sets = {"primary": primary, **{f"other_{i}": changed(r, primary) for i in range(9)}}
        people = [random_person(r) for _ in range(300)]
        lines, counts = kernel_lines_and_counts(people, rule_sets)
        for name, rules in rule_sets.items():
            expected_counts: Counter[str] = Counter()
            for place, (exposures, end, reason) in enumerate(people):
                expected, counted = reference_lines(exposures, 0, end, reason, rules)
                assert lines[name][place] == expected, (primary, rules, people[place])
                expected_counts += counted
            assert counts[name] == expected_counts, rules


exposure = st.builds(
    lambda s, start, given, cover: Exposure(s, start, start + given, start + given + cover),
    st.sampled_from(SUBSTANCES),
    st.integers(-120, 300),
    st.one_of(st.just(0), st.integers(0, 100)),
    st.sampled_from([1, 21, 30]),
)
person = st.tuples(st.lists(exposure, max_size=8), st.integers(0, 350), st.sampled_from(REASONS))
rules = st.integers(0, 10_000).map(lambda seed: random_rules(random.Random(seed)))


@settings(max_examples=150, deadline=None)
@given(person, rules, st.randoms(use_true_random=False), st.integers(-400, 400))
def test_properties(someone: Person, rule_set: Rules, r: random.Random, shift: int) -> None:
    exposures, end, reason = someone
    shuffled = exposures + [e for e in exposures if r.random() < 0.3]
    r.shuffle(shuffled)
    cut: list[Exposure] = []
    for e in exposures:
        if e.given_to > e.given_from:
            at = r.randint(e.given_from, e.given_to - 1)
            cut += [
                Exposure(e.substance, e.given_from, at, at + (e.covered_until - e.given_to)),
                Exposure(e.substance, at + 1, e.given_to, e.covered_until),
            ]
        else:
            cut.append(e)
    other = random_person(r)
    found = kernel_lines([(exposures, end, reason), (shuffled, end, reason), (cut, end, reason), other],
                         {"primary": rule_set})["primary"]  # fmt: skip
    lines, reordered, recut, _ = found
    assert reordered == lines
    assert recut == lines
    assert kernel_lines([other], {"primary": rule_set})["primary"][0] == found[3]
    for line in lines:
        assert line.start <= line.end <= end
        assert not any(other in line.regimen for s in line.regimen for other in rule_set.excludes.get(s, ()))
    for before, after in zip(lines, lines[1:], strict=False):
        assert before.end <= after.start


@settings(max_examples=100, deadline=None)
@given(person, rules)
def test_every_given_day_lies_in_one_line(someone: Person, rule_set: Rules) -> None:
    exposures, end, reason = someone
    without = Rules(**{**rule_set.__dict__, "carry_in_days": 0, "coverage_days": {}, "index_lead_days": 0})
    lines = kernel_lines([someone], {"primary": without})["primary"][0]
    for e in exposures:
        for day in range(max(e.given_from, 0), min(e.given_to, end) + 1):
            holding = [line for line in lines if line.start <= day < line.end or day == end == line.end]
            if day == end:
                assert lines[-1] in holding
            else:
                assert len(holding) == 1
