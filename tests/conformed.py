"""The conformed tables of one delivery alone."""

from __future__ import annotations

from pyspark.sql import DataFrame

from jobs.ingest import IngestedTables
from jobs.persons import build_persons


def conformed_of(done: IngestedTables) -> dict[str, DataFrame]:
    """The tables that an ingest of only this delivery would write, with the people."""
    assert done.claims is not None
    return {**done.conformed, "person": build_persons(done.claims)}
