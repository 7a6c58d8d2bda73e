"""An invented population with a drawn truth: who is in the study, and each of their treatment lines.

The truth is drawn first, with the published study's totals, and doses are laid out so that the rules of
docs/treatment_lines.md (rule set primary of her2_mbc) must give it. The line engine is not used.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import numpy as np

from jobs.synthetic import FEWEST_PERSONS

STUDY_SIZE, INFORMED, TREATED = 715, 661, 479
STARTED = (479, 206, 119, 55)
RELAPSED, HORMONE_POSITIVE = 473, 440
FIRST_LINES = {("pertuzumab", "trastuzumab"): 261, ("trastuzumab",): 195, ("lapatinib",): 8,
               ("lapatinib", "trastuzumab"): 9, ("trastuzumab_emtansine",): 6}  # fmt: skip
SECOND_EMTANSINE = 84
CARRIED_IN = 3  # of the first lines with trastuzumab emtansine: adjuvant trastuzumab reaches into the relapse
FIRST_DAY, LAST_DAY, STUDY_END = date(2012, 1, 1), date(2021, 12, 31), date(2022, 12, 31)
REGIONS = ("south_east", "west", "central")
COVERED_UNTIL = {"central": date(2022, 9, 30)}
AVAILABLE = {
    "trastuzumab": date(2005, 1, 1),
    "lapatinib": date(2009, 1, 1),
    "pertuzumab": date(2013, 7, 1),
    "trastuzumab_emtansine": date(2014, 1, 1),
    "trastuzumab_deruxtecan": date(2021, 3, 1),
    "tucatinib": date(2021, 3, 1),
}
TABLETS = ("lapatinib", "tucatinib")
CYCLE, GAP, LEAD, WINDOW, COMPANION = 21, 90, 28, 28, 90
TABLET_COVER = 30


@dataclass
class Dose:
    """One infusion, or one dispensing that covers TABLET_COVER days."""

    day: date
    substance: str


@dataclass
class Line:
    """A line as the truth has it."""

    number: int
    start: date
    end: date
    regimen: tuple[str, ...]
    end_reason: str
    next_state: str


@dataclass
class Person:
    """One invented person; dates that do not exist are None."""

    identifier: str
    sex: str
    birth: date
    region: str
    diagnosis: date | None = None
    spread: date | None = None
    icd10: str = ""
    morphology: str = "85003"
    stage: str = ""
    her2: str = ""
    er: str = ""
    pr: str = ""
    basis: str = "histology"
    local_recurrence: date | None = None
    second_cancer: date | None = None
    death: date | None = None
    death_month_only: bool = False
    emigration: date | None = None
    in_cohort: bool = False
    informed: bool = False
    index_kind: str = ""
    doses: list[Dose] = field(default_factory=list)
    others: list[Dose] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)


def draw_population(persons: int, seed: int) -> list[Person]:
    """`persons` people, the study's first. ValueError where there is no room for the study and its surroundings."""
    if persons < FEWEST_PERSONS:
        raise ValueError(
            f"--persons: write at least {FEWEST_PERSONS}; {STUDY_SIZE} are the study's own, and a register holds many "
            "others beside them"
        )
    random = np.random.default_rng(seed)
    people = _draw_study(random)
    people += _draw_surroundings(random, persons - len(people))
    for number, person in zip(random.permutation(10 * persons)[: len(people)], people, strict=True):
        person.identifier = f"{10_000_000 + int(number)}"
    return people


def _plus(day: date, days: float | np.integer[Any]) -> date:
    return day + timedelta(days=int(days))


def _between(random: np.random.Generator, first: date, last: date) -> date:
    return _plus(first, random.integers(0, max((last - first).days, 0) + 1))


