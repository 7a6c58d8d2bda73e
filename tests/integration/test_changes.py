"""A study's tables stay where new rows are of others, and are then those of a full computation."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

import jobs.pipeline
from jobs.changes import concern
from jobs.cohort import build_attrition, build_cohort
from jobs.config import Drugs, Site, Study
from jobs.exposures import build_exposures, build_unresolved_codes
from jobs.pipeline import TABLE_STAGES, Run, find_or_run
from jobs.store import CONFORMED_SCHEMA, Lock, Store
from schemas import CONFORMED
from schemas.contract import LINEAGE

DELIVERY = "2023-06-30"
STUDY = Study.model_validate(
    {
        "name": "small",
        "period": {"index_from": "2012-01-01", "index_until": "2019-12-31", "follow_up_until": "2020-06-30"},
        "cohort": {
            "tumour": {"icd10": ["C50"], "her2": "positive"},
            "index": "diagnosis",
            "comorbidity": None,
            "treatment_information": [
                {"region": "*", "source": "dispensing", "from": "2004-01-01", "until": "2022-12-31"}
            ],
        },
        "drugs": {"line_defining": ["trastuzumab"], "classes": ["endocrine"]},
        "rule_sets": {"primary": {}},
        "strata": ["receptor"],
    }
)
DRUGS = Drugs.model_validate(
    {
        "substances": {
            "trastuzumab": {"class": "anti_her2", "atc": ["L01XC03"]},
            "tamoxifen": {"class": "endocrine", "atc": ["L02BA01"]},
        }
    }
)
MEMBERS, WITHOUT_HER2, OTHER_CANCER, HEALTHY = range(4), 4, 5, range(6, 10)
PLACE = [column.name for column in LINEAGE]
STAGES = {stage.name: stage for stage in TABLE_STAGES}
Rows = list[dict[str, Any]]


def _day(year: int) -> datetime.date:
    return datetime.date(year, 6, 1)


def _person(number: int, **said: Any) -> dict[str, Any]:
    born = {"sex": "female", "birth_date": _day(1950), "birth_date_precision": "day", "region": "a"}
    return {"person_id": f"{number:032x}", **born, **said}


def _tumour(number: int, icd10: str = "C509", her2: str = "positive") -> dict[str, Any]:
    diagnosed = {"tumour_id": f"{number + 100:032x}", "diagnosis_date": _day(2014), "diagnosis_date_precision": "day"}
    return {"person_id": f"{number:032x}", **diagnosed, "icd10": icd10, "stage": "distant", "her2": her2}


def _dispensing(number: int, year: int = 2016) -> dict[str, Any]:
    return {"person_id": f"{number:032x}", "dispensed_date": _day(year), "atc": "L02BA01", "packages": 1.0}


class Warehouse:
    """Conformed tables that change as ingests change them, and the stages that read them."""

    def __init__(self, spark: SparkSession, folder: Path, lock: Lock) -> None:
        self.store, self.lock = Store(spark, str(folder / "warehouse")), lock
        self.site = Site.model_validate(
            {"name": "s", "country": "conformed", "warehouse": str(folder / "warehouse"), "out": str(folder / "out"),
             "inputs": {"person": {"path": "person.csv"}}}
        )  # fmt: skip
        self.placed = 0
        self.said: list[str] = []
        self.told: list[bool] = []  # whether anybody was concerned, each time that the feed was asked

    def frame(self, name: str, rows: Rows) -> DataFrame:
        """Rows with a place of their own, unless they have one."""
        full = []
        for row in rows:
            self.placed += 1
            place = {"source_file": "a.csv", "source_row": self.placed, "delivery": DELIVERY}
            told = {**place, **row}
            full.append(tuple(told.get(column.name) for column in CONFORMED[name].columns))
        return self.store.spark.createDataFrame(full, CONFORMED[name].struct())

    def note(self) -> dict[str, str]:
        self.placed += 1
        return {"fingerprint": f"{self.placed:064x}"}

    def overwrite(self, name: str, rows: Rows) -> None:
        self.store.overwrite(CONFORMED_SCHEMA, name, self.frame(name, rows), self.note())

    def append(self, name: str, *rows: dict[str, Any]) -> None:
        self.store.append(CONFORMED_SCHEMA, name, self.frame(name, list(rows)), self.note())

    def remove(self, name: str, person: int) -> None:
        newest = self.store.existing(CONFORMED_SCHEMA, name)
        rows = self.store.read(CONFORMED_SCHEMA, name, newest.version).where(f"person_id = '{person:032x}'")
        self.store.remove(CONFORMED_SCHEMA, name, rows.localCheckpoint(), PLACE)

    def versions(self) -> dict[str, int]:
        return {name: self.store.existing(CONFORMED_SCHEMA, name).version for name in self.store.tables("conformed")}

    def run(self, versions: Mapping[str, int], *stages: str) -> list[str]:
        """The outcome of each stage on these versions; its tables are checked to be those of a full computation."""
        self.said, self.told = [], []
        run = Run(STUDY, self.site, DELIVERY, lambda: self.store.spark, self.said.append)
        run.drugs = DRUGS
        tables = {}
        for name, version in versions.items():
            commit = next(one for one in self.store.commits(CONFORMED_SCHEMA, name) if one.version == version)
            tables[name] = self.store.read(CONFORMED_SCHEMA, name, version)
            run.use(name, replace(commit, rows=tables[name].count()))

        def asked(*arguments: Any) -> bool:
            self.told.append(concern(*arguments))
            return self.told[-1]

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(jobs.pipeline, "concern", asked)
            outcomes = [find_or_run(STAGES[stage], run, self.lock).outcome for stage in stages]
        made = {"attrition": build_attrition(tables, STUDY, DRUGS),
                "cohort": build_cohort(tables, STUDY, DRUGS, "conformed")}  # fmt: skip
        if "exposures" in stages:
            people = made["cohort"]
            made |= {"exposures": build_exposures(tables, people, STUDY, DRUGS, "conformed", None),
                     "unresolved_codes": build_unresolved_codes(tables, people, STUDY, DRUGS, "conformed")}  # fmt: skip
        for name, frame in made.items():
            stands = run.read(name).select(frame.columns).collect()
            assert sorted(stands, key=repr) == sorted(frame.collect(), key=repr), name
        return outcomes


@pytest.fixture(scope="module")
def warehouse(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    folder = tmp_path_factory.mktemp("changes")
    with Lock(spark, str(folder / "warehouse")) as lock:
        made = Warehouse(spark, folder, lock)
        people = [_person(number) for number in range(10)]
        made.overwrite("person", people)
        made.overwrite("tumour", [*map(_tumour, MEMBERS), _tumour(WITHOUT_HER2, her2="negative"),
                                  _tumour(OTHER_CANCER, "C619")])  # fmt: skip
        made.overwrite("dispensing", [_dispensing(number, year) for number in range(10) for year in range(2008, 2018)])
        assert made.run(made.versions(), "cohort", "exposures") == ["done", "done"]
        yield made


CONCERNS_NONE = "concerns none of its people"
UNTOLD = "cohort: the change feed no longer tells what changed since its last run; all is computed again"


def test_new_rows_of_others_leave_the_tables(warehouse: Warehouse) -> None:
    warehouse.append("dispensing", *map(_dispensing, HEALTHY))
    warehouse.append("tumour", _tumour(HEALTHY[0], "C619"))
    assert warehouse.run(warehouse.versions(), "cohort", "exposures") == ["unchanged", "unchanged"]
    assert [line for line in warehouse.said if CONCERNS_NONE in line] == [
        f"cohort: what is new in dispensing, tumour {CONCERNS_NONE}",
        f"exposures: what is new in dispensing {CONCERNS_NONE}",
    ]
    assert warehouse.run(warehouse.versions(), "cohort", "exposures") == ["unchanged", "unchanged"]
    assert warehouse.told == [], "nothing is new since"
    warehouse.store.optimize("small", "attrition")
    before = warehouse.versions()
    warehouse.append("dispensing", _dispensing(HEALTHY[1]))
    assert warehouse.run(warehouse.versions(), "cohort") == ["unchanged"]
    assert (warehouse.told, warehouse.said[0]) == ([False], f"cohort: what is new in dispensing {CONCERNS_NONE}")
    assert warehouse.run(before, "cohort") == ["done"], "as it was before is nothing that the feed is asked for"
    assert warehouse.told == []


def test_a_person_told_again_stays_and_one_who_died_does_not(warehouse: Warehouse) -> None:
    warehouse.run(warehouse.versions(), "cohort")
    warehouse.overwrite("person", [_person(number, delivery="2023-12-31") for number in range(10)])
    assert warehouse.run(warehouse.versions(), "cohort") == ["unchanged"]
    died = {"death_date": _day(2017), "death_date_precision": "day"}
    for number, outcome in ((HEALTHY[0], "unchanged"), (MEMBERS[1], "done")):
        warehouse.overwrite("person", [_person(one, **(died if one == number else {})) for one in range(10)])
        assert warehouse.run(warehouse.versions(), "cohort") == [outcome]
        assert warehouse.told == [outcome == "done"]


def test_who_has_no_tumour_of_the_kind_any_more_or_only_now_is_asked_about(warehouse: Warehouse) -> None:
    warehouse.run(warehouse.versions(), "cohort")
    warehouse.remove("tumour", WITHOUT_HER2)
    assert warehouse.run(warehouse.versions(), "cohort") == ["done"]
    assert warehouse.told == [True]
    warehouse.remove("tumour", OTHER_CANCER)
    warehouse.append("tumour", _tumour(OTHER_CANCER))
    assert warehouse.run(warehouse.versions(), "cohort") == ["done"]
    assert warehouse.told == [True]


def test_a_drug_of_a_member_counts(warehouse: Warehouse) -> None:
    warehouse.run(warehouse.versions(), "cohort", "exposures")
    warehouse.append("dispensing", _dispensing(MEMBERS[0], 2018))
    assert warehouse.run(warehouse.versions(), "cohort", "exposures") == ["done", "done"]
    assert warehouse.told == [True], "exposures of a new cohort are not asked about"


def test_a_new_life_table_and_a_delivery_put_back_are_nothing_new(warehouse: Warehouse) -> None:
    warehouse.run(warehouse.versions(), "cohort")
    rates = {"country": "no", "sex": "female", "year": 2015, "age": 60, "probability_of_death": 0.01}
    warehouse.overwrite("life_table", [rates])
    passed = warehouse.store.existing(CONFORMED_SCHEMA, "dispensing")
    warehouse.append("dispensing", _dispensing(MEMBERS[1], 2018))
    warehouse.store.disown(CONFORMED_SCHEMA, "dispensing")
    warehouse.store.restore(CONFORMED_SCHEMA, "dispensing", passed)
    assert warehouse.run(warehouse.versions(), "cohort") == ["unchanged"]
    assert warehouse.told == []


def test_where_most_is_new_nobody_asks(warehouse: Warehouse) -> None:
    warehouse.run(warehouse.versions(), "cohort")
    warehouse.append("dispensing", *(_dispensing(HEALTHY[0], year) for year in range(1700, 2000)))
    assert warehouse.run(warehouse.versions(), "cohort") == ["done"]
    assert warehouse.told == []
    assert UNTOLD not in warehouse.said


def test_where_the_feed_is_gone_all_is_computed_and_a_line_says_so(warehouse: Warehouse) -> None:
    warehouse.run(warehouse.versions(), "cohort")
    warehouse.append("dispensing", _dispensing(HEALTHY[0], 2019))
    warehouse.store.optimize(CONFORMED_SCHEMA, "dispensing")
    Store(warehouse.store.spark, warehouse.store.warehouse, 0).vacuum(CONFORMED_SCHEMA, "dispensing")
    assert warehouse.run(warehouse.versions(), "cohort") == ["done"]
    assert UNTOLD in warehouse.said
    # As after an erasure: a log that does not know the version that the stage was made of.
    shutil.rmtree(Path(warehouse.store.warehouse, CONFORMED_SCHEMA, "tumour"))
    warehouse.store.forget_cached()
    warehouse.overwrite("tumour", [*map(_tumour, MEMBERS)])
    assert warehouse.run(warehouse.versions(), "cohort") == ["done"]
    assert UNTOLD in warehouse.said
