"""What the engine says where it may be read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs.session import start_session

CELL = "01019912345"


def test_an_error_that_is_caught_writes_no_cell(spark: SparkSession, capfd: pytest.CaptureFixture[str]) -> None:
    frame = spark.createDataFrame([(CELL,)], "identifier string")
    frame.createOrReplaceTempView("told")
    spark.conf.set("spark.sql.ansi.enabled", "true")
    try:
        with pytest.raises(PySparkException, match=CELL):
            frame.select(F.col("identifier").cast("date")).collect()
        with pytest.raises(PySparkException, match=CELL):
            spark.sql("SELECT CAST(identifier AS date) FROM told").collect()
        with pytest.raises(PySparkException):
            frame.select("no_such_column")
    finally:
        spark.conf.set("spark.sql.ansi.enabled", "false")
        spark.catalog.dropTempView("told")
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")


SPEAKS = """
from jobs.session import start_session
print("before")
session = start_session({})
session._jvm.java.lang.System.out.println("the engine, on standard output")
assert session.catalog.listTables() == []
print("after")
session.stop()
"""


def test_the_engine_prints_nothing_and_leaves_no_folder(tmp_path: Path) -> None:
    """As Delta does, which prints what a vacuum deletes."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", SPEAKS],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("before\nafter\n", "", 0)
    assert list(tmp_path.iterdir()) == []


def test_missing_files_are_never_passed_over(spark: SparkSession) -> None:
    asked = {f"spark.sql.files.ignore{kind}Files": "true" for kind in ("Missing", "Corrupt")}
    assert start_session(asked) is not None
    assert {key: spark.conf.get(key) for key in asked} == dict.fromkeys(asked, "false")
