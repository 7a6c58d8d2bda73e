"""The Swedish files' own cases, in a small hand-written delivery."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import pandas as pd
import pytest
from pyspark.sql import Row, SparkSession

from jobs.cohort import build_cohort
from jobs.config import RawInput, Site, conf_folder, load_drugs, load_study
from jobs.contents import with_contents
from jobs.delivery_rules import judge_delivery
from jobs.errors import ConfigurationError
from jobs.exposures import build_exposures
from jobs.extracts import find_extracts
from jobs.identity import pseudonym_of
from jobs.ingest import ingested_tables
from jobs.sources.adapter import load_adapter
from jobs.sources.sweden import _cut_off
from schemas import TABLES
from tests.conformed import conformed_of

KEY = b"k" * 32
STUDY = conf_folder() / "studies" / "her2_mbc.yaml"
PEOPLE = (
    "anna", "born", "year", "young", "away", "back", "d_day", "d_month", "d_year", "d_none", "d_stay", "ihc3", "ish",
    "ihc2", "er5", "er10", "two", "meta", "same_day", "later", "twice", "wrong", "alone",
)  # fmt: skip
TUMOURS = ("ihc3", "ish", "ihc2", "er5", "er10", "two", "meta")
POPULATION = {
    "born": "201503;09", "year": "19500000;14", "young": "2015;1", "wrong": "195013;01", "d_year": "201511;77",
}  # fmt: skip
FILES = {
    "population": [
        "löpnr;KON;FODELSEMAN;LAN",
        *(f"{name};{'K' if name == 'alone' else 2};{POPULATION.get(name, '195006;25')}" for name in PEOPLE),
        "anna;1;195006;25",
    ],
    "migration": [
        "LopNr;DATUM;TYP",
        "away;20100101;U", "away;20110101;I", "away;20120300;U",
        "back;20100101;U", "back;20110101;I",
        "anna;20110101;Q",
    ],
    "cancer": [
        "lopnr;TumorID;DIADAT;ICDO10;SNOMED3;DIGR;TNM_N;TNM_M;ICD7",
        *(f"{name};1;20150301;C50.9;85003;3;N0;M1;" for name in TUMOURS),
        "anna;1;20150000;c50.4;M85003;3;1a;0;170",
        "anna;2;201503;C44.5;8720/3;4;X;X;",
        "anna;3;99999999;C509;85003;3;0;0;",
        "anna;4;20151301;C509;85003;3;0;0;",
        "anna;5;20150301;174A;85003;3;0;0;",
        "anna;1;20150301;C504;85003;3;1;0;",
        "born;1;20150301;C749;95003;9;N7;1;",
        "year;1;1950;C749;95003;7;0;1;",
        "young;1;20150000;C749;95003;5;2;0;",
        "back;1;202306;C509;85003;3;0;0;",
    ],
    "quality_register": [
        "p444_lopnr;TumorID;PROVDAT;PROVLOKAL;ER_PROC;PR_PROC;HER2_IHC;HER2_ISH",
        "ihc3;1;20150301;P;90;50;3+;",
        "ish;1;20150301;P;0;0;2;1",
        "ihc2;1;20150301;P;90;0;2+;",
        "er5;1;20150301;P;9,9;0;3;2",
        "er10;1;20150301;P;10;0;3+;5",
        "two;1;20150201;P;80;0;0;",
        "two;1;20150301;P;0;0;3+;",
        "meta;;20150301;P;0;0;1+;2",
        "meta;;20150400;M;95;0;2+;1",
        "anna;1;20150301;P;101;0;3+;",
        "anna;1;20150301;Z;90;x;3+;",
    ],
    "patient": [
        "LopNr;INDATUM;UTDATUM;HDIA;DIA1;DIA2;DIA30;EKOD1;OP;OP2;DIAGNOS",
        'anna;20150310;20150312;c50.9;C509;I10.9+;E119;W190;"DT016; l01fd01 HAC20;L01FD01";L01CD02;x',
        "anna;20150400;20150403;C509;;;;;;;",
        "anna;20150420;201504;;I109;;;;L01FD02;;",
        "anna;20150510;20150509;C509;;;;;;;",
        "anna;20150700;20150630;C509;;;;;;;",
        "anna;20150800;;C509;;;;;L01FD01;;",
        "anna;20150801;00000000;174A;;;;;;;",
        "d_stay;20160620;99999999;C509;;;;;;;",
        "alone;20160102;20160102;174A;174A;I10.9;;;L01FD03;;",
    ],
    "hospital_drugs": [
        "LopNr;ATC;STARTDAT;SLUTDAT;ADMSATT",
        "anna;L01XC03;20160101;20160301;iv",
        "anna;l01fd03;20160401;;sc",
        "anna;L01FD03;20160501;20160501;xx",
        "anna;L01FD03;20160501;20160401;iv",
        "anna;L01FD03;201605;;iv",
        "anna;Herceptin;20160501;;iv",
        "alone;L01X;20160501;;",
    ],
    "prescriptions": [
        "P444_LopNr;ATC;EDATUM;FDATUM;antal;FORPDDD",
        *(f"{name};L01EH01;20160{month}01;;1;28" for name in ("same_day", "later", "twice") for month in (1, 3, 5)),
        "same_day;l01eh01;20160301;20160229;-1;28",
        "later;L01EH01;20160420;;-1;28",
        "twice;L01EH01;20160301;20160201;1;28",
        "twice;L01EH01;20160302;;-1;28",
        "twice;L01EH01;20160503;;-1,0;28",
        "alone;L01EH01;20160101;;-1;28",
        "alone;L01EH01;20160201;;2,5;28",
        "alone;L01EH01;20160301;;;",
        "anna;L01EH01;20160300;;1;",
        "anna;L01EH01;20160301;;one;",
        "anna;;20160301;;1;",
        "anna;tablet;20160301;;1;",
    ],
    "deaths": [
        "lopnr;DODSDAT", "d_day;20160615", "d_month;20150300", "d_year;20150000", "d_none;00000000", "d_stay;201606",
        "anna;20230701", "back;2023",
    ],
    "recurrence": ["lopnr;RECDAT;RECTYP", "anna;201601;F", "anna;20160299;F", "anna;20160102;Z", "anna;20160115;F"],
    "life_table": ["country,sex,year,age,probability_of_death", "se,female,2012,60,0.01"],
}  # fmt: skip
LATIN_1 = ("population", "deaths")
COLUMNS = {
    "population": {"LopNr": "löpnr"},
    "quality_register": {"LopNr": "p444_lopnr"},
    "prescriptions": {"LopNr": "p444_lopnr"},
}


@dataclass(frozen=True)
class Delivered:
    """Conformed rows, reasons of rows held back, unknown codes, and what the stages after ingest make of them; people
    by the identifier delivered."""

    tables: Mapping[str, list[Row]]
    held_back: Mapping[str, Counter[str]]
    unknown: Mapping[str, int]
    cohort: Mapping[str, Row]
    exposures: Mapping[str, list[tuple[str, date, date, date]]]
    names: Mapping[str, str]

    def of(self, table: str, name: str) -> list[dict[str, Any]]:
        return [row.asDict() for row in self.tables[table] if self.names[row.person_id] == name]


def _site(folder: str, **adapter: object) -> Site:
    inputs = {
        name: RawInput(
            path=f"{folder}/{name}.csv",
            columns=COLUMNS.get(name, {}),
            options={"encoding": "ISO-8859-1"} if name in LATIN_1 else {},
        )
        for name in FILES
    }
    return Site(country="sweden", warehouse=f"{folder}/warehouse", inputs=inputs, adapter=adapter)


@pytest.fixture(scope="module")
def delivered(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Delivered:
    folder = tmp_path_factory.mktemp("sweden")
    for name, lines in FILES.items():
        encoding = "iso-8859-1" if name in LATIN_1 else "utf-8"
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding=encoding)
    site = _site(
        str(folder), procedure_routes={"DT016": "iv"}, sexes={"1": "male", "2": "female", "K": "female"}
    )
    adapter = load_adapter("sweden")
    study, drugs = load_study(STUDY), load_drugs()
    names = {pseudonym_of(name, KEY): name for name in PEOPLE}

    def session() -> SparkSession:
        return spark

    extracts = with_contents(spark, find_extracts(session, site, adapter), None)
    with ingested_tables(spark, site, adapter, extracts, "2023-06-30", KEY) as done:
        tables = {name: frame.collect() for name, frame in conformed_of(done).items()}
        # As files would be: without the plan that made them.
        written = {name: spark.createDataFrame(rows, TABLES[name].struct()) for name, rows in tables.items()}
        cohort = build_cohort(written, study, drugs, "sweden").collect()
        everyone = written["person"].select("person_id")
        exposures: dict[str, list[tuple[str, date, date, date]]] = {}
        for row in build_exposures(written, everyone, study, drugs, "sweden", None).collect():
            exposures.setdefault(names[row.person_id], []).append(
                (row.substance, row.given_from, row.given_to, row.covered_until)
            )
        return Delivered(
            tables=tables,
            held_back={
                name: Counter(reason for row in frame.collect() for reason in row.reasons)
                for name, frame in done.quarantined.items()
            },
            unknown={f"{row.column} {row.code}": row.n for row in done.unknown_codes.collect()},
            cohort={names[row.person_id]: row for row in cohort},
            exposures={name: sorted(rows) for name, rows in exposures.items()},
            names=names,
        )


def test_single_bad_rows_are_held_back(delivered: Delivered) -> None:
    assert {name: dict(reasons) for name, reasons in delivered.held_back.items() if reasons} == {
        "population": {"impossible_date:FODELSEMAN": 1, "repeated_key": 1},
        "migration": {"unknown_code:TYP": 1},
        "cancer": {"missing:DIADAT": 1, "impossible_date:DIADAT": 1, "unknown_code:ICDO10": 1, "repeated_key": 1},
        "quality_register": {
            "impossible_number:ER_PROC": 1, "unknown_code:PROVLOKAL": 1, "impossible_number:PR_PROC": 1,
        },
        "patient": {"end_before_start": 2, "inexact_date_of_drug:INDATUM": 1, "unknown_code:HDIA": 1},
        "hospital_drugs": {"end_before_start": 1, "impossible_date:STARTDAT": 1, "unknown_code:ATC": 1},
        "prescriptions": {
            "impossible_date:EDATUM": 1, "impossible_number:antal": 1, "missing:ATC": 1, "unknown_code:ATC": 1,
        },
        "deaths": {"missing:DODSDAT": 1, "impossible_date:DODSDAT": 1},
        "recurrence": {"unknown_code:RECTYP": 1, "repeated_key": 1},
    }  # fmt: skip


def test_codes_without_a_meaning_are_listed(delivered: Delivered) -> None:
    assert delivered.unknown == {
        "LAN 77": 1, "DIGR 9": 1, "TNM_N N7": 1, "HER2_ISH 5": 1, "ADMSATT xx": 1, "HDIA 174A": 1, "DIA1 174A": 1,
    }  # fmt: skip


def test_people_by_month_of_birth_and_county(delivered: Delivered) -> None:
    """An identifier column with letters of its own, in Latin-1; a county without its zero; the site's own K."""
    who = ("anna", "born", "year", "young", "wrong", "d_year", "alone")
    people = {name: delivered.of("person", name) for name in who}
    known = {
        name: (row[0]["sex"], row[0]["birth_date"], row[0]["birth_date_precision"], row[0]["region"])
        for name, row in people.items()
        if row
    }
    assert known == {
        "anna": ("female", date(1950, 6, 15), "month", "north"),
        "born": ("female", date(2015, 3, 15), "month", "stockholm"),
        "year": ("female", date(1950, 7, 1), "year", "west"),
        "young": ("female", date(2015, 7, 1), "year", "stockholm"),
        "d_year": ("female", date(2015, 11, 15), "month", None),
        "alone": ("female", date(1950, 6, 15), "month", "north"),
    }
    population = next(raw for raw in load_adapter("sweden").raw_tables if raw.name == "population")
    assert population.known_codes(_site("x", sexes={"M": "male", "K": "female"}))["KON"] == {"M", "K"}


