"""Ingest against the same shuffle, unpivot and write without any rule: python -m benchmarks.ingest ...

Seconds are of the clock; CPU seconds are the engine's and its workers', which other programs on the machine disturb
less. All sides read the same files in one run.
"""

from __future__ import annotations

import argparse
import os
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.deliveries import DAYS, ROWS_A_PERSON, site_of, write_delivery
from jobs.config import Site
from jobs.contents import with_contents
from jobs.extracts import BESIDE, CORRUPT, DAMAGED, find_extracts, read_extract
from jobs.identity import pseudonymise, read_key, row_pseudonym, with_key, without_key
from jobs.ingest import TABLES_AT_A_TIME, _mark_duplicates, _with_content
from jobs.pipeline import Run, _gate, _has_gate, run_stages
from jobs.session import start_session
from jobs.sources.adapter import DUPLICATE, PLACE, load_adapter

DAY = {"hospital": "inndato", "prescriptions": "Utlevering_Dato"}
FIRST, SECOND, THIRD = "2023-06-30", "2023-10-31", "2024-02-29"
LATE = 30  # days that the third delivery has in common with those before


def cpu_seconds() -> float:
    """CPU seconds so far of this process, the engine and its workers (Linux)."""
    children: dict[int, list[int]] = {}
    spent: dict[int, float] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(process.name))
        spent[int(process.name)] = sum(int(ticks) for ticks in fields[11:15]) / os.sysconf("SC_CLK_TCK")
    total, waiting = 0.0, [os.getpid()]
    while waiting:
        one = waiting.pop()
        total += spent.get(one, 0.0)
        waiting += children.get(one, [])
    return total


Read = Callable[[str, str], DataFrame]  # raw table, its column of identifiers -> rows with person_id, person by person


def plain(spark: SparkSession, folder: Path, partitions: int) -> Read:
    """The rows of each person together and in order. No pseudonyms, nothing judged, compared or counted."""

    def read(name: str, person: str) -> DataFrame:
        rows = spark.read.option("header", True).option("sep", ";").csv(f"{folder}/{name}_*.csv")
        file, row = F.col("_metadata.file_name"), F.monotonically_increasing_id()
        placed = rows.select("*", file.alias("source_file"), row.alias("source_row"))
        together = placed.repartition(partitions, person).sortWithinPartitions(person, DAY[name])
        told = together.withColumnRenamed(person, "person_id")
        return told.withColumn("contact_id", F.concat_ws("-", "source_file", "source_row"))

    return read


def without_rules(spark: SparkSession, site: Site, partitions: int) -> Read:
    """The same with pseudonyms and without repeated rows, as this program reads, pseudonymises and finds them. Nothing
    judged or counted, nothing compared with other tables or deliveries."""
    key = read_key(site)
    extracts = with_contents(spark, find_extracts(lambda: spark, site, load_adapter(site.country)), None)

    def read(name: str, person: str) -> DataFrame:
        rows = read_extract(spark, extracts[name])
        cells = [column for column in rows.columns if column not in ("source_file", *PLACE, BESIDE, CORRUPT, DAMAGED)]
        keyed = pseudonymise(with_key(rows, key), person)
        said = ["person_id" if column == person else column for column in cells]
        marked = _mark_duplicates(without_key(_with_content(keyed, said)), "person_id", partitions)
        rows = marked.where(~F.col(DUPLICATE)).withColumn("contact_id", row_pseudonym())
        return rows.withColumn("source_row", F.col(PLACE[-1]))

    return read


def write_tables(read: Read, target: Path) -> None:
    """What any ingest writes: a row per diagnosis, per drug and per dispensing, as Delta, with the columns that the
    tables have."""
    place = ("source_file", "source_row", "delivery")

    def rows_of(name: str, person: str, *columns: Column, cells: tuple[str, ...] = ()) -> DataFrame:
        rows = read(name, person)
        kept = [column for column in rows.columns if column.startswith(cells)] if cells else []
        return rows.withColumn("delivery", F.lit(FIRST)).select("person_id", *columns, *kept, *place)

    def date(name: str, cell: str) -> Column:
        return F.to_date(cell, "yyyyMMdd").alias(name)

    def write(rows: DataFrame, day: str) -> None:
        writer = rows.write.format("delta").option("delta.dataSkippingStatsColumns", f"{day},delivery")
        writer.save(f"{target}/{secrets.token_hex(4)}")

    def each(name: str, prefixes: tuple[str, ...]) -> DataFrame:
        cells = F.array(*[column for column in hospital.columns if column.startswith(prefixes)])
        return hospital.select("*", F.explode(cells).alias(name)).where(F.col(name).isNotNull())

    dates = (date("start_date", "inndato"), date("end_date", "utdato"))
    contacts = rows_of("hospital", "lopenr", F.col("contact_id"), *dates, cells=("tilstand_", "ncmp_", "cyto_"))
    hospital = contacts.persist()
    told = ("person_id", "contact_id", "start_date", "end_date")
    write(each("icd10", ("tilstand_",)).select(*told, "icd10", F.lit("main").alias("position"), *place), "start_date")
    drugs = each("code", ("ncmp_", "cyto_")).where(F.col("code").rlike("^[0-9L]"))
    more = (F.lit("atc").alias("code_system"), F.lit("unspecified").alias("route"))
    once = F.lit(None).cast("date").alias("end_date")
    write(drugs.select(*told[:-1], once, "code", *more, *place), "start_date")
    hospital.unpersist()
    nothing = (F.lit(None).cast("double").alias("packages"), F.lit(None).cast("int").alias("days_supply"))
    amount = F.replace("DDD", F.lit(","), F.lit(".")).cast("double").alias("ddd")
    handed = (date("dispensed_date", "Utlevering_Dato"), F.col("ATC").alias("atc"), amount, *nothing)
    write(rows_of("prescriptions", "Pasient_Lopenummer", *handed), "dispensed_date")


