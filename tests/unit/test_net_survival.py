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
from jobs.net_frame import SEXES, SUMS, Bucket, LifeTable
from jobs.survival.net import ESTIMATORS, crude_curves, graffeo_test, net_curve, standardised

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


def frame_of(people: pa.Table, life: LifeTable, window: tuple[int, int] | None = None) -> pd.DataFrame:
    """The frame of one bucket, as Spark would have it."""
    parts = []
    for stratum, level, sums in Bucket.of(people, life).sums(life, window):
        part = pd.DataFrame(sums, columns=SUMS).assign(stratum=stratum, level=level, day=np.arange(len(sums)) - 1)
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


def _flat() -> LifeTable:
    """A hazard that differs by sex alone."""
    rows = [("si", None, sex, year, age) for sex in SEXES for year in (1990, 1991) for age in (0, 1)]
    table = pd.DataFrame(rows, columns=["country", "region", "sex", "year", "age"])
    hazard = np.where(table["sex"] == "male", 1e-4, 5e-5)
    return LifeTable.of(table.assign(probability_of_death=-np.expm1(-hazard * 365.241)))


@pytest.fixture(scope="module")
def flat_frame(colrec: pa.Table) -> pd.DataFrame:
    return frame_of(colrec, _flat())


def _more(name: str, table: str = "") -> pd.DataFrame:
    found = pd.read_csv(FOLDER / f"{name}.csv")
    return found[found["table"] == table] if table else found


# R's cmp.rel, rs.diff and survexp follow birthdays within the day (expected/net_survival_more.R).
@pytest.mark.parametrize(("table", "close"), [("flat", 1e-9), ("slopop", 3e-5)])
def test_crude_probabilities_are_cmp_rels(
    frame: pd.DataFrame, flat_frame: pd.DataFrame, table: str, close: float
) -> None:
    curves = crude_curves(_of(flat_frame if table == "flat" else frame, "all", "all"))
    for row in _more("crude", table).itertuples():
        point = curves[0 if row.cause == "cancer" else 1].at(row.time_days, 0.95)
        assert (point.estimate, point.se) == pytest.approx((row.estimate, row.se), abs=close)
    died = net_curve(_of(frame, "all", "all"), ESTIMATORS[0])
    assert len(curves[0].days) == len(died.days)


@pytest.mark.parametrize(("table", "close"), [("flat", 1e-9), ("slopop", 1e-3)])
def test_groups_are_compared_as_by_rs_diff(
    frame: pd.DataFrame, flat_frame: pd.DataFrame, table: str, close: float
) -> None:
    used = flat_frame if table == "flat" else frame
    for row in _more("tests", table).itertuples():
        levels = used.loc[used["stratum"] == row.group, "level"].unique()
        groups = {level: _of(used, row.group, level) for level in levels}
        test = graffeo_test(groups)
        assert test.statistic == pytest.approx(row.statistic, rel=close)
        assert test.df == row.df
    assert "fewer than two groups" in graffeo_test({"all": _of(frame, "all", "all")}).reason


@pytest.mark.parametrize(("table", "close"), [("flat", 1e-9), ("slopop", 1e-4)])
def test_expected_survival_is_survexps(colrec: pa.Table, table: str, close: float) -> None:
    """Of everyone from index on, whatever became of them; those of no day are left out in R's figures alone."""
    truth = _more("expected_population", table)
    observed = colrec.filter(pa.compute.greater(colrec["survival_end"], colrec["index_date"]))
    life = _flat() if table == "flat" else LifeTable.of(_life_table())
    parts = Bucket.of(observed, life).expected(life, truth["time_days"].to_numpy(np.int64))
    sums = next(sums for stratum, _, sums in parts if stratum == "all")
    np.testing.assert_allclose(sums[:, 1] / sums[:, 0], truth["estimate"], rtol=0, atol=close)
    assert (sums[:, 0] == observed.num_rows).all()


def test_a_periods_net_survival_is_that_of_late_entry(colrec: pa.Table) -> None:
    window = tuple(int(np.datetime64(day).astype(int)) for day in ("1998-01-01", "2000-12-31"))
    period = frame_of(colrec, LifeTable.of(_life_table()), window)
    curve = net_curve(_of(period, "all", "all"), ESTIMATORS[0])
    for row in _more("period").itertuples():
        point = curve.at(row.time_days, 0.95)
        found = (point.estimate, point.se, point.lower, point.upper)
        assert found == pytest.approx((row.estimate, row.se, row.lower, row.upper), abs=1e-9)
        assert point.at_risk == row.at_risk
    ederer = net_curve(_of(period, "all", "all"), ESTIMATORS[1])
    assert abs(ederer.at(365, 0.95).estimate - curve.at(365, 0.95).estimate) < 0.01


