"""The Danish files' own cases, in a small hand-written delivery."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyspark.sql import SparkSession

from jobs.cli import main
from jobs.codes import code_rows
from jobs.config import RawInput, Site, load_drugs
from jobs.contents import with_contents
from jobs.delivery_rules import KINDS
from jobs.erasure import suppression_of
from jobs.errors import ConfigurationError
from jobs.extracts import find_extracts
from jobs.identity import pseudonym_of
from jobs.ingest import ingested_tables
from jobs.sources.adapter import load_adapter
from jobs.sources.life_table import PUBLISHED
from jobs.sources.migration import last_moves
from tests.conformed import conformed_of

KEY = b"k" * 32
MOVERS = tuple(f"060660000{n}" for n in range(1, 10))
PEOPLE = ("0101501234", "0202605678", "0303701111", "0404809999", *MOVERS)
LOWER_CASE = MOVERS[0]
FILES = {  # what follows _later is a second file of the table, with other capitals in its header
    "person": [
        "V_CPR;KOEN;FOEDSELSDATO;STATUS;STATUSDATO;REGION",
        "0101501234;K;-3652;01;;1081",
        "0202605678;K;02OCT1960;80;2018-05-06 00:00:00;1084",
        "0303701111;M;03-03-1970;90;19700;1081",
        "0404809999;K;19800404;01;;1081",
        "0505500000;K;1950-05-05;90;;1081",
        "0606600001;k;1960-06-06;01;;1081",
        "0606600002;K;1960-06-06;80;2010-01-01;1081",
        "0606600003;K;1960-06-06;01;;1081",
        "0606600004;K;1960-06-06;80;2019-09-09;1081",
        "0606600005;K;1960-06-06;80;2015-03-03;1081",
        "0606600006;K;1960-06-06;01;;1081",
        "0606600007;K;1960-06-06;90;2016-02-02;1081",
        "0606600008;K;1960-06-06;90;2016-03-03;1081",
        "0606600009;K;1960-06-06;70;2014-04-04;1081",
        "0707650000;K;1965;01;;1081",
    ],
    "vnds": [
        "PNR;INDUD_KODE;HAEND_DATO",
        "0606600001;U;20500",
        "0606600002;U;2010-01-01", "0606600002;i;2012-03-04 00:00:00",
        "0606600003;I;2014-05-05", "0606600003;U;05MAY2014",
        "0606600004;U;2001-01-01", "0606600004;I;2002-02-02",
        "0606600005;U;2015-03-01",
        "0606600006;u;2010-10-10", "0606600006;I;18628", "0606600006;U;2013-03-03 12:00:00", "0606600006;X;2014-01-01",
        "0606600006;I;2015",
        "0606600009;I;2014-04-04",
    ],
    "deaths": ["pnr;d_dodsdto", "0303701111;2013-12-08", "0606600007;20485", "0606600009;2015"],
    "cancer": [
        "PNR;tumornr;D_DIAGNOSEDATO;C_ICD10;C_MORFO3;udbredelse;diaggrundlag",
        "0101501234;1;20089;DC509;M85003;2;3",
        "0303701111;1;2012-01-01;C445;87203;0;7",
        "0606600001;1;2015-05-05;dc50.9;m85003;2;3",
    ],
    "recurrence": ["pnr;tumornr;d_recidiv;recidivtype", "0606600001;1;2016-05-05;f"],
    "lpr_adm": [
        "PNR;RECNUM;D_INDDTO;D_UDDTO;C_PATTYPE",
        "0101501234;1;01JAN2015;02JAN2015;0",
        "0101501234;2;01JAN2016;01JAN2015;0",
        "0404809999;3;2016-02-01;2016-02-01;2",
        "0606600001;4;2017-03-01;2017-03-01;2",
    ],
    "lpr_adm_later": ["pnr;recnum;d_inddto;d_uddto;c_pattype", "0606600001;5;2018-03-01;2018-03-01;2"],
    "lpr_diag": [
        "RECNUM;C_DIAG;C_DIAGTYPE",
        "1;DC509;A", "1;DI10;B", "1;DI10;B ", "1;DZ038;H", "1;AZCD13;B", "2;DC509;A", "3;DC349;A", "99;DC509;A",
    ],
    "lpr_diag_later": [
        "recnum;c_diag;c_diagtype", "4;dc509;a", "5;dc78.7;b", "4;C509;A", "4;c787;b", "4;D059;B", "4;azca1;b",
    ],
    "lpr_sksube": [
        "RECNUM;C_OPR;D_ODTO",
        "1;BOHJ13;20092", "1;BOHJ19H3;2015-01-02", "1;BWHA;2015-01-02", "1;ML01XC14;2015-01-02", "1;ZZ0150A;2015-01-02",
    ],
    "lpr_sksopr": [
        "recnum;c_opr;d_odto",
        "4;bohj13;2017-03-01", "4;bohj19h3;2017-03-01", "4;bwha405;2017-03-01", "4;ml01xc14;2017-03-01",
        "4;wboc10;2017-03-01", "4;L01XC03;2017-03-01", "4;ohj13;2017-03-01", "4;WHA405;2017-03-01",
    ],
    "lpr_a_kontakt": [
        "pnr;dw_ek_kontakt;dato_start;dato_slut;lprindberetningssystem",
        "0101501234;10;2019-04-01 08:00:00;2019-04-02 10:00:00;LPR3",
        "0101501234;11;2015-01-01 00:00:00;2015-01-02 00:00:00;LPR2",
        "0606600001;12;2020-01-01;2020-01-01;lpr3",
        "0606600001;13;2020-02-01;2020-02-01;LPR3 F",
        "0606600001;14;2020-03-01;2020-03-01;",
        "0606600001;15;2017-03-01;2017-03-01;lpr2",
        "0606600001;16;2020-04-01;LPR3", "0404809999;17;2020-04-01;LPR3",
    ],
    "lpr_a_diagnose": [
        "dw_ek_kontakt;diag_kode;diag_kode_type;senere_afkraeftet",
        "10;DC787;A;", "10;DC795;B;Nej", "10;DC349;B;Ja", "11;DC509;A;",
        "12;dc787;a;NEJ", "12;dc795;b;nej", "12;DC793;B;JA", "12;DC780;B;ja", "12;DC349;B;1", "12;c787;A;",
        "13;DC509;A;", "14;DC509;A;", "15;DC509;A;", "16;DC509;A;", "17;DC509;A;",
    ],
    "procedurer_andre": ["dw_ek_kontakt;procedurekode;dato_start", "10;ML01EH01;2019-04-01", "11;BOHJ13;2015-01-01",
                         "12;ml01fd01;2020-01-01", "12;L01FD01;2020-01-01", "13;BOHJ13;2020-02-01"],
    "prescriptions": [
        "pnr;eksd;atc;vnr;apk;volume",
        "0101501234;20200;L02BG04;1;2;49,5", "0101501234;20201;L02BG04;1;-2;49,5", "0101501234;20202;L02;1;x;1",
        "0606600001;2016-01-01;l02bg04;1;1;30", "0606600001;2016;L02BG04;1;1;30", "0606600001;2016.0;L02BG04;1;1;30",
    ],
    "pathology": [
        "pnr;tumornr;d_rekvdato;c_snomedkode;provested",
        *(f"0101501234;1;2015-01-0{n};{code};P" for n, code in enumerate(
            ("F29600", "F29603", "F29605", "F29606", "F29607", "F29999"), 1)),
        "0606600001;1;2015-05-05;f29607;p",
    ],
    "receptors": ["pnr;tumornr;d_dato;er;pr", "0101501234;1;2015-01-01;1;9"],
    "life_table": ["country,sex,year,age,probability_of_death", "dk,female,2012,60,0.01"],
}  # fmt: skip


@pytest.fixture(scope="module")
def delivered(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Table, or `held <raw table>` -> rows; `who` is the identifier as delivered. The last person was erased before."""
    folder = tmp_path_factory.mktemp("denmark")
    for name, lines in FILES.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    inputs = {name: RawInput(path=str(folder / f"{name}*.csv")) for name in FILES if not name.endswith("_later")}
    inputs["person"] = RawInput(path=str(folder / "person.csv"), columns={"pnr": "v_cpr"})
    regions = {"1081": "north"}
    site = Site(country="denmark", warehouse=str(folder / "w"), inputs=inputs, adapter={"regions": regions})
    adapter = load_adapter("denmark")
    names = {pseudonym_of(name, KEY): name for name in PEOPLE}

    def session() -> SparkSession:
        return spark

    gone = spark.createDataFrame([(suppression_of(pseudonym_of(PEOPLE[3], KEY)),)], "suppression string")
    extracts = with_contents(spark, find_extracts(session, site, adapter), None)
    with ingested_tables(spark, site, adapter, extracts, "2023-06-30", KEY, gone) as done:
        frames = {**conformed_of(done), "unknown": done.unknown_codes, "ledger": done.ledger}
        frames |= {f"held {name}": frame for name, frame in done.quarantined.items()}
        found = {name: [row.asDict() for row in frame.collect()] for name, frame in frames.items()}
    for rows in found.values():
        for row in rows:
            row["who"] = names.get(row.get("person_id"))
    return found