def ingest(spark: SparkSession, site: Site, delivery: str) -> Run:
    """This program's stage."""
    run = Run(None, site, delivery, lambda: spark, print)
    run_stages(run, "ingest", "ingest")
    return run


def gates(run: Run) -> None:
    """The gates of an ingest again, several at a time as there, but alone."""
    with ThreadPoolExecutor(TABLES_AT_A_TIME) as pool:
        list(pool.map(lambda table: _gate(table, run), filter(_has_gate, run.versions)))


def measured(side: Callable[[], object]) -> tuple[float, float]:
    """Clock and CPU seconds."""
    before, started = cpu_seconds(), time.perf_counter()
    side()
    return time.perf_counter() - started, cpu_seconds() - before


def turn(spark: SparkSession, base: Path, partitions: int) -> dict[str, tuple[float, float]]:
    """Clock and CPU seconds of every side, in a warehouse of its own."""
    with tempfile.TemporaryDirectory(dir=base) as folder:
        target = Path(folder)
        site = site_of(base, target / "warehouse", FIRST, additions=True)
        runs: list[Run] = []
        return {
            "plain": measured(lambda: write_tables(plain(spark, base / FIRST, partitions), target / "plain")),
            "without rules": measured(
                lambda: write_tables(without_rules(spark, site.of_delivery(FIRST), partitions), target / "unruled")
            ),
            "ingest": measured(lambda: runs.append(ingest(spark, site, FIRST))),
            "gates": measured(lambda: gates(runs[0])),
            "one per cent": measured(lambda: ingest(spark, site, SECOND)),
            "one per cent, late rows": measured(lambda: ingest(spark, site, THIRD)),
        }


def compare(spark: SparkSession, folder: Path, rows: int, repeats: int, partitions: int) -> None:
    """Print the medians of both sides for a delivery of `rows` hospital rows and as many dispensings, and of the next
    tertial's delivery, one per cent of it, on top, and another one that has days in common with both."""
    people = rows // ROWS_A_PERSON
    base = folder / f"{rows}"
    write_delivery(base / FIRST, rows, people, 1)
    write_delivery(base / SECOND, rows // 100, people, 2, DAYS, 120)
    write_delivery(base / THIRD, rows // 100, people, 3, DAYS - LATE, 120 + LATE)
    print(f"{rows:,} hospital rows and {rows:,} dispensings of {people:,} people, medians of {repeats}", flush=True)
    turns = []
    for number in range(repeats + 1):
        turns.append(turn(spark, base, partitions))
        said = "; ".join(f"{name} {seconds:.1f} s, {cpu:.1f} CPU s" for name, (seconds, cpu) in turns[-1].items())
        print(f"  turn {number}: {said}", flush=True)
    of_side = {name: [one[name] for one in turns[1 if repeats else 0 :]] for name in turns[0]}  # the first warms up
    medians = {name: tuple(statistics.median(part) for part in zip(*of, strict=True)) for name, of in of_side.items()}
    for name, (seconds, cpu) in medians.items():
        print(f"{name}: {seconds:.1f} s, {cpu:.1f} CPU s")
    seconds, cpu = medians["ingest"]
    of_plain, of_unruled = (seconds / medians[side][0] for side in ("plain", "without rules"))
    shares = {side: medians[side][0] / seconds for side in ("gates", "one per cent", "one per cent, late rows")}
    print(
        f"ingest: {2 * rows / seconds / 2:,.0f} rows a second and core by the clock, {2 * rows / cpu:,.0f} by CPU; "
        f"{of_plain:.2f} of plain, {of_unruled:.2f} of the same without rules; of the ingest: "
        + ", ".join(f"{side} {share:.0%}" for side, share in shares.items()),
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[2_000_000], help="of each of the two files")
    parser.add_argument("--repeats", type=int, default=3, help="0: one turn, cold")
    parser.add_argument("--partitions", type=int, default=8)
    parser.add_argument("--folder", type=Path, help="where deliveries are made and kept; a temporary one unless named")
    chosen = parser.parse_args()
    spark = start_session({"spark.driver.memory": "12g"}, "benchmark of ingest")
    with tempfile.TemporaryDirectory() as temporary:
        for rows in chosen.rows:
            compare(spark, chosen.folder or Path(temporary), rows, chosen.repeats, chosen.partitions)
    spark.stop()


if __name__ == "__main__":
    main()
