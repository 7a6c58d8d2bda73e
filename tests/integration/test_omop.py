"""The OMOP common data model's own cases, in a small hand-written delivery."""

from __future__ import annotations

from datetime import date, datetime
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.config import RawInput, Site
from jobs.contents import with_contents
from jobs.errors import ConfigurationError
from jobs.extracts import find_extracts
from jobs.identity import pseudonym_of
from jobs.ingest import ingested_tables
from jobs.sources.adapter import load_adapter
from jobs.sources.omop import _fact
from tests.conformed import conformed_of

KEY = b"k" * 32
PEOPLE = ("1", "2", "3", "4", "5", "6", "7")
FILES = {
    "person": [
        "PERSON_ID,GENDER_CONCEPT_ID,YEAR_OF_BIRTH,MONTH_OF_BIRTH,DAY_OF_BIRTH,LOCATION_ID,PERSON_SOURCE_VALUE",
        "1,8532,1950,3,4,10,secret-1",
        "2,8532,1951,,,11,secret-2",
        "3,8507,1952,12,,12,secret-3",
        "4,8532,1953,1,1,10,",
        "5,8532,1954,1,1,,",
        "6,8551,1955,1,1,,",
        "6,8532,1955,13,1,,",
        "6,8532,1955,123,1,,",
        "7,8532,1956,1,1,,",
        "7,8532,1957,1,1,,",
    ],
    "location": ["location_id,state,zip", "10,N,0001", "11,S,0002", "12,Z,0003"],
    "observation_period": [
        "observation_period_id,person_id,observation_period_start_date,observation_period_end_date,"
        "period_type_concept_id",
        "1,1,2010-01-01,2012-06-30,32880",
        "2,1,2014-01-01,2016-06-30,32880",
        "3,2,2010-01-01,2022-12-31,32880",
        "4,3,2010-01-01,2015-05-31 00:00:00,32880",
        "5,4,2010-01-01,2015-05-31,32880",
        "6,5,2010-01-01,2009-01-01,32880",
    ],
    "death": [
        "person_id,death_date,death_datetime,death_type_concept_id",
        "3,2015-06-10,,32815",
        "4,2016-06-01T13:00:00,,32815",
        "2,1950-12-31,,32815",
        "5,2099-01-01,,32815",
    ],
    "condition_occurrence": [
        # The site has no dates, only moments: renamed in the site file.
        "condition_occurrence_id,person_id,condition_concept_id,condition_start_datetime,condition_type_concept_id,"
        "condition_status_concept_id,visit_occurrence_id,condition_source_value,condition_source_concept_id",
        "1,1,4112853,2012-01-05 10:11:12,32879,,,breast,101",
        "2,1,4112853,2012-02-05 10:11:12,32827,32902,900,C50.9,102",
        "3,1,4112853,2012-02-05 12:00:00,32827,32902,900,C50.9,102",
        "4,1,0,2012-02-05 10:11:12,32827,32908,900,I10,0",
        "5,1,55,2013-02-05 00:00:00,32827,0,901,x,0",
        "6,1,432851,2013-03-01 00:00:00,32827,,902,C78.7,103",
        "7,2,0,2014-01-01 00:00:00,32827,,903,nonsense,0",
        "8,2,4112853,2014-01-01 00:00:00,32815,,,C50.1,102",
        "9,3,201,2014-01-01 00:00:00,32879,,,,0",
        "10,3,201,2011-01-01 00:00:00,32879,,,,0",
        "11,4,4112853,2014-01-01 00:00:00,32879,,,,104",
        "12,4,4112853,2015-01-01 00:00:00,32879,,,,101",
        "13,5,4112853,2014-13-01 00:00:00,32879,,,,101",
        "14,5,4112853,2014-01-02 00:00:00,999,,,,101",
    ],
    "visit_occurrence": [
        "visit_occurrence_id,person_id,visit_start_date,visit_end_date",
        "900,1,2012-02-05,2012-02-07",
        "901,1,2013-02-05,2013-02-01",
    ],
    "measurement": [
        "measurement_id,person_id,measurement_concept_id,measurement_date,value_as_number,value_as_concept_id,"
        "measurement_source_value,value_source_value,measurement_event_id,meas_event_field_concept_id",
        "1,1,7001,2012-01-06,,9191,,,1,1147127",
        "2,1,0,2012-01-06,,,ER %,,,",
        "3,1,0,2012-01-06,35,,ER %,,,",
        "4,1,7001,2012-01-07,,,,Negative,,",
        "5,1,7001,2012-01-08,,4000000,,,,",
        "6,1,7001,2012-01-09,,,,a long remark about somebody,,",
        "7,1,7101,2013-01-01,,,,,,",
        "8,2,7101,2014-01-01,,,,,,",
        "9,1,7200,2012-01-05,,,,T2,,",
        "10,1,9999,2012-01-05,12,,,,,",
        "11,4,7101,2016-01-01,,,,,12,1147127",
        "12,4,7101,2016-02-01,,,,,,",
    ],
    "concept": [
        "concept_id\tconcept_name\tdomain_id\tvocabulary_id\tconcept_class_id\tstandard_concept\tconcept_code\t"
        "valid_start_date\tvalid_end_date\tinvalid_reason",
        '101\t"Ductal carcinoma, breast\tCondition\tICDO3\tICDO Condition\t\t8500/3-C50.9\t19700101\t20991231\t',
        "102\tBreast\tCondition\tICD10\tICD10 code\t\tC50.1\t19700101\t20991231\t",
        "103\tLiver\tCondition\tICD10CM\t4-char billing code\t\tC78.7\t19700101\t20991231\t",
        "104\tIn situ\tCondition\tICDO3\tICDO Condition\t\t8500/2-C50.9\t19700101\t20991231\t",
        "201\tMelanoma\tCondition\tSNOMED\tDisorder\tS\t372244006\t19700101\t20991231\t",
        "300\ttrastuzumab\tDrug\tRxNorm\tIngredient\tS\t224905\t19700101\t20991231\t",
        "301\tpertuzumab\tDrug\tRxNorm\tIngredient\tS\t1298944\t19700101\t20991231\t",
        "302\tnew drug\tDrug\tRxNorm Extension\tIngredient\tS\tOMOP77\t19700101\t20991231\t",
        "310\ttrastuzumab; parenteral\tDrug\tATC\tATC 5th\tC\tL01FD01\t19700101\t20991231\t",
        "311\tpertuzumab; parenteral\tDrug\tATC\tATC 5th\tC\tL01FD02\t19700101\t20991231\t",
        "312\tpertuzumab and trastuzumab; parenteral\tDrug\tATC\tATC 5th\tC\tL01FY01\t19700101\t20991231\t",
        "313\ttrastuzumab\tDrug\tATC\tATC 5th\t\tl01xc03\t19700101\t20211231\tD",
        "320\ttrastuzumab 150 MG Injection\tDrug\tRxNorm\tClinical Drug\tS\t1\t19700101\t20991231\t",
        "321\tboth, subcutaneous\tDrug\tRxNorm\tClinical Drug\tS\t2\t19700101\t20991231\t",
        "322\tnew drug 1 MG\tDrug\tRxNorm Extension\tClinical Drug\tS\t3\t19700101\t20991231\t",
        "330\ta vaccine\tDrug\tCVX\tCVX\tS\t4\t19700101\t20991231\t",
    ],
    "concept_ancestor": [
        "ancestor_concept_id\tdescendant_concept_id\tmin_levels_of_separation\tmax_levels_of_separation",
        "4112853\t55\t2\t3",
        "443392\t55\t1\t5",
        "36769180\t7101\t1\t1",
        *(f"{above}\t320\t1\t1" for above in (300, 310, 312, 313)),
        *(f"{above}\t321\t1\t1" for above in (300, 301, 310, 311, 312)),
        "302\t322\t1\t1",
        "302\t322\t1\t1",
    ],
}
ADMINISTERED, DISPENSED, WRITTEN = 32818, 32825, 32838
DRUGS = [  # id, person, concept, start, end, type, quantity, days, visit, source concept
    (1, 1, 320, "2013-01-01", "2013-01-01", ADMINISTERED, None, None, 900, None),
    (2, 1, 320, "2013-02-01", "2013-03-01", ADMINISTERED, None, None, 900, None),
    (3, 1, 321, "2014-01-01", None, ADMINISTERED, None, None, None, None),
    (4, 1, 322, "2014-02-01", None, ADMINISTERED, None, None, None, None),
    (5, 1, 322, "2014-02-01", None, DISPENSED, None, 30.0, None, None),
    (6, 1, 321, "2014-03-01", "2014-03-30", DISPENSED, 4.0, None, None, None),
    (7, 1, 0, "2014-04-01", "2014-04-01", DISPENSED, None, 30.0, None, 313),
    (8, 1, 0, "2014-05-01", "2014-05-01", ADMINISTERED, None, None, None, None),
    (9, 1, 330, "2014-05-02", "2014-05-02", ADMINISTERED, None, None, None, None),
    (10, 1, 320, "2014-06-01", "2014-05-01", ADMINISTERED, None, None, None, None),
    (11, 1, 320, "2014-07-01", None, DISPENSED, -1.0, 30.0, None, None),
    (12, 1, 320, "2014-07-02", None, DISPENSED, 1.0, -30.0, None, None),
    (13, 1, 320, "2014-08-01", None, WRITTEN, 1.0, 30.0, None, None),
    (14, 1, 320, "2014-09-01", None, 32817, 1.0, 30.0, None, None),
    (15, 1, 320, "2013-01-01", "2013-01-01", ADMINISTERED, None, None, 900, None),
    (17, 1, 320, "2014-10-01", None, DISPENSED, None, float("inf"), None, None),
    (16, 2, 320, "2014-10-01", "2099-12-31", DISPENSED, None, 90.4, None, None),
]


