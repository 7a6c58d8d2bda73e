"""The invented population in the Finnish registers' own files, with the faults that real files have."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np

from jobs.synthetic.events import Contact, Dispensing, Events, Tumour, draw_events
from jobs.synthetic.population import Person, draw_population
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
    "days of supply": "purchases say packages, not DDD or days; a package covers the study's default, so that "
    "covered_until of tablets in larger packages is too early, and their class may be absent from concomitant",
}

REGIONS = {"south_east": "25", "west": "4", "central": "13", "north": "15"}
STAGE = {"localised": "1", "regional": "2", "distant": "3", "": "0"}
BASIS = {"histology": "4", "death_certificate": "6"}
RECURRENCE_KIND = {"local": "1", "distant": "3"}
PRODUCTS = {
    "trastuzumab": "HERCEPTIN 150 MG", "pertuzumab": "Perjeta inf. konsentraatti", "docetaxel": "TAXOTERE 20 mg/ml",
    "trastuzumab_emtansine": "KADCYLA 100 MG", "trastuzumab_deruxtecan": "Enhertu kuiva-aine",
    "paclitaxel": "Taxol 6mg",
    "fulvestrant": "FASLODEX inj 250 MG",
}  # fmt: skip
YEARLY_UNTIL = "2019"

COLUMNS: dict[str, Sequence[str]] = {
    "population": ("HETU", "SUKUPUOLI", "SYNTYMAPV", "ALUE", "MAASTAMUUTTOPV"),
    "cancer": ("HETU", "tumour_no", "dg_date", "topo", "morpho", "beh", "stage", "basis", "ex_date", "status_close"),
    "recurrence": ("HETU", "tumour_no", "PVM", "LAJI"),
    "care": ("HETU", "TUPVA", "LPVM", "PDGO", "SDG1O", "SDG2O"),
    "hospital_drugs": ("HETU", "ATC", "VALMISTE", "ALOITUSPV", "LOPETUSPV", "ANTOREITTI"),
    "purchases": ("HETU", "ATC", "OSTOPV", "PLKM", "VNRO"),
    "deaths": ("HETU", "KUOLPV"),
    "deaths_population": ("HETU", "KUOLPV"),
    "pathology": ("HETU", "tumour_no", "NAYTEPV", "NAYTE", "MARKKERI", "MENETELMA", "TULOS"),
}
BAD = {  # file -> changed cells of a copied row, and the reason the row is held back for
    "population": [({"SYNTYMAPV": "31.02.1950"}, "impossible_date:SYNTYMAPV"),
                   ({"SUKUPUOLI": "5"}, "unknown_code:SUKUPUOLI")],
    "cancer": [({"dg_date": "2015-13-01"}, "impossible_date:dg_date"), ({"topo": "174.9"}, "unknown_code:topo"),
               ({"HETU": ""}, "missing_identifier")],
    "recurrence": [({"LAJI": "8"}, "unknown_code:LAJI")],
    "care": [({"TUPVA": "1.1.0000"}, "impossible_date:TUPVA"), ({"LPVM": "1.1.1999"}, "end_before_start")],
    "hospital_drugs": [({"ATC": "", "VALMISTE": ""}, "missing:VALMISTE")],
    "purchases": [({"PLKM": "kaksi"}, "impossible_number:PLKM"), ({"OSTOPV": "2015"}, "impossible_date:OSTOPV")],
    "deaths": [({"KUOLPV": "1.1.2099"}, "impossible_date:KUOLPV")],
    "deaths_population": [({"KUOLPV": ""}, "missing:KUOLPV")],
    "pathology": [({"MENETELMA": "XYZ"}, "unknown_code:MENETELMA")],
}  # fmt: skip


class _Registers:
    """The rows of each file while they are made."""

    def __init__(self, random: np.random.Generator) -> None:
        self.random = random
        self.rows: dict[str, list[Row]] = {name: [] for name in COLUMNS}

    def _add(self, name: str, *cells: str) -> None:
        self.rows[name].append(dict(zip(COLUMNS[name], cells, strict=True)))

    def _chance(self, share: float) -> bool:
        return bool(self.random.random() < share)

    def _day(self, day: date, month_only: bool = False) -> str:
        """As Finland writes dates, or as ISO does."""
        if month_only:
            return f"{day.month}.{day.year}" if self._chance(0.5) else f"{day:%Y-%m}"
        return f"{day.day}.{day.month}.{day.year}" if self._chance(0.5) else day.isoformat()

    def _code(self, substance: str, day: date) -> str:
        """The ATC code before or after its recoding; sometimes in lower case or with the letter O for a zero."""
        recoded = day >= RECODED or self._chance(0.05)
        code = (NEW_ATC if recoded else OLD_ATC).get(substance, substance)
        if self._chance(0.03):
            return code.lower()
        return code[0] + code[1:].replace("0", "O") if self._chance(0.03) else code

    def add(self, events: Events) -> None:
        person = events.person
        emigrated = self._day(person.emigration) if person.emigration is not None else ""
        self._add(
            "population", person.identifier, "1" if person.sex == "male" else "2", self._day(person.birth),
            REGIONS[person.region], emigrated,
        )  # fmt: skip
        for tumour in events.tumours:
            self._tumour(person, tumour)
        for day, kind in events.recurrences:
            self._add("recurrence", person.identifier, "1", self._day(day), RECURRENCE_KIND[kind])
        for contact in events.contacts:
            self._contact(person, contact)
        for dispensing in events.dispensings:
            self._buy(person, dispensing)
        if person.death is not None:
            self._add("deaths", person.identifier, self._day(person.death, person.death_month_only))
            if self._chance(0.8):  # known to the month only, or another day of a person whose day is known elsewhere
                self._add("deaths_population", person.identifier, self._day(person.death, True))

    def _tumour(self, person: Person, tumour: Tumour) -> None:
        site = f"{tumour.icd10[:3]}.{tumour.icd10[3:]}" if self._chance(0.5) else tumour.icd10
        decimals = ",0" if self._chance(0.1) else ""
        self._add(
            "cancer", person.identifier, str(tumour.number), self._day(tumour.diagnosis, tumour.month_only), site,
            f"{tumour.morphology[:4]}{decimals}", f"{tumour.morphology[4:5]}{decimals}", STAGE[tumour.stage],
            BASIS[tumour.basis], "", "",
        )  # fmt: skip
        for marker, said in (("ER", tumour.er), ("PR", tumour.pr), ("HER2", tumour.her2)):
            if not said:
                continue
            if marker == "HER2" and self._chance(0.3):
                results = [("IHC", "2+"), ("ISH", "AMP" if said == "positive" else "EI AMP")]
            else:
                results = [("IHC", {"positive": "POS", "negative": "NEG"}[said])]
            for method, result in results:
                self._add(
                    "pathology", person.identifier, str(tumour.number), self._day(tumour.diagnosis), "P", marker,
                    method, result,
                )  # fmt: skip

    def _contact(self, person: Person, contact: Contact) -> None:
        day = self._day(contact.day)
        codes = [f"{code}{'+*#@&.'[int(self.random.integers(6))]}" if self._chance(0.1) else code
                 for code in contact.diagnoses]  # fmt: skip
        self._add("care", person.identifier, day, day, *[*codes, "", ""][:3])
        for dose in contact.doses:
            code = self._code(dose.substance, contact.day)
            product = PRODUCTS.get(dose.substance, "")
            named = bool(product) and self._chance(0.5)
            self._add(
                "hospital_drugs", person.identifier, "" if named else code, product, day,
                day if self._chance(0.3) else "", contact.route.upper(),
            )  # fmt: skip

    def _buy(self, person: Person, dispensing: Dispensing) -> None:
        packages = "1,0" if self._chance(0.5) else "1"
        code = self._code(dispensing.substance, dispensing.day)
        self._add("purchases", person.identifier, code, dispensing.day.isoformat(), packages, "012345")


def _another_day(row: Row, copy: int) -> None:
    row["dg_date"] = f"201{copy}-01-01"


def _write_purchases(out: Path, rows: list[Row]) -> int:
    """Yearly files, packed, and monthly ones that begin with a December again; how many rows are there twice."""
    files: dict[str, list[Row]] = {}
    for row in rows:
        day = row["OSTOPV"]
        files.setdefault(day[:4] if day[:4] <= YEARLY_UNTIL or len(day) < 10 else day[:7], []).append(row)
    december = f"{YEARLY_UNTIL}-12"
    again = [row for row in files.get(YEARLY_UNTIL, []) if row["OSTOPV"].startswith(december)]
    files[december] = again
    for name, part in sorted(files.items()):
        path = out / f"purchases_{name}.csv"
        write_csv(path, COLUMNS["purchases"], part)
        if len(name) == 4:
            # No name and no time inside, so that the same rows are the same bytes.
            packed = gzip.compress(path.read_bytes(), mtime=0)
            path.with_name(f"{path.name}.gz").write_bytes(packed)
            path.unlink()
    return len(again)


def write_registers(out: Path, persons: int, seed: int) -> None:
    """Write the registers of `persons` invented people to `out`, with `site.yaml`, a key, and the truth per person.

    The same `persons` and `seed` give the same bytes. ValueError for too few people.
    """
    people = draw_population(persons, seed)
    random = np.random.default_rng([seed, 5])
    registers = _Registers(random)
    for events in draw_events(people, seed):
        registers.add(events)
    ledger = []
    for number, (name, rows) in enumerate(registers.rows.items()):
        bad = [changes for changes, _ in BAD[name]]
        faulty, counts = with_faults(random, name, rows, "HETU", bad, number, _another_day)
        if name == "purchases":
            twice = _write_purchases(out, faulty)
            counts = ledger_row(name, int(counts["rows_accepted"]), int(counts["rows_quarantined"]),
                                int(counts["rows_duplicate"]) + twice)  # fmt: skip
        else:
            write_csv(out / f"{name}.csv", COLUMNS[name], faulty)
        ledger.append(counts)
    ledger.append(write_life_table(out, "fi"))
    write_truth(out / "truth", people, ledger)
    inputs = {name: f"{name}.csv" for name in [*COLUMNS, "life_table"]} | {"purchases": "purchases_*"}
    regions = {code: region for region, code in REGIONS.items()}
    write_site(out, "finland", seed, inputs, "Finnish", {"regions": regions})
