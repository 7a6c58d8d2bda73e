"""The rows of models, tests and net survival in results/: every level is there; what cannot be estimated says why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from jobs.config import Study, Undertreatment
from jobs.report.models import hazard_table, untreated_tables
from jobs.survival.curves import EMPTY_GROUP, NO_DEATHS, NOT_FROM_INDEX, net_rows, survival_rows
from jobs.survival.curves import NOBODY as NOBODY_SEEN
from jobs.survival.design import ALL_EVENTS, NO_EVENT, NOBODY
from jobs.survival.models import FORMED_LATER, REFERENCE, comparison_rows, cox_rows, undertreatment_rows
from schemas import FRAMES
from schemas.frames import COVARIATES

STUDY = Study.model_validate(
    {
        "name": "drawn",
        "period": {"index_from": "2012-01-01", "index_until": "2013-12-31", "follow_up_until": "2020-12-31"},
        "cohort": {"tumour": {"icd10": ["C50"]}, "index": "metastasis"},
        "drugs": {"line_defining": ["trastuzumab"]},
        "age_groups": {"from_years": [45, 55, 65, 75]},
        "strata": ["sex", "treated", "sex x index_kind"],
        "survival": {
            "lines": 1,
            "net_strata": ["age_group", "age_group x sex"],
            "net_standard": "icss1",
            "net_period": {"from": "2013-01-01", "until": "2014-12-31"},
            "cox": {"covariates": ["sex", "index_kind"], "strata": []},
            "undertreatment": {"covariates": ["sex"], "survived_days": 30},
        },
    }
)
AGES = STUDY.age_groups.labels()


def frame(name: str, *rows: dict[str, Any]) -> pd.DataFrame:
    table = FRAMES[name]
    blank = {column.name: 0 if column.type in ("int", "bigint", "double") else "" for column in table.columns}
    return pd.DataFrame([blank | row for row in rows], columns=table.column_names)


def pattern(model: str, sex: str, kind: str, day: int, event: int, n: int) -> dict[str, Any]:
    return {"model": model, "sex": sex, "index_kind": kind, "day": day, "event": event, "n": n}


def net_day(day: int, n: int, events: int = 0, **key: str) -> dict[str, Any]:
    sums = {name: float(n) for name in ("w", "w_start", "w_end")} | {"entered": n if day == 1 else 0}
    sums |= {name: n * 1e-5 for name in ("hazard", "w_hazard_start", "w_hazard_end")}
    about = {"outcome": "net_survival", "stratum": "all", "level": "all", **key}
    return {**about, "day": day, "n": n, "events": events, "w_events": events, "w2_events": events, **sums}


PATTERNS = frame(
    "frame_patterns",
    *(pattern("overall_survival", sex, "relapse", day, day % 2, 5) for sex in ("female", "male") for day in range(40)),
    pattern("overall_survival", "male", "de_novo", 100, 0, 4),
    pattern("untreated", "female", "", 0, 1, 10),
    pattern("untreated", "female", "", 0, 0, 30),
    pattern("untreated", "male", "", 0, 0, 2),
)


def test_cox_has_every_level() -> None:
    table = pd.DataFrame(cox_rows(PATTERNS, STUDY)).set_index(["statistic", "covariate", "level"])
    ratio = table.loc["hazard_ratio"]
    assert ratio["reason"].to_dict() == {
        ("sex", "female"): REFERENCE, ("sex", "male"): "", ("index_kind", "de_novo"): NO_EVENT,
        ("index_kind", "relapse"): REFERENCE,
    }  # fmt: skip
    male = ratio.loc[("sex", "male")]
    assert male["estimate"] == pytest.approx(1, abs=1e-9)
    assert male["lower"] < 1 < male["upper"]
    assert (male["n"], male["events"], male["reference"]) == (204, 100, "female")
    assert table.loc[("proportional_hazards_km", "all", "all"), "df"] == 1


def test_models_of_nobody_and_of_no_event_have_their_rows() -> None:
    nobody = pd.DataFrame(cox_rows(PATTERNS.iloc[:0], STUDY))
    assert set(nobody["reason"]) == {NOBODY, "nobody is observed"}
    calm = pd.DataFrame(cox_rows(PATTERNS.assign(event=0), STUDY)).set_index(["covariate", "level"])["reason"]
    assert (calm["sex", "female"], calm["sex", "male"]) == (REFERENCE, "no event")
    table = pd.DataFrame(undertreatment_rows(PATTERNS, STUDY))
    survivors = table[table["model"] == "untreated_survivors"]
    assert set(survivors["reason"]) == {NOBODY}
    assert survivors["denominator"].str.contains("within 30 days").all()
    assert not list(cox_rows(PATTERNS, STUDY.model_copy(update={"survival": STUDY.survival.model_copy(
        update={"cox": None})})))  # fmt: skip


def test_undertreatment_has_every_statistic_of_every_level() -> None:
    table = pd.DataFrame(undertreatment_rows(PATTERNS, STUDY)).query("model == 'untreated'")
    by = table.set_index(["statistic", "level"])
    assert by.loc[("odds_ratio", "male"), "reason"] == NO_EVENT
    assert by.loc[("standardised_risk", "female"), "estimate"] == pytest.approx(0.25)
    gone = f"2 left out: sex male, {NO_EVENT}"
    assert by.loc[("standardised_risk", "female"), "reason"] == gone
    assert by.loc[("risk_ratio", "female"), "reason"] == f"{REFERENCE}; {gone}"
    assert (by.loc[("odds_ratio", "female"), "n"], by.loc[("odds_ratio", "female"), "events"]) == (40, 10)
    assert len(table) == 8


def test_people_of_a_level_without_variation_are_named_where_they_are_missing() -> None:
    """All of the north are untreated, so they say nothing of age; the old of elsewhere are 40 of 100."""
    study = STUDY.model_copy(update={"survival": STUDY.survival.model_copy(
        update={"undertreatment": Undertreatment(covariates=("age_group", "region"))})})  # fmt: skip
    rows = [("<45", "west", 100, 20), ("75+", "west", 100, 40), ("75+", "north", 200, 200)]
    patterns = frame(
        "frame_patterns",
        *(
            {"model": "untreated", "age_group": age, "region": region, "event": event, "n": count}
            for age, region, n, untreated in rows
            for event, count in ((1, untreated), (0, n - untreated))
        ),
    )
    table = pd.DataFrame(undertreatment_rows(patterns, study)).query("model == 'untreated'")
    by = table.set_index(["statistic", "covariate", "level"])
    old = by.loc[("standardised_risk", "age_group", "75+")]
    assert (old["n"], old["events"], round(old["estimate"], 6)) == (100, 40, 0.4)
    assert old["reason"] == f"200 left out: region north, {ALL_EVENTS}"
    north = by.loc[("odds_ratio", "region", "north")]
    assert (north["n"], north["events"], north["reason"]) == (200, 200, ALL_EVENTS)


def test_the_report_of_models_without_a_number() -> None:
    calm = PATTERNS.assign(event=0)
    table = hazard_table(calm, STUDY)
    assert table is not None
    assert any("not estimable: no event" in cell for row in table.rows for cell in row)
    assert untreated_tables(calm, STUDY)
    assert untreated_tables(PATTERNS.assign(event=1), STUDY)


def test_comparisons() -> None:
    slices = [
        {"outcome": "overall_survival", "stratum": stratum, "level": level, "day": day, "cause": 1, "n": 3}
        for stratum, level, day in [
            ("sex", "female", 5), ("sex", "male", 9), ("treated", "treated", 5),
            ("sex x index_kind", "female x relapse", 5),
            ("sex x index_kind", "male x relapse", 9),
        ]
    ]  # fmt: skip
    frames = {"frame_time": frame("frame_time", *slices), "frame_net_survival": frame("frame_net_survival")}
    table = pd.DataFrame(comparison_rows(frames, STUDY)).set_index(["test", "stratum", "within"])
    assert table.loc[("log_rank", "sex", ""), "statistic"] > 0
    assert table.loc[("log_rank", "treated", ""), "reason"] == FORMED_LATER
    within = table.loc[("log_rank", "sex", "index_kind")]
    assert within["statistic"] == pytest.approx(table.loc[("log_rank", "sex", ""), "statistic"])
    assert "fewer than two" in table.loc[("log_rank", "index_kind", "sex"), "reason"]
    assert "fewer than two" in table.loc[("graffeo", "age_group", ""), "reason"]


def _net(*rows: dict[str, Any]) -> pd.DataFrame:
    found = pd.DataFrame(net_rows(frame("frame_net_survival", *rows), STUDY))
    return found.set_index(["estimator", "outcome", "stratum", "level", "time_days"]).sort_index()


def test_standardised_where_every_age_group_has_somebody() -> None:
    days = [net_day(day, 10, stratum="age_group", level=age) for age in AGES for day in range(1, 32)]
    days += [net_day(day, 50) for day in range(1, 32)]
    table = _net(*days)
    everyone = table.loc[("net_survival_pohar_perme_icss1", "net_survival", "all", "all", 30.4375)]
    plain = table.loc[("net_survival_pohar_perme", "net_survival", "all", "all", 30.4375)]
    assert everyone["estimate"] == pytest.approx(plain["estimate"])
    assert everyone["n"] == 50
    of_men = table.loc[("net_survival_pohar_perme_icss1", "net_survival", "sex", "male", 30.4375)]
    assert (of_men["reason"], of_men["n"]) == (EMPTY_GROUP, 0)
    assert ("net_survival_pohar_perme", "net_survival_period", "all", "all", 30.4375) in table.index


def test_net_survival_says_who_is_left_out() -> None:
    days = [net_day(day, 9) for day in range(1, 40)]
    table = _net(*days, net_day(0, 2), net_day(-1, 3), net_day(-1, 4, stratum="age_group", level="<45"))
    everyone = table.loc[("net_survival_pohar_perme", "net_survival", "all", "all", 30.4375)]
    beside = "2 left out observed for no day; 3 left out whom the life table does not cover"
    assert everyone["reason"] == f"{NO_DEATHS}; {beside}"
    assert np.isnan([everyone["lower"], everyone["upper"]]).all()
    young = table.loc[("net_survival_ederer2", "net_survival", "age_group", "<45", 30.4375)]
    assert (young["n"], young["reason"]) == (0, f"{NOBODY_SEEN}; 4 left out whom the life table does not cover")
    crude = table.loc[("crude_probability", "death_from_the_cancer", "age_group", "<45", 30.4375)]
    assert crude["reason"] == young["reason"]


def test_a_period_in_which_nobody_is_followed_from_index_on() -> None:
    """Survival after a first day of 100 is of those who lived until then, not from index."""
    late = [net_day(day, 9, outcome="net_survival_period") for day in range(100, 140)]
    table = _net(*late, *(net_day(day, 9) for day in range(1, 140)))
    row = table.loc[("net_survival_pohar_perme", "net_survival_period", "all", "all", 121.75)]
    assert np.isnan(row["estimate"])
    assert row["reason"] == NOT_FROM_INDEX


def test_expected_survival_is_a_mean() -> None:
    frames = {name: frame(name) for name in FRAMES}
    row = {"stratum": "all", "level": "all", "day": 30, "n": 4, "expected": 3.8}
    frames["frame_expected_survival"] = frame("frame_expected_survival", row)
    rows = [row for row in survival_rows(frames, {}, STUDY) if row["estimator"] == "expected_survival"]
    assert [(row["estimate"], row["n"], row["time_days"]) for row in rows] == [(pytest.approx(0.95), 4, 30)]


def test_frames_have_a_column_for_every_covariate() -> None:
    assert set(COVARIATES) < set(FRAMES["frame_patterns"].column_names)