def test_the_last_move_decides_who_has_left(delivered: Delivered) -> None:
    left = {name: delivered.of("person", name)[0]["emigration_date"] for name in ("away", "back", "anna")}
    assert left == {"away": date(2012, 3, 15), "back": None, "anna": None}


def test_partial_dates_of_death(delivered: Delivered) -> None:
    """To the month its last day, to the year 1 July; neither before the birth nor after the delivery."""
    deaths = {
        name: (row["death_date"], row["death_date_precision"])
        for name in PEOPLE
        for row in delivered.of("person", name)
        if row["death_date"]
    }
    assert deaths == {
        "d_day": (date(2016, 6, 15), "day"),
        "d_month": (date(2015, 3, 31), "month"),
        "d_year": (date(2015, 11, 15), "year"),
        "d_stay": (date(2016, 6, 30), "month"),
        "back": (date(2023, 6, 30), "year"),
    }


def test_tumours(delivered: Delivered) -> None:
    """Partial and preceding dates, codes in lower case and with dots, stage from N and M, basis."""
    tumours = {
        (name, row["diagnosis_date"], row["diagnosis_date_precision"]): (
            row["icd10"], row["morphology"], row["stage"], row["basis"],
        )
        for name in ("anna", "born", "year", "young", "back", "ihc3")
        for row in delivered.of("tumour", name)
    }  # fmt: skip
    assert tumours == {
        ("anna", date(2015, 7, 1), "year"): ("C504", "8500/3", "regional", "histology"),
        ("anna", date(2015, 3, 15), "month"): ("C435", "8720/3", None, "autopsy"),
        ("born", date(2015, 3, 15), "month"): ("C749", "9500/3", "distant", None),
        ("year", date(1950, 7, 1), "year"): ("C749", "9500/3", "distant", "autopsy"),
        ("young", date(2015, 7, 1), "year"): ("C749", "9500/3", "regional", "cytology"),
        ("back", date(2023, 6, 15), "month"): ("C509", "8500/3", "localised", "histology"),
        ("ihc3", date(2015, 3, 1), "day"): ("C509", "8500/3", "distant", "histology"),
    }


