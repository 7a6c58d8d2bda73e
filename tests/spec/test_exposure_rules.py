"""From codes and days of supply to exposures, rule by rule: one drawn person per rule, all through one run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from jobs.codes import code_rows
from jobs.config import Drugs, Study, Supply, load_drugs
from jobs.exposures import build_exposures, build_unresolved_codes, exposure_substances
from schemas import TABLES

DRUGS = Drugs.model_validate(
    {
        "watch": ["L01", "L02"],
        "substances": {
            "trastuzumab": {
                "class": "anti_her2",
                "infusion": True,
                "atc": ["L01XC03", "L01FD01"],
                "names": ["trastuzumab", "herceptin"],
                "sks": ["BOHJ13"],
                "national": [{"country": "no", "code": "1FD01", "from": "2020-01-01", "until": "2022-12-31"}],
            },
            "pertuzumab": {
                "class": "anti_her2",
                "infusion": True,
                "atc": ["L01FD02"],
                "national": [{"country": "no", "code": "1FD01", "from": "2023-01-01", "until": "2023-12-31"}],
            },
            "lapatinib": {"class": "anti_her2", "atc": ["L01EH01"]},
            "capecitabine": {"class": "chemotherapy", "atc": ["L01BC06"]},
            "tamoxifen": {"class": "endocrine", "atc": ["L02BA01"]},
            "palbociclib": {"class": "cdk46", "atc": ["L01EF01"]},
        },
        "products": {"both": {"substances": ["pertuzumab", "trastuzumab"], "atc": ["L01FY01"], "names": ["phesgo"]}},
    }
)
STUDY = Study.model_validate(
    {
        "name": "drawn",
        "period": {"index_from": "2012-01-01", "index_until": "2021-12-31", "follow_up_until": "2022-12-31"},
        "cohort": {"tumour": {"icd10": ["C50"]}, "index": "metastasis"},
        "drugs": {
            "line_defining": ["trastuzumab", "pertuzumab", "lapatinib"],
            "classes": ["chemotherapy", "endocrine"],
        },
        "exposure": {
            "coverage_days": {"default": 21, "pertuzumab": 28},
            "supply": {
                "default": {"days_per_ddd": 1.0, "default": 30, "minimum": 7, "maximum": 100},
                "capecitabine": {"days_per_ddd": 2.0, "default": 14, "minimum": 1, "maximum": 60},
            },
        },
    }
)
DAY = date(2020, 1, 1)

T, P, L, CAPE, TAM = "L01FD01", "L01FD02", "L01EH01", "L01BC06", "L02BA01"
Given = tuple[int, int | None, str]  # first day, last day, code; days from 1 January 2020
Dispensed = tuple[int, str, dict[str, Any]]  # day, ATC, amounts


@dataclass
class Case:
    """What was registered about a person, and their exposures: (substance, from, to, covered until)."""

    rule: str
    expected: Iterable[tuple[str, int, int, int]]
    given: Iterable[Given] = ()
    dispensed: Iterable[Dispensed] = ()
    system: str = "atc"


def packages(number: float) -> dict[str, Any]:
    return {"packages": float(number)}


CASES = [
    # Hospital drugs
    Case("one infusion covers its cycle", [("trastuzumab", 0, 0, 21)], [(0, None, T)]),
    Case("a cycle of its own", [("pertuzumab", 0, 0, 28)], [(0, None, P)]),
    Case("a recoded ATC is the same substance", [("trastuzumab", 0, 0, 21)], [(0, None, "L01XC03")]),
    Case("a period is covered from its last day", [("trastuzumab", 0, 100, 121)], [(0, 100, T)]),
    Case("an end before the start is no end", [("trastuzumab", 10, 10, 31)], [(10, 5, T)]),
    Case(
        "a product is each of its substances",
        [("pertuzumab", 0, 0, 28), ("trastuzumab", 0, 0, 21)],
        [(0, None, "L01FY01")],
    ),
    Case("exact repetitions are one exposure", [("trastuzumab", 0, 0, 21)], [(0, None, T), (0, None, T)]),
    Case("two codes of one substance are one", [("trastuzumab", 0, 0, 21)], [(0, None, T), (0, None, "L01XC03")]),
    Case("years before index stay", [("trastuzumab", -3000, -3000, -2979)], [(-3000, None, T)]),
    Case("a class beside the lines", [("tamoxifen", 0, 0, 21)], [(0, None, TAM)]),
    Case("a class that the study does not name is left out", [], [(0, None, "L01EF01")]),
    Case("an unknown code is left out", [], [(0, None, "L01XX99")]),
    Case("names", [("trastuzumab", 0, 0, 21)], [(0, None, "herceptin")], system="name"),
    Case("an ATC code is no name", [], [(0, None, "herceptin")]),
    Case("SKS", [("trastuzumab", 0, 0, 21)], [(0, None, "BOHJ13")], system="sks"),
    Case("a national code in its time", [("trastuzumab", 0, 0, 21)], [(0, None, "1FD01")], system="national"),
    Case("on its last day", [("trastuzumab", 1095, 1095, 1116)], [(1095, None, "1FD01")], system="national"),
    Case("the day after, another", [("pertuzumab", 1096, 1096, 1124)], [(1096, None, "1FD01")], system="national"),
    Case("before its time it means nothing", [], [(-1, None, "1FD01")], system="national"),
    # Dispensings
    Case("days of supply as stated", [("lapatinib", 0, 0, 28)], dispensed=[(0, L, {"days_supply": 28, "ddd": 90.0})]),
    Case("else from DDD", [("lapatinib", 0, 0, 35)], dispensed=[(0, L, {"ddd": 35.0})]),
    Case("DDD by the substance's own rule", [("capecitabine", 0, 0, 41)], dispensed=[(0, CAPE, {"ddd": 20.5})]),
    Case("else the default", [("lapatinib", 0, 0, 30)], dispensed=[(0, L, packages(1))]),
    Case("the substance's own default", [("capecitabine", 0, 0, 14)], dispensed=[(0, CAPE, packages(1))]),
    Case("zero is not stated", [("lapatinib", 0, 0, 30)], dispensed=[(0, L, {"days_supply": 0, "ddd": 0.0})]),
    Case("at least the minimum", [("tamoxifen", 0, 0, 7)], dispensed=[(0, TAM, {"ddd": 3.0})]),
    Case("at most the maximum", [("tamoxifen", 0, 0, 100)], dispensed=[(0, TAM, {"ddd": 300.0})]),
    Case("an infusion's days never come from DDD", [("trastuzumab", 0, 0, 21)], dispensed=[(0, T, {"ddd": 90.0})]),
    # Cancelled dispensings
    Case("a cancellation takes back its dispensing", [], dispensed=[(0, L, packages(1)), (3, L, packages(-1))]),
    Case("on the same day too", [], dispensed=[(0, L, packages(-1)), (0, L, packages(1))]),
    Case(
        "the latest one before it",
        [("lapatinib", 0, 0, 30), ("lapatinib", 60, 60, 90)],
        dispensed=[(0, L, packages(1)), (30, L, packages(1)), (31, L, packages(-1)), (60, L, packages(1))],
    ),
    Case(
        "two take back two",
        [("lapatinib", 60, 60, 90)],
        dispensed=[
            (0, L, packages(1)),
            (30, L, packages(1)),
            (31, L, packages(-1)),
            (32, L, packages(-1)),
            (60, L, packages(1)),
        ],
    ),
    Case(
        "one that finds nothing has no effect on later ones",
        [("lapatinib", 5, 5, 35)],
        dispensed=[(0, L, packages(-1)), (5, L, packages(1))],
    ),
    Case(
        "another number of packages is another dispensing",
        [("lapatinib", 0, 0, 30)],
        dispensed=[(0, L, packages(2)), (3, L, packages(-1))],
    ),
    Case(
        "another drug is another dispensing",
        [("tamoxifen", 0, 0, 30)],
        dispensed=[(0, TAM, packages(1)), (3, L, packages(-1))],
    ),
    Case(
        "without packages, by DDD",
        [],
        dispensed=[(0, L, {"ddd": 28.0}), (3, L, {"ddd": -28.0})],
    ),
    Case("hospital drugs are not cancelled", [("lapatinib", 0, 0, 21)], [(0, None, L)], [(3, L, packages(-1))]),
]


def tables_of(spark: SparkSession, cases: Iterable[Case]) -> dict[str, DataFrame]:
    hospital: list[Mapping[str, Any]] = []
    dispensings: list[Mapping[str, Any]] = []
    for number, case in enumerate(cases):
        for first, last, code in case.given:
            end = None if last is None else DAY + timedelta(days=last)
            row = {"start_date": DAY + timedelta(days=first), "end_date": end, "code_system": case.system, "code": code}
            hospital.append({"person_id": f"p{number}", "contact_id": f"c{len(hospital)}", **row})
        for day, atc, amounts in case.dispensed:
            row = {"dispensed_date": DAY + timedelta(days=day), "atc": atc, **amounts}
            source = {"source_file": "d", "source_row": len(dispensings)}
            dispensings.append({"person_id": f"p{number}", **row, **source})
    tables = {}
    for name, rows in (("hospital_drug", hospital), ("dispensing", dispensings)):
        names = TABLES[name].column_names
        values = [tuple(row.get(column) for column in names) for row in rows]
        tables[name] = spark.createDataFrame(values, TABLES[name].struct())
    return tables


def people(spark: SparkSession, count: int) -> DataFrame:
    return spark.createDataFrame([(f"p{number}",) for number in range(count)], "person_id string")


def exposures_by_person(frame: DataFrame) -> dict[str, list[tuple[str, int, int, int]]]:
    found: dict[str, list[tuple[str, int, int, int]]] = {}
    for row in frame.collect():
        days = [(row[name] - DAY).days for name in ("given_from", "given_to", "covered_until")]
        found.setdefault(row["person_id"], []).append((row["substance"], days[0], days[1], days[2]))
    return {person: sorted(rows) for person, rows in found.items()}


@pytest.fixture(scope="module")
def exposures(spark: SparkSession) -> DataFrame:
    frame = build_exposures(tables_of(spark, CASES), people(spark, len(CASES)), STUDY, DRUGS, "no", None)
    return frame.localCheckpoint()


@pytest.fixture(scope="module")
def drawn(exposures: DataFrame) -> dict[str, list[tuple[str, int, int, int]]]:
    return exposures_by_person(exposures)


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case.rule for case in CASES])
def test_rule(drawn: dict[str, list[tuple[str, int, int, int]]], number: int) -> None:
    assert drawn.get(f"p{number}", []) == sorted(CASES[number].expected)


LEFT_OVER = STUDY.model_copy(
    update={
        "exposure": STUDY.exposure.model_copy(
            update={"supply": {"default": Supply(default=30), "lapatinib": Supply(default=30, carry_over_days=20)}}
        )
    }
)
LEFT_OVER_CASES = [
    Case(
        "what is left is used after the next supply",
        [("lapatinib", 0, 0, 30), ("lapatinib", 20, 20, 60), ("lapatinib", 50, 50, 90)],
        dispensed=[(0, L, packages(1)), (20, L, packages(1)), (50, L, packages(1))],
    ),
    Case(
        "no more than the limit is kept",
        [("lapatinib", 0, 0, 30), ("lapatinib", 5, 5, 55)],
        dispensed=[(0, L, packages(1)), (5, L, packages(1))],
    ),
    Case(
        "a pause uses up everything",
        [("lapatinib", 0, 0, 30), ("lapatinib", 30, 30, 60), ("lapatinib", 90, 90, 120)],
        dispensed=[(90, L, packages(1)), (0, L, packages(1)), (30, L, packages(1))],
    ),
    Case(
        "two on one day are both kept",
        [("lapatinib", 0, 0, 60)],
        dispensed=[(0, L, packages(1)), (0, L, packages(1))],
    ),
    Case(
        "what was cancelled is not left",
        [("lapatinib", 20, 20, 50)],
        dispensed=[(0, L, packages(1)), (1, L, packages(-1)), (20, L, packages(1))],
    ),
    Case(
        "other substances are as they were",
        [("tamoxifen", 0, 0, 30), ("tamoxifen", 20, 20, 50)],
        dispensed=[(0, TAM, packages(1)), (20, TAM, packages(1))],
    ),
    Case(
        "hospital drugs neither",
        [("lapatinib", 0, 0, 21), ("lapatinib", 20, 20, 50)],
        [(0, None, L)],
        [(20, L, packages(1))],
    ),
]


def test_unused_supply_is_carried_over_where_the_study_says_so(spark: SparkSession) -> None:
    cases = LEFT_OVER_CASES
    frame = build_exposures(tables_of(spark, cases), people(spark, len(cases)), LEFT_OVER, DRUGS, "no", None)
    assert frame.columns == TABLES["exposures"].column_names
    found = exposures_by_person(frame)
    for number, case in enumerate(cases):
        assert found[f"p{number}"] == sorted(case.expected), case.rule


def test_days_from_packages(spark: SparkSession) -> None:
    supply = {"default": Supply(default=9, days_per_package=28.0, maximum=60)}
    study = STUDY.model_copy(update={"exposure": STUDY.exposure.model_copy(update={"supply": supply})})
    cases = [
        Case("packages", [("lapatinib", 0, 0, 56)], dispensed=[(0, L, packages(2))]),
        Case("within the limits", [("lapatinib", 0, 0, 60)], dispensed=[(0, L, packages(3))]),
        Case("DDD says more", [("lapatinib", 0, 0, 40)], dispensed=[(0, L, {"ddd": 40.0, "packages": 2.0})]),
        Case("nothing known", [("lapatinib", 0, 0, 9)], dispensed=[(0, L, {})]),
    ]
    found = exposures_by_person(build_exposures(tables_of(spark, cases), people(spark, 4), study, DRUGS, "no", None))
    assert [found[f"p{number}"] for number in range(4)] == [list(case.expected) for case in cases]


def test_shape(exposures: DataFrame) -> None:
    contract = TABLES["exposures"]
    assert exposures.columns == contract.column_names
    assert [f.dataType for f in exposures.schema] == [f.dataType for f in contract.struct()]
    rows = exposures.collect()
    assert max(Counter(tuple(row[key] for key in contract.key) for row in rows).values()) == 1
    assert all(row["given_from"] <= row["given_to"] < row["covered_until"] for row in rows)
    assert {row["class"] for row in rows if row["substance"] == "tamoxifen"} == {"endocrine"}
    assert {row["source"] for row in rows} == {"hospital_drug", "dispensing"}


def test_recorded_end_covers_as_the_site_says_and_others_stay_out(spark: SparkSession) -> None:
    cases = [
        Case("a recorded decision to stop", [("trastuzumab", 0, 100, 101)], [(0, 100, T)]),
        Case("given once", [("trastuzumab", 0, 0, 21)], [(0, None, T)]),
        Case("not in the cohort", [], [(0, None, T)]),
    ]
    tables = tables_of(spark, cases)
    hospital_only = {"hospital_drug": tables["hospital_drug"]}
    found = exposures_by_person(build_exposures(hospital_only, people(spark, 2), STUDY, DRUGS, "no", 1))
    assert found == {"p0": [("trastuzumab", 0, 100, 101)], "p1": [("trastuzumab", 0, 0, 21)]}


def test_national_codes_are_the_countrys_own(spark: SparkSession) -> None:
    tables = tables_of(spark, [Case("", [], [(0, None, "1FD01")], system="national")])
    assert exposures_by_person(build_exposures(tables, people(spark, 1), STUDY, DRUGS, "se", None)) == {}
    unresolved = build_unresolved_codes(tables, people(spark, 1), STUDY, DRUGS, "se").collect()
    assert [tuple(row) for row in unresolved] == [("hospital_drug", "national", "1FD01", 1, 1)]


def test_without_any_drug_table(spark: SparkSession) -> None:
    assert build_exposures({}, people(spark, 1), STUDY, DRUGS, "no", None).collect() == []
    assert build_unresolved_codes({}, people(spark, 1), STUDY, DRUGS, "no").collect() == []


def test_unresolved_codes_are_counted(spark: SparkSession) -> None:
    cases = [
        Case("antineoplastic without a substance", [], [(0, None, "L01XX99"), (21, None, "L01XX99")]),
        Case("the same, another person", [], [(0, None, "L01XX99")], [(0, "L02AE99", packages(1))]),
        Case("no cancer drug", [], [(0, None, "N02BE01")]),
        Case("known, though not of the study", [], [(0, None, "L01EF01"), (0, None, T)]),
        Case("names are all listed", [], [(0, None, "poly e"), (0, None, "herceptin")], system="name"),
        Case("national codes outside their days", [], [(0, None, "1FD01"), (-1, None, "1FD01")], system="national"),
        Case("not in the cohort", [], [(0, None, "L01XX98")]),
    ]
    frame = build_unresolved_codes(tables_of(spark, cases), people(spark, len(cases) - 1), STUDY, DRUGS, "no")
    assert frame.columns == TABLES["unresolved_codes"].column_names
    assert sorted(tuple(row) for row in frame.collect()) == [
        ("dispensing", "atc", "L02AE99", 1, 1),
        ("hospital_drug", "atc", "L01XX99", 3, 2),
        ("hospital_drug", "name", "poly e", 1, 1),
        ("hospital_drug", "national", "1FD01", 1, 1),
    ]


def test_substances_of_a_study() -> None:
    assert exposure_substances(STUDY, DRUGS) == ["capecitabine", "lapatinib", "pertuzumab", "tamoxifen", "trastuzumab"]


def test_shipped_recodings_are_one_substance() -> None:
    """Recoded ATC pairs that the registers are known to hold (WHO Collaborating Centre, ATC alterations)."""
    meaning: dict[str, set[str]] = {}
    for system, code, _, _, substance in code_rows(load_drugs(), None):
        if system == "atc":
            meaning.setdefault(code, set()).add(substance)
    for old, new in [
        ("L01XC03", "L01FD01"),
        ("L01XC13", "L01FD02"),
        ("L01XC14", "L01FD03"),
        ("L01XC41", "L01FD04"),
        ("L01XE07", "L01EH01"),
        ("L01XE45", "L01EH02"),
        ("L01XE33", "L01EF01"),
    ]:
        assert meaning[old] == meaning[new]
        assert len(meaning[old]) == 1
    assert meaning["L01XY02"] == meaning["L01FY01"] == {"pertuzumab", "trastuzumab"}