def _write_drugs(path: Path) -> None:
    """As data frames with gaps are written: whole numbers with a point, moments for days."""
    columns = list(zip(*DRUGS, strict=True))
    moments = [[None if day is None else datetime.fromisoformat(day) for day in columns[place]] for place in (3, 4)]
    pq.write_table(
        pa.table(
            {
                "drug_exposure_id": pa.array(columns[0], pa.int64()),
                "person_id": pa.array([float(person) for person in columns[1]], pa.float64()),
                "drug_concept_id": pa.array(columns[2], pa.int32()),
                "drug_exposure_start_date": pa.array(moments[0], pa.timestamp("us")),
                "drug_exposure_end_date": pa.array(moments[1], pa.timestamp("us")),
                "drug_type_concept_id": pa.array([float(kind) for kind in columns[5]], pa.float64()),
                "quantity": pa.array(columns[6], pa.float64()),
                "days_supply": pa.array(columns[7], pa.float64()),
                "visit_occurrence_id": pa.array(columns[8], pa.float64()),
                "route_concept_id": pa.array([4171047] * len(DRUGS), pa.int64()),
                "drug_source_concept_id": pa.array(columns[9], pa.float64()),
            }
        ),
        path,
    )


ADAPTER = {
    "regions": {"N": "north", "S": "south"},
    "observed_until": date(2022, 12, 31),
    "death_within_days": 30,
    "condition_types": {"32879": "tumour", "32827": "hospital", "32815": "tumour"},
    "condition_icd10": {"4112853": "C50.9", "443392": "C80.9", "201": "C43.9"},
    "condition_source_value": "icd10",
    "measurements": {
        "7001": {"marker": "her2", "method": "ish", "site": "metastasis"},
        "ER %": {"marker": "er", "method": "percent"},
        "36769180": {"stage": "distant"},
        "7200": {"stage": "value"},
    },
    "stages": {"t2": "localised"},
}
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def delivered(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Rows]:
    """Conformed table, `unknown`, `ledger` or `quarantine` -> rows, people as they were delivered."""
    folder = tmp_path_factory.mktemp("omop")
    for name, lines in FILES.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    _write_drugs(folder / "drugs.parquet")
    inputs = {name: RawInput(path=str(folder / f"{name}.csv")) for name in FILES}
    inputs["condition_occurrence"].columns["condition_start_date"] = "condition_start_datetime"
    inputs["drug_exposure"] = RawInput(path=str(folder / "drugs.parquet"), format="parquet")
    site = Site(country="omop", warehouse=str(folder / "warehouse"), inputs=inputs, adapter=ADAPTER)
    adapter = load_adapter("omop")
    names = {pseudonym_of(name, KEY): name for name in PEOPLE}
    extracts = with_contents(spark, find_extracts(lambda: spark, site, adapter), None)
    with ingested_tables(spark, site, adapter, extracts, "2023-06-30", KEY) as done:
        found = {name: [row.asDict() for row in frame.collect()] for name, frame in conformed_of(done).items()}
        found["unknown"] = [row.asDict() for row in done.unknown_codes.collect()]
        found["ledger"] = [row.asDict() for row in done.ledger.collect()]
        held = [frame.withColumn("raw_table", F.lit(name)) for name, frame in done.quarantined.items()]
        found["quarantine"] = [row.asDict() for row in reduce(DataFrame.unionByName, held).collect()]
    for rows in found.values():
        for row in rows:
            if row.get("person_id") is not None:
                row["person_id"] = names.get(row["person_id"], "?")
    return found