def test_recurrences_keep_how_exactly_they_are_known(delivered: Delivered) -> None:
    assert {(row["event_date"], row["event_date_precision"], row["kind"], row["tumour_id"]) for row in
            delivered.of("recurrence", "anna")} == {
        (date(2016, 1, 15), "month", "distant", None), (date(2016, 2, 15), "month", "distant", None),
    }  # fmt: skip


def test_diagnoses_of_a_contact(delivered: Delivered) -> None:
    """The main diagnosis repeated in DIA1 is one row; ends known to the month; an unknown end is none; what is no
    ICD-10 is left out."""
    rows = Counter(
        (row["start_date"], row["end_date"], row["icd10"], row["position"])
        for name in ("anna", "d_stay", "alone")
        for row in delivered.of("hospital_diagnosis", name)
    )
    first = (date(2015, 3, 10), date(2015, 3, 12))
    assert rows == Counter([
        (*first, "C509", "main"), (*first, "I109", "secondary"), (*first, "E119", "secondary"),
        (*first, "W190", "secondary"),
        (date(2015, 4, 3), date(2015, 4, 3), "C509", "main"),
        (date(2015, 4, 20), date(2015, 4, 20), "I109", "secondary"),
        (date(2016, 6, 20), None, "C509", "main"),
        (date(2016, 1, 2), date(2016, 1, 2), "I109", "secondary"),
    ])  # fmt: skip