def test_age_standardised(colrec: pa.Table) -> None:
    weights = (0.07, 0.12, 0.23, 0.29, 0.29)
    people = pd.read_csv(FOLDER / "colrec.csv")
    group = np.searchsorted([45, 55, 65, 75], people["age_days"] / 365.241, side="right").astype(str)
    grouped = colrec.set_column(colrec.schema.get_field_index("strata"), "strata", pa.array([["group"]] * len(people)))
    grouped = grouped.set_column(grouped.schema.get_field_index("levels"), "levels", pa.array([[g] for g in group]))
    frame = frame_of(grouped, LifeTable.of(_life_table()))
    curves = [net_curve(part, ESTIMATORS[0]) for _, part in frame.groupby("level")]
    for row in _more("standardised").itertuples():
        point = standardised(curves, weights, row.time_days, 0.95)
        assert (point.estimate, point.se) == pytest.approx((row.estimate, row.se), abs=1e-9)
    empty = [*curves[:-1], net_curve(frame.iloc[:0], ESTIMATORS[0])]
    assert np.isnan(standardised(empty, weights, 365, 0.95).estimate)
    with pytest.raises(ValueError, match="together 1"):
        standardised(curves, (0.2,) * 4, 365, 0.95)


def test_people_that_the_life_table_does_not_cover_are_counted_and_left_out(colrec: pa.Table) -> None:
    women = LifeTable.of(_life_table().query("sex == 'female'"))
    frame = frame_of(colrec, women)
    curve = net_curve(_of(frame, "all", "all"), ESTIMATORS[0])
    of_women = net_curve(_of(frame_of(colrec, LifeTable.of(_life_table())), "sex", "female"), ESTIMATORS[0])
    assert curve.uncovered == pa.compute.sum(pa.compute.equal(colrec["sex"], "male")).as_py()
    np.testing.assert_array_equal(curve.estimate, of_women.estimate)
    men = net_curve(_of(frame, "sex", "male"), ESTIMATORS[0])
    assert (men.n, men.uncovered) == (0, curve.uncovered)
    assert np.isnan(men.at(365, 0.95).estimate)


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


SIRE = FOLDER.parent / "sire"


@pytest.fixture(scope="module")
def sire_frame() -> pd.DataFrame:
    """Finnish women with rectal cancer, followed with Finland's life table (expected/sire.R)."""
    people = pd.read_csv(SIRE / "sire.csv.gz").assign(sex="female", stage=0)
    table = _people(people)
    levels = [["all", old, late] for old, late in zip(people["old"], people["late"], strict=True)]
    strata = pa.array([["all", "old", "late"]] * len(people))
    table = table.set_column(table.schema.get_field_index("strata"), "strata", strata)
    table = table.set_column(table.schema.get_field_index("levels"), "levels", pa.array(levels))
    life = pd.read_csv(SIRE / "popmort.csv").assign(country="fi", region=None, sex="female")
    return frame_of(table, LifeTable.of(life))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_finnish_women_are_as_in_r(sire_frame: pd.DataFrame, estimator: str) -> None:
    truth = pd.read_csv(SIRE / "expected.csv")
    truth = truth[truth["estimator"] == estimator]
    assert truth["stratum"].nunique() == 3
    for (stratum, level), rows in truth.groupby(["stratum", "level"]):
        curve = net_curve(_of(sire_frame, stratum, level), estimator)
        for row in rows.itertuples():
            point = curve.at(row.time_days, 0.95)
            assert (point.estimate, point.se) == pytest.approx((row.estimate, row.se), abs=1e-9), row


def test_popepi_is_near_on_its_own_breaks(sire_frame: pd.DataFrame) -> None:
    """popEpi sums over half months and follows ages within them."""
    curve = net_curve(_of(sire_frame, "all", "all"), ESTIMATORS[0])
    for row in pd.read_csv(SIRE / "popepi.csv").itertuples():
        assert curve.at(int(365.241 * row.year), 0.95).estimate == pytest.approx(row.estimate, abs=2e-3)