def _of(rows: Rows, *columns: str, **only: object) -> list[tuple[Any, ...]]:
    chosen = [row for row in rows if all(row[key] == value for key, value in only.items())]
    return sorted((tuple(row[column] for column in columns) for row in chosen), key=str)


def test_births_are_as_exact_as_they_are_known(delivered: dict[str, Rows]) -> None:
    assert _of(delivered["person"], "person_id", "birth_date", "birth_date_precision", "sex", "region") == [
        ("1", date(1950, 3, 4), "day", "female", "north"),
        ("2", date(1951, 7, 1), "year", "female", "south"),
        ("3", date(1952, 12, 15), "month", "male", None),
        ("4", date(1953, 1, 1), "day", "female", "north"),
        ("5", date(1954, 1, 1), "day", "female", None),
        ("7", date(1956, 1, 1), "day", "female", None),
    ]


def test_single_bad_rows_are_held_back(delivered: dict[str, Rows]) -> None:
    """Sex unknown, months 13 and 123, a person twice; a death before birth or after the delivery; an end too early."""
    reasons: dict[str, list[str]] = {}
    for row in sorted(delivered["quarantine"], key=lambda row: ",".join(row["reasons"])):
        reasons.setdefault(row["raw_table"], []).append(",".join(row["reasons"]))
    assert reasons == {
        "person": [*["impossible_date:year_of_birth"] * 2, "repeated_key", "unknown_code:gender_concept_id"],
        "death": ["death_before_birth", "impossible_date:death_date"],
        "observation_period": ["end_before_start"],
        "condition_occurrence": ["impossible_date:condition_start_date"],
        "visit_occurrence": ["end_before_start"],
        "drug_exposure": [
            "end_before_start", "impossible_number:days_supply", "negative_number:days_supply",
            "negative_number:quantity",
        ],
    }
    assert "secret" not in str(delivered)
    for row in delivered["ledger"]:
        assert row["rows_in"] == row["rows_accepted"] + row["rows_quarantined"] + row["rows_duplicate"]
        if row["raw_table"] in ("concept", "concept_ancestor"):
            assert row["rows_in"] == row["rows_accepted"] == len(FILES[row["raw_table"]]) - 1


