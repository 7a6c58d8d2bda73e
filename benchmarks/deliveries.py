"""Invented Norwegian deliveries for benchmarks, seeded: a hospital file, prescriptions, the small files beside them.

A hospital row has an identifier, two dates and six columns for codes, of which 2.6 are filled on average. Rows stand in
the order of their day, as registers deliver them, so a person's rows lie all over the file.
"""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

from jobs.config import DELIVERY, RawInput, Site

FIRST_DAY, DAYS = datetime.date(2010, 1, 1), 4_700
ROWS_A_PERSON = 20
ROWS_A_FILE = 1_000_000
DIAGNOSES = ("C509", "C787", "I109", "E119", "I500", "J449", "N189", "M179", "Z509", "C795", "S720", "K359")
PROCEDURES = ("WBOC05", "WBOC15", "WBOC20", "HAC10", "1XC03", "1FD01", "L01XC13", "L01CD02")
DRUGS = ("L02BG04", "L02BA01", "C10AA05", "A10BA02", "N02BE01", "L01EH01")
CODE_COLUMNS = {  # column -> codes, share of rows in which it is filled
    "tilstand_1_1": (DIAGNOSES, 1.0), "tilstand_1_2": (DIAGNOSES, 0.5), "tilstand_k_1": (DIAGNOSES, 0.2),
    "ncmp_1": (PROCEDURES, 0.4), "cyto_1": (PROCEDURES, 0.35), "cyto_2": (PROCEDURES, 0.15),
}  # fmt: skip
SMALL = {
    "recurrence": "P_lopenr;S_tumornr;R_dato;R_type\n",
    "life_table": "country,sex,year,age,probability_of_death\n"
    + "".join(f"no,{sex},2015,{age},0.01\n" for sex in ("female", "male") for age in range(111)),
}


def _texts(values: tuple[str, ...], places: npt.NDArray[np.int64], filled: npt.NDArray[np.bool_]) -> pa.Array:
    coded = pa.DictionaryArray.from_arrays(pa.array(places, pa.int32(), mask=~filled), pa.array(values))
    return coded.cast(pa.string())


def _dates() -> tuple[str, ...]:
    return tuple(f"{FIRST_DAY + datetime.timedelta(days=day):%Y%m%d}" for day in range(DAYS + 150))


def _hospital(people: npt.NDArray[np.int64], days: npt.NDArray[np.int64], random: np.random.Generator) -> pa.Table:
    rows, dates, whole = len(people), _dates(), np.ones(len(people), bool)
    columns = {
        "lopenr": pa.array(people + 10_000_000).cast(pa.string()),
        "inndato": _texts(dates, days, whole),
        "utdato": _texts(dates, days + random.integers(0, 8, rows), whole),
        "fodselsar": pa.array(1930 + people % 60).cast(pa.string()),
        "kjonn": pa.array(1 + people % 2).cast(pa.string()),
        "nprid_reg": _texts(("1", "4"), (random.random(rows) < 0.001).astype(np.int64), whole),
    }
    for name, (codes, share) in CODE_COLUMNS.items():
        columns[name] = _texts(codes, random.integers(0, len(codes), rows), random.random(rows) < share)
    return pa.table(columns)


def _prescriptions(people: npt.NDArray[np.int64], days: npt.NDArray[np.int64], random: np.random.Generator) -> pa.Table:
    rows, whole = len(people), np.ones(len(people), bool)
    return pa.table(
        {
            "Pasient_Lopenummer": pa.array(people + 10_000_000).cast(pa.string()),
            "Utlevering_Dato": _texts(_dates(), days, whole),
            "ATC": _texts(DRUGS, random.integers(0, len(DRUGS), rows), whole),
            "DDD": _texts(("30", "98", "14,5", "60"), random.integers(0, 4, rows), whole),
        }
    )


def write_delivery(folder: Path, rows: int, people: int, seed: int, first_day: int = 0, days: int = DAYS) -> None:
    """Write a delivery of `rows` hospital rows and as many dispensings of `people` people, on `days` days from
    `first_day`; a folder that is there is kept."""
    done = folder / "done"
    if done.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    options = pa.csv.WriteOptions(delimiter=";", quoting_style="none")
    for name, table in (("hospital", _hospital), ("prescriptions", _prescriptions)):
        drawn = np.sort(random.integers(first_day, first_day + days, rows))
        for number, first in enumerate(range(0, rows, ROWS_A_FILE)):
            part = drawn[first : first + ROWS_A_FILE]
            made = table(random.integers(0, people, len(part)), part, random)
            pa.csv.write_csv(made, folder / f"{name}_{number:03d}.csv", options)
    for name, text in SMALL.items():
        (folder / f"{name}.csv").write_text(text)
    registered = range(0, people, max(1, people // 1000))
    (folder / "cancer.csv").write_text(
        "P_lopenr;P_kjonn;P_fodselsdato;P_personstatus;P_statusdato;P_helseregion;S_tumornr;S_diagnosedato;"
        "S_topografiIcdo3;S_morfologiIcdo3;S_met;S_basis;S_er;S_pr;S_her2\n"
        + "".join(
            f"{10_000_000 + one};{1 + one % 2};{1930 + one % 60}0101;B;20221231;1;1;20150101;C509;85003;0;70;1;1;1\n"
            for one in registered
        )
    )
    (folder / "deaths.csv").write_text(
        "lopenr;fodselsar;doddato\n"
        + "".join(f"{10_000_000 + one};{1930 + one % 60};20221201\n" for one in registered if one % 7 == 0)
    )
    done.touch()


def site_of(folder: Path, warehouse: Path, delivery: str, additions: bool = False) -> Site:
    """A site over the deliveries in `folder`, one folder a date."""
    names = ("cancer", "recurrence", "deaths", "life_table")
    paths = {**{name: f"{name}.csv" for name in names}, "hospital": "hospital_*.csv",
             "prescriptions": "prescriptions_*.csv"}  # fmt: skip
    (folder / "key").write_text("benchmarks-only-this-key-protects-nobody")
    return Site(
        name="benchmark",
        country="norway",
        synthetic=True,
        delivery=datetime.date.fromisoformat(delivery),
        warehouse=str(warehouse),
        out=str(warehouse / "out"),
        deliveries="additions" if additions else "whole",
        pseudonym_key_file=str(folder / "key"),
        inputs={name: RawInput(path=str(folder / DELIVERY / path)) for name, path in paths.items()},
    )
