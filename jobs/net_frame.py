"""The frame of net survival: for each day since index, sums over those at risk, with the hazard of their population.

The sums of each bucket of people are made in a fixed order and buckets are added in theirs, so a frame does not depend
on how Spark partitions the people.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.errors import InputError
from jobs.lines.kernel import compiled
from schemas import FRAMES
from schemas.conformed import OLDEST

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]

DAYS_PER_YEAR = 365.241  # of a rate table: attained age and yearly hazards, as R's relsurv counts
BUCKETS = 16
FRAME = FRAMES["frame_net_survival"]
EXPECTED = FRAMES["frame_expected_survival"]
EXPECTED_ROWS = "expected_survival"  # of the kernel's output that belong to EXPECTED
SUMS = tuple(FRAME.column_names[4:])  # n, events, and what the kernel adds up for each day
MONTH = 30.4375
SEXES = ("female", "male")
MINIMUM_LAST_AGE = 90  # a year that ends before is cut off


@dataclass(frozen=True)
class LifeTable:
    """Hazard per day of the general population: `hazard` (sex, region, year, age), from `first_year`, age 0 up.

    A region that the table does not have is that of the whole country, which is the first. NaN: nobody is covered.
    """

    hazard: Floats
    first_year: int
    regions: tuple[str | None, ...]

    @staticmethod
    def of(rows: pd.DataFrame) -> LifeTable:
        """The conformed life table of one country (schemas: life_table), of the whole country and perhaps by region.

        One-year probabilities q become -log(1 - q) / 365.241 per day. InputError where it is of several countries, not
        of the whole country, has a row twice, has no row for some region, year or age (above 90 a year may end, and its
        last age holds), or a probability of 1 below the last age of a year. Of a sex that it lacks nobody is covered.
        """
        if rows["country"].nunique() != 1:
            raise InputError(f"life_table: {rows['country'].nunique()} countries; net survival needs that of one")
        if not rows["region"].isna().any():
            raise InputError("life_table: no row of the whole country (region empty), for people of unknown region")
        regions: list[str | None] = [None, *sorted(rows["region"].dropna().unique())]
        years, last_age = range(rows["year"].min(), rows["year"].max() + 1), int(rows["age"].max())
        if rows["age"].min() < 0 or last_age > OLDEST:
            raise InputError(f"life_table: an age is not between 0 and {OLDEST}")
        repeated = rows.duplicated(["sex", "region", "year", "age"])
        if repeated.any():
            at = rows[repeated].iloc[0]
            raise InputError(f"life_table: {at['sex']}, {at['year']}, age {at['age']} is there twice")
        table = np.full((len(SEXES), len(regions), len(years), last_age + 1), np.nan)
        place = {region: number for number, region in enumerate(regions)}
        sex = rows["sex"].map({name: number for number, name in enumerate(SEXES)}).to_numpy(np.int64)
        region = np.array([place[None if name is None or name != name else name] for name in rows["region"]], np.int64)
        table[sex, region, rows["year"].to_numpy() - years[0], rows["age"].to_numpy()] = rows["probability_of_death"]
        if (table < 0).any() or (table > 1).any():
            raise InputError("life_table: a probability is not between 0 and 1")
        _hold_last_ages(table)
        has_sex = ~np.isnan(table).all(axis=(1, 2, 3))
        missing = np.argwhere(np.isnan(table) & has_sex[:, None, None, None])
        if len(missing):
            at = missing[0]
            raise InputError(
                f"life_table: no row for {SEXES[at[0]]}, {years[at[-2]]}, age {at[-1]} ({len(missing)} gaps in all)"
            )
        if (table == 1).any():
            raise InputError("life_table: a probability is 1 below the last age of its year")
        return LifeTable(-np.log1p(-table) / DAYS_PER_YEAR, years[0], tuple(regions))

    @property
    def year_ends(self) -> npt.NDArray[np.int64]:
        """The first days, from 1970-01-01, of all years but the first."""
        years = np.arange(self.first_year + 1, self.first_year + self.hazard.shape[2])
        return np.asarray((years - 1970).astype("datetime64[Y]").astype("datetime64[D]").astype(np.int64))


def _hold_last_ages(table: Floats) -> None:
    """Where a year's table ends at an old age, that age holds; nobody is certain to die there, the 1 means the end."""
    ages = table.shape[-1]
    for cell in np.ndindex(*table.shape[:-1]):
        of_year = table[cell]
        last = ages - 1 - int(np.argmax(~np.isnan(of_year[::-1])))
        if last > 0 and of_year[last] == 1:
            of_year[last] = of_year[last - 1]
        if last >= MINIMUM_LAST_AGE:
            of_year[last + 1 :] = of_year[last]


