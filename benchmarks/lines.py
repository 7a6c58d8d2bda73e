"""The line stage against Spark's own sort, Spark SQL alone, and DuckDB: python -m benchmarks.lines [--people N] ...

All sides read the same Parquet files and keep nothing; each prints its median, and ratios are of medians of one run.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.exposures import SUBSTANCES, write_exposures
from jobs.config import Study, conf_folder, load_study
from jobs.lines import build
from jobs.session import start_session

ROWS_PER_PARTITION = 2_000_000
WINDOW, GAP, LEAD = 28, 90, 28


def _noop(frame: DataFrame) -> None:
    frame.write.format("noop").mode("overwrite").save()


def floor(exposures: DataFrame, partitions: int) -> None:
    """What any program that walks over a person's days needs of Spark: the same columns, together and in order."""
    columns = ["person_id", "substance", "given_from", "given_to", "covered_until"]
    rows = exposures.select(*columns).repartition(partitions, "person_id")
    _noop(rows.sortWithinPartitions("person_id", "given_from"))


def lines(cohort: DataFrame, exposures: DataFrame, study: Study, partitions: int) -> None:
    """This program's stage: all rules, every output column."""
    _noop(build.select_lines(build.build_line_records(cohort, exposures, study, partitions)))


def catalyst(cohort: DataFrame, exposures: DataFrame, partitions: int) -> None:
    """Lines in Spark SQL alone, with the stage's columns but for concomitant classes: a lead, a window, a gap
    and the end of follow-up; nothing about companions, leftovers, held substances or carry-in, and one rule set."""
    mask = F.coalesce(*(F.when(F.col("substance") == name, 1 << bit) for bit, name in enumerate(SUBSTANCES)))
    person = cohort.select("person_id", "index_date", "follow_up_end", "follow_up_end_reason")
    followed = exposures.repartition(partitions, "person_id").join(person, "person_id")
    in_time = (F.datediff("given_from", "index_date") >= -LEAD) & (F.col("given_from") <= F.col("follow_up_end"))
    days = (
        followed.where(in_time)
        .groupBy("person_id", "given_from")
        .agg(
            F.bit_or(mask).alias("given"),
            F.max(F.unix_date("covered_until")).alias("covered"),
            F.first(F.unix_date("follow_up_end")).alias("end"),
            F.first("follow_up_end_reason").alias("why"),
        )
        .groupBy("person_id")
        .agg(
            F.sort_array(F.collect_list(F.struct(F.unix_date("given_from").alias("day"), "given", "covered"))).alias(
                "d"
            ),
            F.first("end").alias("end"),
            F.first("why").alias("why"),
        )
    )
    line = "struct<start:int,until:int,covered:int,regimen:int,reason:string>"
    nothing = F.struct(F.array().cast(f"array<{line}>").alias("done"), F.lit(None).cast(line).alias("open"))

    def step(state: Column, day: Column) -> Column:
        current = state["open"]

        def opened(until: Column, covered: Column, start: Column, regimen: Column, reason: Column) -> Column:
            return F.struct(
                start.alias("start"), until.alias("until"), covered.alias("covered"), regimen.alias("regimen"),
                reason.alias("reason"),
            )  # fmt: skip

        not_yet, no_reason = F.lit(None).cast("int"), F.lit(None).cast("string")
        fresh = opened(not_yet, day["covered"], day["day"], day["given"], no_reason)
        covered = F.greatest(current["covered"], day["covered"])
        wider = opened(
            not_yet, covered, current["start"], current["regimen"].bitwiseOR(day["given"]), no_reason
        )
        same = opened(not_yet, covered, current["start"], current["regimen"], no_reason)
        is_gap = day["day"] - current["covered"] >= GAP
        closed = opened(
            F.least(current["covered"], day["day"]), current["covered"], current["start"], current["regimen"],
            F.when(is_gap, "gap").otherwise("switch"),
        )  # fmt: skip
        is_new = day["given"].bitwiseAND(F.bitwise_not(current["regimen"])) != 0
        in_window = day["day"] <= current["start"] + WINDOW
        ends = is_gap | (~in_window & is_new)
        return (
            F.when(current.isNull(), F.struct(state["done"].alias("done"), fresh.alias("open")))
            .when(ends, F.struct(F.array_append(state["done"], closed).alias("done"), fresh.alias("open")))
            .when(in_window, F.struct(state["done"].alias("done"), wider.alias("open")))
            .otherwise(F.struct(state["done"].alias("done"), same.alias("open")))
        )

    walked = F.aggregate("d", nothing, step, lambda state: F.array_append(state["done"], state["open"]))
    lines_of = days.select("person_id", "end", "why", walked.alias("lines"))
    each = lines_of.select("person_id", "end", "why", "lines", F.posexplode("lines").alias("place", "line"))
    following = F.get("lines", F.col("place") + 1)["start"]
    until = F.least(F.coalesce(F.col("line.until"), F.col("line.covered")), F.col("end"))
    gap_at_end = (F.col("line.covered") <= F.col("end")) & (F.col("end") - F.col("line.covered") >= GAP)
    ended = F.coalesce(F.col("line.reason"), F.when(gap_at_end, "gap").otherwise(F.col("why")))
    names = F.array_compact(
        F.array(
            *(
                F.when(F.col("line.regimen").bitwiseAND(1 << bit) != 0, name)
                for bit, name in sorted(enumerate(SUBSTANCES), key=lambda pair: pair[1])
            )
        )
    )
    _noop(
        each.select(
            "person_id",
            (F.col("place") + 1).alias("line_number"),
            names.alias("regimen"),
            F.date_from_unix_date("line.start").alias("line_start"),
            F.date_from_unix_date(until).alias("line_end"),
            (until - F.col("line.start")).alias("duration_days"),
            ended.alias("end_reason"),
            ended.isin("switch", "gap", "death").alias("end_observed"),
            F.when(following.isNotNull(), "next_line").otherwise(F.col("why")).alias("next_state"),
            F.date_from_unix_date(F.coalesce(following, F.col("end"))).alias("next_state_date"),
        )
    )


