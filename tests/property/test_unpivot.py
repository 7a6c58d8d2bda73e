"""Wide rows made long, against a plain reading of the same cells."""

from __future__ import annotations

import random
import re

from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from jobs.sources.parse import bare_code
from jobs.sources.unpivot import unpivoted

CELLS = (None, None, "C509", "c50.9", "C50-9", "...", "I10", "i10", " ", "Å", "0", "C787")


def _kind(column: str) -> str | None:
    return {"m": "main", "s": "secondary"}.get(column[2])


def _kind_told(column: str) -> Column:
    return F.lit(_kind(column)).cast("string")


def _bare(cell: str) -> str:
    return re.sub("[^0-9A-Z]", "", cell.upper()) if re.search("[^0-9A-Z]", cell) else cell


def test_each_code_stands_once_for_each_kind_of_column(spark: SparkSession) -> None:
    """Also of many columns, of kinds that stand between each other, and of rows without a code."""
    drawn = random.Random(20261129)
    columns = ["d_m1", "d_s1", "d_x1", "d_m2", *(f"d_s{number}" for number in range(2, 12)), "d_x2", "d_m3"]
    rows = [[drawn.choice(CELLS) for _ in columns] for _ in range(1500)] + [[None] * len(columns)]
    expected = {
        (number, _bare(cell), _kind(column))
        for number, row in enumerate(rows)
        for column, cell in zip(columns, row, strict=True)
        if cell and _bare(cell)
    }
    schema = ", ".join(["row int", *(f"{column} string" for column in columns), "other string"])
    wide = spark.createDataFrame([(number, *row, "x") for number, row in enumerate(rows)], schema)
    long = unpivoted(wide, ("d_",), bare_code, _kind_told)
    assert long.columns == ["row", "other", "cell", "of_column"]
    found = [(row["row"], row["cell"], row["of_column"]) for row in long.collect()]
    assert len(found) == len(set(found)), "equal ones once"
    assert set(found) == expected
    assert {kind for _, _, kind in found} == {"main", "secondary", None}


def test_rows_without_such_columns_give_none(spark: SparkSession) -> None:
    assert unpivoted(spark.createDataFrame([(1,)], "row int"), ("d_",)).collect() == []


def test_codes_of_unlike_columns_stand_side_by_side(spark: SparkSession) -> None:
    wide = spark.createDataFrame([("a", "A", "a")], "d_1 string, d_2 string, d_3 string")
    assert [row.cell for row in unpivoted(wide, ("d_",)).collect()] == ["A"], "in upper case unless said otherwise"
    assert sorted(map(tuple, unpivoted(wide, ("d_",), lambda cell: cell, F.lit).collect())) == [
        ("A", "d_2"),
        ("a", "d_1"),
        ("a", "d_3"),
    ]
