"""The Charlson index of conf/comorbidity/charlson_quan_2005.yaml: its groups without Spark, its score with."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from pyspark.sql import SparkSession

from jobs.comorbidity import with_comorbidity_index
from jobs.config import Comorbidity, expand_icd10, load_comorbidity
from jobs.errors import ConfigurationError
from schemas import TABLES

INDEX = date(2013, 3, 1)
RULES = load_comorbidity("charlson_quan_2005")

# group, weight, codes that belong to it, codes beside it (Quan 2005, table 1)
GROUPS = [
    ("myocardial_infarction", 1, ["I210", "I229", "I252"], ["I209", "I251"]),
    ("heart_failure", 1, ["I099", "I426", "I500", "P290"], ["I421", "I119"]),
    ("peripheral_vascular", 1, ["I702", "I719", "K559", "Z958"], ["K550", "I730"]),
    ("cerebrovascular", 1, ["G459", "H340", "I639", "I694"], ["H341", "G47"]),
    ("dementia", 1, ["F009", "F03", "F051", "G309", "G311"], ["F050", "G310"]),
    ("chronic_pulmonary", 1, ["J449", "J459", "J640", "J684"], ["J680", "J189"]),
    ("rheumatic", 1, ["M059", "M315", "M329", "M360"], ["M313", "M352"]),
    ("peptic_ulcer", 1, ["K250", "K289"], ["K290"]),
    ("liver_mild", 1, ["B182", "K703", "K746", "K762", "Z944"], ["K750", "K761"]),
    ("diabetes_uncomplicated", 1, ["E119", "E106"], ["E15"]),
    ("diabetes_complicated", 2, ["E112", "E145", "E107"], ["E16"]),
    ("plegia", 2, ["G041", "G819", "G834"], ["G835", "G800"]),
    ("renal", 2, ["N185", "N032", "Z992"], ["N031", "N170"]),
    ("malignancy", 2, ["C187", "C439", "C819", "C969"], ["C449", "D059", "C86"]),
    ("liver_severe", 3, ["I850", "K704", "K766"], ["K720"]),
    ("metastatic_tumour", 6, ["C787", "C800"], ["C760"]),
    ("aids", 6, ["B200", "B24"], ["B230"]),
]


def groups_of(code: str) -> set[str]:
    return {name for name, group in RULES.groups.items() if code.startswith(group.icd10)}


@pytest.mark.parametrize(("name", "weight", "inside", "outside"), GROUPS, ids=[row[0] for row in GROUPS])
def test_groups_and_weights(name: str, weight: int, inside: list[str], outside: list[str]) -> None:
    assert RULES.groups[name].weight == weight
    assert all(groups_of(code) == {name} for code in inside)
    assert not any(name in groups_of(code) for code in outside)


def test_every_group_is_named() -> None:
    assert list(RULES.groups) == [row[0] for row in GROUPS]


def test_ranges() -> None:
    assert expand_icd10(("C08-C10", "I425-I427", "B24")) == ("C08", "C09", "C10", "I425", "I426", "I427", "B24")


@pytest.mark.parametrize("code", ["C10-C08", "C01-D02", "C01-C021"])
def test_no_range(code: str) -> None:
    with pytest.raises(ValueError, match="no range"):
        expand_icd10((code,))


def test_hierarchy_names_groups() -> None:
    group = {"weight": 1, "icd10": ["I21"]}
    with pytest.raises(ValueError, match="no group"):
        Comorbidity.model_validate({"name": "x", "groups": {"a": group}, "hierarchy": {"a": "b"}})


def test_unknown_index() -> None:
    with pytest.raises(ConfigurationError, match="charlson_quan_2005"):
        load_comorbidity("elixhauser")


SCORES = [
    ("nothing", [], 0),
    ("a code of no group", ["J189"], 0),
    ("one group once, however often", ["I210", "I219", "I252"], 1),
    ("groups add", ["I210", "J449", "N185"], 4),
    ("complicated over uncomplicated diabetes", ["E119", "E112"], 2),
    ("uncomplicated diabetes alone", ["E119"], 1),
    ("severe over mild liver disease", ["K703", "K704"], 3),
    ("the study's own tumour does not count", ["C509", "C500"], 0),
    ("nor do metastases", ["C773", "C787", "C795", "C80"], 0),
    ("another cancer does", ["C187", "C509", "C787"], 2),
    ("everything", [codes[0] for _, _, codes, _ in GROUPS], 1 * 8 + 2 + 2 + 2 + 2 + 3 + 6),
]


def test_scores(spark: SparkSession) -> None:
    people = spark.createDataFrame([(name, INDEX) for name, _, _ in SCORES], "person_id string, index_date date")
    rows = [
        (name, f"c{n}", INDEX - timedelta(days=1 + n), None, code, "main", "f", n, "2013-01-01")
        for name, codes, _ in SCORES
        for n, code in enumerate(codes)
    ]
    diagnoses = spark.createDataFrame(rows, TABLES["hospital_diagnosis"].struct())
    scored = with_comorbidity_index(people, diagnoses, RULES, ("C50",), 365)
    assert scored.columns == ["person_id", "index_date", "comorbidity_index"]
    assert dict(scored.select("person_id", "comorbidity_index").collect()) == {name: n for name, _, n in SCORES}
