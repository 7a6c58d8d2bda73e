"""The Norwegian files' own cases, in a small hand-written delivery."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyspark.sql import SparkSession

from jobs.config import RawInput, Site
from jobs.contents import with_contents
from jobs.extracts import find_extracts
from jobs.identity import pseudonym_of
from jobs.ingest import ingested_tables
from jobs.sources import norway
from jobs.sources.adapter import load_adapter
from tests.conformed import conformed_of

KEY = b"k" * 32
DELIVERY = "2023-06-10"
CANCER = (
    "P_lopenr;P_kjonn;P_fodselsdato;P_personstatus;P_statusdato;P_helseregion;S_tumornr;S_diagnosedato;"
    "S_topografiIcdo3;S_morfologiIcdo3;S_met;S_basis;S_er;S_pr;S_her2"
)
PEOPLE = ("lost", "gone", "exact", "both", "alive", "spread", "recent", "left", "ill")
METASTASES = ("0", "A", "B", "C", "D", "9", "1", "2", "3", "4", "5", "6", "7", "8", "b", "c", "X")
FILES = {
    "cancer": [
        CANCER,
        "lost;2;19500101;.;20150601;1;1;20120101;C509;85003;0;70;1;1;1",
        "gone;2;19500101;U;20160601;1;1;20120101;C509;85003;0;70;1;1;1",
        "exact;2;19500101;d;20220305;7;1;20120101;C509;850029;0;33;1;1;5",
        "both;k;19500101;D;20220305;8;1;20120101;C445;87203;0;70;;;",
        "alive;2;19500101;B;20221231;1;1;20120101;C773;96803;0;70;;;",
        "alive;2;19500101;B;20221231;1;1;20120202;C773;96803;0;70;;;",
        *(
            f"spread;2;19500101;B;20221231;1;{number};20120101;C509;85003;{code};70;;;"
            for number, code in enumerate(METASTASES, 1)
        ),
        # Dates known to the month or the year of the delivery, which is on the 10th.
        "recent;2;19500101;D;202306;1;1;202306;C509;85003;0;70;;;",
        "recent;2;19500101;D;202306;1;2;2023;C509;85003;0;70;;;",
        "recent;2;19500101;D;202306;1;3;202307;C509;85003;0;70;;;",
        "recent;2;19500101;D;202306;1;4;20230615;C509;85003;0;70;;;",
        "left;2;19500101;U;202306;1;1;202305;C509;85003;0;70;;;",
        # Whoever is not alive has no end without its date.
        "endless;2;19500101;U;;1;1;20120101;C509;85003;0;70;;;",
        "endless;2;19500101;.;;1;2;20120101;C509;85003;0;70;;;",
        "endless;2;19500101;D;;1;3;20120101;C509;85003;0;70;;;",
        "ill;2;19500101;B;;1;1;20120101;C509;85003;0;70;;;",
    ],
    "recurrence": [
        "P_lopenr;S_tumornr;R_dato;R_type", "alive;1;20130115;F", "alive;1;201301;F", "alive;1;20140115;f",
        "recent;1;202306;L", "recent;1;202307;L", "ill;1;2023;R",
    ],
    "hospital": [
        "lopenr;inndato;utdato;fodselsar;kjonn;tilstand_1_1;ncmp_1;ncmp_2;cyto_1;nprid_reg",
        "alive;20130101;20130102;1800;2;C509;;;;1",
        "alive;20130101;20130102;1950;2;C509;;;;1",
        "ill;20130101;;1950;2;C509;WBOC05;;L01FD01;1",
        "ill;20130102;;1950;2;C509;WBOC10;;L01FD01;1",
        "ill;20130103;;1950;k;C509;;WBOC15;L01FD01;1",
        "ill;20130104;;1950;2;C509;WBOC20;;L01FD01;1",
        "ill;20130105;;1950;2;C509;WBOC39;;L01FD01;1",
        "ill;20130106;;1950;2;C509;;wboc15;l01fd01;1",
        "ill;20130107;;1950;2;C509;AB123;;L01FD01;1",
        *(f"ill;2014010{number};;1950;2;C509;;;L01FD01;{number}" for number in (2, 3, 4, 5)),
        # A contact's day is the same in every delivery.
        "ill;202306;;1950;2;C509;;;L01FD01;1",
    ],
    "prescriptions": [
        "Pasient_Lopenummer;Utlevering_Dato;ATC;DDD", "alive;20130101;L02BG04;14,5", "alive;20130102;L02BG04;many",
    ],
    "h_prescriptions": [
        "lopeNr;atc_1;utleveringsdato;kjonn", "ill;L01EH03;20220101;Kvinne", "ill;L01EH03;20220201;kvinne",
        "ill;L01EH03;20220301;2",
    ],
    "deaths": ["lopenr;fodselsar;doddato", "exact;1950;202203", "both;1950;20220306", "alive;1950;20991231",
               "alive;1950;202307", "spread;1950;2023"],
    "life_table": ["country,sex,year,age,probability_of_death", "no,female,2012,60,0.01"],
}  # fmt: skip


class Delivered:
    """What a delivery gives: tables, quarantine and unknown codes as rows."""

    def __init__(
        self, spark: SparkSession, folder: Path, files: Mapping[str, list[str]], adapter: Mapping[str, Any]
    ) -> None:
        for name, lines in files.items():
            (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
        inputs = {name: RawInput(path=str(folder / f"{name}.csv")) for name in files}
        site = Site(country="norway", warehouse=str(folder / "warehouse"), inputs=inputs, adapter=dict(adapter))
        country = load_adapter("norway")
        names = {pseudonym_of(name, KEY): name for name in PEOPLE}
        extracts = with_contents(spark, find_extracts(lambda: spark, site, country), None)
        with ingested_tables(spark, site, country, extracts, DELIVERY, KEY) as done:
            wanted = ("person", "tumour", "recurrence", "dispensing", "hospital_drug")
            tables = conformed_of(done)
            rows = {name: [row.asDict() for row in tables[name].collect()] for name in wanted}
            self.tables = {
                name: [{**row, "person": names[row["person_id"]]} for row in found] for name, found in rows.items()
            }
            self.held = {
                name: Counter(",".join(row.reasons) for row in frame.collect())
                for name, frame in done.quarantined.items()
            }
            self.cells = {name: [row.row for row in frame.collect()] for name, frame in done.quarantined.items()}
            self.unknown = {f"{row.column} {row.code}": row.n for row in done.unknown_codes.collect()}
            self.profile = {(row.raw_table, row.column, row.code): row.n for row in done.profile.collect()}

    def of(self, table: str, person: str) -> list[dict[str, Any]]:
        return [row for row in self.tables[table] if row["person"] == person]

    def one(self, table: str, person: str) -> dict[str, Any]:
        (row,) = self.of(table, person)
        return row


@pytest.fixture(scope="module")
def delivered(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Delivered:
    regions = {"1": "south_east", "8": "islands"}
    return Delivered(spark, tmp_path_factory.mktemp("norway"), FILES, {"regions": regions})


def test_codes_without_a_meaning_are_listed(delivered: Delivered) -> None:
    """The region 7, the basis 33, the result 5 and the spread X mean nothing here; the site's own region 8 does."""
    assert delivered.unknown == {"P_helseregion 7": 1, "S_basis 33": 1, "S_her2 5": 1, "S_met X": 1}
    assert delivered.one("person", "both")["region"] == "islands"


