"""The invented population in the Norwegian registers' own files, with the faults that real files have."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import yaml

from jobs.synthetic.population import STUDY_END, Dose, Person, draw_population, follow_up

DELIVERY = date(2023, 6, 30)
KEY = "synthetic-registers-only-this-key-protects-nobody"
OLD_ATC = {
    "trastuzumab": "L01XC03", "pertuzumab": "L01XC13", "trastuzumab_emtansine": "L01XC14",
    "trastuzumab_deruxtecan": "L01XC41", "lapatinib": "L01XE07", "tucatinib": "L01EH03", "docetaxel": "L01CD02",
    "paclitaxel": "L01CD01", "letrozole": "L02BG04", "tamoxifen": "L02BA01", "fulvestrant": "L02BA03",
}  # fmt: skip
NEW_ATC = {
    **OLD_ATC, "trastuzumab": "L01FD01", "pertuzumab": "L01FD02", "trastuzumab_emtansine": "L01FD03",
    "trastuzumab_deruxtecan": "L01FD04", "lapatinib": "L01EH01",
}  # fmt: skip
RECODED = date(2022, 1, 1)
H_PRESCRIPTIONS_FROM = date(2019, 1, 1)
PRESCRIBED = ("lapatinib", "tucatinib", "letrozole", "tamoxifen")
METASTASIS = {"localised": "0", "regional": "A", "distant": "B"}
BASIS = {"histology": "70", "death_certificate": "90"}
RECEPTOR = {"positive": "1", "negative": "0", "": "9"}
REGION = {"south_east": "1", "west": "2", "central": "3", "north": "4"}

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
LIFE = ("country", "sex", "year", "age", "probability_of_death")
Row = dict[str, str]


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

    def _code(self, dose: Dose) -> str:
        """The ATC code before or after its recoding, or the national code of that day; sometimes in lower case."""
        recoded = dose.day >= RECODED or self.random.random() < 0.05
        code = (NEW_ATC if recoded else OLD_ATC)[dose.substance]
        if self.random.random() < 0.3 and code.startswith("L01") and dose.substance not in PRESCRIBED:
            code = (NEW_ATC if dose.day >= RECODED else OLD_ATC)[dose.substance][2:]
        return code.lower() if self.random.random() < 0.03 else code

    def contact(self, person: Person, day: date, diagnoses: Sequence[str], doses: Sequence[Dose]) -> None:
        row = dict.fromkeys(HOSPITAL, "")
        row |= {
            "lopenr": person.identifier, "aar": f"{day:%Y}", "inndato": _day(day), "utdato": _day(day),
            "fodselsar": f"{person.birth:%Y}", "kjonn": "1" if person.sex == "male" else "2", "nprid_reg": "1",
            "institusjonid": f"{100 + int(REGION[person.region]) * 10}",
        }  # fmt: skip
        for column, code in zip(("tilstand_1_1", "tilstand_1_2", "tilstand_k_1"), diagnoses, strict=False):
            row[column] = code
        places = ["ncmp_2", "cyto_1", "cyto_2", "cyto_3", "cyto_4", "cyto_5"]
        first = 0 if self.random.random() < 0.1 else 1
        for place, dose in enumerate(doses, first):
            row[places[place]] = self._code(dose)
        if doses:
            row["ncmp_1"] = "WBOC15" if self.random.random() < 0.2 else "WBOC05"
        self.rows["hospital"].append(row)

    def dispense(self, person: Person, dose: Dose) -> None:
        code = self._code(dose)
        hospital_financed = dose.substance in ("lapatinib", "tucatinib") and dose.day >= H_PRESCRIPTIONS_FROM
        if hospital_financed:
            self.rows["h_prescriptions"].append(
                {
                    "lopeNr": person.identifier, "atc_1": code, "utleveringsdato": _day(dose.day),
                    "forskrivningsDato": _day(dose.day - timedelta(days=1)),
                    "kjonn": "Mann" if person.sex == "male" else "Kvinne",
                }
            )  # fmt: skip
        else:
            ddd = "30" if dose.substance in ("lapatinib", "tucatinib") else "98"
            self.rows["prescriptions"].append(
                {"Pasient_Lopenummer": person.identifier, "Utlevering_Dato": _day(dose.day), "ATC": code, "DDD": ddd}
            )

    def add(self, person: Person) -> None:
        if person.diagnosis is not None:
            self._cancer(person)
        by_day: dict[date, list[Dose]] = {}
        for dose in [*person.doses, *person.others]:
            if dose.substance in PRESCRIBED:
                self.dispense(person, dose)
            else:
                by_day.setdefault(dose.day, []).append(dose)
        for day, doses in sorted(by_day.items()):
            distinct = {dose.substance: dose for dose in doses}
            self.contact(person, day, [person.icd10 or "C509"], [distinct[name] for name in sorted(distinct)])
        self._ordinary_life(person)
        if person.death is not None:
            self.rows["deaths"].append(
                {"lopenr": person.identifier, "fodselsar": f"{person.birth:%Y}",
                 "doddato": _day(person.death, person.death_month_only)}
            )  # fmt: skip

    def _cancer(self, person: Person) -> None:
        status, since = "B", _day(STUDY_END)
        if person.death is not None:
            status, since = "D", _day(person.death, person.death_month_only)
        elif person.emigration is not None:
            status, since = "U", _day(person.emigration)
        month_only = person.index_kind in ("relapse", "other_cancer") and self.random.random() < 0.05
        diagnosed = person.diagnosis
        if person.index_kind == "relapse" and person.spread is not None and diagnosed is not None:
            month_only = month_only and (person.spread - diagnosed).days > 160
        row = {
            "P_lopenr": person.identifier, "P_kjonn": "1" if person.sex == "male" else "2",
            "P_fodselsdato": _day(person.birth), "P_personstatus": status, "P_statusdato": since,
            "P_helseregion": REGION[person.region], "S_tumornr": "1", "S_diagnosedato": _day(diagnosed, month_only),
            "S_topografiIcdo3": person.icd10, "S_morfologiIcdo3": person.morphology,
            "S_met": METASTASIS.get(person.stage, "9"), "S_side": "123"[int(self.random.integers(3))],
            "S_basis": BASIS[person.basis], "S_er": RECEPTOR[person.er], "S_pr": RECEPTOR[person.pr],
            "S_her2": RECEPTOR[person.her2],
        }  # fmt: skip
        if person.icd10.startswith("C50") and self.random.random() < 0.03:
            row["S_topografiIcdo3"] = person.icd10.lower()
        self.rows["cancer"].append(row)
        if person.second_cancer is not None:
            self.rows["cancer"].append(
                {**row, "S_tumornr": "2", "S_diagnosedato": _day(person.second_cancer), "S_topografiIcdo3": "C187",
                 "S_morfologiIcdo3": "81403", "S_met": "0", "S_er": "9", "S_pr": "9", "S_her2": "9"}
            )  # fmt: skip
        if person.in_cohort and self.random.random() < 0.03:
            # A metastasis registered as a cancer of its own: it is none.
            after = (person.spread or STUDY_END) + timedelta(days=20)
            self.rows["cancer"].append(
                {**row, "S_tumornr": "3", "S_diagnosedato": _day(after), "S_topografiIcdo3": "C787",
                 "S_met": "9", "S_er": "9", "S_pr": "9", "S_her2": "9"}
            )  # fmt: skip
        if person.local_recurrence is not None:
            self._recurrence(person, person.local_recurrence, "L")
        if person.spread is not None and person.stage != "distant":
            self._recurrence(person, person.spread, "F")

    def _recurrence(self, person: Person, day: date, kind: str) -> None:
        self.rows["recurrence"].append(
            {"P_lopenr": person.identifier, "S_tumornr": "1", "R_dato": _day(day), "R_type": kind}
        )

    def _ordinary_life(self, person: Person) -> None:
        """Contacts and prescriptions for other reasons; diagnoses of the year before index make comorbidity."""
        often = 0.5 if person.in_cohort else 0.35
        last = min(day for day in (person.death, person.emigration, STUDY_END) if day is not None)
        around = person.spread or last - timedelta(days=int(self.random.integers(200, 3000)))
        if self.random.random() < often:
            day = around - timedelta(days=int(self.random.integers(5, 360)))
            if person.birth < day <= last:
                codes = ["I109", "E119", "I500", "J449", "N189", "M179", "Z509"]
                self.contact(person, day, [codes[int(self.random.integers(len(codes)))], "I109"], [])
        if self.random.random() < 0.3:
            day = around - timedelta(days=int(self.random.integers(0, 300)))
            if person.birth < day <= last:
                self.rows["prescriptions"].append(
                    {"Pasient_Lopenummer": person.identifier, "Utlevering_Dato": _day(day), "ATC": "C10AA05",
                     "DDD": "100"}
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


def _with_faults(random: np.random.Generator, name: str, rows: list[Row], spare: int) -> tuple[list[Row], Row]:
    """Rows with copies, and with bad rows of people who exist nowhere else; and what the ledger must say."""
    bad = []
    for changes, _ in BAD[name]:
        for copy in range(2):
            identifier = str(spare)
            spare += 1
            bad.append({**rows[int(random.integers(len(rows)))], ID_COLUMN[name]: identifier, **changes})
            if not bad[-1][ID_COLUMN[name]]:
                # Two rows without an identifier must differ, or one would repeat the other.
                column = [key for key in bad[-1] if "dato" in key.lower()][0]
                bad[-1][column] = f"201{copy}0101"
    repeated = [rows[int(place)] for place in random.choice(len(rows), max(1, len(rows) // 100), replace=False)]
    everything = [*rows, *bad, *repeated]
    order = random.permutation(len(everything))
    counts = {"raw_table": name, "rows_in": str(len(everything)), "rows_accepted": str(len(rows)),
              "rows_quarantined": str(len(bad)), "rows_duplicate": str(len(repeated))}  # fmt: skip
    return [everything[int(place)] for place in order], counts


def _write(path: Path, columns: Sequence[str], rows: Iterable[Row], separator: str = ";", bom: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8-sig" if bom else "utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, delimiter=separator, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _life_table() -> list[Row]:
    """Gompertz mortality that falls by 1.5 % a year, near Norway's: a woman of 60 dies within a year with 0.5 %."""
    rows = []
    for sex, level in (("female", 0.000022), ("male", 0.000036)):
        for year in range(2005, 2024):
            for age in range(111):
                hazard = level * math.exp(0.092 * age) * 0.985 ** (year - 2015)
                rows.append({"country": "no", "sex": sex, "year": str(year), "age": str(age),
                             "probability_of_death": f"{1 - math.exp(-hazard):.6f}"})  # fmt: skip
    return rows