def _held(delivered: dict[str, list[dict[str, Any]]], name: str) -> list[tuple[int, str]]:
    return sorted((row["source_row"], ",".join(row["reasons"])) for row in delivered[f"held {name}"])


def _of(delivered: dict[str, list[dict[str, Any]]], table: str, who: str) -> list[dict[str, Any]]:
    return [row for row in delivered[table] if row["who"] == who]


def test_dates_in_every_form(delivered: dict[str, list[dict[str, Any]]]) -> None:
    people = {row["who"]: row for row in delivered["person"]}
    assert {who: row["birth_date"] for who, row in people.items() if who not in MOVERS} == {
        "0101501234": date(1950, 1, 1), "0202605678": date(1960, 10, 2), "0303701111": date(1970, 3, 3),
    }  # fmt: skip
    assert people["0202605678"]["emigration_date"] == date(2018, 5, 6)
    assert people["0303701111"]["death_date"] == date(2013, 12, 8)
    assert (people["0101501234"]["region"], people["0202605678"]["region"]) == ("north", None)


def test_a_bare_year_is_no_day_of_1965(delivered: dict[str, list[dict[str, Any]]]) -> None:
    assert _held(delivered, "person") == [(5, "missing:statusdato"), (15, "impossible_date:foedselsdato")]
    assert _held(delivered, "deaths") == [(3, "impossible_date:d_dodsdto")]
    assert (13, "impossible_date:haend_dato") in _held(delivered, "vnds")
    assert _held(delivered, "prescriptions")[1:] == [(5, "impossible_date:eksd"), (6, "impossible_date:eksd")]


