"""Covariate patterns as the columns of a model, and what of them cannot be estimated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]
Term = tuple[str, str]  # covariate, level

NOBODY = "nobody has this level"
NO_EVENT = "nobody with this level has the event"
ALL_EVENTS = "everybody with this level has the event"
COLLINEAR = "follows from the other covariates"
UNINFORMED = "does not differ among those at risk when the event happens"
SEPARATED = "separates those with the event from those without"
COLLINEAR_MARGIN = 1e-9


@dataclass(frozen=True)
class Design:
    """Indicator columns of `terms`, one row per pattern. `reference`: covariate -> level that has none; `missing`: why
    a level has no column."""

    terms: list[Term]
    matrix: Floats
    reference: dict[str, str]
    missing: dict[Term, str] = field(default_factory=dict)

    left_out: dict[Term, int] = field(default_factory=dict)  # people of levels that all have, or all lack, the event

    def without(self, dropped: Mapping[Term, str]) -> Design:
        """The same less some terms, with the reason."""
        kept = [number for number, term in enumerate(self.terms) if term not in dropped]
        terms = [self.terms[number] for number in kept]
        return replace(self, terms=terms, matrix=self.matrix[:, kept], missing={**self.missing, **dropped})


def informative(
    people: Floats, events: Floats, patterns: pd.DataFrame, levels: Mapping[str, Sequence[str]], whole: bool
) -> tuple[npt.NDArray[np.bool_], dict[Term, str], dict[Term, int]]:
    """Which patterns say something about a model's coefficients; why the other levels do not, and their people.

    A level without an event has an estimate of nothing, its people can go without changing the others; where `whole`,
    a level of which everybody has the event too. Without it others may become such levels, so it is asked again.
    """
    kept = people > 0
    reasons: dict[Term, str] = {}
    lost: dict[Term, int] = {}
    while kept.any() and events[kept].sum() and not (whole and events[kept].sum() == people[kept].sum()):
        found: dict[Term, str] = {}
        for covariate, named in levels.items():
            for level in named:
                inside = kept & (patterns[covariate].to_numpy() == level)
                if inside.any() and not events[inside].sum():
                    found[covariate, level] = NO_EVENT
                elif inside.any() and whole and events[inside].sum() == people[inside].sum():
                    found[covariate, level] = ALL_EVENTS
        if not found:
            break
        for covariate, level in found:
            inside = kept & (patterns[covariate].to_numpy() == level)
            lost[covariate, level] = int(people[inside].sum())
            kept &= ~inside
        reasons.update(found)
    return kept, reasons, lost


def design_of(
    patterns: pd.DataFrame,
    levels: Mapping[str, Sequence[str]],
    people: Floats,
    events: Floats | None = None,
    groups: npt.NDArray[np.int64] | None = None,
    whole: bool = False,
) -> Design:
    """Indicators of `levels` (covariate -> its levels in order), the first that says anything being the reference.

    `people` and `events` of each pattern; without events every level says something (`informative`). Patterns that say
    nothing have zeros. A column that follows from those before it within each of `groups` (the strata of a model) is
    left out, as R's coxph and glm do.
    """
    kept = people > 0
    missing: dict[Term, str] = {}
    left_out: dict[Term, int] = {}
    if events is not None:
        kept, missing, left_out = informative(people, events, patterns, levels, whole)
    terms, columns, reference = [], [], {}
    for covariate, named in levels.items():
        values = patterns[covariate].to_numpy()
        present = [level for level in named if (kept & (values == level)).any()]
        reference[covariate] = present[0] if present else ""
        missing |= {
            (covariate, level): NOBODY for level in named if level not in present and (covariate, level) not in missing
        }
        terms += [(covariate, level) for level in present[1:]]
        columns += [(kept & (values == level)).astype(float) for level in present[1:]]
    matrix = np.column_stack(columns) if columns else np.empty((len(patterns), 0))
    design = Design(terms, matrix, reference, missing, left_out)
    dependent = _dependent(
        design, np.where(kept, people, 0.0), np.zeros(len(people), int) if groups is None else groups
    )
    return design.without({term: COLLINEAR for term in dependent})


def _dependent(design: Design, weight: Floats, groups: npt.NDArray[np.int64]) -> list[Term]:
    """The terms whose column is a sum of earlier ones, within groups."""
    basis: list[Floats] = []
    dependent = []
    for number, term in enumerate(design.terms):
        column = design.matrix[:, number].copy()
        for group in np.unique(groups):
            inside = groups == group
            people = weight[inside].sum()
            column[inside] -= (weight[inside] @ column[inside]) / people if people else 0.0
        column *= np.sqrt(weight)
        length = np.linalg.norm(column)
        for _ in range(2):  # once more, for what rounding left
            for other in basis:
                column -= (other @ column) * other
        rest = np.linalg.norm(column)
        if length == 0 or rest <= COLLINEAR_MARGIN * length:
            dependent.append(term)
        else:
            basis.append(column / rest)
    return dependent
