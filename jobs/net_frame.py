"""The frame of net survival: for each day since index, sums over those at risk, with the hazard of their population.

The sums of each bucket of people are made in a fixed order and buckets are added in theirs, so a frame does not depend
on how Spark partitions the people.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.errors import InputError
from jobs.lines.kernel import compiled
from schemas import FRAMES

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]

DAYS_PER_YEAR = 365.241  # of a rate table: attained age and yearly hazards, as R's relsurv counts
BUCKETS = 16
FRAME = FRAMES["frame_net_survival"]
SUMS = tuple(FRAME.column_names[3:])  # n, events, and what the kernel adds up for each day
SEXES = ("female", "male")


@dataclass(frozen=True)
class LifeTable:
    """Hazard per day of the general population: `hazard` (sex, region, year, age), from `first_year`, age 0 up.

    A region that the table does not have is that of the whole country, which is the first.
    """

    hazard: Floats
    first_year: int
    regions: tuple[str | None, ...]

    @staticmethod
    def of(rows: pd.DataFrame) -> LifeTable:
        """The conformed life table of one country (schemas: life_table), of the whole country and perhaps by region.

        One-year probabilities q become -log(1 - q) / 365.241 per day. InputError where it is of several countries, not
        of the whole country, has no row for some sex, region, year or age between its first and its last, or a
        probability of 1 below its last age.
        """
        if rows["country"].nunique() != 1:
            raise InputError(f"life_table: {rows['country'].nunique()} countries; net survival needs that of one")
        if not rows["region"].isna().any():
            raise InputError("life_table: no row of the whole country (region empty), for people of unknown region")
        regions: list[str | None] = [None, *sorted(rows["region"].dropna().unique())]
        years, last_age = range(rows["year"].min(), rows["year"].max() + 1), int(rows["age"].max())
        table = np.full((len(SEXES), len(regions), len(years), last_age + 1), np.nan)
        place = {region: number for number, region in enumerate(regions)}
        sex = rows["sex"].map({name: number for number, name in enumerate(SEXES)}).to_numpy()
        region = np.array([place[None if name is None or name != name else name] for name in rows["region"]], np.int64)
        table[sex, region, rows["year"].to_numpy() - years[0], rows["age"].to_numpy()] = rows["probability_of_death"]
        missing = np.argwhere(np.isnan(table))
        if len(missing):
            at = missing[0]
            raise InputError(
                f"life_table: no row for {SEXES[at[0]]}, {years[at[-2]]}, age {at[-1]} ({len(missing)} gaps in all)"
            )
        if ((table < 0) | (table > 1)).any() or (table[..., :-1] == 1).any():
            raise InputError("life_table: a probability is not between 0 and 1, or is 1 below the last age")
        # Nobody is certain to die: the last age's 1 means that the table ends.
        certain = table == 1
        table[certain] = np.broadcast_to(table[..., -2:-1], table.shape)[certain]
        return LifeTable(-np.log1p(-table) / DAYS_PER_YEAR, years[0], tuple(regions))


@compiled
def add_people(
    born: Ints,
    index: Ints,
    days: Ints,
    died: npt.NDArray[np.bool_],
    sex: Ints,
    region: Ints,
    levels: Ints,
    hazard: Floats,
    first_year: int,
    year_of: Ints,
    first_day: int,
    sums: Floats,
) -> None:
    """Add people to `sums` (levels, days + 1, len(SUMS)), one after the other.

    Dates are days from 1970-01-01; `levels` (people, strata) are places in `sums`; `year_of` is the calendar year of
    each day from `first_day`. Row 0 counts those observed for no day at all, who say nothing about a hazard.
    """
    years, ages = hazard.shape[2], hazard.shape[3]
    for person in range(len(born)):
        if days[person] == 0:
            for level in levels[person]:
                sums[level, 0, 0] += 1
                sums[level, 0, 1] += died[person]
            continue
        weight = 1.0
        for day in range(1, days[person] + 1):
            today = index[person] + day - 1
            age = min(max(int((today - born[person]) / DAYS_PER_YEAR), 0), ages - 1)
            year = min(max(year_of[today - first_day] - first_year, 0), years - 1)
            rate = hazard[sex[person], region[person], year, age]
            before = weight
            weight *= np.exp(rate)
            dies = 1.0 if died[person] and day == days[person] else 0.0
            for level in levels[person]:
                row = sums[level, day]
                row[0] += 1
                row[1] += dies
                row[2] += weight
                row[3] += weight * dies
                row[4] += weight * weight * dies
                row[5] += rate
                row[6] += before * rate
                row[7] += before
                row[8] += weight * rate
                row[9] += weight


def bucket_sums(people: pa.Table, life: LifeTable) -> Iterator[tuple[str, str, Floats]]:
    """(stratum, level, sums by day) of the people of one bucket, added in the order of their identifiers.

    `people`: person_id, birth_date, index_date, survival_end, died, sex, region, strata and levels (lists of names).
    """
    people = people.sort_by("person_id")

    def days_of(name: str) -> Ints:
        return np.asarray(people[name].cast(pa.date32()).cast(pa.int32()), np.int32)

    born, index, end = days_of("birth_date"), days_of("index_date"), days_of("survival_end")
    names = [list(zip(*pair, strict=True)) for pair in
             zip(people["strata"].to_pylist(), people["levels"].to_pylist(), strict=True)]  # fmt: skip
    known = sorted({name for of_person in names for name in of_person})
    places = {name: place for place, name in enumerate(known)}
    levels = np.array([[places[name] for name in of_person] for of_person in names], np.int32)
    regions = {name: place for place, name in enumerate(life.regions)}
    region = np.array([regions.get(name, 0) for name in people["region"].to_pylist()], np.int32)
    sex = np.array([SEXES.index(name) for name in people["sex"].to_pylist()], np.int32)
    first_day, last_day = int(index.min()), int(end.max())
    calendar = (
        np.arange(first_day, last_day + 1).astype("datetime64[D]").astype("datetime64[Y]").astype(np.int32) + 1970
    )
    sums = np.zeros((len(known), int((end - index).max()) + 1, len(SUMS)))
    died = np.asarray(people["died"], bool)
    add_people(
        born, index, end - index, died, sex, region, levels, life.hazard, life.first_year, calendar, first_day, sums
    )
    for (stratum, level), place in places.items():
        yield stratum, level, sums[place]


def _kernel(life: LifeTable) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    schema = pa.schema([pa.field("bucket", pa.int32()), *FRAME.arrow()])

    def add(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        received = list(batches)
        if not received:
            return
        people = pa.Table.from_batches(received)
        for bucket in sorted(set(people["bucket"].to_pylist())):
            of_bucket = people.filter(pa.compute.equal(people["bucket"], bucket))
            for stratum, level, sums in bucket_sums(of_bucket, life):
                day = np.flatnonzero(sums[:, 0] > 0)
                columns = [
                    pa.array(np.full(len(day), bucket, np.int32)),
                    pa.array([stratum] * len(day), pa.string()),
                    pa.array([level] * len(day), pa.string()),
                    pa.array(day.astype(np.int32)),
                    *(pa.array(sums[day, place]).cast(schema.field(name).type) for place, name in enumerate(SUMS)),
                ]
                yield from pa.table(columns, schema=schema).to_batches(max_chunksize=50_000)

    return add


def build_frame_net_survival(cohort: DataFrame, life_table: DataFrame, strata: dict[str, Column]) -> DataFrame:
    """One row per stratum x level x day (schemas: frame_net_survival). `strata` are the levels by variable, `all`
    included. InputError: see LifeTable.of."""
    from pyspark.sql import types as T

    life = LifeTable.of(life_table.select("country", "region", "sex", "year", "age", "probability_of_death").toPandas())
    people = cohort.select(
        "person_id", "birth_date", "index_date", "survival_end", "sex", "region",
        (F.col("survival_end_reason") == "death").alias("died"),
        F.array(*(F.lit(name) for name in strata)).alias("strata"),
        F.array(*strata.values()).alias("levels"),
        F.pmod(F.xxhash64("person_id"), F.lit(BUCKETS)).cast("int").alias("bucket"),
    )  # fmt: skip
    fields = [T.StructField("bucket", T.IntegerType()), *FRAME.struct().fields]
    parts = people.repartition(BUCKETS, "bucket").mapInArrow(_kernel(life), T.StructType(fields))
    in_order = F.sort_array(F.collect_list(F.struct("bucket", *SUMS)))

    def added(name: str) -> Column:
        kind = FRAME.column(name).type
        return F.aggregate(
            F.transform("parts", lambda part: part[name]), F.lit(0).cast(kind), lambda a, b: a + b
        ).alias(name)

    grouped = parts.groupBy("stratum", "level", "day").agg(in_order.alias("parts"))
    return grouped.select("stratum", "level", "day", *(added(name) for name in SUMS))
