"""The rows of models, tests and net survival in results/: every level is there; what cannot be estimated says why."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from jobs.config import Study
from jobs.survival.curves import EMPTY_GROUP, NOT_COVERED, net_rows, survival_rows
from jobs.survival.design import NO_EVENT, NOBODY
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
    sums = {name: float(n) for name in ("w", "w_start", "w_end")}
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
    assert set(nobody["reason"]) == {NOBODY}
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
    assert by.loc[("standardised_risk", "female"), "reason"] == ""
    assert by.loc[("risk_ratio", "female"), "reason"] == REFERENCE
    assert (by.loc[("odds_ratio", "female"), "n"], by.loc[("odds_ratio", "female"), "events"]) == (40, 10)
    assert len(table) == 8


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
    assert everyone["reason"] == (
        "2 left out, observed for no day; 3 left out whom the life table does not cover"
    )
    young = table.loc[("net_survival_ederer2", "net_survival", "age_group", "<45", 30.4375)]
    assert (young["n"], young["reason"]) == (0, NOT_COVERED)


def test_expected_survival_is_a_mean() -> None:
    frames = {name: frame(name) for name in FRAMES}
    row = {"stratum": "all", "level": "all", "day": 30, "n": 4, "expected": 3.8}
    frames["frame_expected_survival"] = frame("frame_expected_survival", row)
    rows = [row for row in survival_rows(frames, {}, STUDY) if row["estimator"] == "expected_survival"]
    assert [(row["estimate"], row["n"], row["time_days"]) for row in rows] == [(pytest.approx(0.95), 4, 30)]


def test_frames_have_a_column_for_every_covariate() -> None:
    assert set(COVARIATES) < set(FRAMES["frame_patterns"].column_names)
