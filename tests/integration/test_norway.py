"""The Norwegian files' own cases, in a small hand-written delivery."""

from __future__ import annotations

from datetime import date

import pytest
from pyspark.sql import SparkSession

from jobs.config import RawInput, Site
from jobs.extracts import find_extracts
from jobs.identity import pseudonym_of
from jobs.ingest import ingested_tables
from jobs.sources.adapter import load_adapter

KEY = b"k" * 32
CANCER = (
    "P_lopenr;P_kjonn;P_fodselsdato;P_personstatus;P_statusdato;P_helseregion;S_tumornr;S_diagnosedato;"
    "S_topografiIcdo3;S_morfologiIcdo3;S_met;S_basis;S_er;S_pr;S_her2"
)
FILES = {
    "cancer": [
        CANCER,
        "lost;2;19500101;.;20150601;1;1;20120101;C509;85003;0;70;1;1;1",
        "gone;2;19500101;U;20160601;1;1;20120101;C509;85003;0;70;1;1;1",
        "exact;2;19500101;D;20220305;7;1;20120101;C509;850029;0;33;1;1;5",
        "both;2;19500101;D;20220305;8;1;20120101;C445;87203;0;70;;;",
        "alive;2;19500101;B;20221231;1;1;20120101;C773;96803;0;70;;;",
        "alive;2;19500101;B;20221231;1;1;20120202;C773;96803;0;70;;;",
    ],
    "recurrence": ["P_lopenr;S_tumornr;R_dato;R_type", "alive;1;20130115;F", "alive;1;201301;F"],
    "hospital": [
        "lopenr;inndato;utdato;fodselsar;kjonn;tilstand_1_1;nprid_reg",
        "alive;20130101;20130102;1800;2;C509;1",
        "alive;20130101;20130102;1950;2;C509;1",
    ],
    "prescriptions": [
        "Pasient_Lopenummer;Utlevering_Dato;ATC;DDD", "alive;20130101;L02BG04;14,5", "alive;20130102;L02BG04;many",
    ],
    "deaths": ["lopenr;fodselsar;doddato", "exact;1950;202203", "both;1950;20220306", "alive;1950;20991231",
               "alive;1950;202307"],
    "life_table": ["country,sex,year,age,probability_of_death", "no,female,2012,60,0.01"],
}


@pytest.fixture(scope="module")
def delivered(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, dict[str, object]]]:
    """Table -> identifier as delivered -> row."""
    folder = tmp_path_factory.mktemp("norway")
    for name, lines in FILES.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    inputs = {name: RawInput(path=str(folder / f"{name}.csv")) for name in FILES}
    regions = {"1": "south_east", "8": "islands"}
    site = Site(country="norway", warehouse=str(folder / "warehouse"), inputs=inputs, adapter={"regions": regions})
    adapter = load_adapter("norway")
    names = {pseudonym_of(name, KEY): name for name in ("lost", "gone", "exact", "both", "alive")}

    def session() -> SparkSession:
        return spark

    with ingested_tables(spark, site, adapter, find_extracts(session, site, adapter), "2023-06-30", KEY) as done:
        found = {
            table: {names[row.person_id]: row.asDict() for row in done.conformed[table].collect()}
            for table in ("person", "tumour")
        }
        found["unknown"] = {f"{row.column} {row.code}": row.asDict() for row in done.unknown_codes.collect()}
        for name, frame in done.quarantined.items():
            found[name] = {",".join(row.reasons): row.asDict() for row in frame.collect()}
        return found


def test_codes_without_a_meaning_are_listed(delivered: dict[str, dict[str, dict[str, object]]]) -> None:
    """The region 7, the basis 33 and the result 5 mean nothing here; the site's own region 8 does."""
    assert {name: row["n"] for name, row in delivered["unknown"].items()} == {
        "P_helseregion 7": 1, "S_basis 33": 1, "S_her2 5": 1,
    }  # fmt: skip
    assert delivered["person"]["both"]["region"] == "islands"


def test_single_bad_rows_are_held_back(delivered: dict[str, dict[str, dict[str, object]]]) -> None:
    """A tumour that contradicts itself, a birth before 1850, a death after the delivery: the row, not the run."""
    assert set(delivered["cancer"]) == {"repeated_key"}
    assert set(delivered["hospital"]) == {"impossible_date:fodselsar"}
    assert set(delivered["deaths"]) == {"impossible_date:doddato"}
    assert set(delivered["recurrence"]) == {"repeated_key"}
    assert set(delivered["prescriptions"]) == {"impossible_number:DDD"}
    said = delivered["prescriptions"]["impossible_number:DDD"]["row"]
    assert said == '{"Utlevering_Dato":"20130102","ATC":"L02BG04","DDD":"many"}'
    assert delivered["tumour"]["alive"]["diagnosis_date"] == date(2012, 1, 1)


def test_people_lost_to_follow_up_are_observed_until_then(delivered: dict[str, dict[str, dict[str, object]]]) -> None:
    ends = {name: row["emigration_date"] for name, row in delivered["person"].items()}
    assert ends == {
        "lost": date(2015, 6, 1), "gone": date(2016, 6, 1), "exact": None, "both": None, "alive": None,
    }  # fmt: skip


def test_the_more_exact_of_two_dates_of_death(delivered: dict[str, dict[str, dict[str, object]]]) -> None:
    deaths = {name: (row["death_date"], row["death_date_precision"]) for name, row in delivered["person"].items()}
    assert deaths["exact"] == (date(2022, 3, 5), "day")
    assert deaths["both"] == (date(2022, 3, 6), "day")
    assert deaths["alive"] == (None, None)


def test_morphology_keeps_its_behaviour_and_makes_the_code(delivered: dict[str, dict[str, dict[str, object]]]) -> None:
    codes = {name: (row["icd10"], row["morphology"]) for name, row in delivered["tumour"].items()}
    assert codes == {
        "lost": ("C509", "8500/3"), "gone": ("C509", "8500/3"), "exact": ("C509", "8500/2"),
        "both": ("C435", "8720/3"), "alive": ("C85", "9680/3"),
    }  # fmt: skip
