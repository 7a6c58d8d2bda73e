"""The Finnish files' own cases, in a small hand-written delivery."""

from __future__ import annotations

import gzip
from datetime import date
from typing import Any

import pytest
from pyspark.sql import SparkSession

from jobs.codes import code_rows
from jobs.config import RawInput, Site, load_drugs
from jobs.contents import with_contents
from jobs.extracts import find_extracts
from jobs.identity import pseudonym_of
from jobs.ingest import ingested_tables
from jobs.sources.adapter import load_adapter
from tests.conformed import conformed_of

KEY = b"k" * 32
PEOPLE = ("010150-123A", "020260+456B", 'a"b', "d", "colon", "breast", "lung")
PRODUCTS = {  # as written -> the name that is looked up, and what it means
    "5-Fluorouracil 50 mg/ml": ("5-fluorouracil", {"fluorouracil"}),
    "5 FLUOROURACIL 2,5 g": ("5 fluorouracil", {"fluorouracil"}),
    "5-FU": ("5-fu", {"fluorouracil"}),
    "T-DM1 100 mg": ("t-dm1", {"trastuzumab_emtansine"}),
    "T-DM1": ("t-dm1", {"trastuzumab_emtansine"}),
    "VP-16 20mg/ml inf": ("vp-16", {"etoposide"}),
    "Herceptin SC 600 mg": ("herceptin", {"trastuzumab"}),
    "Herceptin s.c. 600 mg/5 ml": ("herceptin", {"trastuzumab"}),
    "HERCEPTIN150MG": ("herceptin", {"trastuzumab"}),
    "Herceptin 2x150 mg": ("herceptin", {"trastuzumab"}),
    "Trazimera 420": ("trazimera", {"trastuzumab"}),
    "Zercepac (150 mg)": ("zercepac", {"trastuzumab"}),
    "Phesgo 1 200 mg/600 mg": ("phesgo", {"pertuzumab", "trastuzumab"}),
    **{f"{brand} 150 mg": (brand.lower(), {"trastuzumab"}) for brand in ("Herzuma", "Ontruzant", "Kanjinti", "Ogivri")},
    "Perjeta 420 mg/14 ml": ("perjeta", {"pertuzumab"}),
    "Enhertu 100mg": ("enhertu", {"trastuzumab_deruxtecan"}),
    "T-DXd 100 mg": ("t-dxd", {"trastuzumab_deruxtecan"}),
    "Tyverb 250 mg tabl": ("tyverb", {"lapatinib"}),
    "Nerlynx tabl": ("nerlynx", {"neratinib"}),
    "TUKYSA 150 mg": ("tukysa", {"tucatinib"}),
    "Interferon alfa 2b 3 milj. IU": ("interferon alfa 2b", set()),
    "50 mg/ml": ("50 mg/ml", set()),
}
FILES = {
    "population": [
        "HETU;SUKUPUOLI;SYNTYMAPV;ALUE;MAASTAMUUTTOPV",
        "010150-123A;2;1.1.1950;25;",
        "020260+456B;1;1960-02-02;4;3.2017",
        '"a""b";2;1955;99;',
        "d;2;15.6.1940;25;",
        "e;2;31.2.1940;25;",
        "lung;N;1.1.1950;25;",
        "other;3;1.1.1950;25;",
    ],
    "cancer": [
        "HETU;tumour_no;dg_date;topo;morpho;beh;stage;basis;ex_date;status_close",
        "010150-123A;1;2.3.2014;C50.9;8500,0;3,0;3;4;31.12.2022;1",
        "020260+456B;1;3.2014;C445;8720;3;1;4;;",
        "d;1;2014-03-02T00:00:00;C18.7;8140;3;2;6;5.4.2016;2",
        "d;2;2.3.2014;153.1;8140;3;2;6;;",
        "colon;1;1.5.2014;C18.0;8140,0;3,0;3,0;4,00;;",
        "breast;1;1.5.2014;C50,0;8500;3;1.0;4;;1",
        "lung;1;1.5.2014;c340;8140;3;2;4;31.12.2022;2,0",
        "died;1;1.5.2014;C50.9;8500;3;1;4;;2",
        "left;1;1.5.2014;C50.9;8500;3;1;4;;3",
        "lost;1;1.5.2014;C50.9;8500;3;1;4;;4,0",
    ],
    "care": [
        "HETU;TUPVA;LPVM;PDGO;SDG1O;SDG2O",
        "010150-123A;1.4.2014;2.4.2014;C50.9+;I10*;c509#",
        "010150-123A;3.4.2014;2.4.2014;I10;;",
        "d;20.5.2016;20.5.2016;I10&;@;",
        "lung;1.6.2014;1.6.2014;E10.5+I79.2*;I79.2;C50#.9",
        "lung;2.6.2014;2.6.2014;Y57.9 #N02BE01;i10+C34.0*;",
        "lung;3.6.2014;3.6.2014;E10.5+I79.2+H36.0;1749A;C50#.91*",
        "lung;5.6.2014;5.6.2014;I10+E11+J45;;",
        "lung;4.6.2014;4.6.2014;1749A;I10;",
    ],
    "hospital_drugs": [
        "HETU;ATC;VALMISTE;ALOITUSPV;LOPETUSPV;ANTOREITTI",
        "010150-123A;;HERCEPTIN 150 MG inf kuiva-aine;1.4.2014;;IV",
        "010150-123A;;Kadcyla inf. konsentraatti;2.5.2014;2.5.2014;IV",
        "010150-123A;LO1XCO3;;3.5.2014;10.5.2014;SC",
        "010150-123A;;  ;4.5.2014;;IV",
        "010150-123A;;Tuntematon 5 mg;5.5.2014;;QQ",
        *(f"lung;;{name};{day}.6.2014;;IV" for day, name in enumerate(PRODUCTS, 1)),
    ],
    "deaths": ["HETU;KUOLPV", "d;5.2016", '"a""b";7.8.2019'],
    "deaths_population": ["HETU;KUOLPV", "d;23.5.2016", '"a""b";9.8.2019'],
    "pathology": [
        "HETU;tumour_no;NAYTEPV;NAYTE;MARKKERI;MENETELMA;TULOS",
        "010150-123A;1;2.3.2014;P;HER2;IHC;2+",
        "010150-123A;1;2.3.2014;P;HER2;ISH;AMP",
        "010150-123A;1;2.3.2014;P;ER;PROS;12,5",
        "010150-123A;1;2.3.2014;P;ER;PROS;120",
        "010150-123A;1;2.3.2014;P;HER2;IHC;9+",
    ],
    "life_table": ["country,sex,year,age,probability_of_death", "fi,female,2012,60,0.01"],
}
PURCHASE = "HETU;ATC;OSTOPV;PLKM;VNRO"
PURCHASES = {
    "2019": [PURCHASE, "d;L02BG04;2019-11-01;1,5;1", "d;LO2BGO4;2019-12-01;1;1", "d;l02bg04;2019-12-02;-1;1"],
    "2019-12": [PURCHASE, "d;LO2BGO4;2019-12-01;1;1", "d;XYZ;2019-12-03;1;1", "d;L02BG04;2019-12-04;yksi;1"],
}