def test_diagnoses_of_another_classification_stop_the_run_where_most_are(spark: SparkSession) -> None:
    """Contacts with drugs are kept, but most have none."""
    patient = next(raw for raw in load_adapter("sweden").raw_tables if raw.name == "patient")
    cells = [(str(n), "20160102", None, "174A", "L01FD03" if n % 5 == 0 else None, "2023-06-30") for n in range(40)]
    columns = "person_id string, INDATUM string, UTDATUM string, HDIA string, OP string, delivery string"
    reasons = [row.reasons for row in patient.annotate(spark.createDataFrame(cells, columns), _site("x")).collect()]
    counts = Counter(reason for reason in reasons if reason)
    assert counts == {"unknown_code:HDIA": 32}
    now = {
        "ledger": pd.DataFrame({"raw_table": ["patient"], "rows_in": [40]}),
        "profile": pd.DataFrame(columns=["raw_table", "column", "code", "n"]),
        "quarantine_reasons": pd.DataFrame(
            [("patient", reason, n) for reason, n in counts.items()], columns=["raw_table", "reason", "n"]
        ),
    }
    readable, *_ = judge_delivery(now, None, {})["raw table patient"]
    assert (readable.outcome.passed, readable.broken_by) == (False, ("unknown_code:HDIA",))


