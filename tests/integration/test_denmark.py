"""The Danish files' own cases, in a small hand-written delivery."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs.codes import code_rows
from jobs.config import RawInput, Site, load_drugs
from jobs.erasure import PURPOSE
from jobs.extracts import find_extracts
from jobs.identity import pseudonym_of
from jobs.ingest import ingested_tables
from jobs.sources.adapter import load_adapter

KEY = b"k" * 32
PEOPLE = ("0101501234", "0202605678", "0303701111", "0404809999")
FILES = {
    "person": [
        "V_CPR;KOEN;FOEDSELSDATO;STATUS;STATUSDATO;REGION",
        "0101501234;K;-3652;01;;1081",
        "0202605678;K;02OCT1960;80;2018-05-06 00:00:00;1084",
        "0303701111;M;03-03-1970;90;19700;1081",
        "0404809999;K;19800404;01;;1081",
        "0505500000;K;1950-05-05;90;;1081",
    ],
    "deaths": ["pnr;d_dodsdto", "0303701111;2013-12-08"],
    "cancer": [
        "PNR;tumornr;D_DIAGNOSEDATO;C_ICD10;C_MORFO3;udbredelse;diaggrundlag",
        "0101501234;1;20089;DC509;M85003;2;3",
        "0303701111;1;2012-01-01;C445;87203;0;7",
    ],
    "lpr_adm": [
        "PNR;RECNUM;D_INDDTO;D_UDDTO;C_PATTYPE",
        "0101501234;1;01JAN2015;02JAN2015;0",
        "0101501234;2;01JAN2016;01JAN2015;0",
        "0404809999;3;2016-02-01;2016-02-01;2",
    ],
    "lpr_diag": [
        "RECNUM;C_DIAG;C_DIAGTYPE",
        "1;DC509;A", "1;DI10;B", "1;DI10;B ", "1;DZ038;H", "1;AZCD13;B", "2;DC509;A", "3;DC349;A", "99;DC509;A",
    ],
    "lpr_sksube": [
        "RECNUM;C_OPR;D_ODTO",
        "1;BOHJ13;20092", "1;BOHJ19H3;2015-01-02", "1;BWHA;2015-01-02", "1;ML01XC14;2015-01-02", "1;ZZ0150A;2015-01-02",
    ],
    "lpr_a_kontakt": [
        "pnr;dw_ek_kontakt;dato_start;dato_slut;lprindberetningssystem",
        "0101501234;10;2019-04-01 08:00:00;2019-04-02 10:00:00;LPR3",
        "0101501234;11;2015-01-01 00:00:00;2015-01-02 00:00:00;LPR2",
    ],
    "lpr_a_diagnose": [
        "dw_ek_kontakt;diag_kode;diag_kode_type;senere_afkraeftet",
        "10;DC787;A;", "10;DC795;B;Nej", "10;DC349;B;Ja", "11;DC509;A;",
    ],
    "procedurer_andre": ["dw_ek_kontakt;procedurekode;dato_start", "10;ML01EH01;2019-04-01", "11;BOHJ13;2015-01-01"],
    "prescriptions": [
        "pnr;eksd;atc;vnr;apk;volume",
        "0101501234;20200;L02BG04;1;2;49,5", "0101501234;20201;L02BG04;1;-2;49,5", "0101501234;20202;L02;1;x;1",
    ],
    "pathology": [
        "pnr;tumornr;d_rekvdato;c_snomedkode;provested",
        *(f"0101501234;1;2015-01-0{n};{code};P" for n, code in enumerate(
            ("F29600", "F29603", "F29605", "F29606", "F29607", "F29999"), 1)),
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
    inputs = {name: RawInput(path=str(folder / f"{name}.csv")) for name in FILES}
    inputs["person"] = RawInput(path=str(folder / "person.csv"), columns={"pnr": "v_cpr"})
    regions = {"1081": "north"}
    site = Site(country="denmark", warehouse=str(folder / "w"), inputs=inputs, adapter={"regions": regions})
    adapter = load_adapter("denmark")
    names = {pseudonym_of(name, KEY): name for name in PEOPLE}

    def session() -> SparkSession:
        return spark

    gone = spark.createDataFrame([(pseudonym_of(PEOPLE[3], KEY),)], "p string").select(
        F.substring(F.sha2(F.concat_ws("\u001f", F.lit(PURPOSE), "p"), 256), 1, 32).alias("suppression")
    )
    extracts = find_extracts(session, site, adapter)
    with ingested_tables(spark, site, adapter, extracts, "2023-06-30", KEY, gone) as done:
        frames = {**done.conformed, "unknown": done.unknown_codes, "ledger": done.ledger}
        frames |= {f"held {name}": frame for name, frame in done.quarantined.items()}
        found = {name: [row.asDict() for row in frame.collect()] for name, frame in frames.items()}
    for rows in found.values():
        for row in rows:
            row["who"] = names.get(row.get("person_id"))
    return found


def _held(delivered: dict[str, list[dict[str, Any]]], name: str) -> list[tuple[int, str]]:
    return sorted((row["source_row"], ",".join(row["reasons"])) for row in delivered[f"held {name}"])


def test_dates_in_every_form(delivered: dict[str, list[dict[str, Any]]]) -> None:
    people = {row["who"]: row for row in delivered["person"]}
    assert {who: row["birth_date"] for who, row in people.items()} == {
        "0101501234": date(1950, 1, 1), "0202605678": date(1960, 10, 2), "0303701111": date(1970, 3, 3),
    }  # fmt: skip
    assert people["0202605678"]["emigration_date"] == date(2018, 5, 6)
    assert people["0303701111"]["death_date"] == date(2013, 12, 8)
    assert (people["0101501234"]["region"], people["0202605678"]["region"]) == ("north", None)
    assert _held(delivered, "person") == [(5, "missing:statusdato")]


def test_tumours(delivered: dict[str, list[dict[str, Any]]]) -> None:
    tumours = {row["who"]: row for row in delivered["tumour"]}
    first = tumours["0101501234"]
    assert (first["diagnosis_date"], first["icd10"], first["morphology"]) == (date(2015, 1, 1), "C509", "8500/3")
    assert (first["stage"], first["basis"], tumours["0303701111"]["icd10"]) == ("distant", "histology", "C435")


def test_both_generations_of_contacts_without_repeats(delivered: dict[str, list[dict[str, Any]]]) -> None:
    found = sorted((row["start_date"], row["icd10"], row["position"]) for row in delivered["hospital_diagnosis"])
    assert found == [
        (date(2015, 1, 1), "C509", "main"), (date(2015, 1, 1), "I10", "secondary"),
        (date(2019, 4, 1), "C787", "main"), (date(2019, 4, 1), "C795", "secondary"),
    ]  # fmt: skip
    assert {row["who"] for row in delivered["hospital_diagnosis"]} == {"0101501234"}
    assert len({row["contact_id"] for row in delivered["hospital_diagnosis"]}) == 2
    assert _held(delivered, "lpr_a_kontakt") == [(2, "repeats_lpr2")]
    assert _held(delivered, "lpr_a_diagnose") == [(3, "withdrawn"), (4, "repeats_lpr2")]
    assert _held(delivered, "procedurer_andre") == [(2, "repeats_lpr2")]


def test_rows_without_a_usable_contact_are_held_back(delivered: dict[str, list[dict[str, Any]]]) -> None:
    assert _held(delivered, "lpr_adm") == [(2, "end_before_start")]
    assert _held(delivered, "lpr_diag") == [(6, "contact_held_back"), (8, "no_contact")]


def test_an_erased_persons_diagnoses_are_suppressed_too(delivered: dict[str, list[dict[str, Any]]]) -> None:
    ledger = {row["raw_table"]: row for row in delivered["ledger"]}
    suppressed = {name: row["rows_suppressed"] for name, row in ledger.items() if row["rows_suppressed"]}
    assert suppressed == {"person": 1, "lpr_adm": 1, "lpr_diag": 1}
    counts = ("rows_in", "rows_accepted", "rows_quarantined", "rows_duplicate", "rows_suppressed")
    assert tuple(ledger["lpr_diag"][count] for count in counts) == (8, 4, 2, 1, 1)


def test_codes_of_drugs(delivered: dict[str, list[dict[str, Any]]]) -> None:
    drugs = {(row["code_system"], row["code"]): row["start_date"] for row in delivered["hospital_drug"]}
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
    unknown = {(row["raw_table"], row["code"]): row["n"] for row in delivered["unknown"]}
    assert unknown == {
        ("person", "1084"): 1, ("cancer", "7"): 1, ("lpr_diag", "AZCD13"): 1, ("pathology", "F29999"): 1,
    }  # fmt: skip


def test_prescriptions_and_corrections(delivered: dict[str, list[dict[str, Any]]]) -> None:
    rows = sorted((row["dispensed_date"], row["packages"], row["ddd"]) for row in delivered["dispensing"])
    assert rows == [(date(2015, 4, 22), 2.0, 99.0), (date(2015, 4, 23), -2.0, -99.0)]
    assert _held(delivered, "prescriptions") == [(3, "impossible_number:apk")]


def test_pathology(delivered: dict[str, list[dict[str, Any]]]) -> None:
    results = sorted((row["marker"], row["sample_date"], row["result"]) for row in delivered["biomarker"])
    assert results == [
        ("er", date(2015, 1, 1), "positive"),
        *(("her2", date(2015, 1, n), said) for n, said in enumerate(("negative", "positive", "1+", "2+", "3+"), 1)),
    ]
    assert {row["method"] for row in delivered["biomarker"]} == {"ihc"}
    assert {row["tumour_id"] for row in delivered["biomarker"]} == {
        row["tumour_id"] for row in delivered["tumour"] if row["who"] == "0101501234"
    }


def test_no_number_of_a_contact_is_kept(delivered: dict[str, list[dict[str, Any]]]) -> None:
    for name in ("lpr_adm", "lpr_diag", "lpr_a_kontakt", "lpr_a_diagnose"):
        for row in delivered[f"held {name}"]:
            assert '"recnum":"99"' not in row["row"].lower()
            assert '"dw_ek_kontakt":"11"' not in row["row"]
