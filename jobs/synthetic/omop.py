"""The invented population in the tables of the OMOP common data model 5.4, with the faults that real tables have.

Concepts have the vocabulary's own numbers where the program relies on them, else numbers over two thousand million,
which are a site's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from jobs.synthetic.events import ORDINARY_DRUG, Contact, Dispensing, Events, Tumour, draw_events
from jobs.synthetic.population import STUDY_END, Person, draw_population
from jobs.synthetic.registers import (
    NEW_ATC,
    OLD_ATC,
    Row,
    ledger_row,
    with_faults,
    write_csv,
    write_life_table,
    write_site,
    write_truth,
)

NOT_KNOWN = {
    "person.death_date_precision, tumour.diagnosis_date_precision": "a date in the model is a whole date: one known to "
    "the month is written as the registry reads it (the 15th; a death the month's last day) and cannot be told apart",
    "person.emigration_date": "the model has no emigration: the last day observed stands for it, whatever ended it",
    "tumour.basis": "only death certificates, by the type of the condition",
    "tumour.er, tumour.pr, tumour.her2": "results are measurements: they stand in the table biomarker",
    "tumour.morphology of tumours in situ": "an ICD-10 concept says the behaviour but not the histology",
    "tumour of C77-C79": "conditions of secondary sites are diagnoses, not tumours of their own",
    "a second tumour of the same three characters": "conditions do not say that a code is another tumour's",
    "dispensing.ddd": "days of supply take its place; the number of tablets is no number of packages",
    "code as written": "a drug is a concept: the ATC code that it had on the day is that of the vocabulary's edition",
}

SEX = {"male": "8507", "female": "8532"}
STATE = {"south_east": "SE", "west": "W", "central": "C", "north": "N"}
LOCATION_ID = {region: str(number) for number, region in enumerate(STATE, 1)}
REGISTRY, CERTIFICATE, ENCOUNTER, DEATH_FILE = "32879", "32815", "32827", "32815"
MAIN, SECONDARY = "32902", "32908"
ADMINISTERED, DISPENSED = "32818", "32825"
ROUTE = {"iv": "4171047", "sc": "4142048", "": "0"}
ORAL = "4132161"
POSITIVE, NEGATIVE = "9191", "9189"
BREAST, METASTASIS, CONDITION_FIELD = "4112853", "36769180", "1147127"
OWN = 2_000_000_000
MARKERS = {"er": str(OWN + 1), "pr": str(OWN + 2), "her2": str(OWN + 3)}
STAGES = {"localised": str(OWN + 11), "regional": str(OWN + 12), "distant": METASTASIS}
LOCAL_RECURRENCE = str(OWN + 21)
INGREDIENT = {  # concept_id and RxNorm code, where they are certain
    "trastuzumab": ("1387104", "224905"), "pertuzumab": ("42801287", "1298944"), "docetaxel": ("1315942", "72962"),
    "paclitaxel": ("1378382", "56946"), "letrozole": ("1315946", "72965"), "fulvestrant": ("1304044", "282357"),
}  # fmt: skip
OBSERVED_FROM = date(2005, 1, 1)

PERSON = ("person_id", "gender_concept_id", "year_of_birth", "month_of_birth", "day_of_birth", "birth_datetime",
          "race_concept_id", "ethnicity_concept_id", "location_id", "person_source_value")  # fmt: skip
PERIOD = ("observation_period_id", "person_id", "observation_period_start_date", "observation_period_end_date",
          "period_type_concept_id")  # fmt: skip
DEATH = ("person_id", "death_date", "death_datetime", "death_type_concept_id")
CONDITION = ("condition_occurrence_id", "person_id", "condition_concept_id", "condition_start_date",
             "condition_start_datetime", "condition_end_date", "condition_type_concept_id",
             "condition_status_concept_id", "visit_occurrence_id", "condition_source_value",
             "condition_source_concept_id")  # fmt: skip
VISIT = ("visit_occurrence_id", "person_id", "visit_concept_id", "visit_start_date", "visit_end_date",
         "visit_type_concept_id")  # fmt: skip
DRUG = ("drug_exposure_id", "person_id", "drug_concept_id", "drug_exposure_start_date", "drug_exposure_end_date",
        "drug_type_concept_id", "quantity", "days_supply", "route_concept_id", "visit_occurrence_id",
        "drug_source_value", "drug_source_concept_id")  # fmt: skip
MEASUREMENT = ("measurement_id", "person_id", "measurement_concept_id", "measurement_date",
               "measurement_type_concept_id", "value_as_number", "value_as_concept_id", "value_source_value",
               "measurement_event_id", "meas_event_field_concept_id")  # fmt: skip
LOCATION = ("location_id", "state", "zip")
CONCEPT = ("concept_id", "concept_name", "domain_id", "vocabulary_id", "concept_class_id", "standard_concept",
           "concept_code", "valid_start_date", "valid_end_date", "invalid_reason")  # fmt: skip
ANCESTOR = ("ancestor_concept_id", "descendant_concept_id", "min_levels_of_separation", "max_levels_of_separation")


class _Vocabulary:
    """CONCEPT and CONCEPT_ANCESTOR of what is used."""

    def __init__(self) -> None:
        self.concepts: list[Row] = []
        self.ancestors: list[Row] = []
        self._numbers: dict[tuple[str, str], str] = {}
        self._next = OWN + 1000
        for number, name in ((BREAST, 'Malignant "tumor of breast'), (METASTASIS, "Metastasis")):
            self._add(number, name, "SNOMED", "Disorder", f"S{number}")

    def _add(self, number: str, name: str, vocabulary: str, kind: str, code: str, withdrawn: bool = False) -> None:
        standard = {"ATC": "C", "ICD10": "", "ICDO3": ""}.get(vocabulary, "S")
        values = (number, name, "Drug" if vocabulary in ("ATC", "RxNorm") else "Condition", vocabulary, kind,
                  "" if withdrawn else standard, code, "19700101", "20211231" if withdrawn else "20991231",
                  "D" if withdrawn else "")  # fmt: skip
        self.concepts.append(dict(zip(CONCEPT, values, strict=True)))

    def number(self, vocabulary: str, kind: str, code: str, name: str = "", withdrawn: bool = False,
               known: str | None = None) -> str:  # fmt: skip
        """The concept of a code, made at its first use."""
        if (vocabulary, code) not in self._numbers:
            self._next += 1
            number = known or str(self._next)
            self._numbers[vocabulary, code] = number
            self._add(number, name or code, vocabulary, kind, code, withdrawn)
            self.below(number, number)
        return self._numbers[vocabulary, code]

    def below(self, ancestor: str, descendant: str) -> None:
        levels = "0" if ancestor == descendant else "1"
        self.ancestors.append(dict(zip(ANCESTOR, (ancestor, descendant, levels, levels), strict=True)))

    def drug(self, substance: str, with_class: bool = True) -> str:
        """A clinical drug of the substance; one without a class has only its ingredient above it."""
        form = f"{substance} injection or tablet{'' if with_class else ', biosimilar'}"
        code = f"form of {form}"
        if ("RxNorm", code) in self._numbers:
            return self._numbers["RxNorm", code]
        number = self.number("RxNorm", "Clinical Drug", code, form)
        known, rxnorm = INGREDIENT.get(substance, (None, f"code of {substance}"))
        self.below(self.number("RxNorm", "Ingredient", rxnorm, substance, known=known), number)
        if with_class:
            atc = NEW_ATC.get(substance, substance)
            self.below(self.number("ATC", "ATC 5th", atc, f"{substance}; parenteral"), number)
        return number

    def old_class(self, substance: str) -> str:
        """The ATC code before its recoding, withdrawn since where it differs."""
        code = OLD_ATC[substance]
        return self.number("ATC", "ATC 5th", code, f"{substance}; parenteral", code != NEW_ATC[substance])


def _written(code: str) -> str:
    return f"{code[:3]}.{code[3:]}" if len(code) > 3 else code


class _Tables:
    """The rows of each table while they are made."""

    def __init__(self, random: np.random.Generator) -> None:
        self.random = random
        self.vocabulary = _Vocabulary()
        self.rows: dict[str, list[Row]] = {
            name: []
            for name in ("person", "observation_period", "death", "condition_occurrence", "visit_occurrence",
                         "drug_exposure", "measurement")
        }  # fmt: skip

    def _put(self, table: str, columns: Sequence[str], **cells: str) -> str:
        """Add a row; returns its number."""
        number = str(len(self.rows[table]) + 1)
        row = {**dict.fromkeys(columns, ""), **cells}
        if columns[0] != "person_id":
            row[columns[0]] = number
        self.rows[table].append(row)
        return number

    def add(self, events: Events) -> None:
        self._person(events.person)
        for tumour in events.tumours:
            condition = self._tumour(events.person, tumour)
            if tumour.number == 1:
                for day, kind in events.recurrences:
                    concept = METASTASIS if kind == "distant" else LOCAL_RECURRENCE
                    self._measure(events.person, concept, day, condition)
        for contact in events.contacts:
            self._contact(events.person, contact)
        for dispensing in events.dispensings:
            self._dispense(events.person, dispensing)

    def _person(self, person: Person) -> None:
        born = person.birth
        self._put(
            "person", PERSON, person_id=person.identifier, gender_concept_id=SEX[person.sex],
            year_of_birth=f"{born:%Y}", month_of_birth=str(born.month), day_of_birth=str(born.day),
            birth_datetime=f"{born} 00:00:00", race_concept_id="0", ethnicity_concept_id="0",
            location_id=LOCATION_ID[person.region], person_source_value=f"source-{person.identifier}",
        )  # fmt: skip
        end = person.death or person.emigration or STUDY_END
        start = min(max(OBSERVED_FROM, born), end)
        spans = [(start, end)]
        days = (end - start).days
        if days > 1000 and self.random.random() < 0.03:
            away = start + timedelta(days=int(self.random.integers(100, days - 500)))
            spans = [(start, away), (away + timedelta(days=200), end)]
        for first, last in spans:
            self._put("observation_period", PERIOD, person_id=person.identifier, period_type_concept_id="32880",
                      observation_period_start_date=str(first), observation_period_end_date=str(last))  # fmt: skip
        if person.death is not None:
            self._put("death", DEATH, person_id=person.identifier, death_date=str(person.death),
                      death_datetime=f"{person.death} 00:00:00", death_type_concept_id=DEATH_FILE)  # fmt: skip

    def _standard(self, code: str) -> str:
        if code.startswith("C50"):
            return BREAST
        return self.vocabulary.number("SNOMED", "Disorder", f"disorder {code[:3]}")

    def _condition(self, person: Person, day: date, code: str, source: str, kind: str, status: str = "",
                   visit: str = "") -> str:  # fmt: skip
        return self._put(
            "condition_occurrence", CONDITION, person_id=person.identifier, condition_concept_id=self._standard(code),
            condition_start_date=str(day), condition_start_datetime=f"{day} 00:00:00", condition_type_concept_id=kind,
            condition_status_concept_id=status, visit_occurrence_id=visit, condition_source_value=_written(code),
            condition_source_concept_id=source,
        )  # fmt: skip

    def _icd10(self, code: str) -> str:
        return self.vocabulary.number("ICD10", "ICD10 code", _written(code))

    def _tumour(self, person: Person, tumour: Tumour) -> str:
        day = tumour.diagnosis.replace(day=15) if tumour.month_only else tumour.diagnosis
        is_primary = tumour.icd10.startswith("C") and tumour.icd10[:3] not in ("C77", "C78", "C79")
        morphology = f"{tumour.morphology[:4]}/{tumour.morphology[4]}"
        source = (
            self.vocabulary.number("ICDO3", "ICDO Condition", f"{morphology}-{_written(tumour.icd10)}")
            if is_primary
            else self._icd10(tumour.icd10)
        )
        kind = CERTIFICATE if tumour.basis == "death_certificate" else REGISTRY
        condition = self._condition(person, day, tumour.icd10, source, kind)
        if tumour.stage:
            self._measure(person, STAGES[tumour.stage], day, condition)
        for marker, concept in MARKERS.items():
            result = getattr(tumour, marker)
            if result:
                self._measure(person, concept, day, condition, result)
        return condition

    def _measure(self, person: Person, concept: str, day: date, condition: str, result: str = "") -> None:
        as_text = bool(result) and self.random.random() < 0.3
        coded = {"positive": POSITIVE, "negative": NEGATIVE}.get(result, "")
        self._put(
            "measurement", MEASUREMENT, person_id=person.identifier, measurement_concept_id=concept,
            measurement_date=str(day), measurement_type_concept_id=REGISTRY,
            value_as_concept_id="0" if as_text else coded, value_source_value=result.capitalize() if as_text else "",
            measurement_event_id=condition, meas_event_field_concept_id=CONDITION_FIELD,
        )  # fmt: skip

    def _contact(self, person: Person, contact: Contact) -> None:
        visit = self._put(
            "visit_occurrence", VISIT, person_id=person.identifier, visit_concept_id="9202",
            visit_start_date=str(contact.day), visit_end_date=str(contact.day), visit_type_concept_id=ENCOUNTER,
        )  # fmt: skip
        for place, code in enumerate(contact.diagnoses):
            self._condition(
                person, contact.day, code, self._icd10(code), ENCOUNTER, SECONDARY if place else MAIN, visit
            )
        for dose in contact.doses:
            standard, source = self._given(dose.substance)
            self._put(
                "drug_exposure", DRUG, person_id=person.identifier, drug_concept_id=standard,
                drug_exposure_start_date=str(contact.day), drug_exposure_end_date=str(contact.day),
                drug_type_concept_id=ADMINISTERED, quantity="1", route_concept_id=ROUTE[contact.route],
                visit_occurrence_id=visit, drug_source_value=dose.substance, drug_source_concept_id=source,
            )  # fmt: skip

    def _given(self, substance: str) -> tuple[str, str]:
        """Standard and source concept: mostly a clinical drug; some have no class, some only the source's old class."""
        chance = self.random.random()
        if chance < 0.05:
            return "0", self.vocabulary.old_class(substance)
        return self.vocabulary.drug(substance, with_class=substance not in INGREDIENT or chance > 0.15), "0"

    def _dispense(self, person: Person, dispensing: Dispensing) -> None:
        last = dispensing.day + timedelta(days=dispensing.supply_days - 1)
        stated = self.random.random() < 0.5
        self._put(
            "drug_exposure", DRUG, person_id=person.identifier,
            drug_concept_id=self.vocabulary.drug(dispensing.substance), drug_exposure_start_date=str(dispensing.day),
            drug_exposure_end_date=str(last), drug_type_concept_id=DISPENSED, quantity=str(dispensing.supply_days),
            days_supply=str(dispensing.supply_days) if stated else "", route_concept_id=ORAL,
            drug_source_value=dispensing.substance, drug_source_concept_id="0",
        )  # fmt: skip


