"""What the engine says where it may be read."""

from __future__ import annotations

import pytest
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

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