def _draw_study(random: np.random.Generator) -> list[Person]:
    regimens = [regimen for regimen, n in FIRST_LINES.items() for _ in range(n)]
    random.shuffle(regimens)
    treated = _draw_treated(random, [tuple(regimen) for regimen in regimens])
    others = [_draw_untreated(random, informed=place < INFORMED - TREATED) for place in range(STUDY_SIZE - TREATED)]
    people = treated + others
    relapsed = np.zeros(len(people), bool)
    relapsed[random.permutation(len(people))[:RELAPSED]] = True
    carried = [person for person in people if person.index_kind == "relapse"]
    for person in carried:
        place = people.index(person)
        if not relapsed[place]:
            relapsed[place] = True
            swap = next(i for i in np.flatnonzero(relapsed) if not people[i].index_kind and i != place)
            relapsed[swap] = False
    hormones = set(random.permutation(len(people))[:HORMONE_POSITIVE].tolist())
    for place, person in enumerate(people):
        _draw_disease(random, person, bool(relapsed[place]))
        if place in hormones:
            person.er, person.pr = [("positive", "positive"), ("positive", "negative"), ("negative", "positive")][
                int(random.choice(3, p=[0.7, 0.25, 0.05]))
            ]
        else:
            person.er, person.pr = ("negative", "negative") if random.random() > 0.03 else ("", "")
        _draw_beside(random, person)
    return people


def _draw_treated(random: np.random.Generator, first: list[tuple[str, ...]]) -> list[Person]:
    lengths = [number for number, (more, fewer) in enumerate(zip(STARTED, (*STARTED[1:], 0), strict=True), 1)
               for _ in range(more - fewer)]  # fmt: skip
    random.shuffle(lengths)
    # Nobody repeats trastuzumab emtansine as a second line, so its share is drawn among the others.
    second = [
        place for place, length in enumerate(lengths) if length > 1 and "trastuzumab_emtansine" not in first[place]
    ]
    emtansine = set(random.permutation(second)[:SECOND_EMTANSINE].tolist())
    people, carried = [], 0
    for place, (regimen, length) in enumerate(zip(first, lengths, strict=True)):
        carries = regimen == ("trastuzumab_emtansine",) and length == 1 and carried < CARRIED_IN
        carried += carries
        people.append(_draw_one_treated(random, regimen, length, place in emtansine, carries))
    return people


def _next_regimen(
    random: np.random.Generator, before: list[tuple[str, ...]], second_emtansine: bool
) -> tuple[str, ...]:
    number = len(before) + 1
    if number == 2 and second_emtansine:
        return ("trastuzumab_emtansine",)
    choices: list[tuple[str, ...]] = [
        ("trastuzumab",), ("pertuzumab", "trastuzumab"), ("lapatinib",), ("lapatinib", "trastuzumab"),
    ]  # fmt: skip
    if number > 2:
        choices += [("trastuzumab_emtansine",), ("trastuzumab_emtansine",)]
    if number > 3:
        choices += [("trastuzumab_deruxtecan",), ("trastuzumab", "tucatinib")]
    choices = [regimen for regimen in choices if regimen != before[-1]]
    return choices[int(random.integers(len(choices)))]


def _draw_one_treated(
    random: np.random.Generator, first: tuple[str, ...], length: int, second_emtansine: bool, carries: bool
) -> Person:
    """Drawn again until every drug was available, and the last line begins under observation."""
    while True:
        regimens = [first]
        while len(regimens) < length:
            regimens.append(_next_regimen(random, regimens, second_emtansine))
        person = _lay_out(random, regimens, carries)
        if person is not None:
            return person


def _doses_of(
    random: np.random.Generator, regimen: tuple[str, ...], start: int, days: int, is_first: bool
) -> list[tuple[int, str]]:
    """(day, substance) for every substance of a regimen from `start` for about `days` days."""
    doses = []
    for substance in regimen:
        day = start
        if is_first and substance == "pertuzumab" and days > 120 and random.random() < 0.08:
            day = start + 35  # after the window, and still a companion of trastuzumab
        while day == start or day < start + days:
            doses.append((day, substance))
            day += 28 if substance in TABLETS else CYCLE
            if random.random() < 0.05:
                day += 7
    return doses


def _cover(substance: str) -> int:
    return TABLET_COVER if substance in TABLETS else CYCLE