@compiled
def _changes(today: int, born: int, ages: int, year_ends: npt.NDArray[np.int64]) -> tuple[int, int, int]:
    """Completed years of age on a day, the place of its calendar year, and the first later day with another of them."""
    age = int((today - born) / DAYS_PER_YEAR)
    birthday = born + int((age + 1) * DAYS_PER_YEAR)
    while int((birthday - born) / DAYS_PER_YEAR) <= age:
        birthday += 1
    year = int(np.searchsorted(year_ends, today, side="right"))
    change = birthday
    if year < len(year_ends):
        change = min(change, year_ends[year])
    return min(max(age, 0), ages - 1), year, change


@compiled
def add_people(
    born: Ints,
    index: Ints,
    entry: Ints,
    days: Ints,
    died: npt.NDArray[np.bool_],
    sex: Ints,
    region: Ints,
    levels: Ints,
    hazard: Floats,
    year_ends: npt.NDArray[np.int64],
    sums: Floats,
) -> None:
    """Add people to `sums` (levels, days + 2, len(SUMS)), one after the other; day d is row d + 1.

    Dates are days from 1970-01-01; people are counted on the days after `entry` until `days`, and weighted from day 1.
    `levels` (people, strata) are places in `sums`; `year_ends` are the first days of all years of the hazards but the
    first. Day 0 counts those observed for no day at all, who say nothing about a hazard; day -1 those of whom the life
    table says nothing.
    """
    ages = hazard.shape[3]
    for person in range(len(born)):
        covered = sex[person] >= 0 and not np.isnan(hazard[sex[person], region[person], 0, 0])
        if not covered or days[person] <= entry[person]:
            for level in levels[person]:
                sums[level, 1 if covered else 0, 0] += 1
                sums[level, 1 if covered else 0, 1] += died[person]
            continue
        weight = 1.0
        change, rate, growth = index[person], 0.0, 1.0
        for day in range(1, days[person] + 1):
            today = index[person] + day - 1
            if today >= change:
                age, year, change = _changes(today, born[person], ages, year_ends)
                rate = hazard[sex[person], region[person], year, age]
                growth = np.exp(rate)
            before = weight
            weight *= growth
            if day <= entry[person]:
                continue
            dies = 1.0 if died[person] and day == days[person] else 0.0
            for level in levels[person]:
                row = sums[level, day + 1]
                row[0] += 1
                row[1] += dies
                row[2] += day == entry[person] + 1
                row[3] += weight
                row[4] += weight * dies
                row[5] += weight * weight * dies
                row[6] += rate
                row[7] += before * rate
                row[8] += before
                row[9] += weight * rate
                row[10] += weight


@compiled
def add_expected(
    born: Ints,
    index: Ints,
    sex: Ints,
    region: Ints,
    levels: Ints,
    hazard: Floats,
    year_ends: npt.NDArray[np.int64],
    days: npt.NDArray[np.int64],
    sums: Floats,
) -> None:
    """Add to `sums` (levels, days, 2) the people and their expected survival on each of `days` (ascending), whatever
    became of them."""
    ages = hazard.shape[3]
    for person in range(len(born)):
        if sex[person] < 0 or np.isnan(hazard[sex[person], region[person], 0, 0]):
            continue
        cumulative = 0.0
        reached = 0
        change, rate = index[person], 0.0
        for place in range(len(days)):
            while reached < days[place]:
                if index[person] + reached >= change:
                    age, year, change = _changes(index[person] + reached, born[person], ages, year_ends)
                    rate = hazard[sex[person], region[person], year, age]
                following = min(days[place], change - index[person])
                cumulative += rate * (following - reached)
                reached = following
            survival = np.exp(-cumulative)
            for level in levels[person]:
                sums[level, place, 0] += 1
                sums[level, place, 1] += survival