def _distinct(rows: list[Row]) -> list[Row]:
    return [dict(row) for row in dict.fromkeys(tuple(row.items()) for row in rows)]


def write_registers(out: Path, persons: int, seed: int) -> None:
    """Write the registers of `persons` invented people to `out`, with `site.yaml`, a key, and the truth per person.

    The same `persons` and `seed` give the same bytes. ValueError for too few people.
    """
    people = draw_population(persons, seed)
    random = np.random.default_rng([seed, 1])
    registers = _Registers(random)
    for person in people:
        registers.add(person)
    columns = {"cancer": CANCER, "recurrence": RECURRENCE, "hospital": HOSPITAL, "prescriptions": PRESCRIPTION,
               "h_prescriptions": H_PRESCRIPTION, "deaths": DEATH}  # fmt: skip
    ledger = []
    for number, (name, rows) in enumerate(registers.rows.items()):
        faulty, counts = _with_faults(random, name, _distinct(rows), 90_000_000_000 + 1000 * number)
        ledger.append(counts)
        _write(out / f"{name}.csv", columns[name], faulty, bom=name == "cancer")
    life = _life_table()
    _write(out / "life_table.csv", LIFE, life, separator=",")
    ledger.append({"raw_table": "life_table", "rows_in": str(len(life)), "rows_accepted": str(len(life)),
                   "rows_quarantined": "0", "rows_duplicate": "0"})  # fmt: skip
    _write_truth(out / "truth", people, ledger)
    (out / "key").write_text(KEY)
    _write_site(out / "site.yaml", seed, list(columns))


