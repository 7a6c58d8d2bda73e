"""The invented population in the Danish registers' own files, with the faults that real files have."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path

import numpy as np

from jobs.synthetic.events import Contact, Dispensing, Events, Tumour, draw_events
from jobs.synthetic.population import STUDY_END, Person, draw_population
from jobs.synthetic.registers import (
    NEW_ATC,
    OLD_ATC,
    RECODED,
    Row,
    ledger_row,
    with_faults,
    write_csv,
    write_life_table,
    write_site,
    write_truth,
)

NOT_KNOWN = {
    "precision of dates": "dates are whole: one known to the month is written as its 15th, a death as its last day",
    "route": "the codes of procedures do not say how a drug was given",
}

NEWER_FROM = date(2019, 3, 1)
REPEATED_FROM = date(2018, 11, 1)  # contacts of the older register that the newer one repeats
REGIONS = {"south_east": "1083", "west": "1082", "central": "1085", "north": "1081"}
EXTENT = {"localised": "0", "regional": "1", "distant": "2", "": "9"}
BASIS = {"histology": "3", "death_certificate": "5"}
LEFT, CAME_BACK = date(1999, 3, 1), date(2000, 6, 15)
RECURRENCE_KIND = {"local": "L", "distant": "F"}
RECEPTOR = {"positive": "1", "negative": "0", "": "9"}
SKS = {"trastuzumab": "BOHJ13", "pertuzumab": "BOHJ19H3"}

COLUMNS: dict[str, Sequence[str]] = {
    "person": ("V_CPR", "KOEN", "FOEDSELSDATO", "STATUS", "STATUSDATO", "REGION"),
    "vnds": ("PNR", "INDUD_KODE", "HAEND_DATO"),
    "deaths": ("pnr", "d_dodsdto"),
    "cancer": ("PNR", "tumornr", "D_DIAGNOSEDATO", "C_ICD10", "C_MORFO3", "udbredelse", "diaggrundlag"),
    "recurrence": ("pnr", "tumornr", "d_recidiv", "recidivtype"),
    "lpr_adm": ("PNR", "RECNUM", "D_INDDTO", "D_UDDTO", "C_PATTYPE"),
    "lpr_diag": ("RECNUM", "C_DIAG", "C_DIAGTYPE"),
    "lpr_sksopr": ("RECNUM", "C_OPR", "D_ODTO"),
    "lpr_sksube": ("RECNUM", "C_OPR", "D_ODTO"),
    "lpr_a_kontakt": ("pnr", "dw_ek_kontakt", "dato_start", "dato_slut", "lprindberetningssystem"),
    "lpr_a_diagnose": ("dw_ek_kontakt", "diag_kode", "diag_kode_type", "senere_afkraeftet"),
    "procedurer_kirurgi": ("dw_ek_kontakt", "procedurekode", "dato_start"),
    "procedurer_andre": ("dw_ek_kontakt", "procedurekode", "dato_start"),
    "prescriptions": ("pnr", "eksd", "atc", "vnr", "apk", "volume"),
    "pathology": ("pnr", "tumornr", "d_rekvdato", "c_snomedkode", "provested"),
    "receptors": ("pnr", "tumornr", "d_dato", "er", "pr"),
}
BAD = {  # file -> changed cells of a copied row, and the reason the row is held back for
    "person": [({"KOEN": "X"}, "unknown_code:koen"), ({"FOEDSELSDATO": "1950-02-30"}, "impossible_date:foedselsdato")],
    "vnds": [({"INDUD_KODE": "X"}, "unknown_code:indud_kode"), ({"HAEND_DATO": "2015"}, "impossible_date:haend_dato")],
    "deaths": [({"d_dodsdto": "2099-01-01"}, "impossible_date:d_dodsdto")],
    "cancer": [({"C_ICD10": "DZ"}, "unknown_code:c_icd10"), ({"PNR": ""}, "missing_identifier")],
    "recurrence": [({"recidivtype": "9"}, "unknown_code:recidivtype")],
    "prescriptions": [({"apk": "to"}, "impossible_number:apk"), ({"eksd": "0000-00-00"}, "impossible_date:eksd")],
    "pathology": [({"provested": "?"}, "unknown_code:provested")],
    "receptors": [({"d_dato": "i går"}, "impossible_date:d_dato")],
}


class _Registers:
    """The rows of each file while they are made, and how many of the patient register will be held back."""

    def __init__(self, random: np.random.Generator) -> None:
        self.random = random
        self.rows: dict[str, list[Row]] = {name: [] for name in COLUMNS}
        self.held_back = dict.fromkeys(COLUMNS, 0)
        self._contacts = 0

    def _add(self, name: str, *cells: str, held_back: bool = False) -> None:
        self.rows[name].append(dict(zip(COLUMNS[name], cells, strict=True)))
        self.held_back[name] += held_back

    def _chance(self, share: float) -> bool:
        return bool(self.random.random() < share)

    def _day(self, day: date) -> str:
        """As text, as a datetime, as SAS prints dates, or as the number of its day."""
        way = int(self.random.integers(4))
        text = (
            f"{day:%Y-%m-%d}",
            f"{day:%Y-%m-%d} 00:00:00",
            f"{day:%d%b%Y}".upper(),
            str((day - date(1960, 1, 1)).days),
        )
        return text[way]

    def _code(self, substance: str, day: date) -> str:
        recoded = day >= RECODED or self._chance(0.05)
        return (NEW_ATC if recoded else OLD_ATC).get(substance, substance)

    def add(self, events: Events) -> None:
        person = events.person
        self._person(person)
        for tumour in events.tumours:
            self._tumour(person, tumour)
        for day, kind in events.recurrences:
            self._add("recurrence", person.identifier, "1", self._day(day), RECURRENCE_KIND[kind])
        for contact in events.contacts:
            self._contact(person, contact)
        for dispensing in events.dispensings:
            self._buy(person, dispensing)

    def _person(self, person: Person) -> None:
        status, since = "01", ""
        if person.death is not None:
            status, since = "90", self._day(person.death)
            if self._chance(0.9):
                self._add("deaths", person.identifier, self._day(person.death))
        elif person.emigration is not None:
            said = int(self.random.integers(3))  # by the person register, by that of moves, or by both
            if said != 0:
                self._add("vnds", person.identifier, "U", self._day(person.emigration))
            if said != 1:
                status, since = "80", self._day(person.emigration)
        elif self._chance(0.5):
            since = self._day(STUDY_END)
        # Left and came back; the person register may not know of the return.
        if person.birth < LEFT and self._chance(0.02):
            self._add("vnds", person.identifier, "U", self._day(LEFT))
            self._add("vnds", person.identifier, "i", self._day(CAME_BACK))
            if status == "01" and person.emigration is None:
                status, since = "80", self._day(LEFT)
        self._add(
            "person", person.identifier, "M" if person.sex == "male" else "K", self._day(person.birth), status, since,
            REGIONS[person.region],
        )  # fmt: skip

    def _tumour(self, person: Person, tumour: Tumour) -> None:
        diagnosed = tumour.diagnosis
        if tumour.month_only:
            diagnosed = max(diagnosed.replace(day=15), person.birth)
        self._add(
            "cancer", person.identifier, str(tumour.number), self._day(diagnosed), f"D{tumour.icd10}",
            f"M{tumour.morphology}", EXTENT[tumour.stage], BASIS[tumour.basis],
        )  # fmt: skip
        if tumour.her2:
            codes = ("F29607", "F29603") if tumour.her2 == "positive" else ("F29600", "F29605")
            self._add(
                "pathology", person.identifier, str(tumour.number), self._day(tumour.diagnosis),
                codes[int(self.random.integers(2))], "P",
            )  # fmt: skip
        if tumour.er or tumour.pr:
            self._add(
                "receptors", person.identifier, str(tumour.number), self._day(tumour.diagnosis), RECEPTOR[tumour.er],
                RECEPTOR[tumour.pr],
            )  # fmt: skip

    def _contact(self, person: Person, contact: Contact) -> None:
        self._contacts += 1
        number, day = str(7_000_000 + self._contacts), contact.day
        codes = [self._sks(dose.substance, day) for dose in contact.doses]
        kinds = ["A", *("B" for _ in contact.diagnoses[1:])]
        if day < NEWER_FROM:
            self._add("lpr_adm", person.identifier, number, self._day(day), self._day(day), "2")
            for code, kind in zip(contact.diagnoses, kinds, strict=True):
                self._add("lpr_diag", number, f"D{code}", kind)
            for code in codes:
                self._add("lpr_sksube" if self._chance(0.9) else "lpr_sksopr", number, code, self._day(day))
            if day < REPEATED_FROM:
                return
        repeats = day < NEWER_FROM
        start = f"{datetime.combine(day, datetime.min.time()):%Y-%m-%d %H:%M:%S}"
        system = "LPR2" if repeats else "LPR3"
        self._add("lpr_a_kontakt", person.identifier, number, start, start, system, held_back=repeats)
        for code, kind in zip(contact.diagnoses, kinds, strict=True):
            said = "Nej" if self._chance(0.5) else ""
            self._add("lpr_a_diagnose", number, f"D{code}", kind, said, held_back=repeats)
        if self._chance(0.05):
            self._add("lpr_a_diagnose", number, "DC349", "B", "Ja", held_back=True)
        for code in codes:
            table = "procedurer_andre" if self._chance(0.9) else "procedurer_kirurgi"
            self._add(table, number, code, self._day(day), held_back=repeats)

    def _sks(self, substance: str, day: date) -> str:
        listed = substance in SKS and self._chance(0.7)
        code = SKS[substance] if listed else f"M{self._code(substance, day)}"
        return code.lower() if self._chance(0.03) else code

    def _buy(self, person: Person, dispensing: Dispensing) -> None:
        day, code = dispensing.day, self._code(dispensing.substance, dispensing.day)
        self._add("prescriptions", person.identifier, self._day(day), code, "012345", "1", str(dispensing.supply_days))
        if self._chance(0.02):  # entered twice, and one of them corrected
            for packages in ("1", "-1"):
                self._add("prescriptions", person.identifier, f"{day:%Y%m%d}", code, "012346", packages,
                          str(dispensing.supply_days))  # fmt: skip


def _another_day(row: Row, copy: int) -> None:
    row["D_DIAGNOSEDATO"] = f"201{copy}-01-01"


def write_registers(out: Path, persons: int, seed: int) -> None:
    """Write the registers of `persons` invented people to `out`, with `site.yaml`, a key, and the truth per person.

    The same `persons` and `seed` give the same bytes. ValueError for too few people.
    """
    people = draw_population(persons, seed)
    random = np.random.default_rng([seed, 3])
    registers = _Registers(random)
    for events in draw_events(people, seed):
        registers.add(events)
    ledger = []
    for number, (name, rows) in enumerate(registers.rows.items()):
        if name in BAD:
            bad = [changes for changes, _ in BAD[name]]
            written, counts = with_faults(random, name, rows, COLUMNS[name][0], bad, number, _another_day)
        else:
            held = registers.held_back[name]
            written, counts = rows, ledger_row(name, len(rows) - held, held)
        ledger.append(counts)
        write_csv(out / f"{name}.csv", COLUMNS[name], written)
    ledger.append(write_life_table(out, "dk"))
    write_truth(out / "truth", people, ledger)
    inputs = {name: {"path": f"{name}.csv"} for name in [*COLUMNS, "life_table"]}
    inputs["person"] = {"path": "person.csv", "columns": {"pnr": "V_CPR"}}  # type: ignore[dict-item]
    regions = {code: region for region, code in REGIONS.items()}
    write_site(out, "denmark", seed, inputs, "Danish", {"regions": regions, "sas_columns": ["foedselsdato"]})
