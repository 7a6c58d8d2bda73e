"""Curves on rotterdam, colon and mgus2, overall and by two strata each, against R; expected/curves.R made them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from jobs.survival.competing_risks import cumulative_incidence
from jobs.survival.cox import cox
from jobs.survival.kaplan_meier import kaplan_meier
from jobs.survival.log_rank import log_rank

FOLDER = Path(__file__).parent / "expected" / "curves"


def expected(name: str) -> pd.DataFrame:
    return pd.read_csv(FOLDER / f"{name}.csv", dtype={"level": str})


def test_every_curve_is_that_of_survfit() -> None:
    counts = expected("counts").assign(entry_day=0)
    truth = expected("expected")
    assert set(truth.groupby("data")["stratum"].nunique()) == {3}
    for key, rows in truth.groupby(["data", "stratum", "level", "cause"]):
        name, stratum, level, cause = key
        part = counts[(counts["data"] == name) & (counts["stratum"] == stratum) & (counts["level"] == level)]
        curve = cumulative_incidence(part, 0.95, cause, (1, 2)) if name == "mgus2" else kaplan_meier(part, 0.95)
        for row in rows.itertuples():
            point = curve.at(row.day)
            np.testing.assert_allclose([point.estimate, point.se], [row.estimate, row.se], rtol=0, atol=1e-9)


def test_tests_and_cox_on_colon() -> None:
    rows = expected("colon").assign(entry_day=0)
    truth = expected("colon_tests").set_index("name")["value"]

    def groups(part: pd.DataFrame) -> dict[Any, pd.DataFrame]:
        return {level: of_level for level, of_level in part.groupby("rx")}

    assert log_rank({"": groups(rows)}).statistic == pytest.approx(truth["rx"], abs=1e-9)
    by_sex = {sex: groups(part) for sex, part in rows.groupby("sex")}
    assert log_rank(by_sex).statistic == pytest.approx(truth["rx within sex"], abs=1e-9)
    patterns = rows.rename(columns={"cause": "event"})
    fit = cox(patterns, {"rx": ["Obs", "Lev", "Lev+5FU"], "nodes": ["few", "many"]}, ("sex",))
    np.testing.assert_allclose(fit.coefficients, truth[["rxLev", "rxLev+5FU", "nodesmany"]], rtol=0, atol=1e-9)