def test_observation_ends_with_the_last_period(delivered: dict[str, Rows]) -> None:
    """1 came back after a gap and left; 2 is observed to the end; 3 died within 30 days of leaving, 4 long after."""
    assert _of(delivered["person"], "person_id", "emigration_date", "death_date") == [
        ("1", date(2016, 6, 30), None), ("2", None, None), ("3", None, date(2015, 6, 10)),
        ("4", date(2015, 5, 31), date(2016, 6, 1)), ("5", None, None), ("7", None, None),
    ]  # fmt: skip


def test_the_first_condition_of_each_cancer_is_the_tumour(delivered: dict[str, Rows]) -> None:
    """By ICD-O-3, by ICD-10, by the site's mapping; in situ is another tumour; a secondary code is none."""
    columns = ("person_id", "diagnosis_date", "icd10", "morphology", "basis", "stage")
    assert _of(delivered["tumour"], *columns) == [
        ("1", date(2012, 1, 5), "C509", "8500/3", None, "localised"),
        ("2", date(2014, 1, 1), "C501", None, "death_certificate", "distant"),
        ("3", date(2011, 1, 1), "C439", None, None, None),
        ("4", date(2014, 1, 1), "C509", "8500/2", None, None),
        ("4", date(2015, 1, 1), "C509", "8500/3", None, None),
    ]


def test_diagnoses_of_a_contact(delivered: dict[str, Rows]) -> None:
    """Twice on one visit is once; the source's text is read where the site says so; the nearest ancestor counts."""
    columns = ("start_date", "end_date", "icd10", "position")
    assert _of(delivered["hospital_diagnosis"], *columns, person_id="1") == [
        (date(2012, 2, 5), date(2012, 2, 7), "C501", "main"),
        (date(2012, 2, 5), date(2012, 2, 7), "I10", "secondary"),
        (date(2013, 2, 5), None, "C809", "secondary"),
        (date(2013, 3, 1), None, "C787", "secondary"),
    ]
    contacts = {row["contact_id"] for row in delivered["hospital_diagnosis"] if row["start_date"].year == 2012}
    assert contacts == {pseudonym_of("\x1f".join(("visit_occurrence_id", "1", "900")), KEY)}


