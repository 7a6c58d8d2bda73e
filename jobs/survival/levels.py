"""The levels of a variable in the order in which they are shown."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING

from schemas import TABLES
from schemas.frames import CROSS, LEVELS, UNKNOWN

if TYPE_CHECKING:
    from jobs.config import Study


def levels_of(variable: str, study: Study, seen: Iterable[str] = ()) -> list[str]:
    """The levels that the study or a contract names, seen or not, then the others that were seen; of a cross every pair
    of its variables' levels."""
    known: tuple[str, ...] = LEVELS.get(variable, ())
    if CROSS in variable:
        of_each = []
        for place, name in enumerate(variable.split(CROSS)):
            of_each.append(levels_of(name, study, {level.split(CROSS)[place] for level in seen}))
        known = tuple(CROSS.join(levels) for levels in itertools.product(*of_each))
    elif variable == "age_group":
        known = study.age_groups.labels()
    elif variable == "index_year":
        known = tuple(str(year) for year in years_of(study))
    elif variable == "index_period":
        known = study.index_period_labels()
    elif variable == "index_kind":
        known = ("de_novo", "relapse") if study.cohort.index == "metastasis" else ("diagnosis",)
    elif variable in ("sex", "stage", "receptor"):
        known = TABLES["cohort"].column(variable).codes
    elif variable.startswith("at_most_"):
        known = ("yes", "no", UNKNOWN)
    return [*known, *sorted(set(seen) - set(known), key=lambda level: (level == UNKNOWN, level))]


def years_of(study: Study) -> range:
    """The calendar years in which somebody may have an index."""
    return range(study.period.index_from.year, study.period.index_until.year + 1)
