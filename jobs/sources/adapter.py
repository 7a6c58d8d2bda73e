"""What a country has to say about its files: the one interface between raw registers and the conformed tables."""

from __future__ import annotations

import fnmatch
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import jobs.sources
from jobs.errors import ConfigurationError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from jobs.config import Site


NO_COUNTRIES = ("adapter", "claims", "icdo", "life_table", "migration", "parse", "unpivot")


# Where a row stands in the raw table, before it has a number.
PLACE = ("source_file", "__block", "__position")
# A number for source_file and source_row of an accepted row, which sorts as both do: the row's in the lower
# bits, so many, the file's above.
SOURCE_PLACE, ROW_BITS = "source_place", 40
# 96 bits of hash over every cell of a row, also those that are ignored.
CONTENT = ("__content_1", "__content_2")
# Whether a row repeats an earlier one, and whether it is an erased person's.
DUPLICATE, SUPPRESSED = "__duplicate", "__suppressed"


Annotate = Callable[["DataFrame", "Site"], "DataFrame"]


@dataclass(frozen=True)
class RawTable:
    """One raw table of a country, by the adapter's own column names (a site file may rename them).

    Before `annotate` sees a row, ingest has read every column as trimmed text (empty is NULL), replaced `id_column`
    by `person_id`, each of `id_parts` by a pseudonym of the person and the value, added `source_file`, `delivery`,
    PLACE (the order of rows; they are numbered later) and CONTENT, and brought each person's rows together.
    `annotate` looks at one row at a time: it adds typed columns, with other names than the cells' whatever their case
    (those that begin with __ are its steps, and not kept), and `reasons`, codes such as `impossible_date:birth_date`
    with commas between (parse.joined_reasons); a row with none is accepted.
    """

    name: str
    annotate: Annotate
    columns: tuple[str, ...]
    id_column: str | None
    id_parts: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()  # names, or prefixes ending in *
    required: bool = True
    options: Mapping[str, str] = field(default_factory=dict)  # of Spark's CSV reader
    header_lines: int = 1
    names_columns: bool = True  # whether the first line does; else the file has these columns in this order
    code_columns: Mapping[str, frozenset[str]] = field(default_factory=dict)  # column -> the values with a meaning
    site_codes: Mapping[str, tuple[str, frozenset[str]]] = field(default_factory=dict)
    # column -> the key under `adapter` of the site file that replaces the values with a meaning, and those without it
    id_names: Mapping[str, str] = field(default_factory=dict)
    # column of `id_parts` -> the column of another table whose values it repeats, so that the pseudonyms are the same
    links: Mapping[str, str] = field(default_factory=dict)
    # column that tables are joined by -> purpose: its values become pseudonyms that are the same for one purpose
    is_vocabulary: bool = False  # only looked up: a repeated row says nothing new and is not told apart
    unique: tuple[str, ...] = ()  # columns in which no two accepted rows are the same: later ones are held back
    discarded: tuple[str, ...] = ()  # cells that tell rows apart but are shown nowhere, as other identifiers
    kept: tuple[str, ...] | None = None
    # of a large table: what `conform` reads of the cells (None: any), names or prefixes ending in *; the others are
    # not held. Not together with `unique`, or where `relate` gives reasons.
    names_contacts: bool = False  # whether rows are contacts without a number of their own: ingest adds `contact_id`

    def __post_init__(self) -> None:
        if self.unique and self.kept is not None:
            raise ValueError(f"{self.name}: rows that may still be held back need all their cells")
        known = {column.lower() for column in (*self.columns, *self.optional)}
        strange = [column for column in self.kept or () if column.lower() not in known]
        if strange:
            raise ValueError(f"{self.name}: keeps {strange[0]}, which it does not have")

    def keeps(self, column: str, site: Site) -> bool:
        """Whether the column is there after the rows were judged."""
        if self.kept is None or column in self.known_codes(site):
            return True
        kept = [one.lower() for one in (*self.kept, "person_id")]
        return any(fnmatch.fnmatchcase(column.lower(), one) for one in kept)

    def known_codes(self, site: Site) -> dict[str, frozenset[str]]:
        """Column -> the values with a meaning at this site."""
        replaced = {
            column: frozenset(str(code) for code in site.adapter.get(key, default))
            for column, (key, default) in self.site_codes.items()
        }
        return {**self.code_columns, **replaced}


@dataclass(frozen=True)
class Adapter:
    """A country: its raw tables, and how accepted rows of them become conformed tables.

    `conform` gets the accepted, deduplicated rows by raw table (only those that the site delivers), with SOURCE_PLACE,
    and returns conformed tables by name, each with exactly the columns of its contract, in any order; `person_claims`,
    also with SOURCE_PLACE (claims.with_lineage), in the place of `person`, and `unknown_codes` (raw_table, column,
    code, n) for codes that only several tables together tell to be unknown. `relate` gets all annotated rows and
    returns those raw tables whose rows another table's tell something about: reasons (sorted), the person_id of rows
    that have none of their own, `__suppressed` of erased people's rows.
    `contacts_keep_day`: whether a contact has the same first day in every delivery, for its name is made of a row that
    says it. `numbers_people`: whether people are numbered by the source's definition, so that a number and its text are
    the same identifier.
    """

    country: str
    raw_tables: tuple[RawTable, ...]
    conform: Callable[[Mapping[str, DataFrame], Site], dict[str, DataFrame]]
    relate: Callable[[Mapping[str, DataFrame], Site], dict[str, DataFrame]] | None = None
    contacts_keep_day: bool = False
    numbers_people: bool = False

    @property
    def names_contacts(self) -> bool:
        """Whether contacts have no number of their own and are named by what their row says."""
        return any(raw.names_contacts for raw in self.raw_tables)


def load_adapter(country: str) -> Adapter:
    """The `ADAPTER` of jobs/sources/<country>.py; ConfigurationError where there is none."""
    known = sorted(
        module.name for module in pkgutil.iter_modules(jobs.sources.__path__) if module.name not in NO_COUNTRIES
    )
    if country not in known:
        raise ConfigurationError(f"country: {country} has no adapter; known: {', '.join(known)}")
    adapter: Adapter = importlib.import_module(f"jobs.sources.{country}").ADAPTER
    return adapter
