"""Compile the kernels at installation rather than in the first run: `python -m jobs.compile_kernels`.

Numba keeps what it compiled beside the modules, by the types of the arguments; so one invented person goes through the
same calls as the people of a run.
"""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pyarrow as pa

from jobs.config import Study
from jobs.lines.table import LineRules, fold_rows, narrow_rows
from jobs.net_frame import SEXES, Bucket, LifeTable

DAY, LATER = date(2020, 1, 1), date(2020, 3, 1)
STUDY = {
    "name": "nobody",
    "period": {"index_from": DAY, "index_until": DAY, "follow_up_until": LATER},
    "cohort": {"tumour": {"icd10": ["C50"]}, "index": "diagnosis"},
    "drugs": {"line_defining": ["a"], "classes": ["b"]},
}


def compile_kernels() -> None:
    """Run every kernel once."""
    cohort = pa.table(
        {
            "person_id": ["p"],
            "index_date": [DAY],
            "follow_up_end": [LATER],
            "follow_up_end_reason": ["study_end"],
        }
    )
    exposures = pa.table(
        {
            "person_id": ["p", "p"],
            "substance": ["a", "c"],
            "class": ["a", "b"],
            "given_from": [DAY, DAY],
            "given_to": [DAY, DAY],
            "covered_until": [LATER, LATER],
            "source": ["hospital_drug", "dispensing"],
        }
    )
    rules = LineRules.of(Study.model_validate(STUDY))
    narrow = narrow_rows(cohort, exposures, rules)
    for rows in (narrow, narrow.combine_chunks()):  # of several batches, and of one, which Arrow lends read-only
        fold_rows(rows, rules)
    life = pd.DataFrame(
        [("no", None, sex, DAY.year, age, 0.01) for sex in SEXES for age in (0, 1)],
        columns=["country", "region", "sex", "year", "age", "probability_of_death"],
    )
    person = {"person_id": ["p"], "birth_date": [DAY], "index_date": [DAY], "survival_end": [LATER], "died": [True],
              "sex": ["female"], "region": ["west"], "strata": [["all"]], "levels": [["all"]]}  # fmt: skip
    table = LifeTable.of(life)
    bucket = Bucket.of(pa.table(person), table)
    list(bucket.sums(table)), list(bucket.expected(table, np.array([1], np.int64)))


if __name__ == "__main__":
    compile_kernels()