def test_single_bad_rows_are_held_back(delivered: Delivered) -> None:
    """A tumour that contradicts itself, a birth before 1850, a death after the delivery: the row, not the run."""
    assert delivered.held["cancer"]["repeated_key"] == 1
    assert delivered.held["hospital"]["impossible_date:fodselsar"] == 1
    assert delivered.held["deaths"] == {"impossible_date:doddato": 2}
    assert delivered.held["recurrence"]["repeated_key"] == 1
    assert delivered.held["prescriptions"] == {"impossible_number:DDD": 1}
    assert delivered.cells["prescriptions"] == ['{"Utlevering_Dato":"20130102","ATC":"L02BG04","DDD":"many"}']
    assert delivered.one("tumour", "alive")["diagnosis_date"] == date(2012, 1, 1)


def test_people_lost_to_follow_up_are_observed_until_then(delivered: Delivered) -> None:
    ends = {row["person"]: row["emigration_date"] for row in delivered.tables["person"]}
    nobody = dict.fromkeys(PEOPLE)
    assert ends == {**nobody, "lost": date(2015, 6, 1), "gone": date(2016, 6, 1), "left": date(2023, 6, 10)}


def test_who_left_or_died_on_no_day_is_held_back(delivered: Delivered) -> None:
    """Else they would be observed to the end; of who is alive no date is needed."""
    assert delivered.held["cancer"]["missing:P_statusdato"] == 3
    assert delivered.one("person", "ill")["death_date"] is None