def test_drugs_given_in_hospital(delivered: Delivered) -> None:
    """Codes in a list of procedures once per contact; periods keep their end, and one day is no period."""
    rows = Counter(
        (row["start_date"], row["end_date"], row["code"], row["route"])
        for name in ("anna", "alone")
        for row in delivered.of("hospital_drug", name)
    )
    assert rows == Counter([
        (date(2015, 3, 10), None, "L01FD01", "iv"), (date(2015, 3, 10), None, "L01CD02", "iv"),
        (date(2015, 4, 20), None, "L01FD02", "unspecified"),
        (date(2016, 1, 1), date(2016, 3, 1), "L01XC03", "iv"),
        (date(2016, 4, 1), None, "L01FD03", "sc"), (date(2016, 5, 1), None, "L01FD03", "unspecified"),
        (date(2016, 5, 1), None, "L01X", "unspecified"), (date(2016, 1, 2), None, "L01FD03", "unspecified"),
    ])  # fmt: skip
    assert ("trastuzumab", date(2016, 1, 1), date(2016, 3, 1), date(2016, 3, 22)) in delivered.exposures["anna"]


def test_negative_packages_cancel_what_they_cancel(delivered: Delivered) -> None:
    """On the same day, later, twice, and one that cancels nothing."""
    kept = {
        name: [given for substance, given, _, _ in delivered.exposures[name] if substance == "lapatinib"]
        for name in ("same_day", "later", "twice", "alone")
    }
    january, march, may = (date(2016, month, 1) for month in (1, 3, 5))
    assert kept == {
        "same_day": [january, may], "later": [january, may], "twice": [january, march],
        "alone": [date(2016, 2, 1), march],
    }  # fmt: skip
    packages = [(row["packages"], row["ddd"]) for row in delivered.of("dispensing", "alone")]
    assert Counter(packages) == Counter([(-1.0, -28.0), (2.5, 70.0), (None, None)])
    assert delivered.exposures["alone"][0][3] == date(2016, 4, 11)  # 70 days


def test_receptors_by_the_countrys_rule(delivered: Delivered) -> None:
    """HER2: 3+ or amplified, 2+ alone is not positive. ER, PR: 10 % and more. A metastasis before the primary, the
    latest sample before earlier ones."""
    assert {name: row.receptor for name, row in delivered.cohort.items()} == {
        "ihc3": "hormone_positive", "ish": "hormone_negative", "er5": "hormone_negative", "er10": "hormone_positive",
        "two": "hormone_negative", "meta": "hormone_positive",
    }  # fmt: skip
    results = {(row["marker"], row["method"], row["result"]) for row in delivered.of("biomarker", "ihc2")}
    assert results == {("her2", "ihc", "2+"), ("er", "ihc", "positive"), ("pr", "ihc", "negative")}


def test_the_cut_off_is_the_sites_or_the_studys() -> None:
    said: tuple[dict[str, object], ...] = ({}, {"hormone_positive_percent": 1}, {"hormone_positive_percent": "study"})
    assert [_cut_off(_site("x", **one)) for one in said] == [10.0, 1.0, None]
    with pytest.raises(ConfigurationError, match="hormone_positive_percent"):
        _cut_off(_site("x", hormone_positive_percent="ten"))
