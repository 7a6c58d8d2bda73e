"""Whether rows of some people changed between two versions of the conformed tables, told by their change data feed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.store import CONFORMED_SCHEMA, Store
from schemas import CONFORMED
from schemas.contract import LINEAGE

# What no study reads: when a row was delivered and, of a person, in which row.
UNREAD = {"person": tuple(column.name for column in LINEAGE)}


class UntoldError(Exception):
    """What changed is no longer told: a version is not in the log, or files of the feed are gone."""


@dataclass(frozen=True)
class Span:
    """The versions of a table after one up to another, and how many rows they wrote."""

    table: str
    after: int
    until: int
    rows: int


@contextmanager
def _told() -> Iterator[None]:
    """The engine has an error of its own for each way in which a feed can be gone, mostly when it is read."""
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, Py4JJavaError):
        raise UntoldError from None


def span_since(store: Store, table: str, identity: str, until: int) -> Span | None:
    """The versions of a table after that of this identity up to `until`, None where that is no later one; UntoldError
    where the log does not know the identity."""
    commits = store.commits(CONFORMED_SCHEMA, table)
    known = [commit.version for commit in commits if commit.identity == identity]
    if not known:
        raise UntoldError
    after = max((version for version in known if version <= until), default=None)
    if after is None:
        return None
    written = (commit.rows for commit in commits if after < commit.version <= until and commit.holds is None)
    return Span(table, after, until, sum(written))


def changes(store: Store, span: Span) -> DataFrame:
    """Every row that came or went in a span, with the table's columns and `_change_type`."""
    with _told():
        return store.changes(CONFORMED_SCHEMA, span.table, span.after + 1, span.until)


def changed_people(store: Store, span: Span, among: DataFrame) -> DataFrame:
    """The people (person_id, once) of `among` with a row more, less or other after a span than before it, whatever
    came and went meanwhile."""
    unread = UNREAD.get(span.table, ("delivery",))
    read = [name for name in CONFORMED[span.table].column_names if name not in unread]
    more = F.sum(F.when(F.col("_change_type").isin("insert", "update_postimage"), 1).otherwise(-1))
    of_people = changes(store, span).join(among.select("person_id"), "person_id", "left_semi")
    return of_people.groupBy(*read).agg(more.alias("__more")).where("__more != 0").select("person_id").distinct()


def concern(store: Store, spans: Sequence[Span], among: DataFrame) -> bool:
    """Whether anybody of `among` changed in one of the spans, the shortest first; UntoldError where that is no longer
    told."""
    with _told():
        return any(
            not changed_people(store, span, among).isEmpty() for span in sorted(spans, key=lambda span: span.rows)
        )