def test_the_last_move_decides_who_has_left(delivered: dict[str, list[dict[str, Any]]]) -> None:
    """Moves    -U---------   left: their day, although the person register calls them resident
             -U----I-----   came back: resident, although the person register still says that they left
             -----UI-----   out and back on one day, in whatever order: resident
             -U-I----S---   left again, which only the person register says: its day
             ------U-S---   both say that they left: the register of moves
    """
    left = {row["who"]: row["emigration_date"] for row in delivered["person"] if row["who"] in MOVERS}
    assert left == {
        MOVERS[0]: date(2016, 2, 16),
        MOVERS[1]: None,
        MOVERS[2]: None,
        MOVERS[3]: date(2019, 9, 9),
        MOVERS[4]: date(2015, 3, 1),
        MOVERS[5]: date(2013, 3, 3),  # out, in, out; the row with an unknown code says nothing
        MOVERS[6]: None,
        MOVERS[7]: None,
        MOVERS[8]: None,  # lost, and back on that day
    }
    assert _held(delivered, "vnds") == [(12, "unknown_code:indud_kode"), (13, "impossible_date:haend_dato")]


def test_of_two_days_of_death_that_of_the_register_of_deaths_is_believed(
    delivered: dict[str, list[dict[str, Any]]],
) -> None:
    died = {row["who"]: row["death_date"] for row in delivered["person"]}
    assert died[MOVERS[6]] == date(2016, 2, 1)  # the person register says the day after
    assert died[MOVERS[7]] == date(2016, 3, 3)  # only the person register knows
    assert died[MOVERS[8]] is None


def test_tumours(delivered: dict[str, list[dict[str, Any]]]) -> None:
    tumours = {row["who"]: row for row in delivered["tumour"]}
    first = tumours["0101501234"]
    assert (first["diagnosis_date"], first["icd10"], first["morphology"]) == (date(2015, 1, 1), "C509", "8500/3")
    assert (first["stage"], first["basis"], tumours["0303701111"]["icd10"]) == ("distant", "histology", "C435")