def _lay_out(random: np.random.Generator, regimens: list[tuple[str, ...]], carries: bool) -> Person | None:
    """One history in days from index; None where it cannot be placed in the calendar."""
    carried: list[tuple[int, str]] = [(day, "trastuzumab") for day in range(-199, 33, 21)] if carries else []
    start = 53 if carries else int(random.choice([random.integers(-20, 0), random.integers(0, 70)], p=[0.15, 0.85]))
    drawn: list[tuple[tuple[str, ...], list[tuple[int, str]]]] = []
    leftovers: list[tuple[int, str]] = []
    for number, regimen in enumerate(regimens):
        days = max(35, int(random.lognormal(np.log(200), 0.95)))
        following = regimens[number + 1] if number + 1 < len(regimens) else None
        given = _doses_of(random, regimen, start, days, number == 0)
        if regimen == ("trastuzumab_emtansine",) and number > 0 and days > 60 and random.random() < 0.15:
            leftovers.append((start + 7, "trastuzumab"))  # within the window: no part of the line
        covered = max(day + _cover(substance) for day, substance in given)
        drawn.append((regimen, given))
        if following is not None:
            earliest = start + WINDOW + 1
            if "trastuzumab" in regimen and "pertuzumab" in set(following) - set(regimen):
                earliest = start + COMPANION + 1  # sooner, pertuzumab would join as a companion
            must_stop = set(following) <= set(regimen)
            if must_stop or random.random() < 0.12:
                start = covered + GAP + int(random.integers(0, 200))
            else:
                last_dose = max(day for day, _ in given)
                start = max(earliest, last_dose + 1, covered + int(random.integers(-15, 60)))
                if start - covered >= GAP:
                    return None
    last_start = drawn[-1][1][0][0]
    first_day, last_day = FIRST_DAY, min(LAST_DAY, _plus(date(2022, 9, 1), -last_start))
    for regimen, given in drawn:
        first_day = max(first_day, *(_plus(AVAILABLE[substance], -given[0][0]) for substance in regimen))
    if first_day > last_day:
        return None
    index = _between(random, first_day, last_day)
    person = _person(
        random, age=random.normal(55, 11), index=index, region=REGIONS[int(random.choice(3, p=[0.6, 0.25, 0.15]))]
    )
    person.informed = True
    person.index_kind = "relapse" if carries else ""
    days_left = random.exponential(900) + 20 if random.random() < 0.93 else 30_000
    _draw_ends(random, person, _plus(index, last_start), days_left)
    history = [(regimen, [Dose(_plus(index, day), substance) for day, substance in given]) for regimen, given in drawn]
    person.lines = _true_lines(history, *follow_up(person))
    last_alive = min(day for day in (person.death, person.emigration, STUDY_END) if day is not None)
    beside = [Dose(_plus(index, day), substance) for day, substance in carried + leftovers]
    doses = beside + [dose for _, given in history for dose in given]
    person.doses = [dose for dose in doses if dose.day <= last_alive]
    return person


def follow_up(person: Person) -> tuple[date, str]:
    """The end of follow-up for lines and its reason: the earliest, on one day in the order of the rules."""
    ends = {
        "death": person.death,
        "emigration": person.emigration,
        "second_cancer": person.second_cancer,
        "information_end": COVERED_UNTIL.get(person.region) if person.informed else None,
        "study_end": STUDY_END,
    }
    known = [(day, place, reason) for place, (reason, day) in enumerate(ends.items()) if day is not None]
    day, _, reason = min(known)
    return day, reason


STATES = {"death": "died", "emigration": "emigrated", "second_cancer": "second_cancer",
          "information_end": "information_end", "study_end": "alive"}  # fmt: skip


def _true_lines(history: list[tuple[tuple[str, ...], list[Dose]]], end: date, reason: str) -> list[Line]:
    """What the rules say of a history whose lines were laid out so that each begins when and as drawn."""
    lines = []
    for place, (regimen, given) in enumerate(history):
        begins = min(dose.day for dose in given)
        covered = max(_plus(dose.day, _cover(dose.substance)) for dose in given if dose.day <= end)
        if place + 1 < len(history):
            following = history[place + 1][1][0].day
            stopped = (following - covered).days >= GAP
            ends, why = (covered, "gap") if stopped else (min(covered, following), "switch")
            lines.append(Line(place + 1, begins, ends, regimen, why, "next_line"))
        elif covered > end:
            lines.append(Line(place + 1, begins, end, regimen, reason, STATES[reason]))
        else:
            why = "gap" if (end - covered).days >= GAP else reason
            lines.append(Line(place + 1, begins, covered, regimen, why, STATES[reason]))
    return lines


