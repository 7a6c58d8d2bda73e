"""Net survival against R's relsurv, from people to curve by Spark, and models from the frames of a million people:
python -m benchmarks.survival [--people N ...] [--repeats N]

The R side needs Rscript with relsurv and is left out without it. It times the estimate alone, without R's start.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.net_frame import SUMS, Bucket, LifeTable, build_net_frames
from jobs.session import start_session
from jobs.survival.competing_risks import cumulative_incidence
from jobs.survival.cox import cox
from jobs.survival.kaplan_meier import kaplan_meier
from jobs.survival.net import ESTIMATORS, net_curve
from schemas import TABLES

COLREC = Path(__file__).parents[1] / "tests" / "unit" / "expected" / "net_survival"
TIMES_COLREC = 10
RELSURV = """
suppressMessages({library(survival); library(relsurv)})
data(colrec); data(slopop)
people <- colrec[rep(seq_len(nrow(colrec)), TIMES), ]
estimate <- function() rs.surv(Surv(time, stat) ~ 1, data = people, ratetable = slopop, method = "pohar-perme",
  add.times = 1:max(people$time), rmap = list(age = age, sex = sex, year = diag))
for (turn in seq_len(REPEATS)) cat(system.time(estimate())["elapsed"], "\n")
"""


def _median_seconds(side: Callable[[], object], repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        side()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _colrec() -> tuple[pa.Table, LifeTable]:
    people = pd.read_csv(COLREC / "colrec.csv")
    people = people.loc[people.index.repeat(TIMES_COLREC)].reset_index(drop=True)
    index = pd.to_datetime(people["diagnosis"])
    table = pa.table(
        {
            "person_id": people.index.map("{:08}".format),
            "birth_date": pa.array((index - pd.to_timedelta(people["age_days"], "D")).dt.date),
            "index_date": pa.array(index.dt.date),
            "survival_end": pa.array((index + pd.to_timedelta(people["days"], "D")).dt.date),
            "died": people["died"] == 1,
            "sex": people["sex"],
            "region": pa.nulls(len(people), pa.string()),
            "strata": [["all"]] * len(people),
            "levels": [["all"]] * len(people),
        }
    )
    return table, LifeTable.of(pd.read_csv(COLREC / "slopop.csv").assign(country="si", region=None))


def _both_estimates(people: pa.Table, life: LifeTable) -> list[float]:
    _, _, sums = next(Bucket.of(people, life).sums(life))
    frame = pd.DataFrame(sums, columns=SUMS).assign(day=np.arange(len(sums)) - 1)
    return [net_curve(frame, estimator).at(1826, 0.95).estimate for estimator in ESTIMATORS]


def against_relsurv(repeats: int) -> None:
    people, life = _colrec()
    _both_estimates(people.slice(0, 10), life)
    own = _median_seconds(lambda: _both_estimates(people, life), repeats)
    print(f"colrec {TIMES_COLREC} times, {people.num_rows:,} people, one thread each, medians of {repeats}")
    print(f"  Pohar Perme and Ederer II: {own:.2f} s")
    if shutil.which("Rscript") is None:
        print("  relsurv: no Rscript here")
        return
    script = RELSURV.replace("TIMES", str(TIMES_COLREC)).replace("REPEATS", str(repeats))
    said = subprocess.run(["Rscript", "-e", script], capture_output=True, text=True, check=True).stdout
    other = statistics.median(float(line) for line in said.split())
    print(f"  relsurv's Pohar Perme alone: {other:.2f} s, {other / own:.0f} times as long")


def cohort_of(spark: SparkSession, people: int) -> DataFrame:
    """People with ten years of follow-up at most, three on average."""

    def drawn(salt: int, most: int) -> Column:
        return F.pmod(F.xxhash64("id", F.lit(salt)), F.lit(most)).cast("int")

    age = drawn(3, 50) + 40
    days = F.least(F.lit(3652), (-F.log((drawn(2, 1_000_000) + 1) / 1_000_000) * 1200).cast("int"))
    return spark.range(people, numPartitions=8).select(
        F.lower(F.lpad(F.hex("id"), 32, "0")).alias("person_id"),
        F.date_add(F.lit("2005-01-01").cast("date"), drawn(1, 3652)).alias("index_date"),
        F.date_sub(F.lit("2005-01-01").cast("date"), age * 365).alias("birth_date"),
        F.when(drawn(5, 2) == 0, "female").otherwise("male").alias("sex"),
        F.lit(None).cast("string").alias("region"),
        F.floor(age / 10).cast("string").alias("age_group"),
        F.date_add(F.date_add(F.lit("2005-01-01").cast("date"), drawn(1, 3652)), days).alias("survival_end"),
        F.when((days < 3652) & (drawn(4, 10) < 7), "death").otherwise("study_end").alias("survival_end_reason"),
    )


def distributed(spark: SparkSession, sizes: list[int], repeats: int) -> None:
    life_table = spark.createDataFrame(
        [
            ("no", None, sex, year, age, min(0.9, 2e-5 * 1.1**age), None, None, None)
            for sex in ("female", "male")
            for year in range(2005, 2026)
            for age in range(106)
        ],
        TABLES["life_table"].struct(),
    ).cache()
    life_table.count()
    print(f"people to curves through Spark, by age group, both estimators, medians of {repeats}")
    per_person: dict[int, float] = {}
    for people in sizes:
        cohort = cohort_of(spark, people).cache()
        cohort.count()

        def curves(cohort: DataFrame = cohort) -> None:
            strata = {"all": F.lit("all"), "age_group": F.col("age_group")}
            frames = build_net_frames(cohort, life_table, strata, 3652)
            frame = frames["frame_net_survival"].toPandas()
            for _, part in frame.groupby(["stratum", "level"]):
                for estimator in ESTIMATORS:
                    net_curve(part, estimator)

        curves()
        seconds = _median_seconds(curves, repeats)
        per_person[people] = seconds / people
        print(f"  {people:,} people: {seconds:.1f} s, {seconds / people * 1e6:.1f} us a person")
        cohort.unpersist()
    if len(sizes) > 1:
        print(f"  the largest takes {per_person[sizes[-1]] / per_person[sizes[0]]:.2f} of the smallest's time a person")


def from_frames(spark: SparkSession, people: int, repeats: int) -> None:
    """Kaplan-Meier, Aalen-Johansen and Cox from the counts of a million people."""
    event = F.when(F.col("survival_end_reason") == "death", F.pmod(F.hash("person_id"), F.lit(2)) + 1).otherwise(0)
    rows = cohort_of(spark, people).select(
        F.datediff("survival_end", "index_date").alias("day"), event.alias("cause"), "sex", "age_group",
        F.pmod(F.year("index_date"), F.lit(5)).cast("string").alias("period"),
    )  # fmt: skip
    counted = rows.groupBy("day", "cause", "sex", "age_group", "period").count().toPandas()
    counted = counted.rename(columns={"count": "n"}).assign(entry_day=0)
    time_frame = counted.groupby(["entry_day", "day", "cause"], as_index=False)["n"].sum()
    patterns = counted.assign(event=(counted["cause"] > 0).astype(int))
    patterns = patterns.groupby(["entry_day", "day", "event", "sex", "age_group", "period"], as_index=False)["n"].sum()
    levels = {name: sorted(patterns[name].unique()) for name in ("sex", "age_group", "period")}
    print(f"from the frames of {people:,} people, {len(time_frame):,} and {len(patterns):,} rows, medians of {repeats}")
    sides: dict[str, Callable[[], object]] = {
        "Kaplan-Meier": lambda: kaplan_meier(time_frame, 0.95, (1, 2)),
        "Aalen-Johansen": lambda: cumulative_incidence(time_frame, 0.95, 1, (1, 2)),
        "Cox, Efron": lambda: cox(patterns, levels),
    }
    for name, side in sides.items():
        side()
        print(f"  {name}: {_median_seconds(side, repeats):.2f} s")
    print(f"  the driver has held at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, nargs="+", default=[100_000, 1_000_000], help="each a size of its own")
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    against_relsurv(chosen.repeats)
    spark = start_session({"spark.driver.memory": "6g"}, "benchmark of survival")
    distributed(spark, chosen.people, chosen.repeats)
    for people in chosen.people:
        from_frames(spark, people, chosen.repeats)
    spark.stop()


if __name__ == "__main__":
    main()