def test_both_generations_of_contacts_without_repeats(delivered: dict[str, list[dict[str, Any]]]) -> None:
    rows = _of(delivered, "hospital_diagnosis", "0101501234")
    found = sorted((row["start_date"], row["icd10"], row["position"]) for row in rows)
    assert found == [
        (date(2015, 1, 1), "C509", "main"), (date(2015, 1, 1), "I10", "secondary"),
        (date(2019, 4, 1), "C787", "main"), (date(2019, 4, 1), "C795", "secondary"),
    ]  # fmt: skip
    assert {row["who"] for row in delivered["hospital_diagnosis"]} == {"0101501234", LOWER_CASE}
    assert len({row["contact_id"] for row in rows}) == 2
    assert _held(delivered, "lpr_a_kontakt") == [
        (2, "repeats_lpr2"), (4, "unknown_code:lprindberetningssystem"), (5, "unknown_code:lprindberetningssystem"),
        (6, "repeats_lpr2"), (7, "malformed_row"),
    ]  # fmt: skip
    assert _held(delivered, "lpr_a_diagnose") == [
        (3, "withdrawn"), (4, "repeats_lpr2"), (7, "withdrawn"), (8, "withdrawn"),
        (9, "unknown_code:senere_afkraeftet"), (10, "unknown_code:diag_kode"), (11, "contact_held_back"),
        (12, "contact_held_back"), (13, "repeats_lpr2"), (14, "no_contact"),
    ]  # fmt: skip
    assert all(row["person_id"] is None for row in delivered["held lpr_a_diagnose"] if row["source_row"] == 14)
    assert _held(delivered, "procedurer_andre") == [
        (2, "repeats_lpr2"), (4, "unknown_code:procedurekode"), (5, "contact_held_back"),
    ]  # fmt: skip


def test_codes_and_names_of_columns_in_lower_case(delivered: dict[str, list[dict[str, Any]]]) -> None:
    assert [row["sex"] for row in _of(delivered, "person", LOWER_CASE)] == ["female"]
    tumour = _of(delivered, "tumour", LOWER_CASE)[0]
    assert (tumour["icd10"], tumour["morphology"]) == ("C509", "8500/3")
    assert [row["kind"] for row in _of(delivered, "recurrence", LOWER_CASE)] == ["distant"]
    diagnoses = sorted(
        (row["start_date"], row["icd10"], row["position"]) for row in _of(delivered, "hospital_diagnosis", LOWER_CASE)
    )
    assert diagnoses == [
        (date(2017, 3, 1), "C509", "main"), (date(2018, 3, 1), "C787", "secondary"),
        (date(2020, 1, 1), "C787", "main"), (date(2020, 1, 1), "C795", "secondary"),
    ]  # fmt: skip
    drugs = sorted((row["start_date"], row["code"]) for row in _of(delivered, "hospital_drug", LOWER_CASE))
    assert drugs == [
        *((date(2017, 3, 1), code) for code in ("BOHJ13", "BOHJ19H3", "BWHA405", "L01XC14")),
        (date(2020, 1, 1), "L01FD01"),
    ]  # fmt: skip
    assert [row["atc"] for row in _of(delivered, "dispensing", LOWER_CASE)] == ["L02BG04"]
    assert [(row["result"], row["site"]) for row in _of(delivered, "biomarker", LOWER_CASE)] == [("3+", "primary")]


def test_rows_without_a_usable_contact_are_held_back(delivered: dict[str, list[dict[str, Any]]]) -> None:
    assert _held(delivered, "lpr_adm") == [(2, "end_before_start")]
    first = [row for row in delivered["held lpr_diag"] if "later" not in row["source_file"]]
    assert _held({"held lpr_diag": first}, "lpr_diag") == [(6, "contact_held_back"), (8, "no_contact")]


def test_codes_without_their_first_letter_are_held_back(delivered: dict[str, list[dict[str, Any]]]) -> None:
    later = [row for row in delivered["held lpr_diag"] if "later" in row["source_file"]]
    assert _held({"held lpr_diag": later}, "lpr_diag") == [(n, "unknown_code:c_diag") for n in (3, 4, 5)]
    assert _held(delivered, "lpr_sksopr") == [(n, "unknown_code:c_opr") for n in (6, 7, 8)]


