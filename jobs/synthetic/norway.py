"""The invented population in the Norwegian registers' own files, with the faults that real files have."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from jobs.synthetic.events import Contact, Dispensing, Events, Tumour, draw_events
from jobs.synthetic.population import STUDY_END, Person, draw_population
from jobs.synthetic.registers import (
    NEW_ATC,
    OLD_ATC,
    RECODED,
    Row,
    atc_of,
    with_faults,
    write_csv,
    write_life_table,
    write_site,
    write_truth,
)

H_PRESCRIPTIONS_FROM = date(2019, 1, 1)
NATIONAL_FROM = date(2008, 1, 1)  # the first day of the list of national codes in conf/drugs.yaml
HOSPITAL_FINANCED = ("lapatinib", "tucatinib")
METASTASIS = {"localised": "0", "regional": "A", "distant": "B"}
BASIS = {"histology": "70", "death_certificate": "90"}
RECEPTOR = {"positive": "1", "negative": "0", "": "9"}
REGION = {"south_east": "1", "west": "2", "central": "3", "north": "4"}

NOT_KNOWN: dict[str, str] = {}  # the other countries' files are compared with these

CANCER = ("P_lopenr", "P_kjonn", "P_fodselsdato", "P_personstatus", "P_statusdato", "P_helseregion", "S_tumornr",
          "S_diagnosedato", "S_topografiIcdo3", "S_morfologiIcdo3", "S_met", "S_side", "S_basis", "S_er", "S_pr",
          "S_her2")  # fmt: skip
RECURRENCE = ("P_lopenr", "S_tumornr", "R_dato", "R_type")
HOSPITAL = ("lopenr", "aar", "inndato", "utdato", "fodselsar", "kjonn", "tilstand_1_1", "tilstand_1_2", "tilstand_k_1",
            "ncmp_1", "ncmp_2", "ncsp_1", "cyto_1", "cyto_2", "cyto_3", "cyto_4", "cyto_5", "drg", "institusjonid",
            "nprid_reg", "doddato")  # fmt: skip
PRESCRIPTION = ("Pasient_Lopenummer", "Utlevering_Dato", "ATC", "DDD")
H_PRESCRIPTION = ("lopeNr", "atc_1", "utleveringsdato", "forskrivningsDato", "kjonn")
DEATH = ("lopenr", "fodselsar", "doddato")
RECURRENCE_KIND = {"local": "L", "distant": "F"}


def _day(day: date | None, month_only: bool = False) -> str:
    if day is None:
        return ""
    return f"{day:%Y%m}" if month_only else f"{day:%Y%m%d}"


class _Registers:
    """The rows of each file while they are made."""

    def __init__(self, random: np.random.Generator) -> None:
        self.random = random
        self.rows: dict[str, list[Row]] = {
            name: [] for name in ("cancer", "recurrence", "hospital", "prescriptions", "h_prescriptions", "deaths")
        }

    def _code(self, substance: str, day: date, dispensed: bool) -> str:
        """The ATC code before or after its recoding, or the national code of that day; sometimes in lower case."""
        if substance not in NEW_ATC:
            return substance
        recoded = day >= RECODED or self.random.random() < 0.05
        code = (NEW_ATC if recoded else OLD_ATC)[substance]
        is_national = not dispensed and code.startswith("L01") and self.random.random() < 0.3
        if is_national and day >= NATIONAL_FROM:
            code = atc_of(substance, day)[2:]
        return code.lower() if self.random.random() < 0.03 else code

    def add(self, events: Events) -> None:
        person = events.person
        for tumour in events.tumours:
            self._tumour(person, tumour)
        for day, kind in events.recurrences:
            self.rows["recurrence"].append(
                {"P_lopenr": person.identifier, "S_tumornr": "1", "R_dato": _day(day), "R_type": RECURRENCE_KIND[kind]}
            )
        for contact in events.contacts:
            self._contact(person, contact)
        for dispensing in events.dispensings:
            self._dispense(person, dispensing)
        if person.death is not None:
            self.rows["deaths"].append(
                {"lopenr": person.identifier, "fodselsar": f"{person.birth:%Y}",
                 "doddato": _day(person.death, person.death_month_only)}
            )  # fmt: skip

    def _contact(self, person: Person, contact: Contact) -> None:
        day = contact.day
        row = dict.fromkeys(HOSPITAL, "")
        row |= {
            "lopenr": person.identifier, "aar": f"{day:%Y}", "inndato": _day(day), "utdato": _day(day),
            "fodselsar": f"{person.birth:%Y}", "kjonn": "1" if person.sex == "male" else "2", "nprid_reg": "1",
            "institusjonid": f"{100 + int(REGION[person.region]) * 10}",
        }  # fmt: skip
        row |= dict(zip(("tilstand_1_1", "tilstand_1_2", "tilstand_k_1"), contact.diagnoses, strict=False))
        places = ["ncmp_2", "cyto_1", "cyto_2", "cyto_3", "cyto_4", "cyto_5"]
        first = 0 if self.random.random() < 0.1 else 1
        for place, dose in enumerate(contact.doses, first):
            row[places[place]] = self._code(dose.substance, day, dispensed=False)
        if contact.doses:
            row["ncmp_1"] = {"sc": "WBOC15", "iv": "WBOC05"}[contact.route]
        self.rows["hospital"].append(row)

    def _dispense(self, person: Person, dispensing: Dispensing) -> None:
        code = self._code(dispensing.substance, dispensing.day, dispensed=True)
        if dispensing.substance in HOSPITAL_FINANCED and dispensing.day >= H_PRESCRIPTIONS_FROM:
            self.rows["h_prescriptions"].append(
                {
                    "lopeNr": person.identifier, "atc_1": code, "utleveringsdato": _day(dispensing.day),
                    "forskrivningsDato": _day(dispensing.day - timedelta(days=1)),
                    "kjonn": "Mann" if person.sex == "male" else "Kvinne",
                }
            )  # fmt: skip
        else:
            self.rows["prescriptions"].append(
                {"Pasient_Lopenummer": person.identifier, "Utlevering_Dato": _day(dispensing.day), "ATC": code,
                 "DDD": str(dispensing.supply_days)}
            )  # fmt: skip

    def _tumour(self, person: Person, tumour: Tumour) -> None:
        status, since = "B", _day(STUDY_END)
        if person.death is not None:
            status, since = "D", _day(person.death, person.death_month_only)
        elif person.emigration is not None:
            status, since = "U", _day(person.emigration)
        topography = tumour.icd10
        if topography.startswith("C50") and self.random.random() < 0.03:
            topography = topography.lower()
        self.rows["cancer"].append(
            {
                "P_lopenr": person.identifier, "P_kjonn": "1" if person.sex == "male" else "2",
                "P_fodselsdato": _day(person.birth), "P_personstatus": status, "P_statusdato": since,
                "P_helseregion": REGION[person.region], "S_tumornr": str(tumour.number),
                "S_diagnosedato": _day(tumour.diagnosis, tumour.month_only), "S_topografiIcdo3": topography,
                "S_morfologiIcdo3": tumour.morphology, "S_met": METASTASIS.get(tumour.stage, "9"),
                "S_side": "123"[int(self.random.integers(3))], "S_basis": BASIS[tumour.basis],
                "S_er": RECEPTOR[tumour.er], "S_pr": RECEPTOR[tumour.pr], "S_her2": RECEPTOR[tumour.her2],
            }
        )  # fmt: skip


BAD = {  # file -> changed cells of a copied row, and the reason the row is held back for
    "cancer": [
        ({"S_diagnosedato": "20159945"}, "impossible_date:S_diagnosedato"),
        ({"P_kjonn": "7"}, "unknown_code:P_kjonn"),
        ({"P_personstatus": "D", "P_statusdato": "19010101"}, "death_before_birth"),
        ({"P_lopenr": ""}, "missing_identifier"),
    ],
    "recurrence": [({"R_dato": "00000000"}, "impossible_date:R_dato")],
    "hospital": [
        ({"inndato": "20150230"}, "impossible_date:inndato"),
        ({"utdato": "20010101"}, "end_before_start"),
        ({"nprid_reg": "4"}, "identity_not_certain:nprid_reg"),
    ],
    "prescriptions": [({"Utlevering_Dato": "2015"}, "impossible_date:Utlevering_Dato"), ({"ATC": ""}, "missing:ATC")],
    "h_prescriptions": [({"lopeNr": ""}, "missing_identifier")],
    "deaths": [({"doddato": "18500101"}, "death_before_birth")],
}
ID_COLUMN = {
    "cancer": "P_lopenr", "recurrence": "P_lopenr", "hospital": "lopenr", "deaths": "lopenr",
    "prescriptions": "Pasient_Lopenummer", "h_prescriptions": "lopeNr",
}  # fmt: skip


def _another_day(row: Row, copy: int) -> None:
    column = next(key for key in row if "dato" in key.lower())
    row[column] = f"201{copy}0101"


def write_registers(out: Path, persons: int, seed: int, *, warehouse: str = "warehouse", results: str = "out") -> None:
    """Write the registers of `persons` invented people to `out`, with `site.yaml`, a key, and the truth per person.

    `warehouse` and `results`: the folders that `site.yaml` names, relative to it. The same arguments give the same
    bytes. ValueError for too few people.
    """
    people = draw_population(persons, seed)
    random = np.random.default_rng([seed, 1])
    registers = _Registers(random)
    for events in draw_events(people, seed):
        registers.add(events)
    columns: dict[str, Sequence[str]] = {
        "cancer": CANCER, "recurrence": RECURRENCE, "hospital": HOSPITAL, "prescriptions": PRESCRIPTION,
        "h_prescriptions": H_PRESCRIPTION, "deaths": DEATH,
    }  # fmt: skip
    ledger = []
    for number, (name, rows) in enumerate(registers.rows.items()):
        bad = [changes for changes, _ in BAD[name]]
        faulty, counts = with_faults(random, name, rows, ID_COLUMN[name], bad, number, _another_day)
        ledger.append(counts)
        write_csv(out / f"{name}.csv", columns[name], faulty, encoding="utf-8-sig" if name == "cancer" else "utf-8")
    ledger.append(write_life_table(out, "no"))
    write_truth(out / "truth", people, ledger)
    inputs = {name: f"{name}.csv" for name in [*columns, "life_table"]}
    write_site(out, "norway", seed, inputs, "Norwegian", warehouse=warehouse, results=results)
