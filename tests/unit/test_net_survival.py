"""Net survival against R's relsurv on its colrec with slopop: every estimate, limit and number at risk."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from jobs.errors import InputError
from jobs.net_frame import SUMS, LifeTable, bucket_sums
from jobs.survival.net import ESTIMATORS, net_curve

FOLDER = Path(__file__).parent / "expected" / "net_survival"
STRATA = ("all", "sex", "stage")


def _life_table() -> pd.DataFrame:
    return pd.read_csv(FOLDER / "slopop.csv").assign(country="si", region=None)


def _people(people: pd.DataFrame) -> pa.Table:
    index = pd.to_datetime(people["diagnosis"])
    levels = [["all", sex, str(stage)] for sex, stage in zip(people["sex"], people["stage"], strict=True)]
    return pa.table(
        {
            "person_id": people["person"].map("{:06}".format),
            "birth_date": pa.array((index - pd.to_timedelta(people["age_days"], "D")).dt.date),
            "index_date": pa.array(index.dt.date),
            "survival_end": pa.array((index + pd.to_timedelta(people["days"], "D")).dt.date),
            "died": people["died"] == 1,
            "sex": people["sex"],
            "region": pa.nulls(len(people), pa.string()),
            "strata": [list(STRATA)] * len(people),
            "levels": levels,
        }
    )


def frame_of(people: pa.Table, life: LifeTable) -> pd.DataFrame:
    """The frame of one bucket, as Spark would have it."""
    parts = []
    for stratum, level, sums in bucket_sums(people, life):
        part = pd.DataFrame(sums, columns=SUMS).assign(stratum=stratum, level=level, day=np.arange(len(sums)))
        parts.append(part[part["n"] > 0])
    return pd.concat(parts)


@pytest.fixture(scope="module")
def colrec() -> pa.Table:
    return _people(pd.read_csv(FOLDER / "colrec.csv"))


@pytest.fixture(scope="module")
def frame(colrec: pa.Table) -> pd.DataFrame:
    return frame_of(colrec, LifeTable.of(_life_table()))


def _expected(estimator: str) -> pd.DataFrame:
    expected = pd.read_csv(FOLDER / "expected.csv", dtype={"level": str})
    return expected[expected["estimator"] == estimator]


def _of(frame: pd.DataFrame, stratum: str, level: str) -> pd.DataFrame:
    return frame[(frame["stratum"] == stratum) & (frame["level"] == level)]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_estimate_is_relsurvs(frame: pd.DataFrame, estimator: str) -> None:
    expected = _expected(estimator)
    assert len(expected) > 400
    for (stratum, level), rows in expected.groupby(["stratum", "level"]):
        curve = net_curve(_of(frame, stratum, level), estimator)
        for row in rows.itertuples():
            point = curve.at(row.time_days, 0.95)
            found = (point.estimate, point.se, point.lower, point.upper)
            assert found == pytest.approx((row.estimate, row.se, row.lower, row.upper), abs=1e-9), row
            assert point.at_risk == row.at_risk


def test_published_figures(frame: pd.DataFrame) -> None:
    curve = net_curve(_of(frame, "all", "all"), "net_survival_pohar_perme")
    assert [round(curve.at(days, 0.95).estimate, 6) for days in (365, 1826)] == [0.681836, 0.441332]
    assert round(net_curve(_of(frame, "all", "all"), "net_survival_ederer2").at(1826, 0.95).estimate, 6) == 0.441070


def test_frames_of_two_halves_add_up(colrec: pa.Table, frame: pd.DataFrame) -> None:
    life = LifeTable.of(_life_table())
    half = colrec.num_rows // 2
    halves = pd.concat([frame_of(colrec.slice(0, half), life), frame_of(colrec.slice(half), life)])
    key = ["stratum", "level", "day"]
    together = halves.groupby(key)[list(SUMS)].sum()
    whole = frame.set_index(key)[list(SUMS)].sort_index()
    assert (together[["n", "events"]] == whole[["n", "events"]]).all(axis=None)
    np.testing.assert_allclose(together, whole, rtol=1e-12)


def test_nobody_and_one_person(colrec: pa.Table) -> None:
    life = LifeTable.of(_life_table())
    nobody = frame_of(colrec.slice(0, 1), life).iloc[:0]
    for estimator in ESTIMATORS:
        curve = net_curve(nobody, estimator)
        assert (curve.n, curve.events) == (0, 0)
        assert np.isnan(curve.at(30, 0.95).estimate)
        alone = net_curve(_of(frame_of(colrec.slice(0, 1), life), "all", "all"), estimator)
        assert (alone.n, alone.events) == (1, 0)
        assert alone.at(16, 0.95).estimate > 1
        assert np.isnan(alone.at(17, 0.95).estimate)
    with pytest.raises(ValueError, match="none of"):
        net_curve(nobody, "hakulinen")


def test_people_of_no_day_are_counted_and_left_out() -> None:
    people = _people(pd.read_csv(FOLDER / "colrec.csv").head(3).assign(days=[0, 5, 0], died=[1, 0, 0]))
    curve = net_curve(_of(frame_of(people, LifeTable.of(_life_table())), "all", "all"), ESTIMATORS[0])
    assert (curve.n, curve.left_out, curve.events) == (1, 2, 0)


def test_the_tables_edges_hold() -> None:
    """Older than the table, and after its last year: the last row's hazard."""
    life = LifeTable.of(_life_table())
    ages, years = life.hazard.shape[3], life.hazard.shape[2]
    people = pd.DataFrame(
        {"person": [1], "sex": ["female"], "diagnosis": ["2090-01-01"], "age_days": [150 * 365], "days": [1],
         "died": [0], "stage": [1]}
    )  # fmt: skip
    frame = _of(frame_of(_people(people), life), "all", "all")
    assert frame["hazard"].item() == life.hazard[0, 0, years - 1, ages - 1]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda rows: rows.drop(rows.index[5]), "no row for male, 1990, age 5 (1 gaps in all)"),
        (lambda rows: rows.assign(country=["si", *["no"] * (len(rows) - 1)]), "2 countries"),
        (lambda rows: rows.assign(region="west"), "no row of the whole country"),
        (lambda rows: rows.assign(probability_of_death=1.5), "not between 0 and 1"),
    ],
)
def test_a_life_table_with_a_fault_is_refused_with_its_place(change: Any, says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)):
        LifeTable.of(change(_life_table()))