def test_the_more_exact_of_two_dates_of_death(delivered: Delivered) -> None:
    deaths = {row["person"]: (row["death_date"], row["death_date_precision"]) for row in delivered.tables["person"]}
    assert deaths["exact"] == (date(2022, 3, 5), "day")
    assert deaths["both"] == (date(2022, 3, 6), "day")
    assert deaths["alive"] == (None, None)


def test_an_inexact_date_is_not_set_after_the_delivery(delivered: Delivered) -> None:
    """The 15th of June or the 1st of July would be; a month that begins after it, and a whole date, are held back."""
    found = {row["diagnosis_date_precision"]: row["diagnosis_date"] for row in delivered.of("tumour", "recent")}
    assert found == {"month": date(2023, 6, 10), "year": date(2023, 6, 10)}
    assert delivered.held["cancer"]["impossible_date:S_diagnosedato"] == 2
    assert delivered.one("tumour", "left")["diagnosis_date"] == date(2023, 5, 15)
    deaths = {name: delivered.one("person", name) for name in ("recent", "spread")}
    assert {(row["death_date"], row["death_date_precision"]) for row in deaths.values()} == {
        (date(2023, 6, 10), "month"), (date(2023, 6, 10), "year"),
    }  # fmt: skip
    again = [(row["event_date"], row["event_date_precision"], row["kind"])
             for name in ("recent", "ill") for row in delivered.of("recurrence", name)]  # fmt: skip
    assert again == [(date(2023, 6, 10), "month", "local"), (date(2023, 6, 10), "year", "regional")]
    assert delivered.held["recurrence"] == {"repeated_key": 1, "impossible_date:R_dato": 1}


def test_a_contact_keeps_its_day_whatever_the_delivery(delivered: Delivered) -> None:
    assert delivered.held["hospital"]["impossible_date:inndato"] == 1


def test_stage_by_the_letters_and_older_digits_of_spread(delivered: Delivered) -> None:
    """C is a spread to an unknown site, which says no stage."""
    found = {METASTASES[row["source_row"] - 7]: row["stage"] for row in delivered.of("tumour", "spread")}
    assert found == {
        "0": "localised", "A": "regional", "B": "distant", "C": None, "D": "localised", "9": None,
        "1": "regional", "2": "regional", "3": "localised", "4": "distant", "5": "localised", "6": "localised",
        "7": None, "8": "localised", "b": "distant", "c": None, "X": None,
    }  # fmt: skip
    counted = {code: n for (_, column, code), n in delivered.profile.items() if column == "S_met"}
    assert (counted["C"], counted["b"], counted["(other)"]) == (1, 1, 1)


def test_letters_in_lower_case_are_read(delivered: Delivered) -> None:
    assert delivered.one("person", "both")["sex"] == "female"
    assert [row["kind"] for row in delivered.of("recurrence", "alive")] == ["distant", "distant"]
    assert delivered.held["h_prescriptions"] == {"unknown_code:kjonn": 1}
    assert len(delivered.of("dispensing", "ill")) == 2


def test_the_route_by_the_procedure_beside_the_drug(delivered: Delivered) -> None:
    routes = {row["start_date"].day: row["route"] for row in delivered.of("hospital_drug", "ill")}
    assert routes == {1: "iv", 2: "im", 3: "sc", 4: "oral", 5: "unspecified", 6: "sc", 7: "unspecified"}


def test_contacts_of_uncertain_identity_are_held_back(delivered: Delivered) -> None:
    """nprid_reg 2, 3, 4 and 5: conflicts of sex, year of birth or death, and no national number."""
    assert delivered.held["hospital"]["identity_not_certain:nprid_reg"] == 4
    assert {row["start_date"].year for row in delivered.of("hospital_drug", "ill")} == {2013}


def test_morphology_keeps_its_behaviour_and_makes_the_code(delivered: Delivered) -> None:
    wanted = ("lost", "gone", "exact", "both", "alive")
    rows = {name: delivered.one("tumour", name) for name in wanted}
    codes = {name: (row["icd10"], row["morphology"]) for name, row in rows.items()}
    assert codes == {
        "lost": ("C509", "8500/3"), "gone": ("C509", "8500/3"), "exact": ("C509", "8500/2"),
        "both": ("C435", "8720/3"), "alive": ("C85", "9680/3"),
    }  # fmt: skip


