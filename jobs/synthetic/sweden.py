"""The invented population in the Swedish registers' own files, with the faults that real files have."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from jobs.synthetic.events import Contact, Dispensing, Events, Tumour, draw_events
from jobs.synthetic.population import Person, draw_population
from jobs.synthetic.registers import (
    NEW_ATC,
    OLD_ATC,
    RECODED,
    Row,
    with_faults,
    write_csv,
    write_life_table,
    write_site,
    write_truth,
)

NOT_KNOWN = {
    "day of birth": "the population register gives births as YYYYMM, so birth_date is the 15th: age_at_index is "
    "one year off for whom the index date and the birthday lie on different sides of that day in the same month of "
    "the year, and so are age groups and expected survival of those people",
}

COUNTIES = {"south_east": ("01", "05"), "west": ("13", "14"), "central": ("3", "21"), "north": ("22", "25")}
REGIONS = {code: region for region, codes in COUNTIES.items() for code in codes}
BASIS = {"histology": "3", "death_certificate": "D"}
BASIS_CODES = {"3": "histology", "4": "autopsy", "D": "death_certificate"}
EXTENT = {"localised": ("N0", "M0"), "regional": ("N1", "M0"), "distant": ("N1", "M1"), "": ("NX", "MX")}
RECURRENCE_KIND = {"local": "L", "distant": "F"}
INTRAVENOUS = "DT016"

COLUMNS: dict[str, Sequence[str]] = {
    "population": ("löpnr", "KON", "FODELSEMAN", "LAN"),
    "migration": ("LopNr", "DATUM", "TYP"),
    "cancer": ("lopnr", "TumorID", "DIADAT", "ICDO10", "SNOMED3", "DIGR", "TNM_T", "TNM_N", "TNM_M"),
    "recurrence": ("LopNr", "TumorID", "RECDAT", "RECTYP"),
    "quality_register": ("LopNr", "TumorID", "PROVDAT", "PROVLOKAL", "ER_PROC", "PR_PROC", "HER2_IHC", "HER2_ISH"),
    "patient": ("LopNr", "INDATUM", "UTDATUM", "HDIA", "DIA1", "DIA2", "DIA3", "EKOD1", "OP"),
    "hospital_drugs": ("LopNr", "ATC", "STARTDAT", "SLUTDAT", "ADMSATT"),
    "prescriptions": ("p444_lopnr", "ATC", "EDATUM", "FDATUM", "antal", "FORPDDD"),
    "deaths": ("lopnr", "DODSDAT"),
}
# What a file's first column is called where it is not the program's own name in some case.
RENAMED = {"population": {"LopNr": "löpnr"}, "prescriptions": {"LopNr": "p444_lopnr"}}
LATIN_1 = ("population",)
BAD = {  # file -> changed cells of a copied row, and the reason the row is held back for
    "population": [
        ({"FODELSEMAN": "195013"}, "impossible_date:FODELSEMAN"),
        ({"KON": "3"}, "unknown_code:KON"),
    ],
    "migration": [({"TYP": "X"}, "unknown_code:TYP")],
    "cancer": [
        ({"DIADAT": "20151350"}, "impossible_date:DIADAT"),
        ({"DIADAT": "00000000"}, "missing:DIADAT"),
        ({"ICDO10": "174,9A"}, "unknown_code:ICDO10"),
        ({"lopnr": ""}, "missing_identifier"),
    ],
    "recurrence": [({"RECDAT": "99999999"}, "missing:RECDAT")],
    "quality_register": [({"ER_PROC": "101"}, "impossible_number:ER_PROC")],
    "patient": [({"INDATUM": "20150230"}, "impossible_date:INDATUM"), ({"UTDATUM": "20010101"}, "end_before_start")],
    "hospital_drugs": [({"SLUTDAT": "20010101"}, "end_before_start"), ({"ATC": "dropp"}, "unknown_code:ATC")],
    "prescriptions": [({"EDATUM": "20150000"}, "impossible_date:EDATUM"), ({"antal": "en"}, "impossible_number:antal")],
    "deaths": [({"DODSDAT": "20991231"}, "impossible_date:DODSDAT")],
}


def _day(day: date) -> str:
    return f"{day:%Y%m%d}"


class _Registers:
    """The rows of each file while they are made."""

    def __init__(self, random: np.random.Generator) -> None:
        self.random = random
        self.rows: dict[str, list[Row]] = {name: [] for name in COLUMNS}

    def _add(self, name: str, *cells: str) -> None:
        self.rows[name].append(dict(zip(COLUMNS[name], cells, strict=True)))

    def _chance(self, share: float) -> bool:
        return bool(self.random.random() < share)

    def _to_month(self, day: date) -> str:
        """A date known to its month, in one of the ways in which registers write it."""
        return f"{day:%Y%m}{('', '00', '99')[int(self.random.integers(3))]}"

    def _code(self, substance: str, day: date) -> str:
        """The ATC code before or after its recoding; sometimes in lower case."""
        recoded = day >= RECODED or self._chance(0.05)
        code = (NEW_ATC if recoded else OLD_ATC).get(substance, substance)
        return code.lower() if self._chance(0.03) else code

    def add(self, events: Events) -> None:
        person = events.person
        counties = COUNTIES[person.region]
        self._add(
            "population", person.identifier, "1" if person.sex == "male" else "2", f"{person.birth:%Y%m}",
            counties[int(self.random.integers(len(counties)))],
        )  # fmt: skip
        self._move(person)
        for tumour in events.tumours:
            self._tumour(person, tumour)
        for day, kind in events.recurrences:
            self._add("recurrence", person.identifier, "1", _day(day), RECURRENCE_KIND[kind])
        for contact in events.contacts:
            self._contact(person, contact)
        for dispensing in events.dispensings:
            self._dispense(person, dispensing)
        if person.death is not None:
            written = self._to_month(person.death) if person.death_month_only else _day(person.death)
            self._add("deaths", person.identifier, written)

    def _move(self, person: Person) -> None:
        if self._chance(0.02):  # left and came back, long ago
            self._add("migration", person.identifier, "19990301", "Utv")
            self._add("migration", person.identifier, "200006", "Inv")
        if person.emigration is not None:
            self._add("migration", person.identifier, _day(person.emigration), "Utv")

    def _tumour(self, person: Person, tumour: Tumour) -> None:
        topography = f"{tumour.icd10[:3]}.{tumour.icd10[3:]}" if self._chance(0.5) else tumour.icd10
        nodes, metastases = EXTENT[tumour.stage]
        self._add(
            "cancer", person.identifier, str(tumour.number),
            self._to_month(tumour.diagnosis) if tumour.month_only else _day(tumour.diagnosis),
            topography.lower() if self._chance(0.03) else topography, tumour.morphology, BASIS[tumour.basis],
            "T2", nodes, metastases,
        )  # fmt: skip
        if tumour.er or tumour.pr or tumour.her2:
            self._samples(person, tumour)

    def _samples(self, person: Person, tumour: Tumour) -> None:
        if self._chance(0.05):  # an earlier sample, which the later one overrules
            earlier = tumour.diagnosis - timedelta(days=14)
            self._add("quality_register", person.identifier, str(tumour.number), _day(earlier), "P",
                      self._percent("positive") if tumour.er == "negative" else "", "", "2+", "")  # fmt: skip
        her2 = {
            "positive": (("3+", ""), ("2+", "1")), "negative": (("0", ""), ("1+", "2"), ("2+", "2")), "": (("", ""),),
        }[tumour.her2]  # fmt: skip
        stain, hybridisation = her2[int(self.random.integers(len(her2)))]
        self._add(
            "quality_register", person.identifier, str(tumour.number), _day(tumour.diagnosis), "P",
            self._percent(tumour.er), self._percent(tumour.pr), stain, hybridisation,
        )  # fmt: skip

    def _percent(self, status: str) -> str:
        """Per cent of stained cells; Sweden calls 10 and more positive."""
        if not status:
            return ""
        return str(int(self.random.integers(10, 101) if status == "positive" else self.random.integers(0, 10)))

    def _contact(self, person: Person, contact: Contact) -> None:
        day, main = _day(contact.day), contact.diagnoses[0]
        others = [main, *contact.diagnoses[1:]] if self._chance(0.5) else list(contact.diagnoses[1:])
        codes = [self._code(dose.substance, contact.day) for dose in contact.doses]
        procedures: list[str] = []
        kept = "extract", "both", "contact"
        place = kept[int(self.random.choice(3, p=[0.7, 0.2, 0.1]))]
        if codes and contact.route == "iv":
            procedures.append(INTRAVENOUS)
        if place != "extract":
            procedures += codes
        separator = "; " if self._chance(0.5) else " "
        self._add(
            "patient", person.identifier, day, day, main, *[*others, "", "", ""][:3], "", separator.join(procedures)
        )
        for code in codes if place != "contact" else ():
            self._add("hospital_drugs", person.identifier, code, day, day if self._chance(0.3) else "", contact.route)

    def _dispense(self, person: Person, dispensing: Dispensing) -> None:
        day, days = dispensing.day, str(dispensing.supply_days)
        code = self._code(dispensing.substance, day)
        prescribed = day - timedelta(days=int(self.random.integers(1, 60)))
        self._add("prescriptions", person.identifier, code, _day(day), _day(prescribed), "1", days)
        if self._chance(0.03):  # registered twice, and one of them taken back at once or later
            cancelled = day + timedelta(days=int(self.random.choice([0, 0, 3, 9])))
            again = _day(prescribed - timedelta(days=1))
            self._add("prescriptions", person.identifier, code, _day(day), again, "1", days)
            self._add("prescriptions", person.identifier, code, _day(cancelled), again, "-1", days)


def _another_day(row: Row, copy: int) -> None:
    column = next(key for key in row if "dat" in key.lower())
    row[column] = f"201{copy}0101"


def write_registers(out: Path, persons: int, seed: int) -> None:
    """Write the registers of `persons` invented people to `out`, with `site.yaml`, a key, and the truth per person.

    The same `persons` and `seed` give the same bytes. ValueError for too few people.
    """
    people = draw_population(persons, seed)
    random = np.random.default_rng([seed, 1])
    registers = _Registers(random)
    for events in draw_events(people, seed):
        registers.add(events)
    ledger = []
    for number, (name, rows) in enumerate(registers.rows.items()):
        bad = [changes for changes, _ in BAD[name]]
        faulty, counts = with_faults(random, name, rows, COLUMNS[name][0], bad, number, _another_day)
        ledger.append(counts)
        write_csv(out / f"{name}.csv", COLUMNS[name], faulty, encoding="iso-8859-1" if name in LATIN_1 else "utf-8")
    ledger.append(write_life_table(out, "se"))
    write_truth(out / "truth", people, ledger)
    inputs = {
        name: {
            "path": f"{name}.csv",
            **({"columns": RENAMED[name]} if name in RENAMED else {}),
            **({"options": {"encoding": "ISO-8859-1"}} if name in LATIN_1 else {}),
        }
        for name in COLUMNS
    }
    adapter = {"regions": REGIONS, "basis": BASIS_CODES, "procedure_routes": {INTRAVENOUS: "iv"}}
    write_site(out, "sweden", seed, {**inputs, "life_table": "life_table.csv"}, "Swedish", adapter)