def _write_truth(folder: Path, people: list[Person], ledger: list[Row]) -> None:
    study = [person for person in people if person.in_cohort]
    _write(
        folder / "persons.csv",
        ("identifier", "index_date", "index_kind", "receptor", "has_treatment_information", "follow_up_end",
         "follow_up_end_reason", "lines"),
        [
            {
                "identifier": p.identifier, "index_date": str(p.spread), "index_kind": p.index_kind,
                "receptor": "unknown" if not p.er else "hormone_positive" if "positive" in (p.er, p.pr)
                else "hormone_negative",
                "has_treatment_information": str(p.informed).lower(), "follow_up_end": str(follow_up(p)[0]),
                "follow_up_end_reason": follow_up(p)[1], "lines": str(len(p.lines)),
            }
            for p in study
        ],
        ",",
    )  # fmt: skip
    _write(
        folder / "lines.csv",
        ("identifier", "line_number", "regimen", "line_start", "line_end", "end_reason", "next_state"),
        [
            {
                "identifier": p.identifier, "line_number": str(line.number), "regimen": " + ".join(line.regimen),
                "line_start": str(line.start), "line_end": str(line.end), "end_reason": line.end_reason,
                "next_state": line.next_state,
            }
            for p in study
            for line in p.lines
        ],
        ",",
    )  # fmt: skip
    _write(folder / "ledger.csv", tuple(ledger[0]), ledger, ",")


INTERPRETED = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}


def _write_site(path: Path, seed: int, registers: list[str]) -> None:
    site = {
        "name": "synthetic_norway",
        "country": "norway",
        "synthetic": True,
        "seed": seed,
        "delivery": DELIVERY,
        "warehouse": "warehouse",
        "out": "out",
        "pseudonym_key_file": "key",
        "inputs": {name: {"path": f"{name}.csv"} for name in [*registers, "life_table"]},
    }
    text = yaml.safe_dump(site, sort_keys=False)
    spark = yaml.safe_dump({"spark": INTERPRETED})
    path.write_text(
        f"# Synthetic Norwegian registers: nobody in these files exists.\n{text}"
        f"# On so few rows it takes longer to compile a plan than to run it as it is.\n{spark}"
    )