def test_an_erased_persons_diagnoses_are_suppressed_too(delivered: dict[str, list[dict[str, Any]]]) -> None:
    ledger = {row["raw_table"]: row for row in delivered["ledger"]}
    suppressed = {name: row["rows_suppressed"] for name, row in ledger.items() if row["rows_suppressed"]}
    assert suppressed == {
        "person": 1, "lpr_adm": 1, "lpr_diag": 1,
        "lpr_a_kontakt": 1, "lpr_a_diagnose": 1,  # a malformed one, in which the number may stand where it should
    }  # fmt: skip
    counts = ("rows_in", "rows_accepted", "rows_quarantined", "rows_duplicate", "rows_suppressed")
    assert tuple(ledger["lpr_diag"][count] for count in counts) == (14, 7, 5, 1, 1)


def test_codes_of_drugs(delivered: dict[str, list[dict[str, Any]]]) -> None:
    rows = _of(delivered, "hospital_drug", "0101501234")
    drugs = {(row["code_system"], row["code"]): row["start_date"] for row in rows}
    assert drugs == {
        ("sks", "BOHJ13"): date(2015, 1, 4), ("sks", "BOHJ19H3"): date(2015, 1, 2), ("sks", "BWHA"): date(2015, 1, 2),
        ("atc", "L01XC14"): date(2015, 1, 2), ("atc", "L01EH01"): date(2019, 4, 1),
    }  # fmt: skip
    means = {(system, code): substance for system, code, _, _, substance in code_rows(load_drugs(), "denmark")}
    assert {one: means.get(one) for one in drugs} == {
        ("sks", "BOHJ13"): "trastuzumab", ("sks", "BOHJ19H3"): "pertuzumab", ("sks", "BWHA"): None,
        ("atc", "L01XC14"): "trastuzumab_emtansine", ("atc", "L01EH01"): "lapatinib",
    }  # fmt: skip


def test_unknown_codes_are_listed(delivered: dict[str, list[dict[str, Any]]]) -> None:
    """Those in lower case are known."""
    unknown = {(row["raw_table"], row["code"]): row["n"] for row in delivered["unknown"]}
    assert unknown == {
        ("person", "1084"): 1, ("cancer", "7"): 1, ("lpr_diag", "AZCD13"): 1, ("lpr_diag", "AZCA1"): 1,
        ("pathology", "F29999"): 1,
    }  # fmt: skip


def test_prescriptions_and_corrections(delivered: dict[str, list[dict[str, Any]]]) -> None:
    found = _of(delivered, "dispensing", "0101501234")
    rows = sorted((row["dispensed_date"], row["packages"], row["ddd"]) for row in found)
    assert rows == [(date(2015, 4, 22), 2.0, 99.0), (date(2015, 4, 23), -2.0, -99.0)]
    assert _held(delivered, "prescriptions")[0] == (3, "impossible_number:apk")


def test_pathology(delivered: dict[str, list[dict[str, Any]]]) -> None:
    rows = _of(delivered, "biomarker", "0101501234")
    results = sorted((row["marker"], row["sample_date"], row["result"]) for row in rows)
    assert results == [
        ("er", date(2015, 1, 1), "positive"),
        *(("her2", date(2015, 1, n), said) for n, said in enumerate(("negative", "positive", "1+", "2+", "3+"), 1)),
    ]
    assert {row["method"] for row in rows} == {"ihc"}
    assert {row["tumour_id"] for row in rows} == {row["tumour_id"] for row in _of(delivered, "tumour", "0101501234")}


def test_no_number_of_a_contact_is_kept(delivered: dict[str, list[dict[str, Any]]]) -> None:
    for name in ("lpr_adm", "lpr_diag", "lpr_a_kontakt", "lpr_a_diagnose"):
        for row in delivered[f"held {name}"]:
            assert '"recnum":"99"' not in row["row"].lower()
            assert '"dw_ek_kontakt":"11"' not in row["row"]


CELLS = {
    "person": {"koen": "K", "foedselsdato": "1960-06-06", "status": "01"},
    "vnds": {"indud_kode": "U", "haend_dato": "2015-01-01"},
    "lpr_a_kontakt": {"dw_ek_kontakt": "1", "dato_start": "2020-01-01", "lprindberetningssystem": "LPR3"},
    "lpr_a_diagnose": {"dw_ek_kontakt": "1", "diag_kode": "DC509", "diag_kode_type": "A"},
    "lpr_sksopr": {"recnum": "1", "c_opr": "BOHJ13"},
}
LPR2 = ("lpr_adm",)


