"""The cohort, rule by rule: one drawn person per rule, all of them through one run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from jobs.cohort import build_attrition, build_cohort, covered_spans
from jobs.config import Drugs, Study
from schemas import TABLES

DRUGS = Drugs.model_validate(
    {
        "substances": {
            "trastuzumab": {"class": "anti_her2", "atc": ["L01XC03", "L01FD01"]},
            "pertuzumab": {"class": "anti_her2", "atc": ["L01FD02"]},
            "tamoxifen": {"class": "endocrine", "atc": ["L02BA01"]},
        },
        "products": {"both": {"substances": ["pertuzumab", "trastuzumab"], "atc": ["L01FY01"]}},
    }
)
STUDY: dict[str, Any] = {
    "name": "drawn",
    "period": {"index_from": "2012-01-01", "index_until": "2021-12-31", "follow_up_until": "2022-12-31"},
    "cohort": {
        "tumour": {"icd10": ["C50", "D05"], "her2": "positive"},
        "index": "metastasis",
        "de_novo_days": 120,
        "age_min": 18,
        "treatment_information": [
            {"region": "west", "source": "hospital_drug", "from": "2011-01-01", "until": "2022-12-31"},
            {"region": "gap", "source": "hospital_drug", "from": "2011-01-01", "until": "2014-12-31"},
            {"region": "gap", "source": "hospital_drug", "from": "2015-01-01", "until": "2018-06-30"},
            {"region": "no_pharmacy", "source": "hospital_drug", "from": "2011-01-01", "until": "2022-12-31"},
            {"region": "west", "source": "dispensing", "from": "2004-01-01", "until": "2022-12-31"},
            {"region": "late", "source": "hospital_drug", "from": "2013-02-01", "until": "2022-12-31"},
            {"region": "late", "source": "dispensing", "from": "2004-01-01", "until": "2022-12-31"},
            {"region": "gap", "source": "dispensing", "from": "2004-01-01", "until": "2020-12-31"},
        ],
        "second_cancer": {"icd10_except": ["C50", "C44", "C77", "C78", "C79", "C80"]},
        "hospital_observed_from": "2011-06-01",
    },
    "drugs": {"line_defining": ["trastuzumab", "pertuzumab"]},
}


def study(**cohort: Any) -> Study:
    return Study.model_validate({**STUDY, "cohort": {**STUDY["cohort"], **cohort}})


@dataclass
class Case:
    """A person: rows per conformed table (defaults filled in) and what the cohort must say; None: not in it."""

    rule: str
    expected: Mapping[str, Any] | None
    tumours: Iterable[Mapping[str, Any]] = ()
    person: Mapping[str, Any] | None = field(default_factory=dict)
    recurrences: Iterable[tuple[str, str | None]] = ()  # (day, tumour)
    samples: Iterable[tuple[str, str, str, str, str, str | None]] = ()  # (day, site, marker, method, result, tumour)
    diagnoses: Iterable[tuple[str, str]] = ()  # (day, code)
    drugs: Iterable[tuple[str, str | None, str]] = ()  # (first, last, ATC)
    dispensed: Iterable[tuple[str, str, float]] = ()  # (day, ATC, packages)


def tumour(day: str, stage: str | None = "localised", **other: Any) -> dict[str, Any]:
    return {"diagnosis_date": day, "stage": stage, "icd10": "C509", "morphology": "8500/3", "her2": "positive", **other}


DISTANT = tumour("2013-03-01", "distant")
INDEX = date(2013, 3, 1)

CASES = [
    # First spread
    Case("distant at diagnosis: index is the diagnosis", {"index_date": INDEX, "index_kind": "de_novo"}, [DISTANT]),
    Case("no spread: out", None, [tumour("2013-03-01", "regional")]),
    Case("a local recurrence is no spread", None, [tumour("2013-03-01")], recurrences=[]),
    Case(
        "spread 100 days after diagnosis has its own day and is de novo",
        {"index_date": date(2013, 6, 9), "index_kind": "de_novo", "disease_free_days": 100},
        [tumour("2013-03-01")],
        recurrences=[("2013-06-09", "t0")],
    ),
    Case(
        "day 120 is de novo",
        {"index_date": date(2013, 6, 29), "index_kind": "de_novo"},
        [tumour("2013-03-01")],
        recurrences=[("2013-06-29", None)],
    ),
    Case(
        "day 121 is a relapse",
        {"index_date": date(2013, 6, 30), "index_kind": "relapse", "disease_free_days": 121},
        [tumour("2013-03-01")],
        recurrences=[("2013-06-30", None)],
    ),
    Case(
        "distant at diagnosis after an earlier invasive tumour of the kind: relapse",
        {"index_kind": "relapse", "disease_free_days": 0},
        [tumour("2005-03-01"), DISTANT],
    ),
    Case(
        "an earlier tumour in situ is not invasive: de novo",
        {"index_kind": "de_novo"},
        [tumour("2005-03-01", icd10="D051", morphology="8500/2"), DISTANT],
    ),
    Case(
        "first spread ever before the period: out, not moved to the second",
        None,
        [tumour("2009-01-01")],
        recurrences=[("2011-12-31", "t0"), ("2014-05-01", "t0")],
    ),
    Case(
        "the first spread of another, HER2-negative tumour decides too: out",
        None,
        [tumour("2010-01-01", "distant", her2="negative"), DISTANT],
    ),
    Case("the first day of the period is in", {"index_date": date(2012, 1, 1)}, [tumour("2012-01-01", "distant")]),
    Case("the last day of the period is in", {"index_date": date(2021, 12, 31)}, [tumour("2021-12-31", "distant")]),
    Case("spread after the period: out", None, [tumour("2022-01-01", "distant")]),
    Case(
        "the earliest of several recurrences",
        {"index_date": date(2014, 2, 1)},
        [tumour("2010-01-01")],
        recurrences=[("2015-02-01", "t0"), ("2014-02-01", "t0")],
    ),
    Case(
        "a recurrence of a cancer of another kind does not count",
        None,
        [tumour("2013-03-01"), tumour("2012-01-01", icd10="C187", morphology="8140/3")],
        recurrences=[("2014-02-01", "t1")],
    ),
    Case(
        "a recurrence dated before the diagnosis (known to the month): no negative disease-free interval",
        {"index_date": date(2013, 3, 15), "index_kind": "de_novo", "disease_free_days": 0},
        [tumour("2013-03-20")],
        recurrences=[("2013-03-15", None)],
    ),
    # Which tumours
    Case("in situ: out", None, [tumour("2013-03-01", "distant", icd10="D051", morphology="8500/2")]),
    Case("in situ by morphology, whatever the code: out", None, [{**DISTANT, "morphology": "8500/2"}]),
    Case("without morphology a C code is invasive", {"index_date": INDEX}, [{**DISTANT, "morphology": None}]),
    Case("death certificate only: out", None, [{**DISTANT, "basis": "death_certificate"}]),
    Case("autopsy finding: out", None, [{**DISTANT, "basis": "autopsy"}]),
    Case("histology: in", {"index_date": INDEX}, [{**DISTANT, "basis": "histology"}]),
    Case("another cancer: out", None, [{**DISTANT, "icd10": "C340"}]),
    Case("nobody knows the person: out", None, [DISTANT], person=None),
    # Receptors of the tumour
    Case("HER2-negative: out", None, [{**DISTANT, "her2": "negative"}]),
    Case("HER2 equivocal is not positive: out", None, [{**DISTANT, "her2": "equivocal"}]),
    Case("HER2 unknown: out", None, [{**DISTANT, "her2": None}]),
    Case("ER positive: hormone positive", {"receptor": "hormone_positive"}, [{**DISTANT, "er": "positive"}]),
    Case(
        "PR positive suffices",
        {"receptor": "hormone_positive"},
        [{**DISTANT, "er": "negative", "pr": "positive"}],
    ),
    Case("both negative", {"receptor": "hormone_negative"}, [{**DISTANT, "er": "negative", "pr": "negative"}]),
    Case("one negative, one unknown", {"receptor": "unknown"}, [{**DISTANT, "er": "negative"}]),
    Case("one negative, one equivocal", {"receptor": "unknown"}, [{**DISTANT, "er": "negative", "pr": "equivocal"}]),
    # Of several tumours
    Case(
        "the tumour that the recurrence names",
        {"receptor_disagrees": True, "disease_free_days": 3652},
        [tumour("2004-03-01"), tumour("2010-01-01", her2="negative")],
        recurrences=[("2014-03-01", "t0")],
    ),
    Case(
        "the tumour that the recurrence names, HER2-negative: out",
        None,
        [tumour("2004-03-01", her2="negative"), tumour("2010-01-01")],
        recurrences=[("2014-03-01", "t0")],
    ),
    Case(
        "else the latest before index",
        {"receptor_disagrees": True, "disease_free_days": 1520},
        [tumour("2004-03-01", her2="negative"), tumour("2010-01-01"), tumour("2016-01-01", her2="negative")],
        recurrences=[("2014-03-01", None)],
    ),
    Case(
        "a tumour after index does not disagree",
        {"receptor_disagrees": False},
        [DISTANT, tumour("2016-01-01", her2="negative")],
    ),
    Case("tumours that agree", {"receptor_disagrees": False}, [tumour("2004-03-01"), DISTANT]),
    Case("unknown is no disagreement", {"receptor_disagrees": False}, [tumour("2004-03-01", her2=None), DISTANT]),
    Case(
        "two tumours on one day: the distant one",
        {"index_date": INDEX, "receptor_disagrees": True},
        [tumour("2013-03-01", her2="negative"), DISTANT],
    ),
    Case(
        "nor does an unnamed spread of that day change it",
        {"index_date": INDEX},
        [tumour("2013-03-01", her2="negative"), DISTANT],
        recurrences=[("2013-03-01", None)],
    ),
    Case(
        "a tumour of the index day is the latest",
        {"disease_free_days": 0, "index_kind": "relapse"},
        [tumour("2004-03-01", her2="negative"), tumour("2014-03-01")],
        recurrences=[("2014-03-01", None)],
    ),
    Case(
        "the receptors disagree by ER",
        {"receptor_disagrees": True, "receptor": "hormone_positive"},
        [tumour("2004-03-01", er="negative"), {**DISTANT, "er": "positive"}],
    ),
    # Biomarkers
    Case(
        "IHC 3+ is positive, whatever the tumour says",
        {"index_date": INDEX},
        [{**DISTANT, "her2": "negative"}],
        samples=[("2013-03-01", "primary", "her2", "ihc", "3+", "t0")],
    ),
    Case(
        "IHC 2+ without ISH is equivocal: out",
        None,
        [DISTANT],
        samples=[("2013-03-01", "primary", "her2", "ihc", "2+", "t0")],
    ),
    Case(
        "IHC 2+ and amplified: positive",
        {"index_date": INDEX},
        [{**DISTANT, "her2": None}],
        samples=[
            ("2013-03-01", "primary", "her2", "ihc", "2+", "t0"),
            ("2013-03-01", "primary", "her2", "ish", "amplified", "t0"),
        ],
    ),
    Case(
        "IHC 2+ and not amplified: negative, out",
        None,
        [DISTANT],
        samples=[
            ("2013-03-01", "primary", "her2", "ihc", "2+", "t0"),
            ("2013-03-01", "primary", "her2", "ish", "not_amplified", "t0"),
        ],
    ),
    Case(
        "a metastatic sample before a later primary one",
        {"index_date": INDEX},
        [DISTANT],
        samples=[
            ("2013-03-05", "metastasis", "her2", "ihc", "3+", "t0"),
            ("2013-03-20", "primary", "her2", "ihc", "0", "t0"),
        ],
    ),
    Case(
        "the latest metastatic sample: out",
        None,
        [DISTANT],
        samples=[
            ("2013-03-05", "metastasis", "her2", "ihc", "3+", "t0"),
            ("2013-03-20", "metastasis", "her2", "ihc", "1+", "t0"),
        ],
    ),
    Case(
        "day 90 after index counts: out",
        None,
        [DISTANT],
        samples=[("2013-05-30", "metastasis", "her2", "ihc", "0", None)],
    ),
    Case(
        "day 91 after index does not",
        {"index_date": INDEX},
        [DISTANT],
        samples=[("2013-05-31", "metastasis", "her2", "ihc", "0", None)],
    ),
    Case(
        "a sample of the other tumour does not speak for this one",
        {"index_date": INDEX, "receptor_disagrees": True},
        [DISTANT, tumour("2012-01-01")],
        samples=[("2013-03-01", "primary", "her2", "ihc", "0", "t1")],
    ),
    Case(
        "ER by percentage, from the cut-off on",
        {"receptor": "hormone_positive"},
        [{**DISTANT, "er": "negative", "pr": "negative"}],
        samples=[("2013-03-01", "primary", "er", "percent", "1", "t0")],
    ),
    Case(
        "ER by percentage, below the cut-off",
        {"receptor": "hormone_negative"},
        [{**DISTANT, "er": "positive", "pr": "negative"}],
        samples=[("2013-03-01", "primary", "er", "percent", "0.5", "t0")],
    ),
    Case(
        "a result without a meaning leaves the tumour's own",
        {"receptor": "hormone_positive"},
        [{**DISTANT, "er": "positive"}],
        samples=[("2013-03-01", "primary", "er", "percent", "some", "t0")],
    ),
    # Age, death, emigration at index
    Case("18 on the index day", {"age_at_index": 18}, [DISTANT], {"birth_date": "1995-03-01"}),
    Case("17 on the index day: out", None, [DISTANT], {"birth_date": "1995-03-02"}),
    Case("the day before the 76th birthday is 75", {"age_at_index": 75}, [DISTANT], {"birth_date": "1937-03-02"}),
    Case(
        "born on 29 February",
        {"age_at_index": 56},
        [tumour("2013-02-28", "distant")],
        {"birth_date": "1956-02-29"},
    ),
    Case("dead before index: out", None, [DISTANT], {"death_date": "2013-02-28"}),
    Case("emigrated before index: out", None, [DISTANT], {"emigration_date": "2013-02-28"}),
    Case(
        "dead on the index day: in, no follow-up",
        {"follow_up_end": INDEX, "follow_up_end_reason": "death", "survival_end": INDEX},
        [DISTANT],
        {"death_date": "2013-03-01"},
    ),
    # The end of follow-up
    Case(
        "nothing happens: study end",
        {
            "follow_up_end": date(2022, 12, 31),
            "follow_up_end_reason": "study_end",
            "survival_end": date(2022, 12, 31),
            "survival_end_reason": "study_end",
            "has_treatment_information": True,
        },
        [DISTANT],
    ),
    Case(
        "death on the last day of the study",
        {"follow_up_end_reason": "death", "survival_end_reason": "death"},
        [DISTANT],
        {"death_date": "2022-12-31"},
    ),
    Case(
        "death after the study",
        {"follow_up_end": date(2022, 12, 31), "follow_up_end_reason": "study_end", "survival_end_reason": "study_end"},
        [DISTANT],
        {"death_date": "2023-01-01"},
    ),
    Case(
        "emigration",
        {"follow_up_end": date(2015, 1, 1), "follow_up_end_reason": "emigration", "survival_end_reason": "emigration"},
        [DISTANT],
        {"emigration_date": "2015-01-01", "death_date": "2016-01-01"},
    ),
    Case(
        "death and emigration on one day: death",
        {"follow_up_end_reason": "death", "survival_end_reason": "death"},
        [DISTANT],
        {"emigration_date": "2015-01-01", "death_date": "2015-01-01"},
    ),
    Case(
        "a second cancer ends follow-up for lines, not for survival",
        {
            "follow_up_end": date(2014, 7, 1),
            "follow_up_end_reason": "second_cancer",
            "survival_end": date(2016, 1, 1),
            "survival_end_reason": "death",
        },
        [DISTANT, tumour("2014-07-01", icd10="C340")],
        {"death_date": "2016-01-01"},
    ),
    Case(
        "a second cancer on the day of emigration: emigration",
        {"follow_up_end": date(2014, 7, 1), "follow_up_end_reason": "emigration"},
        [DISTANT, tumour("2014-07-01", icd10="C340")],
        {"emigration_date": "2014-07-01"},
    ),
    *(
        Case(f"no second cancer: {why}", {"follow_up_end_reason": "study_end"}, [DISTANT, other])
        for why, other in {
            "before index": tumour("2012-07-01", icd10="C340"),
            "on the index day": tumour("2013-03-01", icd10="C340"),
            "skin": tumour("2014-07-01", icd10="C443"),
            "the other breast": tumour("2014-07-01"),
            "in situ": tumour("2014-07-01", icd10="D060", morphology="8070/2"),
            "by death certificate": tumour("2014-07-01", icd10="C340", basis="death_certificate"),
            "by autopsy": tumour("2014-07-01", icd10="C340", basis="autopsy"),
        }.items()
    ),
    # Treatment information
    Case(
        "adjoining cover is one; its last day ends the information",
        {
            "has_treatment_information": True,
            "follow_up_end": date(2018, 6, 30),
            "follow_up_end_reason": "information_end",
            "survival_end_reason": "study_end",
        },
        [tumour("2015-01-10", "distant")],
        {"region": "gap"},
    ),
    Case(
        "death on the last covered day: death",
        {"follow_up_end": date(2018, 6, 30), "follow_up_end_reason": "death"},
        [tumour("2015-01-10", "distant")],
        {"region": "gap", "death_date": "2018-06-30"},
    ),
    Case(
        "cover on the index day only to that day is enough",
        {"has_treatment_information": True, "follow_up_end": date(2018, 6, 30)},
        [tumour("2018-06-30", "distant")],
        {"region": "gap"},
    ),
    Case(
        "cover from 28 days before index",
        {"has_treatment_information": True},
        [DISTANT],
        {"region": "late"},
    ),
    Case(
        "cover from 27 days before index",
        {"has_treatment_information": False},
        [tumour("2013-02-28", "distant")],
        {"region": "late"},
    ),
    Case(
        "cover lost before index: no information, and nothing to lose later",
        {"has_treatment_information": False, "follow_up_end_reason": "study_end"},
        [tumour("2018-07-01", "distant")],
        {"region": "gap"},
    ),
    Case(
        "one of two sources does not cover the region",
        {"has_treatment_information": False},
        [DISTANT],
        {"region": "no_pharmacy"},
    ),
    Case("a region without entry", {"has_treatment_information": False}, [DISTANT], {"region": "north"}),
    Case("an unknown region", {"has_treatment_information": False, "region": None}, [DISTANT], {"region": None}),
    # Prior treatment
    Case("no prior treatment", {"prior_treatment": False, "months_since_prior": None}, [DISTANT]),
    Case(
        "the last dose before index counts",
        {"prior_treatment": True, "months_since_prior": pytest.approx(60 / 30.4375)},
        [DISTANT],
        drugs=[("2012-10-01", None, "L01XC03"), ("2012-12-31", None, "L01FD01"), ("2013-04-01", None, "L01FD01")],
    ),
    Case(
        "a drug on the index day is not prior",
        {"prior_treatment": False},
        [DISTANT],
        drugs=[("2013-03-01", None, "L01FD01")],
    ),
    Case(
        "the day before index is prior",
        {"prior_treatment": True, "months_since_prior": pytest.approx(1 / 30.4375)},
        [DISTANT],
        drugs=[("2013-02-28", None, "L01FD01")],
    ),
    Case(
        "a period over index was last given the day before",
        {"months_since_prior": pytest.approx(1 / 30.4375)},
        [DISTANT],
        drugs=[("2012-10-01", "2013-06-01", "L01FD01")],
    ),
    Case(
        "a drug that makes no lines is not prior treatment",
        {"prior_treatment": False},
        [DISTANT],
        dispensed=[("2012-10-01", "L02BA01", 1.0)],
    ),
    Case(
        "a product counts by its substances",
        {"prior_treatment": True},
        [DISTANT],
        dispensed=[("2012-10-01", "L01FY01", 1.0)],
    ),
    Case(
        "a cancelled dispensing is none",
        {"prior_treatment": False},
        [DISTANT],
        dispensed=[("2012-10-01", "L01FD01", 1.0), ("2012-10-03", "L01FD01", -1.0)],
    ),
    # Comorbidity
    Case("no diagnosis: 0", {"comorbidity_index": 0}, [DISTANT]),
    Case("the day before index counts", {"comorbidity_index": 1}, [DISTANT], diagnoses=[("2013-02-28", "I210")]),
    Case("the index day does not", {"comorbidity_index": 0}, [DISTANT], diagnoses=[("2013-03-01", "I210")]),
    Case("365 days before index counts", {"comorbidity_index": 1}, [DISTANT], diagnoses=[("2012-03-01", "I210")]),
    Case("366 days before index does not", {"comorbidity_index": 0}, [DISTANT], diagnoses=[("2012-02-29", "I210")]),
    Case(
        "the cancer and its spread do not count",
        {"comorbidity_index": 0},
        [DISTANT],
        diagnoses=[("2013-01-01", "C509"), ("2013-01-01", "C773"), ("2013-01-01", "C787"), ("2013-01-01", "C800")],
    ),
    Case(
        "look-back observed for 365 days",
        {"comorbidity_index": 0},
        [tumour("2012-05-31", "distant")],
    ),
    Case(
        "look-back observed for 364 days: unknown",
        {"comorbidity_index": None},
        [tumour("2012-05-30", "distant")],
        diagnoses=[("2012-05-01", "I210")],
    ),
]


def _day(value: str | None) -> date | None:
    return None if value is None else date.fromisoformat(value)


def _typed(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _day(v) if k.endswith("_date") and isinstance(v, str) else v for k, v in row.items()}


def tables_of(spark: SparkSession, cases: Iterable[Case]) -> dict[str, DataFrame]:
    """The conformed tables of drawn people; person n is `p<n>`, their tumours `t0`, `t1`, ..."""
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for number, case in enumerate(cases):
        who = {"person_id": f"p{number}"}
        if case.person is not None:
            default = {"sex": "female", "birth_date": "1950-06-01", "region": "west"}
            rows["person"].append({**who, **default, **case.person})
        for n, row in enumerate(case.tumours):
            rows["tumour"].append({**who, "tumour_id": f"t{n}", **row})
        for day, named in case.recurrences:
            rows["recurrence"].append({**who, "tumour_id": named, "event_date": day, "kind": "distant"})
        rows["recurrence"].append({**who, "event_date": "2012-06-01", "kind": "local"})
        for day, site, marker, method, result, named in case.samples:
            sample = {"sample_date": day, "site": site, "marker": marker, "method": method, "result": result}
            rows["biomarker"].append({**who, **sample, "tumour_id": named})
        for n, (day, code) in enumerate(case.diagnoses):
            contact = {"contact_id": f"c{number}.{n}", "start_date": day, "icd10": code, "position": "main"}
            rows["hospital_diagnosis"].append({**who, **contact})
        for n, (first, last, code) in enumerate(case.drugs):
            given = {"contact_id": f"d{number}.{n}", "start_date": first, "end_date": last}
            rows["hospital_drug"].append({**who, **given, "code_system": "atc", "code": code})
        for n, (day, code, packages) in enumerate(case.dispensed):
            dispensed = {"dispensed_date": day, "atc": code, "packages": packages}
            rows["dispensing"].append({**who, **dispensed, "source_file": "d", "source_row": n})
    tables = {}
    for name in rows:
        names = TABLES[name].column_names
        values = [tuple(_typed(row).get(column) for column in names) for row in rows[name]]
        tables[name] = spark.createDataFrame(values, TABLES[name].struct())
    return tables


def collect(frame: DataFrame) -> dict[str, dict[str, Any]]:
    rows = [row.asDict() for row in frame.collect()]
    people = {row["person_id"]: row for row in rows}
    assert len(people) == len(rows), "one row per person"
    return people


@pytest.fixture(scope="module")
def drawn(spark: SparkSession) -> dict[str, dict[str, Any]]:
    cohort = build_cohort(tables_of(spark, CASES), study(), DRUGS, "no")
    assert cohort.columns == TABLES["cohort"].column_names
    assert [f.dataType for f in cohort.schema] == [f.dataType for f in TABLES["cohort"].struct()]
    return collect(cohort)


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case.rule for case in CASES])
def test_rule(drawn: dict[str, dict[str, Any]], number: int) -> None:
    expected, found = CASES[number].expected, drawn.get(f"p{number}")
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert {key: found[key] for key in expected} == expected


def test_required_columns_are_never_null(drawn: dict[str, dict[str, Any]]) -> None:
    required = [column.name for column in TABLES["cohort"].columns if not column.nullable]
    assert not [key for person in drawn.values() for key in required if person[key] is None]
    for column in TABLES["cohort"].columns:
        if column.codes:
            assert {person[column.name] for person in drawn.values()} <= set(column.codes)


ATTRITION = [
    Case("no tumour of the kind", None, [tumour("2013-03-01", icd10="C340")]),
    Case("unknown", None, [DISTANT], None),
    Case("in situ", None, [tumour("2013-03-01", icd10="D051", morphology="8500/2")]),
    Case("death certificate", None, [{**DISTANT, "basis": "death_certificate"}]),
    Case("no spread", None, [tumour("2013-03-01"), tumour("2014-03-01")]),
    Case("too early", None, [tumour("2010-03-01", "distant")]),
    Case("too late", None, [tumour("2022-03-01", "distant")]),
    Case("HER2-negative", None, [{**DISTANT, "her2": "negative"}]),
    Case("too young", None, [DISTANT], {"birth_date": "2000-01-01"}),
    Case("dead", None, [DISTANT], {"death_date": "2013-01-01"}),
    Case("away", None, [DISTANT], {"emigration_date": "2013-01-01"}),
    Case("in", {}, [tumour("2005-03-01"), DISTANT]),
    Case("in too", {}, [DISTANT]),
]


def test_attrition_names_every_exclusion(spark: SparkSession) -> None:
    tables = tables_of(spark, ATTRITION)
    attrition = build_attrition(tables, study(), DRUGS)
    assert attrition.columns == TABLES["attrition"].column_names
    rows = sorted(attrition.collect())
    assert [(row["label"], row["persons"], row["rows"]) for row in rows] == [
        ("registered tumours (C50, D05)", 12, 14),
        ("person known to the registers", 11, 13),
        ("invasive", 10, 12),
        ("diagnosed in life (not by death certificate or autopsy only)", 9, 11),
        ("distant spread", 8, 9),
        ("first distant spread on or after 2012-01-01", 7, 8),
        ("first distant spread on or before 2021-12-31", 6, 7),
        ("one tumour per person: the one that spread, else the latest before index", 6, 6),
        ("HER2 positive", 5, 5),
        ("at least 18 years at index", 4, 4),
        ("alive at index", 3, 3),
        ("resident at index", 2, 2),
    ]
    assert [row["step"] for row in rows] == list(range(12))
    assert set(collect(build_cohort(tables, study(), DRUGS))) == {"p11", "p12"}


def test_attrition_of_nobody(spark: SparkSession) -> None:
    tables = {name: frame.limit(0) for name, frame in tables_of(spark, ATTRITION).items()}
    rows = build_attrition(tables, study(), DRUGS).collect()
    assert len(rows) == 12
    assert {(row["persons"], row["rows"]) for row in rows} == {(0, 0)}


DIAGNOSIS = [
    Case(
        "index is the first diagnosis",
        {
            "index_date": INDEX,
            "index_kind": "diagnosis",
            "disease_free_days": 0,
            "has_treatment_information": True,
            "follow_up_end_reason": "study_end",
            "comorbidity_index": None,
            "prior_treatment": False,
        },
        [tumour("2013-03-01"), tumour("2012-01-01", icd10="C340"), tumour("2015-03-01", "distant")],
        {"region": None},
    ),
    Case("the first diagnosis before the period: out", None, [tumour("2011-03-01"), tumour("2013-03-01")]),
    Case(
        "an earlier death certificate does not count",
        {"index_date": INDEX},
        [tumour("2013-03-01"), tumour("2011-03-01", basis="death_certificate")],
    ),
    Case("the stage asked for", {"index_date": INDEX}, [tumour("2013-03-01", "regional")]),
    Case("another stage: out", None, [tumour("2013-03-01", "distant")]),
    Case("unknown stage: out", None, [tumour("2013-03-01", None)]),
    Case(
        "no second cancer where the study has none",
        {"follow_up_end_reason": "study_end"},
        [tumour("2013-03-01"), tumour("2015-01-01", icd10="C340")],
    ),
]


def test_index_at_diagnosis_without_optional_tables(spark: SparkSession) -> None:
    tables = {name: frame for name, frame in tables_of(spark, DIAGNOSIS).items() if name in ("person", "tumour")}
    rules = study(
        tumour={"icd10": ["C50"], "stage": ["localised", "regional"]},
        index="diagnosis",
        treatment_information=[],
        second_cancer=None,
    )
    people = collect(build_cohort(tables, rules, DRUGS))
    for number, case in enumerate(DIAGNOSIS):
        found = people.get(f"p{number}")
        expected = None if case.expected is None else dict(case.expected)
        assert (found and {key: found[key] for key in expected or {}}) == expected, case.rule
    labels = [row["label"] for row in sorted(build_attrition(tables, rules, DRUGS).collect())]
    assert labels[4] == "first diagnosis on or after 2012-01-01"
    assert "stage at diagnosis localised or regional" in labels


HOSPITAL = [
    Case(
        "the second contact dates the spread",
        {"index_date": date(2014, 6, 1), "index_kind": "relapse"},
        [tumour("2013-03-01")],
        diagnoses=[("2014-05-01", "C787"), ("2014-06-01", "C795"), ("2014-07-01", "C787")],
    ),
    Case("one contact is none: out", None, [tumour("2013-03-01")], diagnoses=[("2014-05-01", "C787")]),
    Case(
        "lymph nodes are no spread: out",
        None,
        [tumour("2013-03-01")],
        diagnoses=[("2014-05-01", "C773"), ("2014-06-01", "C773")],
    ),
    Case(
        "a contact before the diagnosis does not count: out",
        None,
        [tumour("2013-03-01")],
        diagnoses=[("2012-05-01", "C787"), ("2014-06-01", "C787")],
    ),
    Case(
        "an earlier recurrence stands",
        {"index_date": date(2014, 4, 1)},
        [tumour("2013-03-01")],
        recurrences=[("2014-04-01", "t0")],
        diagnoses=[("2014-05-01", "C787"), ("2014-06-01", "C787")],
    ),
]


def test_spread_from_hospital_only_where_the_study_says_so(spark: SparkSession) -> None:
    tables = tables_of(spark, HOSPITAL)
    people = collect(build_cohort(tables, study(spread_from_hospital={}), DRUGS))
    for number, case in enumerate(HOSPITAL):
        found = people.get(f"p{number}")
        assert (found and {key: found[key] for key in case.expected or {}}) == case.expected, case.rule
    assert set(collect(build_cohort(tables, study(), DRUGS))) == {"p4"}


def test_spread_from_hospital_never_by_lymph_nodes() -> None:
    with pytest.raises(ValueError, match="C77"):
        study(spread_from_hospital={"icd10": ["C77", "C78"]})


def test_cover_of_every_region_and_of_one() -> None:
    entries = [
        {"region": "*", "source": "dispensing", "from": "2004-01-01", "until": "2020-12-31"},
        {"region": "*", "source": "hospital_drug", "from": "2015-01-01", "until": "2022-12-31"},
        {"region": "west", "source": "hospital_drug", "from": "2010-01-01", "until": "2014-12-31"},
        {"region": "east", "source": "hospital_drug", "from": "2010-01-01", "until": "2012-12-31"},
    ]
    assert covered_spans(study(treatment_information=entries)) == {
        "east": [(date(2010, 1, 1), date(2012, 12, 31)), (date(2015, 1, 1), date(2020, 12, 31))],
        "west": [(date(2010, 1, 1), date(2020, 12, 31))],
        None: [(date(2015, 1, 1), date(2020, 12, 31))],
    }
