"""Net survival where it is known: 1,000 made-up populations of 2,000, whose excess hazard depends on age."""

from __future__ import annotations

import numpy as np
import pandas as pd

from jobs.net_frame import DAYS_PER_YEAR, SEXES, SUMS, Bucket, LifeTable
from jobs.survival.net import ESTIMATORS, net_curve

REPLICATES, PEOPLE, YEARS = 1_000, 2_000, 6
DAYS = np.array([365, 1095, 1826])
FIRST_DAY = 15_340  # of 2012


def _life_table() -> LifeTable:
    """The same in every year, so that a person's hazard changes on birthdays alone."""
    rows = pd.DataFrame(
        [("no", None, sex, year, age) for sex in SEXES for year in (2012, 2013) for age in range(100)],
        columns=["country", "region", "sex", "year", "age"],
    )
    rate = 2e-5 * np.exp(0.1 * rows["age"]) * np.where(rows["sex"] == "male", 1.4, 1.0)
    return LifeTable.of(rows.assign(probability_of_death=-np.expm1(-rate)))


def _drawn(random: np.random.Generator, life: LifeTable) -> Bucket:
    """People who are observed until death or the end of a study."""
    age = random.integers(45, 85, PEOPLE)
    sex = random.integers(0, 2, PEOPLE)
    excess = np.where(age < 65, 0.08, 0.30) / DAYS_PER_YEAR
    # Everyone's index is the last day before a birthday, so hazards are constant for 365.241 days at a time.
    hazard = life.hazard[sex[:, None], 0, 0, np.minimum(age[:, None] + np.arange(YEARS), 99)]
    steps = np.concatenate([np.zeros((PEOPLE, 1)), np.cumsum(hazard * DAYS_PER_YEAR, axis=1)], axis=1)
    drawn = random.exponential(size=PEOPLE)
    year = np.minimum((steps < drawn[:, None]).sum(axis=1) - 1, YEARS - 1)
    every = np.arange(PEOPLE)
    of_population = year * DAYS_PER_YEAR + (drawn - steps[every, year]) / hazard[every, year]
    death = np.ceil(np.minimum(of_population, random.exponential(1 / excess)))
    end = random.integers(700, 2_100, PEOPLE)
    index = np.full(PEOPLE, FIRST_DAY, np.int32)
    return Bucket(
        born=(index - np.ceil(age * DAYS_PER_YEAR)).astype(np.int32),
        index=index,
        days=np.minimum(death, end).astype(np.int32),
        died=death <= end,
        sex=sex.astype(np.int32),
        region=np.zeros(PEOPLE, np.int32),
        levels=np.zeros((PEOPLE, 1), np.int32),
        known=[("all", "all")],
    )


def test_pohar_perme_finds_the_net_survival_that_people_were_drawn_from() -> None:
    """Bias below 0.2 % and limits that hold the truth in 93.5 to 96.5 of 100."""
    life, random = _life_table(), np.random.default_rng(20261123)
    estimates, covered = np.zeros((REPLICATES, len(DAYS))), np.zeros((REPLICATES, len(DAYS)), bool)
    ages = np.arange(45, 85)
    truth = np.exp(-np.outer(np.where(ages < 65, 0.08, 0.30) / DAYS_PER_YEAR, DAYS)).mean(axis=0)
    for replicate in range(REPLICATES):
        people = _drawn(random, life)
        _, _, sums = next(people.sums(life))
        frame = pd.DataFrame(sums, columns=SUMS).assign(day=np.arange(len(sums)) - 1)
        curve = net_curve(frame[frame["n"] > 0], ESTIMATORS[0])
        for place, day in enumerate(DAYS):
            point = curve.at(day, 0.95)
            estimates[replicate, place] = point.estimate
            covered[replicate, place] = point.lower <= truth[place] <= point.upper
    assert (np.abs(estimates.mean(axis=0) / truth - 1) < 0.002).all()
    assert (np.abs(covered.mean(axis=0) - 0.95) < 0.015).all()