def _reasons(
    spark: SparkSession,
    table: str,
    cells: Mapping[str, str | None],
    said: Mapping[str, Any],
    inputs: tuple[str, ...] = LPR2,
) -> tuple[str, dict[str, Any]]:
    """The reasons that a row of the table is held back for where the site file says so, and the row."""
    raw = next(raw for raw in load_adapter("denmark").raw_tables if raw.name == table)
    site = Site(country="denmark", warehouse="none", inputs={name: RawInput(path="none") for name in inputs},
                adapter=dict(said))  # fmt: skip
    columns = [name for name in (*raw.columns, *raw.optional) if name != raw.id_column]
    full = {**CELLS[table], **cells}
    row = (*(full.get(name) for name in columns), "p", "2023-06-30")
    frame = spark.createDataFrame([row], ", ".join(f"`{name}` string" for name in (*columns, "person_id", "delivery")))
    found = raw.annotate(frame, site).collect()[0].asDict()
    return found["reasons"], found


SYSTEM, WITHDRAWN = "lprindberetningssystem", "senere_afkraeftet"
SYSTEMS = {"reporting_systems": {"LPR3 F": "newer", "": "newer", "LPR-II": "older"}}
WITHDRAWALS = {"withdrawals": {"Y": "withdrawn", "N": ""}}


@pytest.mark.parametrize(
    ("table", "cells", "said", "inputs", "reasons"),
    [
        ("lpr_a_kontakt", {SYSTEM: "Lpr3"}, {}, LPR2, ""),
        ("lpr_a_kontakt", {SYSTEM: None}, {}, LPR2, f"unknown_code:{SYSTEM}"),
        ("lpr_a_kontakt", {SYSTEM: "OPUS"}, {}, LPR2, f"unknown_code:{SYSTEM}"),
        ("lpr_a_kontakt", {SYSTEM: "OPUS"}, {}, ("lpr_a_kontakt",), ""),  # nothing that it could repeat
        ("lpr_a_kontakt", {SYSTEM: "LPR2"}, {}, ("lpr_a_kontakt",), ""),
        ("lpr_a_kontakt", {SYSTEM: "lpr3 f"}, SYSTEMS, LPR2, ""),
        ("lpr_a_kontakt", {SYSTEM: None}, SYSTEMS, LPR2, ""),
        ("lpr_a_kontakt", {SYSTEM: "lpr-ii"}, SYSTEMS, LPR2, "repeats_lpr2"),
        ("lpr_a_kontakt", {SYSTEM: "LPR3"}, SYSTEMS, LPR2, f"unknown_code:{SYSTEM}"),
        ("lpr_a_kontakt", {SYSTEM: "LPR3"}, {"reporting_systems": {"LPR3": "yes"}}, LPR2, f"unknown_code:{SYSTEM}"),
        ("lpr_a_diagnose", {WITHDRAWN: "y"}, WITHDRAWALS, LPR2, "withdrawn"),
        ("lpr_a_diagnose", {WITHDRAWN: "n"}, WITHDRAWALS, LPR2, ""),
        ("lpr_a_diagnose", {WITHDRAWN: None}, WITHDRAWALS, LPR2, ""),
        ("lpr_a_diagnose", {WITHDRAWN: "Ja"}, WITHDRAWALS, LPR2, f"unknown_code:{WITHDRAWN}"),
        ("person", {"koen": "kvinde"}, {"sexes": {"Mand": "male", "Kvinde": "female"}}, LPR2, ""),
        ("person", {"koen": "K"}, {"sexes": {"Mand": "male", "Kvinde": "female"}}, LPR2, "unknown_code:koen"),
        ("vnds", {"indud_kode": "ud"}, {"migrations": {"Ind": "in", "Ud": "out"}}, LPR2, ""),
        ("vnds", {"indud_kode": "U"}, {"migrations": {"Ind": "in", "Ud": "out"}}, LPR2, "unknown_code:indud_kode"),
        ("lpr_sksopr", {"c_opr": "XYZ1"}, {"drug_prefixes": ["bxyz"]}, LPR2, "unknown_code:c_opr"),
        ("lpr_sksopr", {"c_opr": "XYZ1"}, {"drug_prefixes": ["bxyz", "xyz"]}, LPR2, ""),
    ],
)
def test_codes_that_the_site_file_replaces(
    spark: SparkSession,
    table: str,
    cells: dict[str, str | None],
    said: dict[str, Any],
    inputs: tuple[str, ...],
    reasons: str,
) -> None:
    assert _reasons(spark, table, cells, said, inputs)[0] == reasons


