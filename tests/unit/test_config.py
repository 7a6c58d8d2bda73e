"""Configuration: inheritance, overrides, and errors that say what, where and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from jobs.config import STANDARD_AGES, STANDARDS, Drugs, Study, conf_folder, load_drugs, load_site, load_study
from jobs.errors import ConfigurationError
from jobs.sources.adapter import load_adapter

HER2 = conf_folder() / "studies" / "her2_mbc.yaml"


def test_rule_sets_inherit_from_primary_also_what_is_overridden() -> None:
    study = load_study(HER2, ("study.rule_sets.primary.gap_days=60", "site.out=elsewhere"))
    assert study.rule_sets["window_0"].gap_days == 60
    assert study.rule_sets["window_0"].combination_window_days == 0
    assert study.rule_sets["gap_120"].gap_days == 120
    assert study.rule_sets["gap_120"].companions == {"pertuzumab": {"trastuzumab": 90}}
    assert len(study.rule_sets) == 10


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("study.peroid=1", "unknown key peroid; did you mean period?"),
        ("study.rule_sets.primary.gap_dayz=1", "unknown key rule_sets.primary.gap_dayz; did you mean gap_days?"),
        ("study.cohort.tumor.icd10=1", "unknown key cohort.tumor; did you mean tumour?"),
        ("study.cohort.index=first", "cohort.index: Input should be"),
        ("study.rule_sets.primary.gap_days=0", "rule_sets.primary.gap_days"),
        ("study.rule_sets.primary.index_lead_days=91", "index_lead_days must not exceed gap_days"),
        ("study.rule_sets.primary.excludes={lapatinib: [tucatinib], tucatinib: [lapatinib]}", "cyclic"),
        ("study.period.index_until=2000-01-01", "does not hold"),
        ("study.drugs.line_defining=[trastuzumap]", "trastuzumap is not in conf/drugs.yaml; did you mean trastuzumab?"),
        ("study.drugs.classes=[chemo]", "no substance has the class chemo"),
        ("study.strata=[hospital]", "strata.0"),
        ("gap_days=3", "write study.KEY=VALUE or site.KEY=VALUE"),
        ("study.name", "write study.KEY=VALUE or site.KEY=VALUE"),
        ("study.name=[", "not valid YAML"),
        ("study.period.follow_up_until=2022-11-31", "not valid YAML"),
        ("study.name.first=x", "name is not a section"),
        ("study.rule_sets={other: {}}", "one named primary"),
    ],
)
def test_what_is_wrong_is_said(override: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_study(HER2, (override,))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "no such file"), (b"a: [", "line"), (b"- a", "not a mapping"), (b"\xff\xfe", "UTF-8")],
)
def test_files_that_are_no_configuration(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "site.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=says):
        load_site(path)


def test_paths_of_a_site_file_are_relative_to_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "site.yaml"
    path.parent.mkdir()
    path.write_text(
        "country: conformed\nwarehouse: s3a://bucket/w\nout: ../out\nlife_table: life.csv\n"
        "inputs: {person: {path: person.csv}}\nspark: {spark.ui.enabled: false}\n"
    )
    site = load_site(path)
    assert site.warehouse == "s3a://bucket/w"
    assert site.out == str(tmp_path / "out")
    assert site.inputs["person"].path == str(tmp_path / "deep" / "person.csv")
    assert site.inputs["life_table"].path == str(tmp_path / "deep" / "life.csv")
    assert site.spark == {"spark.ui.enabled": "false"}


def test_the_shipped_drug_list_knows_old_and_new_codes() -> None:
    drugs = load_drugs()
    assert drugs.products["pertuzumab_trastuzumab_sc"].substances == ("pertuzumab", "trastuzumab")
    assert set(drugs.substances["trastuzumab"].atc) == {"L01XC03", "L01FD01"}


@pytest.mark.parametrize("path", sorted((conf_folder() / "studies").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_studies_load(path: Path) -> None:
    assert load_study(path).name == path.stem


def _national(code: str, first: str, last: str) -> dict[str, Any]:
    return {"country": "no", "code": code, "from": first, "until": last}


@pytest.mark.parametrize(
    ("a", "b", "says"),
    [
        ({"atc": ["L01XX01"]}, {"atc": ["L01XX01"]}, "L01XX01 stands under alpha and beta"),
        ({"names": ["alphin"]}, {"atc": ["L01XX02"], "names": ["alphin"]}, "alphin stands under alpha and beta"),
        (
            {"national": [_national("4AB00", "2015-01-01", "2016-12-31")]},
            {"national": [_national("4AB00", "2016-12-31", "2018-12-31")]},
            "no 4AB00 means alpha and beta on 2016-12-31",
        ),
    ],
)
def test_a_code_means_one_thing_on_a_day(a: dict[str, Any], b: dict[str, Any], says: str) -> None:
    substances = {"alpha": {"class": "chemotherapy", **a}, "beta": {"class": "chemotherapy", **b}}
    with pytest.raises(ValidationError, match=says):
        Drugs.model_validate({"substances": substances})


def test_a_national_code_may_change_its_meaning() -> None:
    alpha, beta = _national("4AB00", "2015-01-01", "2016-12-31"), _national("4AB00", "2017-01-01", "2018-12-31")
    Drugs.model_validate(
        {
            "substances": {
                "alpha": {"class": "chemotherapy", "national": [alpha]},
                "beta": {"class": "chemotherapy", "national": [beta]},
            }
        }
    )


@pytest.mark.parametrize(
    ("kind", "code", "written_wrong"),
    [("atc", "L01XC03", "LO1XC03"), ("atc", "L01XC03", "l01xc03"), ("atc", "L01XC03", "L01XC3"),
     ("sks", "BOHJ13", "bohj13"), ("names", "t-dm1", "T-DM1"), ("rxnorm", "224905", "2249O5")],
)  # fmt: skip
def test_a_code_that_could_match_nothing_is_refused(kind: str, code: str, written_wrong: str) -> None:
    def listed(code: str) -> dict[str, Any]:
        return {"substances": {"alpha": {"class": "chemotherapy", kind: [code]}}}

    assert getattr(Drugs.model_validate(listed(code)).substances["alpha"], kind) == (code,)
    with pytest.raises(ValidationError, match="pattern"):
        Drugs.model_validate(listed(written_wrong))


def test_a_product_names_known_substances() -> None:
    product = {"substances": ["alpha", "gamma"]}
    with pytest.raises(ValidationError, match="products.both names the unknown substance gamma"):
        Drugs.model_validate({"substances": {"alpha": {"class": "chemotherapy"}}, "products": {"both": product}})


@pytest.mark.parametrize("path", sorted((conf_folder() / "sites").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_sites_name_the_raw_tables_of_their_adapter(path: Path) -> None:
    site = load_site(path)
    adapter = load_adapter(site.country)
    assert site.name == path.stem
    assert {raw.name for raw in adapter.raw_tables if raw.required} <= set(site.inputs)
    assert set(site.inputs) <= {raw.name for raw in adapter.raw_tables}


def test_the_documented_example_of_additions_loads(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "deliveries.md").read_text(encoding="utf-8")
    (tmp_path / "site.yaml").write_text(page.partition("```yaml\n")[2].partition("```")[0])
    site = load_site(tmp_path / "site.yaml")
    adapter = load_adapter(site.country)
    assert site.deliveries == "additions"
    assert {raw.name for raw in adapter.raw_tables if raw.required} <= set(site.inputs)
    assert set(site.inputs) <= {raw.name for raw in adapter.raw_tables}
    assert site.of_delivery("2023-06-30").inputs["cancer"].path == str(tmp_path.resolve() / "2023-06-30" / "cancer.csv")


def _study(**changes: Any) -> Study:
    return Study.model_validate(
        {
            "name": "drawn",
            "period": {"index_from": "2012-01-01", "index_until": "2021-12-31", "follow_up_until": "2022-12-31"},
            "cohort": {"tumour": {"icd10": ["C50"]}, "index": "metastasis"},
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"survival": {"cox": {"covariates": ["treated"]}}}, "treated is known only after the index date"),
        ({"survival": {"cox": {"covariates": ["age_groups"]}}}, "did you mean age_group"),
        ({"survival": {"cox": {"covariates": ["sex"], "strata": ["sex"]}}}, "sex is a covariate and a stratum"),
        ({"survival": {"undertreatment": {"covariates": ["treated"]}}}, "known only after"),
        ({"strata": ["sex x sex"]}, "crosses a variable with itself"),
        ({"strata": ["sex x ag"]}, "no covariate ag"),
        ({"index_periods": [2018, 2015]}, "ascending"),
        ({"index_periods": [2030]}, "2030 is not between 2013 and 2021"),
        ({"age_groups": {"from_years": [70, 50]}}, "ascending order"),
        ({"age_groups": {"from_years": []}}, "at least one"),
        ({"survival": {"net_period": {"from": "2015-01-01", "until": "2016-01-01"}}}, "needs net_strata"),
        (
            {"survival": {"net_strata": [], "net_period": {"from": "1950-01-01", "until": "1951-01-01"}}},
            "outside the study",
        ),
        ({"survival": {"net_standard": "icss1", "net_strata": ["age_group"]}}, "has weights for age_groups.from_years"),
        (
            {"survival": {"net_standard": "icss1", "net_strata": ["sex"]}, "age_groups": {"from_years": STANDARD_AGES}},
            "net_strata needs age_group",
        ),
        ({"survival": {"net_period": {"from": "2015-01-01", "until": "2014-01-01"}}}, "until is before from"),
    ],
)
def test_models_and_strata_that_make_no_sense(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        _study(**changes)


def test_periods_of_index_cover_the_study() -> None:
    assert _study(index_periods=[2017, 2021]).index_period_labels() == ("2012-2016", "2017-2020", "2021")
    assert _study().index_period_labels() == ("2012-2021",)
    assert all(sum(weights) == pytest.approx(1) for weights in STANDARDS.values())