def test_later_spread_is_a_recurrence_of_the_tumour_it_names(delivered: dict[str, Rows]) -> None:
    tumours = {row["tumour_id"]: (row["person_id"], row["morphology"]) for row in delivered["tumour"]}
    spread = [
        (row["person_id"], row["event_date"], row["kind"], tumours.get(row["tumour_id"]))
        for row in delivered["recurrence"]
    ]
    assert sorted(spread, key=str) == [
        ("1", date(2013, 1, 1), "distant", ("1", "8500/3")),
        ("4", date(2016, 1, 1), "distant", ("4", "8500/3")),
        ("4", date(2016, 2, 1), "distant", None),  # which of the two tumours is not told
    ]


def test_results_as_concept_or_text(delivered: dict[str, Rows]) -> None:
    assert _of(delivered["biomarker"], "sample_date", "marker", "method", "result", "site") == [
        (date(2012, 1, 6), "er", "percent", "35", "primary"),
        (date(2012, 1, 6), "her2", "ish", "amplified", "metastasis"),
        (date(2012, 1, 7), "her2", "ish", "not_amplified", "metastasis"),
    ]
    assert len({row["tumour_id"] for row in delivered["biomarker"]}) == 1


def test_drugs_given(delivered: dict[str, Rows]) -> None:
    """An end on the day of the start is one administration, given twice on one visit is one row; a combination class
    does not speak for one ingredient, nor a withdrawn class for what descends from it; without ATC the ingredient."""
    columns = ("start_date", "end_date", "code_system", "code", "route")
    assert _of(delivered["hospital_drug"], *columns) == [
        (date(2013, 1, 1), None, "atc", "L01FD01", "iv"),
        (date(2013, 2, 1), date(2013, 3, 1), "atc", "L01FD01", "iv"),
        (date(2014, 1, 1), None, "atc", "L01FD01", "iv"),
        (date(2014, 1, 1), None, "atc", "L01FD02", "iv"),
        (date(2014, 1, 1), None, "atc", "L01FY01", "iv"),
        (date(2014, 2, 1), None, "rxnorm", "OMOP77", "iv"),
    ]


def test_drugs_dispensed(delivered: dict[str, Rows]) -> None:
    """A withdrawn ATC concept of the source keeps its code; days from first to last where none are stated."""
    assert _of(delivered["dispensing"], "person_id", "dispensed_date", "atc", "packages", "days_supply") == [
        ("1", date(2014, 3, 1), "L01FD01", None, 30),
        ("1", date(2014, 3, 1), "L01FD02", None, 30),
        ("1", date(2014, 3, 1), "L01FY01", None, 30),
        ("1", date(2014, 4, 1), "L01XC03", None, 30),
        ("2", date(2014, 10, 1), "L01FD01", None, 90),
    ]


def test_what_has_no_meaning_is_counted(delivered: dict[str, Rows]) -> None:
    assert _of(delivered["unknown"], "raw_table", "column", "code", "n") == [
        ("condition_occurrence", "condition_concept_id", "0", 1),
        ("condition_occurrence", "condition_type_concept_id", "999", 1),
        ("drug_exposure", "drug_concept_id", "0", 1),
        ("drug_exposure", "drug_concept_id", "322", 1),
        ("drug_exposure", "drug_concept_id", "330", 1),
        ("drug_exposure", "drug_type_concept_id", "32817", 1),
        ("location", "state", "Z", 1),
        ("measurement", "value_as_concept_id", "4000000", 1),
        ("measurement", "value_source_value", "(text)", 1),
    ]


@pytest.mark.parametrize(
    "meaning", [{"stage": "4"}, "distant", {"stage": "distant", "marker": "er"}, {"marker": "er", "methd": "ihc"}, {}]
)
def test_a_meaning_that_cannot_be_told_is_an_error(meaning: object) -> None:
    with pytest.raises(ConfigurationError, match="adapter.measurements.77"):
        _fact("77", meaning)
