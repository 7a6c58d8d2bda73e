"""Invented exposures for benchmarks, seeded: about 40 rows a person in three phases, two substances in combination.

Rows stand in the order of their day, as registers deliver them, so a person's rows lie in every file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from schemas import TABLES

SUBSTANCES = ("trastuzumab", "pertuzumab", "trastuzumab_emtansine", "tucatinib")
T, P, K, U = range(4)
FIRST_INDEX, DAYS_OF_INDEX, FOLLOWED = 15_340, 3_650, 1_500  # days from 1970-01-01
COVER = 21
FILES = 8
PEOPLE_AT_A_TIME = 500_000


def _identifiers(people: int, random: np.random.Generator) -> pa.Array:
    """32 hexadecimal digits each."""
    digits = np.frombuffer(random.bytes(16 * people).hex().encode(), "S32")
    return pa.array(digits).cast(pa.string())


def _rows(index: npt.NDArray[np.int64], random: np.random.Generator) -> tuple[npt.NDArray[np.int64], ...]:
    """person, substance, day of every administration: combination, conjugate, then tablets beside an antibody."""
    people = len(index)
    person, substance, day = [], [], []
    start = index + random.integers(-10, 60, people)
    for pair, longest in (((T, P), 19), ((K,), 16), ((T, U), 11)):
        cycles = random.integers(2, longest, people)
        for cycle in range(longest):
            treated = np.flatnonzero(cycles > cycle)
            given = start[treated] + 21 * cycle + random.integers(0, 4, len(treated))
            for one in pair:
                person.append(treated)
                substance.append(np.full(len(treated), one))
                day.append(given)
        start = start + 21 * cycles + random.integers(0, 150, people)
    return np.concatenate(person), np.concatenate(substance), np.concatenate(day)


def write_exposures(folder: Path, people: int, seed: int = 1) -> tuple[Path, Path, int]:
    """Write `cohort` and `exposures` (Parquet, the columns of schemas) of `people` invented people; their number of
    rows is the third result. Files that are there already are kept."""
    cohort, exposures = folder / f"cohort_{people}", folder / f"exposures_{people}"
    done = folder / f"rows_{people}"
    if done.exists():
        return cohort, exposures, int(done.read_text())
    cohort.mkdir(parents=True, exist_ok=True)
    exposures.mkdir(exist_ok=True)
    rows = 0
    for block, first in enumerate(range(0, people, PEOPLE_AT_A_TIME)):
        random = np.random.default_rng((seed, block))
        here = min(PEOPLE_AT_A_TIME, people - first)
        ids = _identifiers(here, random)
        index = FIRST_INDEX + random.integers(0, DAYS_OF_INDEX, here)
        end = index + random.integers(200, FOLLOWED, here)
        reasons = pa.array(["death", "study_end", "emigration"]).take(pa.array(random.integers(0, 3, here)))
        of_cohort = {
            "person_id": ids,
            "index_date": pa.array(index.astype(np.int32)).cast(pa.date32()),
            "follow_up_end": pa.array(end.astype(np.int32)).cast(pa.date32()),
            "follow_up_end_reason": reasons,
        }
        pq.write_table(pa.table(of_cohort), cohort / f"{block}.parquet")
        person, substance, day = _rows(index, random)
        order = np.argsort(day, kind="stable")
        person, substance, day = person[order], substance[order], day[order].astype(np.int32)
        rows += len(person)
        for number, part in enumerate(np.array_split(np.arange(len(person)), FILES)):
            given = pa.array(day[part]).cast(pa.date32())
            columns = {
                "person_id": ids.take(pa.array(person[part])),
                "substance": pa.array(SUBSTANCES).take(pa.array(substance[part])),
                "class": pa.array(["anti_her2"]).take(pa.array(np.zeros(len(part), np.int64))),
                "given_from": given,
                "given_to": given,
                "covered_until": pa.array(day[part] + COVER).cast(pa.date32()),
                "source": pa.array(["hospital_drug"]).take(pa.array(np.zeros(len(part), np.int64))),
            }
            table = pa.table(columns, schema=TABLES["exposures"].arrow())
            # Identifiers are too many for a dictionary but for the smallest sizes, whose rows would be read otherwise.
            repeated = [column for column in columns if column != "person_id"]
            pq.write_table(table, exposures / f"{block}_{number}.parquet", use_dictionary=repeated)
    done.write_text(str(rows))
    return cohort, exposures, rows