@pytest.mark.parametrize(
    ("written", "is_sas", "born"),
    [
        ("1899", False, date(1965, 3, 14)),
        ("1900", False, None),
        ("1965.0", False, None),
        ("2099", False, None),
        ("2100", False, date(1965, 10, 1)),
        ("-3652.0", False, date(1950, 1, 1)),
        ("-2015", False, date(1954, 6, 26)),
        ("1965", True, date(1965, 5, 19)),
        ("2015.0", True, date(1965, 7, 8)),
        ("19650519", True, date(1965, 5, 19)),
        ("1965-05-19", True, date(1965, 5, 19)),
    ],
)
def test_numbers_that_may_be_years(spark: SparkSession, written: str, is_sas: bool, born: date | None) -> None:
    said = {"sas_columns": ["FOEDSELSDATO"]} if is_sas else {"sas_columns": ["statusdato"]}
    reasons, row = _reasons(spark, "person", {"foedselsdato": written}, said)
    assert (reasons, row["birth_date"]) == ("" if born else "impossible_date:foedselsdato", born)


@pytest.mark.parametrize("said", ["foedselsdato", ["fødselsdato"], {"foedselsdato": True}])
def test_sas_columns_are_a_list_of_dates(spark: SparkSession, said: Any) -> None:
    with pytest.raises(ConfigurationError, match="adapter.sas_columns"):
        _reasons(spark, "person", {}, {"sas_columns": said})


def test_reasons_of_lost_contacts_stop_a_run(delivered: dict[str, list[dict[str, Any]]]) -> None:
    for name in ("lpr_a_kontakt", "lpr_diag", "lpr_a_diagnose", "lpr_sksopr", "vnds"):
        kinds = {reason.partition(":")[0] for row in delivered[f"held {name}"] for reason in row["reasons"]}
        assert kinds & set(KINDS), name


def test_diagnoses_without_their_d_stop_the_run(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {name: FILES[name] for name in ("person", "cancer", "prescriptions", "lpr_adm", "life_table")}
    files["lpr_diag"] = ["RECNUM;C_DIAG;C_DIAGTYPE", "1;DC509;A", *(f"1;C{n};B" for n in range(700, 720))]
    for name, lines in files.items():
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "key").write_bytes(KEY)
    inputs = {name: {"path": f"{name}.csv"} for name in files}
    site = {"country": "denmark", "delivery": date(2023, 6, 30), "warehouse": "w", "pseudonym_key_file": "key",
            "inputs": {**inputs, "person": {"path": "person.csv", "columns": {"pnr": "v_cpr"}}}}  # fmt: skip
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(site))
    assert main(["ingest", "--site", str(tmp_path / "site.yaml")]) == 12
    said = capsys.readouterr().err
    assert "raw table lpr_diag: more than half of the rows" in said
    assert "unknown_code:c_diag (20 of 21 rows)" in said


def test_the_site_file_lists_every_key_that_is_read() -> None:
    root = Path(__file__).parents[2]
    source = (root / "jobs" / "sources" / "denmark.py").read_text(encoding="utf-8")
    listed = yaml.safe_load((root / "conf" / "sites" / "denmark.yaml").read_text(encoding="utf-8"))
    read = set(re.findall(r'(?:site_codes\(site, |adapter\.get\()"(\w+)"', source))
    assert read == set(listed["adapter"])
    docstring = source.partition('"""')[2].partition('"""')[0]
    assert not [key for key in read if key not in docstring]
    tables = {raw.name for raw in load_adapter("denmark").raw_tables} - {raw.name for raw in PUBLISHED}
    assert set(listed["inputs"]) == tables


def test_a_move_that_is_neither_in_nor_out_is_none(spark: SparkSession) -> None:
    moves = [("a", date(2015, 1, 1), "out", "f", 1, "d"), ("a", date(2018, 1, 1), None, "f", 2, "d"),
             ("b", date(2015, 1, 1), None, "f", 3, "d"), ("c", date(2015, 1, 1), "out", "f", 4, "d"),
             ("c", date(2015, 1, 1), "in", "f", 5, "d")]  # fmt: skip
    columns = "person_id string, moved date, way string, source_file string, source_row long, delivery string"
    found = last_moves(spark.createDataFrame(moves, columns)).select("person_id", "last_move", "emigration_date")
    day = date(2015, 1, 1)
    assert sorted(map(tuple, found.collect())) == [("a", day, day), ("c", day, None)]
