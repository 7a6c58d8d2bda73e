"""What happened to an invented person that registers hear of, the same whatever the country."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from jobs.synthetic.population import STUDY_END, Dose, Person

PRESCRIBED = ("lapatinib", "tucatinib", "letrozole", "tamoxifen")
ORDINARY_DIAGNOSES = ("I109", "E119", "I500", "J449", "N189", "M179", "Z509")
ORDINARY_DRUG = "C10AA05"
SUPPLY_DAYS = {"lapatinib": 30, "tucatinib": 30, "letrozole": 98, "tamoxifen": 98, ORDINARY_DRUG: 100}


@dataclass(frozen=True)
class Tumour:
    """A registered tumour; `number` counts the person's from 1. Receptors: positive, negative, '' (unknown)."""

    number: int
    diagnosis: date
    month_only: bool
    icd10: str
    morphology: str  # four digits of histology, behaviour
    stage: str  # localised, regional, distant, ''
    basis: str
    er: str
    pr: str
    her2: str


@dataclass(frozen=True)
class Contact:
    """A day at a hospital: diagnoses, the main one first, and drugs given, sorted by substance."""

    day: date
    diagnoses: tuple[str, ...]
    doses: tuple[Dose, ...]
    route: str  # iv, sc, '' where no drug was given


@dataclass(frozen=True)
class Dispensing:
    """What a pharmacy handed out: a substance of jobs.synthetic.population, or an ATC code; one package of
    `supply_days`."""

    day: date
    substance: str
    supply_days: int


@dataclass(frozen=True)
class Events:
    """All of one person, each list by day."""

    person: Person
    tumours: tuple[Tumour, ...]
    recurrences: tuple[tuple[date, str], ...]  # day, local or distant; of tumour 1
    contacts: tuple[Contact, ...]
    dispensings: tuple[Dispensing, ...]


def draw_events(people: list[Person], seed: int) -> list[Events]:
    """The events of each person, in the order of `people`."""
    random = np.random.default_rng([seed, 2])
    return [_events(random, person) for person in people]


def _events(random: np.random.Generator, person: Person) -> Events:
    doses = [*person.doses, *person.others]
    by_day: dict[date, dict[str, Dose]] = {}
    for dose in doses:
        if dose.substance not in PRESCRIBED:
            by_day.setdefault(dose.day, {})[dose.substance] = dose
    contacts = [
        Contact(
            day,
            (person.icd10 or "C509",),
            tuple(given[name] for name in sorted(given)),
            "sc" if random.random() < 0.2 else "iv",
        )
        for day, given in sorted(by_day.items())
    ]
    fetched = {
        (dose.day, dose.substance): Dispensing(dose.day, dose.substance, SUPPLY_DAYS[dose.substance])
        for dose in doses
        if dose.substance in PRESCRIBED
    }
    more_contacts, more_fetched = _ordinary_life(random, person)
    return Events(
        person,
        _tumours(random, person),
        _recurrences(person),
        tuple(sorted([*contacts, *more_contacts], key=lambda contact: contact.day)),
        tuple(sorted([*fetched.values(), *more_fetched], key=lambda one: (one.day, one.substance))),
    )


def _tumours(random: np.random.Generator, person: Person) -> tuple[Tumour, ...]:
    diagnosed = person.diagnosis
    if diagnosed is None:
        return ()
    month_only = person.index_kind in ("relapse", "other_cancer") and random.random() < 0.05
    if person.index_kind == "relapse" and person.spread is not None:
        month_only = month_only and (person.spread - diagnosed).days > 160
    tumours = [
        Tumour(
            1, diagnosed, month_only, person.icd10, person.morphology, person.stage, person.basis, person.er, person.pr,
            person.her2,
        )
    ]  # fmt: skip
    if person.second_cancer is not None:
        tumours.append(Tumour(2, person.second_cancer, False, "C187", "81403", "localised", person.basis, "", "", ""))
    if person.in_cohort and random.random() < 0.03:
        # A metastasis registered as a cancer of its own: it is none.
        after = (person.spread or STUDY_END) + timedelta(days=20)
        tumours.append(Tumour(3, after, False, "C787", person.morphology, "", person.basis, "", "", ""))
    return tuple(tumours)


def _recurrences(person: Person) -> tuple[tuple[date, str], ...]:
    recurrences = []
    if person.diagnosis is not None and person.local_recurrence is not None:
        recurrences.append((person.local_recurrence, "local"))
    if person.diagnosis is not None and person.spread is not None and person.stage != "distant":
        recurrences.append((person.spread, "distant"))
    return tuple(recurrences)


def _ordinary_life(random: np.random.Generator, person: Person) -> tuple[list[Contact], list[Dispensing]]:
    """Contacts and prescriptions for other reasons; diagnoses of the year before index make comorbidity."""
    contacts, fetched = [], []
    often = 0.5 if person.in_cohort else 0.35
    last = min(day for day in (person.death, person.emigration, STUDY_END) if day is not None)
    around = person.spread or last - timedelta(days=int(random.integers(200, 3000)))
    if random.random() < often:
        day = around - timedelta(days=int(random.integers(5, 360)))
        if person.birth < day <= last:
            code = ORDINARY_DIAGNOSES[int(random.integers(len(ORDINARY_DIAGNOSES)))]
            contacts.append(Contact(day, tuple(dict.fromkeys((code, "I109"))), (), ""))
    if random.random() < 0.3:
        day = around - timedelta(days=int(random.integers(0, 300)))
        if person.birth < day <= last:
            fetched.append(Dispensing(day, ORDINARY_DRUG, SUPPLY_DAYS[ORDINARY_DRUG]))
    return contacts, fetched