@dataclass(frozen=True)
class Bucket:
    """People of one bucket in the order of their identifiers, and `known`: their (stratum, level) by place."""

    born: Ints
    index: Ints
    days: Ints
    died: npt.NDArray[np.bool_]
    sex: Ints
    region: Ints
    levels: Ints
    known: list[tuple[str, str]]

    @staticmethod
    def of(people: pa.Table, life: LifeTable) -> Bucket:
        """`people`: person_id, birth_date, index_date, survival_end, died, sex, region, strata (the same names for all)
        and levels (theirs), both lists."""
        people = people.sort_by("person_id")

        def days_of(name: str) -> Ints:
            return np.asarray(people[name].cast(pa.date32()).cast(pa.int32()), np.int32)

        def place(name: str, names: Sequence[str | None], other: int) -> Ints:
            found = pc.index_in(people[name], value_set=pa.array(names, pa.string()))
            return np.asarray(found.fill_null(other), np.int32)

        strata = people["strata"][0].as_py()
        levels = pc.list_flatten(people["levels"]).combine_chunks().dictionary_encode()
        of_stratum = np.arange(len(levels)) % len(strata)
        pairs = of_stratum * len(levels.dictionary) + np.asarray(levels.indices, np.int64)
        known, places = np.unique(pairs, return_inverse=True)
        names = levels.dictionary.to_pylist()
        index = days_of("index_date")
        return Bucket(
            days_of("birth_date"),
            index,
            days_of("survival_end") - index,
            np.asarray(people["died"], bool),
            place("sex", SEXES, -1),
            place("region", life.regions, 0),
            places.reshape(-1, len(strata)).astype(np.int32),
            [(strata[pair // len(names)], names[pair % len(names)]) for pair in known.tolist()],
        )

    def sums(self, life: LifeTable, window: tuple[int, int] | None = None) -> Iterator[tuple[str, str, Floats]]:
        """(stratum, level, sums by day from -1 on), over the whole follow-up or that between two calendar days, both
        included."""
        entry, days, died = np.zeros_like(self.days), self.days, self.died
        if window is not None:
            inside = np.maximum(window[1] - self.index, 0).astype(np.int32)
            entry = np.maximum(window[0] - 1 - self.index, 0).astype(np.int32)
            days, died = np.minimum(days, inside), died & (days <= inside)
        sums = np.zeros((len(self.known), max(int(days.max()), 0) + 2, len(SUMS)))
        add_people(
            self.born, self.index, entry, days, died, self.sex, self.region, self.levels, life.hazard, life.year_ends,
            sums,
        )  # fmt: skip
        for (stratum, level), of_level in zip(self.known, sums, strict=True):
            yield stratum, level, of_level

    def expected(self, life: LifeTable, days: npt.NDArray[np.int64]) -> Iterator[tuple[str, str, Floats]]:
        """(stratum, level, people and the sum of their expected survival on each of `days`)."""
        sums = np.zeros((len(self.known), len(days), 2))
        add_expected(self.born, self.index, self.sex, self.region, self.levels, life.hazard, life.year_ends, days, sums)
        for (stratum, level), of_level in zip(self.known, sums, strict=True):
            yield stratum, level, of_level


def _kernel(
    life: LifeTable, window: tuple[int, int] | None, expected_days: npt.NDArray[np.int64]
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    schema = pa.schema([pa.field("bucket", pa.int32()), *FRAME.arrow(), EXPECTED.arrow().field("expected")])

    def rows(
        bucket: int, outcome: str, stratum: str, level: str, day: npt.NDArray[Any], sums: dict[str, Floats]
    ) -> pa.Table:
        number = len(day)
        named = {
            "bucket": np.full(number, bucket, np.int32),
            "outcome": pa.array([outcome] * number, pa.string()),
            "stratum": pa.array([stratum] * number, pa.string()),
            "level": pa.array([level] * number, pa.string()),
            "day": day.astype(np.int32),
            **sums,
        }
        nothing = np.zeros(number)
        columns = [pa.array(named.get(field.name, nothing)).cast(field.type) for field in schema]
        return pa.table(columns, schema=schema)

    def add(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        received = list(batches)
        if not received:
            return
        people = pa.Table.from_batches(received)
        for number in sorted(set(people["bucket"].to_pylist())):
            bucket = Bucket.of(people.filter(pc.equal(people["bucket"], number)), life)
            observed = [("net_survival", bucket.sums(life))]
            if window is not None:
                observed.append(("net_survival_period", bucket.sums(life, window)))
            for outcome, parts in observed:
                for stratum, level, sums in parts:
                    seen = np.flatnonzero(sums[:, 0] > 0)
                    columns = {name: sums[seen, place] for place, name in enumerate(SUMS)}
                    yield from rows(number, outcome, stratum, level, seen - 1, columns).to_batches(50_000)
            for stratum, level, sums in bucket.expected(life, expected_days):
                columns = {"n": sums[:, 0], "expected": sums[:, 1]}
                yield from rows(number, EXPECTED_ROWS, stratum, level, expected_days, columns).to_batches(50_000)

    return add


def tabulated_days(last: int) -> list[int]:
    """Days from 1 to `last` on which net survival is tabulated: every 30.4375 days and whole years, rounded down."""
    months = {math.floor(MONTH * number) for number in range(1, int(last // MONTH) + 1)}
    return sorted(months | {math.floor(DAYS_PER_YEAR * year) for year in range(1, int(last // DAYS_PER_YEAR) + 1)})


def build_net_frames(
    cohort: DataFrame,
    life_table: DataFrame,
    strata: dict[str, Column],
    follow_up_days: int,
    window: tuple[date, date] | None = None,
) -> dict[str, DataFrame]:
    """frame_net_survival and frame_expected_survival (schemas). `strata` are the levels by variable, `all` included.

    `follow_up_days`: the longest that anybody can be followed. `window`: also net survival of a period, of what happens
    between two calendar days. InputError: see LifeTable.of.
    """
    from pyspark.sql import types as T

    life = LifeTable.of(life_table.select("country", "region", "sex", "year", "age", "probability_of_death").toPandas())
    people = cohort.select(
        "person_id", "birth_date", "index_date", "survival_end", "sex", "region",
        (F.col("survival_end_reason") == "death").alias("died"),
        F.array(*(F.lit(name) for name in strata)).alias("strata"),
        F.array(*strata.values()).alias("levels"),
        F.pmod(F.xxhash64("person_id"), F.lit(BUCKETS)).cast("int").alias("bucket"),
    )  # fmt: skip
    expected = T.StructField("expected", T.DoubleType())
    fields = [T.StructField("bucket", T.IntegerType()), *FRAME.struct().fields, expected]
    days = np.array(tabulated_days(follow_up_days), np.int64)
    epoch = date(1970, 1, 1)
    between = ((window[0] - epoch).days, (window[1] - epoch).days) if window else None
    parts = people.repartition(BUCKETS, "bucket").mapInArrow(_kernel(life, between, days), T.StructType(fields))
    sums = (*SUMS, "expected")
    in_order = F.sort_array(F.collect_list(F.struct("bucket", *sums)))

    def added(name: str) -> Column:
        kind = "double" if name == "expected" else FRAME.column(name).type
        return F.aggregate(
            F.transform("parts", lambda part: part[name]), F.lit(0).cast(kind), lambda a, b: a + b
        ).alias(name)

    grouped = parts.groupBy("outcome", "stratum", "level", "day").agg(in_order.alias("parts"))
    frame = grouped.select("outcome", "stratum", "level", "day", *(added(name) for name in sums))
    is_expected = F.col("outcome") == EXPECTED_ROWS
    return {
        FRAME.name: frame.where(~is_expected).select(*FRAME.column_names),
        EXPECTED.name: frame.where(is_expected & (F.col("n") > 0)).select(*EXPECTED.column_names),
    }
