"""One Spark session for the whole test run, tuned for small data."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from jobs.session import start_session
from jobs.synthetic.registers import INTERPRETED


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    properties = {"spark.sql.shuffle.partitions": "1", "spark.driver.memory": "5g", **INTERPRETED}
    session = start_session(properties, "treatment-lines tests")
    yield session
    session.stop()