@pytest.fixture(scope="module")
def delivered(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Table, or `held <raw table>` -> rows; `who` is the identifier as delivered."""
    folder = tmp_path_factory.mktemp("finland")
    for name, lines in FILES.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    with gzip.open(folder / "purchases_2019.csv.gz", "wt") as stream:
        stream.write("\n".join(PURCHASES["2019"]) + "\n")
    (folder / "purchases_2019-12.csv").write_text("\n".join(PURCHASES["2019-12"]) + "\n")
    inputs = {name: RawInput(path=str(folder / f"{name}.csv")) for name in FILES}
    inputs["purchases"] = RawInput(path=str(folder / "purchases_*"))
    regions = {"25": "helsinki", "4": "varsinais_suomi"}
    codes = {"regions": regions, "sexes": {"1": "male", "2": "female", "N": "female"}}
    site = Site(country="finland", warehouse=str(folder / "w"), inputs=inputs, adapter=codes)
    adapter = load_adapter("finland")
    names = {pseudonym_of(name, KEY): name for name in PEOPLE}

    def session() -> SparkSession:
        return spark

    extracts = with_contents(spark, find_extracts(session, site, adapter), None)
    with ingested_tables(spark, site, adapter, extracts, "2023-06-30", KEY) as done:
        frames = {**conformed_of(done), "unknown": done.unknown_codes, "ledger": done.ledger, "profile": done.profile}
        frames |= {f"held {name}": frame for name, frame in done.quarantined.items()}
        found = {name: [row.asDict() for row in frame.collect()] for name, frame in frames.items()}
    for rows in found.values():
        for row in rows:
            row["who"] = names.get(row.get("person_id"))
    return found


def _by(rows: list[dict[str, Any]], *key: str) -> dict[Any, dict[str, Any]]:
    return {tuple(row[one] for one in key) if len(key) > 1 else row[key[0]]: row for row in rows}


def test_dates_are_finnish_or_iso_and_may_be_partial(delivered: dict[str, list[dict[str, Any]]]) -> None:
    people = _by(delivered["person"], "who")
    assert people["010150-123A"]["birth_date"] == date(1950, 1, 1)
    assert people["020260+456B"]["birth_date"] == date(1960, 2, 2)
    assert people["020260+456B"]["emigration_date"] == date(2017, 3, 15)
    assert (people['a"b']["birth_date"], people['a"b']["birth_date_precision"]) == (date(1955, 7, 1), "year")
    tumours = _by(delivered["tumour"], "who")
    assert {who: row["diagnosis_date"] for who, row in tumours.items()} == {
        "010150-123A": date(2014, 3, 2), "020260+456B": date(2014, 3, 15), "d": date(2014, 3, 2),
        **dict.fromkeys(("colon", "breast", "lung"), date(2014, 5, 1)),
    }  # fmt: skip
    held = sorted(row["reasons"] for row in delivered["held population"])
    assert held == [["impossible_date:SYNTYMAPV"], ["unknown_code:SUKUPUOLI"]]


def test_the_site_says_how_the_sexes_are_written(delivered: dict[str, list[dict[str, Any]]]) -> None:
    assert _by(delivered["person"], "who")["lung"]["sex"] == "female"
    counts = {row["code"]: row["n"] for row in delivered["profile"] if row["column"] == "SUKUPUOLI"}
    assert counts == {"1": 1, "2": 4, "N": 1, "(empty)": 0, "(other)": 1}


def test_codes_with_decimals_and_kinds_of_tumour(delivered: dict[str, list[dict[str, Any]]]) -> None:
    tumours = _by(delivered["tumour"], "who")
    assert (tumours["010150-123A"]["morphology"], tumours["010150-123A"]["icd10"]) == ("8500/3", "C509")
    assert tumours["010150-123A"]["stage"] == "distant"
    assert tumours["020260+456B"]["icd10"] == "C435"
    assert tumours["d"]["basis"] == "death_certificate"


def test_only_numbers_lose_their_decimals(delivered: dict[str, list[dict[str, Any]]]) -> None:
    """The part .0 of a topography is a site of its own."""
    tumours = _by(delivered["tumour"], "who")
    found = {who: (tumours[who]["icd10"], tumours[who]["morphology"], tumours[who]["stage"], tumours[who]["basis"])
             for who in ("colon", "breast", "lung")}  # fmt: skip
    assert found == {
        "colon": ("C180", "8140/3", "distant", "histology"),
        "breast": ("C500", "8500/3", "localised", "histology"),
        "lung": ("C340", "8140/3", "regional", "histology"),
    }
    assert _by(delivered["person"], "who")["lung"]["death_date"] == date(2022, 12, 31)
    assert not [row for row in delivered["unknown"] if row["raw_table"] == "cancer"]


def test_who_left_observation_left_it_on_a_day(delivered: dict[str, list[dict[str, Any]]]) -> None:
    held = sorted(row["reasons"] for row in delivered["held cancer"])
    assert held == [*[["missing:ex_date"]] * 3, ["unknown_code:topo"]]


def test_of_deaths_that_disagree_the_exact_one_then_the_register_of_causes(
    delivered: dict[str, list[dict[str, Any]]],
) -> None:
    people = _by(delivered["person"], "who")
    assert (people["d"]["death_date"], people["d"]["death_date_precision"]) == (date(2016, 5, 23), "day")
    assert people['a"b']["death_date"] == date(2019, 8, 7)


def test_diagnoses_without_stray_signs(delivered: dict[str, list[dict[str, Any]]]) -> None:
    """A cell with two codes is two diagnoses, of more the first is one; what is no code is listed."""
    found = sorted((row["who"], row["icd10"], row["position"]) for row in delivered["hospital_diagnosis"])
    assert found == [
        ("010150-123A", "C509", "main"), ("010150-123A", "C509", "secondary"), ("010150-123A", "I10", "secondary"),
        ("d", "I10", "main"),
        ("lung", "C340", "secondary"), ("lung", "C509", "secondary"),
        ("lung", "C5091", "secondary"), ("lung", "E105", "main"), ("lung", "E105", "main"), ("lung", "I10", "main"),
        ("lung", "I10", "secondary"), ("lung", "I792", "secondary"), ("lung", "Y579", "main"),
    ]  # fmt: skip
    held = sorted(row["reasons"] for row in delivered["held care"])
    assert held == [["end_before_start"], ["unknown_code:PDGO"]]


def test_infusions_are_known_by_the_name_of_the_product(delivered: dict[str, list[dict[str, Any]]]) -> None:
    drugs = _by(delivered["hospital_drug"], "start_date")
    means = {(system, code): substance for system, code, _, _, substance in code_rows(load_drugs(), "finland")}

    def substance(day: date) -> str | None:
        return means.get((drugs[day]["code_system"], drugs[day]["code"]))

    assert substance(date(2014, 4, 1)) == "trastuzumab"
    assert (substance(date(2014, 5, 2)), drugs[date(2014, 5, 2)]["end_date"]) == ("trastuzumab_emtansine", None)
    assert (substance(date(2014, 5, 3)), drugs[date(2014, 5, 3)]["end_date"]) == ("trastuzumab", date(2014, 5, 10))
    assert (drugs[date(2014, 5, 5)]["code"], substance(date(2014, 5, 5))) == ("tuntematon", None)
    assert drugs[date(2014, 5, 3)]["route"] == "sc"
    assert [row["reasons"] for row in delivered["held hospital_drugs"]] == [["missing:VALMISTE"]]


def test_the_name_of_a_product_ends_where_its_strength_begins(delivered: dict[str, list[dict[str, Any]]]) -> None:
    given = {row["start_date"].day: row["code"] for row in delivered["hospital_drug"] if row["who"] == "lung"}
    means: dict[str, set[str]] = {}
    for system, code, _, _, substance in code_rows(load_drugs(), "finland"):
        if system == "name":
            means.setdefault(code, set()).add(substance)
    found = {written: (given[day], means.get(given[day], set())) for day, written in enumerate(PRODUCTS, 1)}
    assert found == PRODUCTS


def test_a_letter_for_a_digit_is_mended_and_counted(delivered: dict[str, list[dict[str, Any]]]) -> None:
    bought = sorted((row["dispensed_date"], row["atc"], row["packages"]) for row in delivered["dispensing"])
    assert bought == [
        (date(2019, 11, 1), "L02BG04", 1.5), (date(2019, 12, 1), "L02BG04", 1.0), (date(2019, 12, 2), "L02BG04", -1.0),
    ]  # fmt: skip
    unknown = {(row["raw_table"], row["column"], row["code"]): row["n"] for row in delivered["unknown"]}
    assert unknown == {
        ("purchases", "ATC with O for 0", "LO2BGO4"): 1,
        ("hospital_drugs", "ATC with O for 0", "LO1XCO3"): 1,
        ("hospital_drugs", "ANTOREITTI", "QQ"): 1,
        ("population", "ALUE", "99"): 1,
        ("care", "PDGO, SDG", "1749A"): 1,
        ("care", "PDGO, SDG", "I10E11J45"): 1,
        ("care", "PDGO, SDG", "E105I792H360"): 1,
    }


def test_a_row_of_two_files_is_one(delivered: dict[str, list[dict[str, Any]]]) -> None:
    ledger = _by(delivered["ledger"], "raw_table")["purchases"]
    counts = ("rows_in", "rows_accepted", "rows_quarantined", "rows_duplicate")
    assert tuple(ledger[count] for count in counts) == (6, 3, 2, 1)
    held = sorted(row["reasons"] for row in delivered["held purchases"])
    assert held == [["impossible_number:PLKM"], ["unknown_code:ATC"]]


def test_results_of_pathology(delivered: dict[str, list[dict[str, Any]]]) -> None:
    results = sorted((row["marker"], row["method"], row["result"]) for row in delivered["biomarker"])
    assert results == [("er", "percent", "12.5"), ("her2", "ihc", "2+"), ("her2", "ish", "amplified")]
    named = {row["tumour_id"] for row in delivered["biomarker"]}
    assert named == {_by(delivered["tumour"], "who")["010150-123A"]["tumour_id"]}
    held = sorted(row["reasons"] for row in delivered["held pathology"])
    assert held == [["impossible_number:TULOS"], ["unknown_code:TULOS"]]