OWN_CODES = {
    "sexes": {1: "female", 2: "male"},
    "sexes_in_words": {"W": "female"},
    "statuses": {"L": "alive", "X": "dead", "Y": "emigrated", "Z": "lost"},
    "metastases": {"C": "distant", "S": "regional"},
    "recurrences": {"M": "distant"},
    "routes": {"ZZ01": "sc"},
}
OWN_FILES = {
    **FILES,
    "cancer": [
        CANCER,
        "lost;1;19500101;Z;20150601;1;1;20120101;C509;85003;C;70;1;1;1",
        "gone;1;19500101;Y;20160601;1;1;20120101;C509;85003;S;70;1;1;1",
        "exact;2;19500101;X;20220305;1;1;20120101;C509;85003;B;70;1;1;1",
        "ill;1;19500101;L;;1;1;20120101;C509;85003;;70;1;1;1",
        "alive;M;19500101;L;;1;1;20120101;C509;85003;;70;1;1;1",
        "alive;1;19500101;B;;1;1;20120101;C509;85003;;70;1;1;1",
        "alive;1;19500101;X;;1;1;20120101;C509;85003;;70;1;1;1",
    ],
    "recurrence": ["P_lopenr;S_tumornr;R_dato;R_type", "ill;1;20130115;M", "ill;1;20130115;F"],
    "hospital": [
        "lopenr;inndato;utdato;fodselsar;kjonn;tilstand_1_1;ncmp_1;cyto_1;nprid_reg",
        "ill;20130101;;1950;1;C509;zz01;L01FD01;1",
        "ill;20130102;;1950;1;C509;WBOC05;L01FD01;1",
        "ill;20130103;;1950;K;C509;;L01FD01;1",
    ],
    "h_prescriptions": ["lopeNr;atc_1;utleveringsdato;kjonn", "ill;L01EH03;20220101;W", "ill;L01EH03;20220201;Kvinne"],
    "deaths": ["lopenr;fodselsar;doddato"],
}


def test_a_sites_lists_take_the_place_of_the_programs(spark: SparkSession, tmp_path: Path) -> None:
    own = Delivered(spark, tmp_path, OWN_FILES, OWN_CODES)
    people = {row["person"]: (row["sex"], row["death_date"], row["emigration_date"]) for row in own.tables["person"]}
    assert people == {
        "lost": ("female", None, date(2015, 6, 1)), "gone": ("female", None, date(2016, 6, 1)),
        "exact": ("male", date(2022, 3, 5), None), "ill": ("female", None, None),
    }  # fmt: skip
    stages = {row["person"]: row["stage"] for row in own.tables["tumour"]}
    assert stages == {"lost": "distant", "gone": "regional", "exact": None, "ill": None}
    assert own.unknown == {"S_met B": 1}
    assert own.held["cancer"] == {
        "unknown_code:P_kjonn": 1, "unknown_code:P_personstatus": 1, "missing:P_statusdato": 1,
    }  # fmt: skip
    assert own.held["recurrence"] == {"unknown_code:R_type": 1}
    assert own.held["hospital"] == {"unknown_code:kjonn": 1}
    assert own.held["h_prescriptions"] == {"unknown_code:kjonn": 1}
    assert {row["start_date"].day: row["route"] for row in own.tables["hospital_drug"]} == {1: "sc", 2: "unspecified"}
    shown = {(table, column): own.profile[table, column, "(other)"]
             for table, column, code in own.profile if code == "(other)"}  # fmt: skip
    assert {
        ("cancer", "P_kjonn"): 1, ("cancer", "P_personstatus"): 1, ("cancer", "S_met"): 1,
        ("recurrence", "R_type"): 1, ("h_prescriptions", "kjonn"): 1,
    }.items() <= shown.items()  # fmt: skip


def test_the_site_file_says_the_programs_own_codes() -> None:
    """Lists that are commented out too; they have the letters in one case."""
    text = (Path(__file__).parents[2] / "conf" / "sites" / "norway.yaml").read_text()
    lists = re.sub(r"(?m)^  # (?!Letters)", "  ", text[text.index("\nadapter:") :])
    said = yaml.safe_load(lists)["adapter"]
    own = {
        "sexes": norway.SEX, "sexes_in_words": norway.SEX_IN_WORDS, "statuses": norway.STATUS,
        "regions": norway.REGION, "metastases": norway.STAGE, "basis": norway.BASIS, "receptors": norway.RECEPTOR,
        "recurrences": norway.RECURRENCE, "routes": norway.ROUTE,
    }  # fmt: skip
    assert said.pop("accepted_nprid_reg") == ["1"]
    assert said.keys() == own.keys()
    for name, codes in own.items():
        folded = {code.lower(): meaning for code, meaning in codes.items()}
        assert {code.lower(): meaning for code, meaning in said[name].items()} == folded, name
