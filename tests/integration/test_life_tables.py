"""Life tables in three published layouts, through ingest: what each of their numbers means, and what is wrong."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from jobs.config import Site
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
    extracts = find_extracts(lambda: spark, site, adapter)
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
    text = HMD.replace("-0.000190", "0.000190").replace("110+", "2   ")
    life = LifeTable.of(ingested(spark, tmp_path, "life_table_hmd", text)["table"])
    assert life.hazard[0, 0, 0] == pytest.approx([0.002 / 365.241, 0.0001 / 365.241, 1.2 / 365.241], rel=1e-12)
    assert life.hazard[1, 0, 0, 2] == life.hazard[1, 0, 0, 1]
    assert life.hazard[0, 0, 1, 2] == life.hazard[0, 0, 1, 1]


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