def _person(random: np.random.Generator, age: float, index: date, region: str) -> Person:
    years = float(np.clip(age, 26, 96))
    return Person(
        identifier="",
        sex="male" if random.random() < 0.008 else "female",
        birth=_plus(index, -years * 365.25),
        region=region,
        spread=index,
        her2="positive",
        icd10=f"C50{int(random.integers(0, 10))}",
        in_cohort=True,
    )


def _draw_ends(random: np.random.Generator, person: Person, since: date, days: float) -> None:
    """What ends follow-up after `since`: mostly death after about `days`, seldom emigration or another cancer."""
    died = _plus(since, min(days, 40_000)) if days < 20_000 else date(2060, 1, 1)
    chance = random.random()
    if chance < 0.015:
        left = _plus(since, random.integers(10, 900))
        if left < min(died, STUDY_END):
            person.emigration = left
    elif chance < 0.06:
        found = _plus(since, random.integers(5, 1200))
        if found < min(died, STUDY_END):
            person.second_cancer = found
    if person.emigration is None and died <= date(2023, 2, 28):
        person.death = died
        if random.random() < 0.1:
            month_end = (died.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
            person.death, person.death_month_only = month_end, True


def _draw_untreated(random: np.random.Generator, informed: bool) -> Person:
    index = _between(random, FIRST_DAY, LAST_DAY)
    if informed:
        region = REGIONS[int(random.choice(3, p=[0.6, 0.25, 0.15]))]
        # Coverage of the index itself is what decides, and every region is covered until 2022.
        person = _person(random, random.normal(75, 10), index, region)
        _draw_ends(random, person, index, random.exponential(330))
    else:
        person = _person(random, random.normal(60, 13), index, "north")
        _draw_ends(random, person, index, random.exponential(1100))
    person.informed = informed
    return person


def _draw_disease(random: np.random.Generator, person: Person, relapsed: bool) -> None:
    index = person.spread
    assert index is not None
    if relapsed:
        person.index_kind = "relapse"
        person.diagnosis = _plus(index, -int(random.integers(125, 3600)))
        adult = _plus(person.birth, 25 * 365)
        person.diagnosis = max(person.diagnosis, adult) if _plus(adult, 125) < index else _plus(index, -125)
        person.stage = ["localised", "regional"][int(random.integers(2))]
        if random.random() < 0.15 and (index - person.diagnosis).days > 300:
            person.local_recurrence = _plus(index, -int(random.integers(60, 200)))
    else:
        person.index_kind = "de_novo"
        late = random.random() < 0.04
        person.diagnosis = _plus(index, -int(random.integers(20, 110))) if late else index
        person.stage = "regional" if late else "distant"


def _draw_beside(random: np.random.Generator, person: Person) -> None:
    """Adjuvant treatment long before the relapse, chemotherapy and endocrine treatment beside the lines."""
    index, diagnosis = person.spread, person.diagnosis
    assert index is not None
    assert diagnosis is not None
    room = (index - diagnosis).days
    if person.index_kind == "relapse" and room > 700 and random.random() < 0.6:
        carries = any(dose.day < _plus(index, -60) for dose in person.doses)
        if not carries:
            first = _plus(diagnosis, 40)
            person.others += [Dose(_plus(first, 21 * cycle), "trastuzumab") for cycle in range(17)]
    if person.lines and random.random() < 0.7:
        drug = ["docetaxel", "paclitaxel"][int(random.integers(2))]
        start = person.lines[0].start
        person.others += [Dose(_plus(start, 21 * cycle), drug) for cycle in range(int(random.integers(3, 8)))]
    if "positive" in (person.er, person.pr) and random.random() < 0.6:
        start = _plus(index, random.integers(20, 150))
        drug = ["letrozole", "tamoxifen", "fulvestrant"][int(random.choice(3, p=[0.6, 0.25, 0.15]))]
        person.others += [Dose(_plus(start, 90 * dispensing), drug) for dispensing in range(int(random.integers(1, 9)))]
    last = min(day for day in (person.death, person.emigration, STUDY_END) if day is not None)
    person.others = [dose for dose in person.others if dose.day <= last]


def _draw_surroundings(random: np.random.Generator, persons: int) -> list[Person]:
    """People who are not in the study, each kind for another reason, and many with no cancer at all."""
    kinds = {
        "her2_negative": 0.03, "early_only": 0.04, "spread_before": 0.006, "spread_after": 0.003, "child": 0.0005,
        "by_certificate": 0.001, "other_cancer": 0.06, "in_situ": 0.006,
    }  # fmt: skip
    people = []
    regions = (*REGIONS, "north")
    for kind, share in kinds.items():
        for _ in range(max(2, int(share * persons))):
            diagnosed = _between(random, date(2008, 1, 1), date(2021, 12, 1))
            person = Person(
                "", "female" if random.random() < 0.97 else "male",
                _plus(diagnosed, -365.25 * float(np.clip(random.normal(62, 13), 28, 97))),
                regions[int(random.integers(4))], diagnosis=diagnosed, icd10=f"C50{int(random.integers(0, 10))}",
                stage=["localised", "regional"][int(random.integers(2))], her2="positive",
                er="positive", pr="negative", index_kind=kind,
            )  # fmt: skip
            _draw_kind(random, person, kind)
            people.append(person)
    while len(people) < persons:
        people.append(
            Person(
                "",
                "female" if random.random() < 0.5 else "male",
                _between(random, date(1925, 1, 1), date(2005, 12, 31)),
                regions[int(random.integers(4))],
                index_kind="no_cancer",
            )  # fmt: skip
        )
    return people[:persons]


def _draw_kind(random: np.random.Generator, person: Person, kind: str) -> None:
    diagnosed = person.diagnosis
    assert diagnosed is not None
    if kind == "her2_negative":
        person.her2 = "negative"
        person.spread = _plus(diagnosed, random.integers(130, 1500))
        person.death = _plus(person.spread, random.exponential(800))
    elif kind == "early_only":
        first = _plus(diagnosed, 40)
        person.others = [Dose(_plus(first, 21 * cycle), "trastuzumab") for cycle in range(17)]
    elif kind == "spread_before":
        person.diagnosis = _between(random, date(2006, 1, 1), date(2010, 6, 1))
        person.birth = _plus(person.diagnosis, -365.25 * float(np.clip(random.normal(60, 12), 28, 95)))
        person.spread = _between(random, _plus(person.diagnosis, 130), date(2011, 12, 31))
        first = _between(random, date(2012, 2, 1), date(2013, 1, 1))
        person.others = [Dose(_plus(first, 21 * cycle), "trastuzumab") for cycle in range(20)]
    elif kind == "spread_after":
        person.spread = _between(random, date(2022, 1, 1), date(2022, 12, 1))
    elif kind == "child":
        person.birth = _plus(diagnosed, -17 * 365)
        person.stage = "distant"
    elif kind == "by_certificate":
        person.stage, person.basis, person.death = "distant", "death_certificate", diagnosed
    elif kind == "other_cancer":
        codes = ["C187", "C619", "C341", "C541", "C439", "C679"]
        person.icd10, person.her2, person.er, person.pr = codes[int(random.integers(6))], "", "", ""
        person.morphology, person.sex = "81403", "female" if random.random() < 0.5 else "male"
        if random.random() < 0.3:
            person.stage = "distant"
            person.death = _plus(diagnosed, random.exponential(500))
    elif kind == "in_situ":
        person.icd10, person.morphology, person.her2 = "D051", "85002", ""
    if person.death is not None and person.death > STUDY_END:
        person.death = None
    if person.spread is not None and person.spread > STUDY_END:
        person.spread = None
