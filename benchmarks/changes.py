"""A study's cohort and exposures after a new delivery: computed, computed for one person in a hundred of its people,
and not computed since the change data feed tells that none of them changed: python -m benchmarks.changes ..."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.changes import Span, concern
from jobs.codes import DRUG_TABLES
from jobs.cohort import build_attrition, build_cohort, people_of_kind
from jobs.config import conf_folder, load_drugs, load_study
from jobs.exposures import build_exposures, build_unresolved_codes
from jobs.session import start_session
from jobs.store import CONFORMED_SCHEMA, Store
from schemas import CONFORMED

ROWS_A_PERSON = {"hospital_diagnosis": 50, "hospital_drug": 4, "dispensing": 20}
WITH_TUMOUR, A_DELIVERY = 15, 100  # one person in so many; one row in so many comes with the new delivery
FIRST, SECOND = "2023-06-30", "2023-10-31"
DIAGNOSES = ("I10", "E119", "C509", "C787", "J440", "N185", "I509", "K703", "M059", "Z511")
GIVEN = ("L01FD01", "L01FD02", "L02BA01", "L01CD01", "V03AF01", "L01FD03")
DISPENSED = ("C09AA02", "A10BA02", "L02BG03", "N02BE01", "C07AB02", "L01EH01", "B01AC06", "H03AA01", "N05CF01")


def _one_of(values: tuple[str, ...]) -> Column:
    return F.element_at(F.array(*map(F.lit, values)), (F.rand(3) * len(values)).cast("int") + 1)


def _day() -> Column:
    return F.date_add(F.lit("2008-01-01").cast("date"), (F.rand(2) * 5475).cast("int"))


def _rows(numbers: DataFrame, name: str, delivery: str) -> DataFrame:
    """The rows of a table, one for each `number` of a person, NULL in columns that make no difference here."""
    cells = {
        "person": {"sex": F.lit("female"), "birth_date": F.date_sub(_day(), 20_000), "region": F.lit("a")},
        "tumour": {
            "diagnosis_date": _day(),
            "icd10": _one_of(("C509", "C619")),
            "stage": _one_of(("distant", "regional", "localised")),
            "her2": _one_of(("positive", "negative", "negative")),
        },
        "recurrence": {"event_date": _day(), "kind": F.lit("distant")},
        "hospital_diagnosis": {"start_date": _day(), "icd10": _one_of(DIAGNOSES), "position": F.lit("main")},
        "hospital_drug": {"start_date": _day(), "code_system": F.lit("atc"), "code": _one_of(GIVEN)},
        "dispensing": {"dispensed_date": _day(), "atc": _one_of(DISPENSED), "packages": F.lit(1.0)},
    }[name]
    row = F.monotonically_increasing_id()
    place = {"source_file": F.lit("a.csv"), "source_row": row, "delivery": F.lit(delivery)}
    told = {"person_id": F.md5(F.col("number").cast("string")), **cells, **place}
    if name != "recurrence":
        told |= dict.fromkeys(("tumour_id", "contact_id"), F.md5(row.cast("string")))
    columns = [
        told.get(column.name, F.lit(None)).cast(column.type).alias(column.name) for column in CONFORMED[name].columns
    ]
    return numbers.select(*columns)


def _together(rows: DataFrame) -> DataFrame:
    return rows.repartition(8, "person_id").sortWithinPartitions("person_id")


def write_deliveries(store: Store, people: int) -> list[Span]:
    """The conformed tables of so many people, and a delivery on top that says nothing of those with a tumour; what it
    did to the tables."""
    spark = store.spark
    with_tumour = people // WITH_TUMOUR

    def drawn(rows: int, first: int, last: int, seed: int) -> DataFrame:
        return spark.range(rows).select((F.rand(seed) * (last - first) + first).cast("bigint").alias("number"))

    numbers = {
        "person": spark.range(people).withColumnRenamed("id", "number"),
        "tumour": spark.range(with_tumour).withColumnRenamed("id", "number"),
        "recurrence": drawn(with_tumour // 2, 0, with_tumour, 4),
        **{name: drawn(rows * people, 0, people, 5) for name, rows in ROWS_A_PERSON.items()},
    }
    for name, of_people in numbers.items():
        store.overwrite(CONFORMED_SCHEMA, name, _together(_rows(of_people, name, FIRST)), {"fingerprint": "first"})
    note = {"fingerprint": "second"}
    person = store.read(CONFORMED_SCHEMA, "person", 0)
    commits = {"person": store.overwrite(CONFORMED_SCHEMA, "person", person, note)}
    for name, rows in ROWS_A_PERSON.items():
        new = _rows(drawn(rows * people // A_DELIVERY, with_tumour, people, 6), name, SECOND)
        commits[name] = store.append(CONFORMED_SCHEMA, name, _together(new), note)
    return [Span(name, 0, 1, commit.rows) for name, commit in commits.items()]


def compare(spark: SparkSession, folder: Path, people: int, repeats: int) -> None:
    """Print the medians of the sides, in turns after one to warm up."""
    store, drugs = Store(spark, str(folder / "warehouse")), load_drugs()
    study = load_study(conf_folder() / "studies" / "her2_mbc.yaml")
    spans = write_deliveries(store, people)
    tables = {
        name: store.read(CONFORMED_SCHEMA, name, store.existing(CONFORMED_SCHEMA, name).version)
        for name in store.tables(CONFORMED_SCHEMA)
    }
    few = spark.range(0, people // WITH_TUMOUR, 100).select(F.md5(F.col("id").cast("string")).alias("person_id"))
    of_few = {name: rows.join(F.broadcast(few), "person_id", "left_semi") for name, rows in tables.items()}

    def compute(tables: dict[str, DataFrame]) -> None:
        def write(name: str, rows: DataFrame) -> None:
            store.overwrite("study", name, rows, {"fingerprint": "study"})

        write("attrition", build_attrition(tables, study, drugs))
        write("cohort", build_cohort(tables, study, drugs, "no"))
        cohort = store.read("study", "cohort", store.existing("study", "cohort").version)
        write("unresolved_codes", build_unresolved_codes(tables, cohort, study, drugs, "no"))
        write("exposures", build_exposures(tables, cohort, study, drugs, "no", None))

    def ask() -> None:
        cohort = store.read("study", "cohort", store.existing("study", "cohort").version)
        of_kind = people_of_kind(tables["tumour"], study).persist()
        concerned = concern(store, spans, of_kind)
        of_kind.unpersist()
        if concerned or concern(store, [span for span in spans if span.table in DRUG_TABLES], cohort):
            raise ValueError("the delivery speaks of nobody with a tumour")

    sides: dict[str, Callable[[], None]] = {
        "computed for one person in a hundred": lambda: compute(of_few),
        "computed": lambda: compute(tables),
        "asked": ask,
    }
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(repeats + 1):
        for side, run in sides.items():
            started = time.perf_counter()
            run()
            seconds[side].append(time.perf_counter() - started)
    medians = {side: statistics.median(taken[1:]) for side, taken in seconds.items()}
    rows = sum(store.existing(CONFORMED_SCHEMA, name).rows for name in ROWS_A_PERSON)
    print(f"{people:,} people, medians of {repeats}; the delivery has {rows:,} rows of hospitals and dispensings")
    for side, taken in medians.items():
        print(f"{side}: {taken:.1f} s, {taken / medians['computed']:.2f} of computed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=500_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the tables are made; a temporary one unless named")
    chosen = parser.parse_args()
    spark = start_session({"spark.driver.memory": "8g"}, "benchmark of changes")
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        compare(spark, Path(folder), chosen.people, chosen.repeats)
    spark.stop()


if __name__ == "__main__":
    main()
