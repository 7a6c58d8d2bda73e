"""What the synthetic registers of every country share: files, faults, the truth beside them, the site file."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from jobs.synthetic.population import Person, follow_up

DELIVERY = date(2023, 6, 30)
KEY = "synthetic-registers-only-this-key-protects-nobody"
LIFE_TABLE = ("country", "sex", "year", "age", "probability_of_death")
# On so few rows it takes longer to compile a plan than to run it as it is.
INTERPRETED = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}
SPARE_IDENTIFIERS = 90_000_000_000
Row = dict[str, str]

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


def atc_of(substance: str, day: date) -> str:
    """The ATC code of that day; a substance that is a code already stays."""
    return (NEW_ATC if day >= RECODED else OLD_ATC).get(substance, substance)


def distinct(rows: list[Row]) -> list[Row]:
    """The rows without exact repetitions, in order."""
    return [dict(row) for row in dict.fromkeys(tuple(row.items()) for row in rows)]


def with_faults(
    random: np.random.Generator,
    name: str,
    rows: list[Row],
    id_column: str,
    bad: Sequence[Mapping[str, str]],
    number: int,
    distinguish: Callable[[Row, int], None] = lambda row, copy: None,
) -> tuple[list[Row], Row]:
    """The distinct rows with one per cent of them repeated and with two bad rows for each of the changes in `bad`, of
    people who exist nowhere else, in random order; and what the ledger must say of it.

    `number` counts the raw tables. `distinguish(row, copy)` makes the two copies of a bad row without an identifier
    differ, or one would repeat the other.
    """
    rows = distinct(rows)
    spare = SPARE_IDENTIFIERS + 1000 * number
    wrong = []
    for changes in bad:
        for copy in range(2):
            wrong.append({**rows[int(random.integers(len(rows)))], id_column: str(spare), **changes})
            spare += 1
            if not wrong[-1][id_column]:
                distinguish(wrong[-1], copy)
    places: Iterable[int] = random.choice(len(rows), max(1, len(rows) // 100), replace=False) if rows else []
    repeated = [rows[int(place)] for place in places]
    everything = [*rows, *wrong, *repeated]
    order = random.permutation(len(everything))
    return [everything[int(place)] for place in order], ledger_row(name, len(rows), len(wrong), len(repeated))


def ledger_row(name: str, accepted: int, quarantined: int = 0, duplicate: int = 0) -> Row:
    """What the ledger must say of a raw table."""
    counts = {"rows_in": accepted + quarantined + duplicate, "rows_accepted": accepted,
              "rows_quarantined": quarantined, "rows_duplicate": duplicate}  # fmt: skip
    return {"raw_table": name, **{key: str(count) for key, count in counts.items()}}


def write_csv(
    path: Path, columns: Sequence[str], rows: Iterable[Row], separator: str = ";", encoding: str = "utf-8"
) -> None:
    """A file with a header; `utf-8-sig` writes a byte order mark."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding=encoding, newline="") as stream:
        writer = csv.DictWriter(stream, columns, delimiter=separator, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def life_table_rows(country: str) -> list[Row]:
    """Gompertz mortality that falls by 1.5 % a year, near Norway's: a woman of 60 dies within a year with 0.5 %."""
    rows = []
    for sex, level in (("female", 0.000022), ("male", 0.000036)):
        for year in range(2005, 2024):
            for age in range(111):
                hazard = level * math.exp(0.092 * age) * 0.985 ** (year - 2015)
                rows.append({"country": country, "sex": sex, "year": str(year), "age": str(age),
                             "probability_of_death": f"{1 - math.exp(-hazard):.6f}"})  # fmt: skip
    return rows


def write_life_table(out: Path, country: str) -> Row:
    """Write life_table.csv; returns what the ledger must say of it."""
    rows = life_table_rows(country)
    write_csv(out / "life_table.csv", LIFE_TABLE, rows, separator=",")
    return ledger_row("life_table", len(rows))


def write_truth(folder: Path, people: list[Person], ledger: list[Row]) -> None:
    """persons.csv and lines.csv of who is in the study, and ledger.csv."""
    study = [person for person in people if person.in_cohort]
    write_csv(
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
    write_csv(
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
    write_csv(folder / "ledger.csv", tuple(ledger[0]), ledger, ",")


def write_site(
    out: Path,
    country: str,
    seed: int,
    inputs: Mapping[str, Any],
    title: str,
    adapter: Mapping[str, Any] | None = None,
    warehouse: str = "warehouse",
    results: str = "out",
) -> None:
    """site.yaml and the key it names. `inputs`: raw table -> file name, or what else its section says; `warehouse` and
    `results` (the key `out`) relative to the file."""
    site = {
        "name": f"synthetic_{country}",
        "country": country,
        "synthetic": True,
        "seed": seed,
        "delivery": DELIVERY,
        "warehouse": warehouse,
        "out": results,
        "pseudonym_key_file": "key",
        "inputs": {name: said if isinstance(said, dict) else {"path": said} for name, said in inputs.items()},
        **({"adapter": dict(adapter)} if adapter else {}),
    }
    text = yaml.safe_dump(site, sort_keys=False)
    spark = yaml.safe_dump({"spark": INTERPRETED})
    (out / "site.yaml").write_text(
        f"# Synthetic {title} registers: nobody in these files exists.\n{text}"
        f"# On so few rows it takes longer to compile a plan than to run it as it is.\n{spark}"
    )
    key = out / "key"
    key.touch(0o600)
    key.chmod(0o600)
    key.write_text(KEY)
