"""Life tables in three published layouts, through ingest: what each of their numbers means, and what is wrong."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from jobs.config import Site
from jobs.contents import with_contents
from jobs.errors import ConfigurationError, InputError
from jobs.extracts import find_extracts
from jobs.ingest import ingested_tables
from jobs.net_frame import LifeTable
from jobs.sources.adapter import load_adapter

HMD = """Norway, Death rates (period 1x1), \tLast modified: 01 Jan 2024;  Methods Protocol: v6 (2017)

  Year          Age             Female            Male           Total
  2011           0             0.002000        0.003000        0.002500
  2011           1             0.000100        0.000200        0.000150
  2011         110+            1.200000               .        1.200000
  2012           0             0.001900        0.002900        0.002400
  2012           1             0.000090       -0.000190        0.000140
"""
NORDCAN = "sex;year;age;prob\n1;2011;0;0,997\n2;2011;0;0.998\n3;2011;0;0.998\n2;2011;1;1.2\n2;xx;1;0.99\n"


def ingested(spark: SparkSession, folder: Path, name: str, text: str, country: str | None = "no") -> dict[str, Any]:
    (folder / "table.txt").write_text(text, encoding="utf-8")
    (folder / "person.csv").write_text("person_id,sex,birth_date\n1,female,1950-01-01\n")
    (folder / "tumour.csv").write_text("person_id,tumour_id,diagnosis_date,icd10\n1,1,2012-01-01,C50\n")
    site = Site.model_validate(
        {
            "country": "conformed",
            "warehouse": str(folder / "warehouse"),
            "life_table_country": country,
            "inputs": {
                table: {"path": str(folder / file)}
                for table, file in (("person", "person.csv"), ("tumour", "tumour.csv"), (name, "table.txt"))
            },
        }
    )
    adapter = load_adapter("conformed")
    extracts = with_contents(spark, find_extracts(lambda: spark, site, adapter), None)
    with ingested_tables(spark, site, adapter, extracts, "2023-01-01", b"k" * 32) as done:
        return {
            "table": done.conformed["life_table"].toPandas(),
            "quarantine": done.quarantined[name].toPandas(),
            "ledger": {row.raw_table: row for row in done.ledger.collect()}[name],
        }


def test_rates_of_the_human_mortality_database_become_probabilities(spark: SparkSession, tmp_path: Path) -> None:
    found = ingested(spark, tmp_path, "life_table_hmd", HMD)
    rows = found["table"].set_index(["sex", "year", "age"])["probability_of_death"]
    assert rows["female", 2011, 0] == pytest.approx(1 - math.exp(-0.002), abs=1e-15)
    assert rows["female", 2011, 110] == pytest.approx(1 - math.exp(-1.2), abs=1e-15)
    assert ("male", 2011, 110) not in rows.index
    assert len(rows) == 7
    assert found["quarantine"]["reasons"].map(list).tolist() == [["impossible_number:male"]]
    assert (found["ledger"].rows_in, found["ledger"].rows_accepted) == (5, 4)
    assert set(found["table"]["country"]) == {"no"}


def test_a_rate_is_the_hazard_again_and_last_ages_hold(spark: SparkSession, tmp_path: Path) -> None:
    lines = [f"2011 {age} {0.001 * (age + 1):.6f} {0.002 if age < 110 else '.'} 1" for age in range(110)]
    text = HMD.splitlines()[0] + "\n\nYear Age Female Male Total\n" + "\n".join([*lines, "2011 110+ 1.2 . 1.2"]) + "\n"
    life = LifeTable.of(ingested(spark, tmp_path, "life_table_hmd", text)["table"])
    assert life.hazard[0, 0, 0, [0, 1, 110]] == pytest.approx(np.array([0.001, 0.002, 1.2]) / 365.241, rel=1e-9)
    assert life.hazard[1, 0, 0, 110] == life.hazard[1, 0, 0, 109]


def _of_years(**last_age: int) -> pd.DataFrame:
    """Years whose tables close with certain death at an age of their own."""
    rows = [
        ("no", None, sex, int(year[1:]), age, 1.0 if age == last else 0.01 + age / 1000)
        for sex in ("female", "male") for year, last in last_age.items() for age in range(last + 1)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["country", "region", "sex", "year", "age", "probability_of_death"])


def test_years_may_close_at_ages_of_their_own() -> None:
    life = LifeTable.of(_of_years(y2000=100, y2001=105))
    assert (life.hazard[:, 0, 0, 99:] == life.hazard[0, 0, 0, 99]).all()
    assert (life.hazard[:, 0, 1, 104:] == life.hazard[0, 0, 1, 104]).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda rows: _of_years(y2000=100, y2001=30), "no row for female, 2001, age 31"),
        (lambda rows: rows.assign(age=rows["age"] - 1), "an age is not between 0 and 130"),
        (lambda rows: pd.concat([rows, rows.head(1).assign(probability_of_death=0.5)]), "is there twice"),
    ],
)
def test_tables_that_are_cut_off_or_contradict_themselves(change: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        LifeTable.of(change(_of_years(y2000=100)))


def test_probabilities_of_surviving(spark: SparkSession, tmp_path: Path) -> None:
    found = ingested(spark, tmp_path, "life_table_nordcan", NORDCAN)
    rows = found["table"].set_index("sex")["probability_of_death"]
    assert rows.to_dict() == pytest.approx({"male": 0.003, "female": 0.002})
    assert sorted(found["quarantine"]["reasons"].map(list).tolist()) == [
        ["impossible_number:prob"], ["impossible_number:year"], ["unknown_code:sex"],
    ]  # fmt: skip
    assert found["ledger"].rows_in == 5


def test_faults(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="life_table_country"):
        ingested(spark, tmp_path, "life_table_hmd", HMD, None)
    gap = pd.DataFrame(
        [("no", None, sex, 2011, age, 0.1) for sex in ("female", "male") for age in (0, 2)],
        columns=["country", "region", "sex", "year", "age", "probability_of_death"],
    )
    with pytest.raises(InputError, match="no row for female, 2011, age 1"):
        LifeTable.of(gap)