def duckdb_sort(folder: Path) -> None:
    """DuckDB putting the same rows in order, on two threads."""
    import duckdb

    connection = duckdb.connect(config={"threads": 2})
    query = f"""SELECT person_id, substance, given_from, given_to, covered_until
                FROM read_parquet('{folder}/*.parquet') ORDER BY person_id, given_from"""
    for _ in connection.sql(query).to_arrow_reader(100_000):
        pass
    connection.close()


def _workers() -> Iterator[Path]:
    """Folders under /proc of the living Python workers of this machine's engine (Linux)."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_bytes()
            if b"pyspark" in command and b"daemon" in command:
                yield process


def forget_worker_peaks() -> None:
    """Let every living worker's peak begin at what it holds now."""
    for process in _workers():
        with suppress(OSError):
            (process / "clear_refs").write_text("5")


def worker_peak_mib() -> float:
    """The most memory that any living Python worker has held since its peak was forgotten, MiB."""
    peaks = [0.0]
    for process in _workers():
        with suppress(OSError):
            lines = (process / "status").read_text().splitlines()
            peaks += [int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")]
    return max(peaks)


def _study(rule_sets: int) -> Study:
    study = load_study(conf_folder() / "studies" / "her2_mbc.yaml")
    chosen = dict(list(study.rule_sets.items())[:rule_sets])
    return study.model_copy(update={"rule_sets": chosen})


def _seconds(side: Callable[[], None]) -> float:
    started = time.perf_counter()
    side()
    return time.perf_counter() - started


class Size(NamedTuple):
    """One input: its number of exposures, and what runs on it."""

    rows: int
    sides: Mapping[str, Callable[[], None]]


def _size(spark: SparkSession, folder: Path, people: int, wanted: list[str]) -> Size:
    cohort_path, exposure_path, rows = write_exposures(folder, people)
    cohort, exposures = spark.read.parquet(str(cohort_path)), spark.read.parquet(str(exposure_path))
    partitions = build.partitions_for(rows + people, ROWS_PER_PARTITION, spark.sparkContext.defaultParallelism)
    one, ten = _study(1), _study(10)
    sides: dict[str, Callable[[], None]] = {
        "floor": lambda: floor(exposures, partitions),
        "lines_1": lambda: lines(cohort, exposures, one, partitions),
        "lines_10": lambda: lines(cohort, exposures, ten, partitions),
        "catalyst": lambda: catalyst(cohort, exposures, partitions),
        "duckdb": lambda: duckdb_sort(exposure_path),
    }
    return Size(rows, {name: side for name, side in sides.items() if not wanted or name in wanted})


def compare(spark: SparkSession, folder: Path, people: list[int], repeats: int, wanted: list[str]) -> None:
    """Print the median seconds of every side on every size, and its ratio to Spark's floor; all are taken in turns,
    after one to warm up, so that what else the machine does hits each alike."""
    sizes = [_size(spark, folder, number, wanted) for number in people]
    seconds: dict[tuple[int, str], list[float]] = {}
    peaks = dict.fromkeys((size.rows for size in sizes), 0.0)
    for turn in range(repeats + 1):
        for rows, sides in sizes:
            for name, side in sides.items():
                forget_worker_peaks()
                took = _seconds(side)
                peaks[rows] = max(peaks[rows], worker_peak_mib())  # before the engine ends its idle workers
                print(f"  turn {turn} {rows:,} rows {name} {took:.1f} s", flush=True)
                if turn or not repeats:
                    seconds.setdefault((rows, name), []).append(took)
    medians = {key: statistics.median(of) for key, of in seconds.items()}
    for (rows, name), median in medians.items():
        of_floor = medians.get((rows, "floor"))
        ratio = f", {median / of_floor:.2f} of the floor" if of_floor else ""
        print(f"{rows:,} rows {name}: {median:.2f} s, {median / rows * 1e6:.3f} us a row{ratio}")
    for rows, peak in peaks.items():
        print(f"{rows:,} rows: a Python worker held at most {peak:.0f} MiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, nargs="+", default=[500_000], help="each a size, all taken in turns")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--sides", nargs="*", default=[], help="floor lines_1 lines_10 catalyst duckdb; all unless named"
    )
    parser.add_argument(
        "--folder", type=Path, help="where the Parquet files are made and kept; a temporary one unless named"
    )
    chosen = parser.parse_args()
    spark = start_session({"spark.driver.memory": "6g"}, "benchmark of lines")
    with tempfile.TemporaryDirectory() as temporary:
        compare(spark, chosen.folder or Path(temporary), chosen.people, chosen.repeats, chosen.sides)
    spark.stop()


if __name__ == "__main__":
    main()
