"""Another cancer by configuration alone: relsurv's colrec through the whole program gives R's net survival."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from jobs.cli import main
from jobs.config import conf_folder

EXPECTED = Path(__file__).parents[1] / "unit" / "expected" / "net_survival"
STAGES = {1: "localised", 2: "regional", 3: "distant", 99: None}
SITE = """
name: colrec
country: conformed
delivery: 2023-06-30
warehouse: warehouse
out: out
pseudonym_key_file: key
inputs: {person: {path: person.csv}, tumour: {path: tumour.csv}, life_table: {path: life_table.csv}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("colrec")
    colrec = pd.read_csv(EXPECTED / "colrec.csv")
    diagnosis = pd.to_datetime(colrec["diagnosis"])
    last = diagnosis + pd.to_timedelta(colrec["days"], "D")
    people = pd.DataFrame({"person_id": colrec["person"], "sex": colrec["sex"]})
    people["birth_date"] = diagnosis - pd.to_timedelta(colrec["age_days"], "D")
    people["death_date"] = last.where(colrec["died"] == 1)
    people["emigration_date"] = last.where(colrec["died"] == 0)
    people.to_csv(folder / "person.csv", index=False, date_format="%Y-%m-%d")
    tumours = pd.DataFrame({"person_id": colrec["person"], "tumour_id": 1, "diagnosis_date": colrec["diagnosis"]})
    tumours.assign(icd10="C18", stage=colrec["stage"].map(STAGES)).to_csv(folder / "tumour.csv", index=False)
    life = pd.read_csv(EXPECTED / "slopop.csv").assign(country="si")
    life[["country", "sex", "year", "age", "probability_of_death"]].to_csv(folder / "life_table.csv", index=False)
    (folder / "site.yaml").write_text(SITE)
    (folder / "key").write_text("k" * 40)
    return folder


@pytest.fixture(scope="module")
def survival(spark: SparkSession, folder: Path) -> pd.DataFrame:
    study = str(conf_folder() / "studies" / "colorectal.yaml")
    assert main(["run", "--study", study, "--site", str(folder / "site.yaml")]) == 0
    return pd.read_csv(folder / "out" / "results" / "survival.csv", dtype={"level": str, "reason": str})


def test_net_survival_is_that_of_r(survival: pd.DataFrame) -> None:
    """At whole years, and at months on the day that they have reached."""
    net = survival[survival["outcome"] == "net_survival"].assign(day=lambda rows: rows["time_days"] // 1)
    expected = pd.read_csv(EXPECTED / "expected.csv", dtype={"level": str})
    named = {str(code): name or "unknown" for code, name in STAGES.items()}
    is_stage = expected["stratum"] == "stage"
    expected["level"] = expected["level"].where(~is_stage, expected["level"].map(named))
    both = expected.merge(net, how="left", left_on=["estimator", "stratum", "level", "time_days"],
                          right_on=["estimator", "stratum", "level", "day"], suffixes=("_r", ""))  # fmt: skip
    assert len(both) >= len(expected) > 1000
    for name in ("estimate", "se", "lower", "upper"):
        pd.testing.assert_series_equal(both[name], both[f"{name}_r"], check_names=False, rtol=0, atol=1e-9)


def test_every_stratum_has_every_time(survival: pd.DataFrame) -> None:
    is_standardised = survival["estimator"].str.endswith("_icss1")
    net = survival[(survival["outcome"] == "net_survival") & ~is_standardised]
    net = net[net["stratum"] != "age_group x sex"]
    times = net["time_days"].unique()
    assert {30.4375, 365.25, 365, 730, 1826, 3652} <= set(times)
    groups = net.groupby(["estimator", "stratum", "level"])["time_days"]
    assert groups.nunique().eq(len(times)).all()
    assert {(stratum, level) for _, stratum, level in groups.groups} == {
        ("all", "all"), ("sex", "female"), ("sex", "male"),
        ("age_group", "<45"), ("age_group", "45-54"), ("age_group", "55-64"), ("age_group", "65-74"),
        ("age_group", "75+"),
        ("stage", "localised"), ("stage", "regional"), ("stage", "distant"), ("stage", "unknown"),
    }  # fmt: skip
    beyond = net[net["estimate"].isna()]
    assert {reason.split(";")[0] for reason in beyond["reason"]} == {"beyond the last observed day"}
    everyone = net[(net["stratum"] == "all") & (net["estimator"] == "net_survival_ederer2")]
    at_five_years = everyone[everyone["time_days"] == 1826].iloc[0]
    assert round(at_five_years["estimate"], 6) == 0.441070
    assert at_five_years["n"] == 5971


def test_age_standardised(survival: pd.DataFrame) -> None:
    """Completed years of age are not quite R's, so a few people are in another group."""
    rows = survival[survival["estimator"] == "net_survival_pohar_perme_icss1"]
    at = rows.set_index(["stratum", "level", "time_days"])["estimate"]
    for row in pd.read_csv(EXPECTED / "standardised.csv").itertuples():
        assert at["all", "all", row.time_days] == pytest.approx(row.estimate, abs=1e-3)
    assert {("sex", "female"), ("sex", "male")} < {key[:2] for key in at.index}


def test_expected_survival_and_crude_probabilities(survival: pd.DataFrame) -> None:
    expected = survival[survival["estimator"] == "expected_survival"].set_index(["stratum", "level", "time_days"])
    for row in pd.read_csv(EXPECTED / "expected_population.csv").query("table == 'slopop'").itertuples():
        if row.time_days > 30:
            found = expected.loc[("all", "all", row.time_days)]
            assert found["estimate"] == pytest.approx(row.estimate, abs=1e-3)
            assert found["n"] == 5971
    crude = survival[survival["estimator"] == "crude_probability"]
    crude = crude.set_index(["outcome", "stratum", "level", "time_days"])
    for row in pd.read_csv(EXPECTED / "crude.csv").query("table == 'slopop' and time_days > 30").itertuples():
        outcome = "death_from_the_cancer" if row.cause == "cancer" else "death_from_other_causes"
        assert crude.loc[(outcome, "all", "all", row.time_days), "estimate"] == pytest.approx(row.estimate, abs=1e-4)


def test_there_are_no_lines(folder: Path) -> None:
    assert len(pd.read_csv(folder / "out" / "results" / "line_starts.csv")) == 0
    page = (folder / "out" / "report.html").read_text()
    assert "Net survival in colorectal cancer" in page
    assert "Lines of treatment" not in page
    everyone = re.findall(r"everyone</t[hd]>(.*?)</tr>", page, re.S)
    assert sum("44.1 (" in row for row in everyone) == 1