BAD = {  # table -> changed cells of a copied row, and the reason the row is held back for
    "person": [
        ({"gender_concept_id": "8551"}, "unknown_code:gender_concept_id"),
        ({"month_of_birth": "13"}, "impossible_date:year_of_birth"),
        ({"person_id": ""}, "missing_identifier"),
    ],
    "observation_period": [({"observation_period_end_date": "1990-01-01"}, "end_before_start")],
    "death": [({"death_date": "2099-01-01"}, "impossible_date:death_date")],
    "condition_occurrence": [
        ({"condition_start_date": "2015-02-30"}, "impossible_date:condition_start_date"),
        ({"condition_start_date": ""}, "missing:condition_start_date"),
    ],
    "visit_occurrence": [({"visit_end_date": "1990-01-01"}, "end_before_start")],
    "drug_exposure": [
        ({"drug_exposure_end_date": "1990-01-01"}, "end_before_start"),
        ({"days_supply": "-30"}, "negative_number:days_supply"),
        ({"quantity": "-1"}, "negative_number:quantity"),
    ],
    "measurement": [({"measurement_date": "0000-00-00"}, "impossible_date:measurement_date")],
}
COLUMNS = {
    "person": PERSON, "observation_period": PERIOD, "death": DEATH, "condition_occurrence": CONDITION,
    "visit_occurrence": VISIT, "drug_exposure": DRUG, "measurement": MEASUREMENT,
}  # fmt: skip
ADAPTER = {
    "regions": {state: region for region, state in STATE.items()},
    "observed_until": STUDY_END,
    "condition_types": {REGISTRY: "tumour", CERTIFICATE: "tumour", ENCOUNTER: "hospital"},
    "measurements": {
        **{concept: {"marker": marker} for marker, concept in MARKERS.items()},
        **{concept: {"stage": stage} for stage, concept in STAGES.items()},
        LOCAL_RECURRENCE: {"recurrence": "local"},
    },
}


