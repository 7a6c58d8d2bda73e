"""A delivery's raw tables in counts: empty cells by column, and how often each known code stands where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.config import Site
from jobs.sources.adapter import RawTable

EMPTY, OTHER = "(empty)", "(other)"
MAXIMUM_CODES = 60

ProfileRow = tuple[str, str, str, str, int]


def profile_rows(
    annotated: Mapping[str, DataFrame], raws: Mapping[str, RawTable], site: Site, delivery: str
) -> Iterator[ProfileRow]:
    """(delivery, raw table, column, code, n) over all rows read: `(empty)` for every column, each code that has a
    meaning, `(other)` for codes without one. No cell that is not a known code is in it.

    One Spark action per raw table.
    """
    for name, frame in sorted(annotated.items()):
        raw = raws[name]
        columns = [column for column in (*raw.columns, *raw.optional) if column in frame.columns]
        columns = [column for column in columns if column != raw.id_column and column not in raw.id_parts]
        known = {column: sorted(codes) for column, codes in raw.known_codes(site).items() if column in columns}
        counted: list[tuple[str, str]] = [(column, EMPTY) for column in columns]
        counts: list[Column] = [F.count_if(F.col(column).isNull()) for column in columns]
        for column, codes in known.items():
            if len(codes) > MAXIMUM_CODES:
                continue
            for code in codes:
                counted.append((column, code))
                counts.append(F.count_if(F.col(column) == code))
            counted.append((column, OTHER))
            counts.append(F.count_if(~F.col(column).isin(*codes)))
        if counts:
            row = frame.agg(*(count.alias(f"c{place}") for place, count in enumerate(counts))).collect()[0]
            for (column, code), n in zip(counted, row, strict=True):
                yield (delivery, name, column, code, int(n))