def _another_year(row: Row, copy: int) -> None:
    row["year_of_birth"] = f"19{50 + copy}"


def _write_unquoted(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Tab-separated, with quotation marks as they are: the way the vocabulary is downloaded."""
    lines = ["\t".join(columns), *("\t".join(row[column] for column in columns) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_registers(out: Path, persons: int, seed: int) -> None:
    """Write the tables of `persons` invented people to `out`, with `site.yaml`, a key, and the truth per person.

    The same `persons` and `seed` give the same bytes. ValueError for too few people.
    """
    people = draw_population(persons, seed)
    random = np.random.default_rng([seed, 5])
    tables = _Tables(random)
    for events in draw_events(people, seed):
        tables.add(events)
    tables.vocabulary.drug(ORDINARY_DRUG)
    ledger = []
    for number, (name, rows) in enumerate(tables.rows.items()):
        bad = [changes for changes, _ in BAD[name]]
        faulty, counts = with_faults(random, name, rows, "person_id", bad, number, _another_year)
        ledger.append(counts)
        write_csv(out / f"{name}.csv", COLUMNS[name], faulty, separator=",")
    places = [
        {"location_id": LOCATION_ID[region], "state": state, "zip": ""} for region, state in STATE.items()
    ]  # fmt: skip
    write_csv(out / "location.csv", LOCATION, places, separator=",")
    ledger.append(ledger_row("location", len(places)))
    vocabulary = {"concept": (CONCEPT, tables.vocabulary.concepts),
                  "concept_ancestor": (ANCESTOR, tables.vocabulary.ancestors)}  # fmt: skip
    for name, (columns, concepts) in vocabulary.items():
        _write_unquoted(out / f"{name}.csv", columns, concepts)
        ledger.append(ledger_row(name, len(concepts)))
    ledger.append(write_life_table(out, "no"))
    write_truth(out / "truth", people, ledger)
    names = [*COLUMNS, "location", *vocabulary, "life_table"]
    write_site(out, "omop", seed, {name: f"{name}.csv" for name in names}, "OMOP", ADAPTER)
