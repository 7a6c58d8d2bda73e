"""The configuration files as models: study, site, drugs. Unknown keys are errors that name the nearest known one."""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib.resources
import itertools
import json
from collections.abc import Callable
from datetime import date
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from jobs.errors import ConfigurationError
from schemas.frames import COVARIATES, CROSS

Days = Annotated[int, Field(ge=0, le=36_500)]
PositiveDays = Annotated[int, Field(ge=1, le=36_500)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Section(BaseModel):
    """A part of a configuration file."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    def fingerprint(self) -> str:
        """SHA-256 of the content, independent of the order of keys in the file."""
        text = json.dumps(self.model_dump(mode="json", by_alias=True), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


class Period(Section):
    """Calendar limits of a study, all days included."""

    index_from: date
    index_until: date
    follow_up_until: date

    @model_validator(mode="after")
    def _ordered(self) -> Period:
        if not self.index_from <= self.index_until <= self.follow_up_until:
            raise ValueError("index_from <= index_until <= follow_up_until does not hold")
        return self


class TumourFilter(Section):
    """Which tumours are of the study's kind: ICD-10 prefixes, and receptor values that must be positive."""

    icd10: tuple[str, ...] = Field(min_length=1)
    her2: Literal["positive", "negative"] | None = None
    er: Literal["positive", "negative"] | None = None
    pr: Literal["positive", "negative"] | None = None
    stage: tuple[Literal["localised", "regional", "distant"], ...] = ()
    morphology: tuple[str, ...] = ()


class Coverage(Section):
    """A region (`*`: every one) whose people a source records between two days, both included."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    region: str = "*"
    source: Literal["hospital_drug", "dispensing"]
    from_: date = Field(alias="from")
    until: date


class HospitalSpread(Section):
    """Whether distant spread may be read from hospital codes, and from which."""

    icd10: tuple[str, ...] = ("C78", "C79")
    contacts: Annotated[int, Field(ge=1)] = 2

    @field_validator("icd10")
    @classmethod
    def _no_lymph_nodes(cls, codes: tuple[str, ...]) -> tuple[str, ...]:
        if any("C77".startswith(code) or code.startswith("C77") for code in codes):
            raise ValueError("C77 (lymph nodes) is no distant spread; name codes such as C78 and C79")
        return codes


class SecondCancer(Section):
    """A later cancer ends follow-up for lines unless its code starts with one of these."""

    icd10_except: tuple[str, ...]


class CohortRules(Section):
    """Who belongs to the study and when their clock starts."""

    tumour: TumourFilter
    index: Literal["metastasis", "diagnosis"]
    de_novo_days: Days = 120
    age_min: Annotated[int, Field(ge=0, le=120)] = 18
    treatment_information: tuple[Coverage, ...] = ()
    second_cancer: SecondCancer | None = None
    spread_from_hospital: HospitalSpread | None = None
    hormone_positive_percent: Annotated[float, Field(ge=0, le=100)] = 1.0
    # The index is known only of those whose look-back lies after hospital_observed_from.
    comorbidity: str | None = "charlson_quan_2005"
    comorbidity_lookback_days: PositiveDays = 365
    hospital_observed_from: date | None = None


class StudyDrugs(Section):
    """`line_defining` substances make lines; `classes` are described beside them."""

    line_defining: tuple[Name, ...] = Field(default=(), max_length=63)
    classes: tuple[Name, ...] = Field(default=(), max_length=63)


class Supply(Section):
    """How a dispensing becomes days of supply: the register's own `days_supply`, else DDD times `days_per_ddd`, else
    packages times `days_per_package` where the study gives one, else `default`; held between `minimum` and `maximum`.

    `carry_over_days`: who fetches the next supply before the last one ends keeps at most so many days of it; 0: none.
    """

    days_per_ddd: Annotated[float, Field(gt=0)] = 1.0
    days_per_package: Annotated[float, Field(gt=0)] | None = None
    default: PositiveDays = 30
    minimum: PositiveDays = 1
    maximum: PositiveDays = 180
    carry_over_days: Days = 0


class Exposure(Section):
    """How long one administration or dispensing covers, in days. `coverage_days` and `supply` map a substance
    (or `default`) to its rule."""

    coverage_days: dict[str, PositiveDays] = {"default": 21}
    supply: dict[str, Supply] = {"default": Supply()}


class RuleSet(Section):
    """The parameters of the line rules; the meaning of each stands in docs/treatment_lines.md."""

    combination_window_days: Days = 28
    gap_days: PositiveDays = 90
    gap_days_by_substance: dict[str, PositiveDays] = {}
    companions: dict[str, dict[str, Days]] = {}
    excludes: dict[str, tuple[str, ...]] = {}
    index_lead_days: Days = 28
    carry_in_days: Days = 90
    coverage_days: dict[str, PositiveDays] = {}

    @model_validator(mode="after")
    def _consistent(self) -> RuleSet:
        if self.index_lead_days > self.gap_days:
            raise ValueError("index_lead_days must not exceed gap_days: cutting a period would change the lines")
        visiting: set[str] = set()
        done: set[str] = set()

        def visit(substance: str) -> None:
            if substance in visiting:
                raise ValueError("excludes is cyclic")
            if substance in done:
                return
            visiting.add(substance)
            for other in self.excludes.get(substance, ()):
                visit(other)
            visiting.discard(substance)
            done.add(substance)

        for substance in self.excludes:
            visit(substance)
        return self

    def substances(self) -> set[str]:
        """Every substance a rule names."""
        named = set(self.gap_days_by_substance) | set(self.companions) | set(self.excludes) | set(self.coverage_days)
        named |= {other for rule in self.companions.values() for other in rule}
        return named | {other for others in self.excludes.values() for other in others}


def _covariate(name: str) -> str:
    if name not in COVARIATES:
        if name in KNOWN_LATER:
            raise ValueError(f"{name} is known only after the index date; as a covariate it would look into the future")
        near = difflib.get_close_matches(name, COVARIATES, n=1)
        raise ValueError(
            f"no covariate {name}; " + (f"did you mean {near[0]}?" if near else f"known: {', '.join(COVARIATES)}")
        )
    return name


def _stratum(name: str) -> str:
    variables = name.split(CROSS)
    for variable in variables:
        if variable not in KNOWN_LATER:
            _covariate(variable)
    if len(set(variables)) != len(variables):
        raise ValueError(f"{name} crosses a variable with itself")
    return name


KNOWN_LATER = ("treated",)
Covariate = Annotated[str, AfterValidator(_covariate)]
Stratum = Annotated[str, AfterValidator(_stratum)]  # a variable, or a cross of several: `age_group x receptor`


class Cox(Section):
    """The model of overall survival from index: `covariates`, and `strata` with a baseline hazard each.

    `time_transform`: of the days, in the test of proportional hazards; km is one less Kaplan-Meier.
    """

    covariates: tuple[Covariate, ...] = Field(min_length=1)
    strata: tuple[Covariate, ...] = ()
    ties: Literal["efron", "breslow"] = "efron"
    time_transform: Literal["km", "identity"] = "km"

    @model_validator(mode="after")
    def _once(self) -> Cox:
        both = sorted(set(self.covariates) & set(self.strata))
        if both:
            raise ValueError(f"{both[0]} is a covariate and a stratum")
        return self


class Undertreatment(Section):
    """The model of having no line of treatment, of all with treatment information and once more without those who died
    in the first `survived_days`, before they had the time to start."""

    covariates: tuple[Covariate, ...] = Field(min_length=1)
    survived_days: PositiveDays = 60


class CalendarPeriod(Section):
    """Calendar days, both included."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    from_: date = Field(alias="from")
    until: date

    @model_validator(mode="after")
    def _in_order(self) -> CalendarPeriod:
        if self.until < self.from_:
            raise ValueError("until is before from")
        return self


# Corazziari, Quinn and Capocaccia, Eur J Cancer 2004;40:2307-2316: weights of the ages 15-44, 45-54, 55-64, 65-74, 75+.
STANDARDS = {
    "icss1": (0.07, 0.12, 0.23, 0.29, 0.29),
    "icss2": (0.28, 0.17, 0.21, 0.20, 0.14),
    "icss3": (0.60, 0.10, 0.10, 0.10, 0.10),
}
STANDARD_AGES = (45, 55, 65, 75)


class Survival(Section):
    """What the survival stage tabulates: curves at `times_days`, what comes after a line at `next_days`, the start of
    line 1 at `first_line_days`, restricted means to `restricted_mean_days`; confidence `level`, `lines` of treatment.

    `net_strata`: net survival of everyone and by each of these; null: none. It needs a life table. `net_standard`: also
    standardised to the ages of an International Cancer Survival Standard, wherever a stratum is crossed with age_group.
    `net_period`: also of what happens in these calendar days (period analysis).
    """

    times_days: tuple[PositiveDays, ...] = (90, 180, 365, 730, 1096, 1461, 1826)
    next_days: tuple[PositiveDays, ...] = (183, 365, 731, 1826)
    first_line_days: tuple[PositiveDays, ...] = (90, 180, 365)
    restricted_mean_days: PositiveDays = 1826
    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    lines: Annotated[int, Field(ge=0, le=20)] = 4
    net_strata: tuple[Stratum, ...] | None = None
    net_standard: Literal["icss1", "icss2", "icss3"] | None = None
    net_period: CalendarPeriod | None = None
    cox: Cox | None = None
    undertreatment: Undertreatment | None = None


class Disclosure(Section):
    """Rules for what may leave the site."""

    min_cell: Annotated[int, Field(ge=1)] = 5
    median_min_persons: Annotated[int, Field(ge=1)] = 5


class AgeGroups(Section):
    """Lower limits of the age groups, completed years; below the first is a group of its own.

    Those `at_most` so old and without comorbidity are described as a group of their own (null: they are not).
    """

    from_years: tuple[int, ...] = (50, 60, 70, 80)
    at_most: int | None = 75

    @field_validator("from_years", mode="after")
    @classmethod
    def _ascending(cls, years: tuple[int, ...]) -> tuple[int, ...]:
        if not years or list(years) != sorted(set(years)) or years[0] < 1:
            raise ValueError("are years of age in ascending order, at least one")
        return years

    def labels(self) -> tuple[str, ...]:
        """Their names in order: `<50`, `50-59`, ..., `80+`."""
        limits = self.from_years
        inner = [f"{low}-{high - 1}" for low, high in zip(limits, limits[1:], strict=False)]
        return (f"<{limits[0]}", *inner, f"{limits[-1]}+")


class Study(Section):
    """A study file. `index_periods`: the first years of the calendar periods of index, the variable index_period."""

    name: Name
    title: str = ""
    period: Period
    cohort: CohortRules
    drugs: StudyDrugs = StudyDrugs()
    exposure: Exposure = Exposure()
    rule_sets: dict[Name, RuleSet] = Field(default={"primary": RuleSet()}, max_length=63)
    age_groups: AgeGroups = AgeGroups()
    index_periods: tuple[int, ...] = ()
    strata: tuple[Stratum, ...] = ("age_group",)
    survival: Survival = Survival()
    disclosure: Disclosure = Disclosure()
    regimen_names: dict[str, str] = {}

    def index_period_labels(self) -> tuple[str, ...]:
        """The periods of index in order: `2012-2016`, ..., of years that the study has."""
        first, last = self.period.index_from.year, self.period.index_until.year
        starts = [first, *(year for year in self.index_periods if first < year <= last)]
        ends = [*(year - 1 for year in starts[1:]), last]
        return tuple(f"{a}-{b}" if a < b else str(a) for a, b in zip(starts, ends, strict=True))

    @model_validator(mode="after")
    def _standard_has_its_ages(self) -> Study:
        survival = self.survival
        if list(self.index_periods) != sorted(set(self.index_periods)):
            raise ValueError("index_periods are years in ascending order")
        first, last = self.period.index_from.year, self.period.index_until.year
        outside = [year for year in self.index_periods if not first < year <= last]
        if outside:
            raise ValueError(f"index_periods: {outside[0]} is not between {first + 1} and {last}")
        window = survival.net_period
        if window is not None:
            if survival.net_strata is None:
                raise ValueError("survival.net_period needs net_strata; an empty list is everyone together")
            if window.until < self.period.index_from or window.from_ > self.period.follow_up_until:
                raise ValueError("survival.net_period lies outside the study's period")
        if survival.net_standard is None:
            return self
        if self.age_groups.from_years != STANDARD_AGES:
            raise ValueError(
                f"survival.net_standard: {survival.net_standard} has weights for age_groups.from_years "
                f"{list(STANDARD_AGES)}"
            )
        if not any("age_group" in stratum.split(CROSS) for stratum in survival.net_strata or ()):
            raise ValueError("survival.net_standard: net_strata needs age_group, or a cross with it")
        return self

    @model_validator(mode="before")
    @classmethod
    def _inherit_primary(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("rule_sets"), dict):
            return data
        rule_sets = data["rule_sets"]
        if "primary" not in rule_sets:
            raise ValueError("rule_sets needs one named primary")
        primary = rule_sets["primary"] or {}
        inherited = {
            name: primary
            if name == "primary"
            else {**primary, **(changes or {})}
            if isinstance(changes, dict | None)
            else changes
            for name, changes in rule_sets.items()
        }
        return {**data, "rule_sets": inherited}


DELIVERY = "{delivery}"


class InputFile(Section):
    """Files of one kind: a file, folder or glob, its format and the reader's options. `{delivery}` in the path stands
    for the delivery's date, YYYY-MM-DD.

    `columns` renames: the program's name of a column -> the delivery's, or several where files differ; of columns
    `name_*` the part before the star.
    """

    path: str
    format: Literal["csv", "parquet"] = "csv"
    options: dict[str, str] = {}
    columns: dict[str, str | tuple[str, ...]] = {}

    def named(self, column: str) -> tuple[str, ...]:
        """What a column may be called in the delivery."""
        names = self.columns.get(column, column)
        return (names,) if isinstance(names, str) else names


class RawInput(InputFile):
    """One raw table of a site.

    `absent`: columns (the adapter's names) that are no longer filled, and rightly so. `key_file`: who the identifiers
    of this table are, where a register numbers people anew in each delivery: columns `identifier` and `person`.
    """

    absent: tuple[str, ...] = ()
    key_file: InputFile | None = None

    def with_paths(self, change: Callable[[str], str]) -> RawInput:
        """The same with other paths."""
        key_file = self.key_file and self.key_file.model_copy(update={"path": change(self.key_file.path)})
        return self.model_copy(update={"path": change(self.path), "key_file": key_file})


class Site(Section):
    """A site file. Relative paths are relative to the file's folder and are absolute after loading.

    `deliveries`: whole, each delivery is all there is and takes the place of the one before; additions, each adds to
    and corrects those before. `retention_days`: how long the tables' earlier versions can be read.
    """

    name: Name = "site"
    country: Name
    synthetic: bool = False
    seed: int | None = None
    delivery: date | None = None
    warehouse: str
    out: str = "out"
    inputs: dict[str, RawInput] = Field(min_length=1)
    deliveries: Literal["whole", "additions"] = "whole"
    retention_days: Annotated[int, Field(ge=0, le=36_500)] = 30
    life_table: str | None = None
    life_table_country: Annotated[str, Field(pattern="^[a-z]{2}$")] | None = None
    pseudonym_key_env: str = "TREATMENT_LINES_KEY"
    pseudonym_key_file: str | None = None
    interval_coverage_days: PositiveDays | None = None
    adapter: dict[str, Any] = {}
    spark: dict[str, str] = {}
    line_partition_rows: Annotated[int, Field(ge=1)] = 2_000_000

    @model_validator(mode="after")
    def _one_folder_a_delivery(self) -> Site:
        if self.deliveries == "additions":
            paths = {f"{name}.path": raw.path for name, raw in self.inputs.items() if not name.startswith("life_table")}
            paths |= {f"{name}.key_file.path": raw.key_file.path for name, raw in self.inputs.items() if raw.key_file}
            for name, path in paths.items():
                if DELIVERY not in path:
                    raise ValueError(
                        f"inputs.{name}: with deliveries: additions every delivery has files of its own; write "
                        f"{DELIVERY} where the path has the date"
                    )
        return self

    def of_delivery(self, delivery: str) -> Site:
        """The site with the date in the place of `{delivery}` in its paths."""
        inputs = {
            name: raw.with_paths(lambda path: path.replace(DELIVERY, delivery)) for name, raw in self.inputs.items()
        }
        return self.model_copy(update={"inputs": inputs})

    @field_validator("spark", mode="before")
    @classmethod
    def _spark_values_are_text(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: str(v).lower() if isinstance(v, bool) else str(v) for key, v in value.items()}
        return value


class Recoding(Section):
    """A national code that means a substance between two days (both included)."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    country: str
    code: Annotated[str, Field(pattern="^[A-Z0-9]+$")]
    from_: date = Field(alias="from")
    until: date


ATC_PATTERN = "^[A-Z][0-9]{2}[A-Z]{2}[0-9]{2}$"  # a letter O for a zero would match nothing


class Codes(Section):
    """What stands for something in the sources: equivalent ATC codes, dated national codes, SKS codes, RxNorm ids,
    names in lower case."""

    atc: tuple[Annotated[str, Field(pattern=ATC_PATTERN)], ...] = ()
    national: tuple[Recoding, ...] = ()
    sks: tuple[Annotated[str, Field(pattern="^[A-Z0-9]+$")], ...] = ()
    rxnorm: tuple[Annotated[str, Field(pattern="^[0-9]+$")], ...] = ()
    names: tuple[Annotated[str, Field(pattern="^[^A-Z]+$")], ...] = ()


class Substance(Codes):
    """One active ingredient: its class and codes.

    `infusion`: given in cycles and without a usable DDD, so a dispensing covers `coverage_days`, not its DDD.
    """

    class_: Name = Field(alias="class")
    infusion: bool = False


class Product(Codes):
    """A product of several substances."""

    substances: tuple[str, ...] = Field(min_length=2)


class Drugs(Section):
    """conf/drugs.yaml: substances, combination products, and which codes are antineoplastic (`watch` prefixes)."""

    substances: dict[Name, Substance]
    products: dict[Name, Product] = {}
    watch: tuple[str, ...] = ("L01", "L02")

    @model_validator(mode="after")
    def _means_one_thing(self) -> Drugs:
        for name, product in self.products.items():
            unknown = sorted(set(product.substances) - set(self.substances))
            if unknown:
                raise ValueError(f"products.{name} names the unknown substance {unknown[0]}")
        owners: dict[str, str] = {}
        dated: dict[tuple[str, str], list[tuple[Recoding, str]]] = {}
        entries: list[tuple[str, Codes]] = [*self.substances.items(), *self.products.items()]
        for name, entry in entries:
            for code in [*entry.atc, *entry.sks, *entry.rxnorm, *entry.names]:
                if owners.setdefault(code, name) != name:
                    raise ValueError(f"{code} stands under {owners[code]} and {name}")
            for recoding in entry.national:
                dated.setdefault((recoding.country, recoding.code), []).append((recoding, name))
        for (country, code), meanings in dated.items():
            in_order = sorted(meanings, key=lambda meaning: meaning[0].from_)
            for (earlier, name), (later, other) in itertools.pairwise(in_order):
                if later.from_ <= earlier.until and name != other:
                    raise ValueError(f"{country} {code} means {name} and {other} on {later.from_}")
        return self

    def classes(self) -> set[str]:
        """Every class that a substance has."""
        return {substance.class_ for substance in self.substances.values()}


IcdCodes = tuple[Annotated[str, Field(pattern=r"^[A-Z][0-9]{2,3}(-[A-Z][0-9]{2,3})?$")], ...]


class ComorbidityGroup(Section):
    """A disease of a comorbidity index: ICD-10 prefixes or ranges `A-B` of them, and its weight."""

    weight: Annotated[int, Field(ge=0)]
    icd10: IcdCodes = Field(min_length=1)

    @field_validator("icd10", mode="after")
    @classmethod
    def _ranges(cls, codes: tuple[str, ...]) -> tuple[str, ...]:
        return expand_icd10(codes)


class Comorbidity(Section):
    """A comorbidity index: its groups, `hierarchy` (severe -> mild: only the severe counts), codes never counted."""

    name: Name
    groups: dict[Name, ComorbidityGroup] = Field(min_length=1)
    hierarchy: dict[Name, Name] = {}
    excluded: IcdCodes = ()

    @field_validator("excluded", mode="after")
    @classmethod
    def _ranges(cls, codes: tuple[str, ...]) -> tuple[str, ...]:
        return expand_icd10(codes)

    @model_validator(mode="after")
    def _known_groups(self) -> Comorbidity:
        unknown = sorted((set(self.hierarchy) | set(self.hierarchy.values())) - set(self.groups))
        if unknown:
            raise ValueError(f"hierarchy names {unknown[0]}, which is no group")
        return self


def expand_icd10(codes: tuple[str, ...]) -> tuple[str, ...]:
    """ICD-10 prefixes with every range `A-B` written out; ValueError for a range over letters or lengths."""
    expanded: list[str] = []
    for code in codes:
        first, _, last = code.partition("-")
        last = last or first
        if first[0] != last[0] or len(first) != len(last) or first > last:
            raise ValueError(f"{code} is no range of codes")
        digits = len(first) - 1
        expanded += [f"{first[0]}{number:0{digits}d}" for number in range(int(first[1:]), int(last[1:]) + 1)]
    return tuple(expanded)


Model = TypeVar("Model", bound=Section)


def _known_keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _nearest_key(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """A hint for an unknown key at `location` below `model`."""
    models: list[type[BaseModel]] = [model]
    for step in location[:-1]:
        below: list[type[BaseModel]] = []
        for candidate in models:
            for name, field in candidate.model_fields.items():
                if step in (name, field.alias):
                    below += _models_in(field.annotation)
        models = below or models
    known = [key for candidate in models for key in _known_keys(candidate)]
    near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f"; known here: {', '.join(known)}"


def _one_line(model: type[BaseModel], error: ValidationError) -> str:
    problems = error.errors()
    # A misspelt key is also a missing one; its own name says more.
    first = next((problem for problem in problems if problem["type"] == "extra_forbidden"), problems[0])
    where = ".".join(str(step) for step in first["loc"]) or "the file"
    if first["type"] == "extra_forbidden":
        return f"unknown key {where}{_nearest_key(model, first['loc'])}"
    more = f" ({len(problems)} problems in all)" if len(problems) > 1 else ""
    return f"{where}: {first['msg'].removeprefix('Value error, ')}{more}"


def _read_yaml(path: Traversable) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: no such file; name an existing YAML file") from None
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError(f"{path}: cannot be read as UTF-8 text; name a YAML file") from None
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # a date that is none is a ValueError
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise ConfigurationError(f"{path}{line}: not valid YAML; check indentation and quotes") from None
    if not isinstance(data, dict):
        raise ConfigurationError(f"{path}: is not a mapping of keys to values; start from a file in conf/")
    return data


def _set(data: dict[str, Any], dotted: str, value: Any) -> None:
    *path, last = dotted.split(".")
    for step in path:
        child = data.setdefault(step, {})
        if not isinstance(child, dict):
            raise ConfigurationError(f"--set {dotted}: {step} is not a section")
        data = child
    data[last] = value


def _overrides_of(kind: str, overrides: tuple[str, ...]) -> list[tuple[str, Any]]:
    chosen = []
    for override in overrides:
        key, separator, text = override.partition("=")
        scope, _, dotted = key.partition(".")
        if not separator or not dotted or scope not in ("study", "site"):
            raise ConfigurationError(f"--set {key}: write study.KEY=VALUE or site.KEY=VALUE")
        if scope == kind:
            try:
                chosen.append((dotted, yaml.safe_load(text)))
            except (yaml.YAMLError, ValueError):
                raise ConfigurationError(f"--set {key}: the value is not valid YAML") from None
    return chosen


def _load(model: type[Model], path: Traversable, kind: str, overrides: tuple[str, ...]) -> Model:
    data = _read_yaml(path)
    for dotted, value in _overrides_of(kind, overrides):
        _set(data, dotted, value)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {_one_line(model, error)}") from None


def load_study(path: str | Traversable, overrides: tuple[str, ...] = ()) -> Study:
    """The study file with `--set study.KEY=VALUE` applied, checked against the drug list; ConfigurationError."""
    file = Path(path) if isinstance(path, str) else path
    study = _load(Study, file, "study", overrides)
    _check_drugs(study, load_drugs(), file)
    if study.cohort.comorbidity is not None:
        load_comorbidity(study.cohort.comorbidity)
    return study


def load_site(path: str | Path, overrides: tuple[str, ...] = ()) -> Site:
    """The site file with `--set site.KEY=VALUE` applied and its paths made absolute; ConfigurationError."""
    path = Path(path)
    site = _load(Site, path, "site", overrides)
    base = path.resolve().parent

    def absolute(value: str) -> str:
        return value if "://" in value else str((base / value).resolve())

    inputs = {name: raw.with_paths(absolute) for name, raw in site.inputs.items()}
    if site.life_table and "life_table" not in inputs:
        inputs["life_table"] = RawInput(path=absolute(site.life_table))
    return site.model_copy(
        update={
            "inputs": inputs,
            "warehouse": absolute(site.warehouse),
            "out": absolute(site.out),
            "life_table": absolute(site.life_table) if site.life_table else None,
            "pseudonym_key_file": absolute(site.pseudonym_key_file) if site.pseudonym_key_file else None,
        }
    )


def conf_folder() -> Traversable:
    """The folder of the shipped configuration: inside the installed package or the zip, else beside the checkout."""
    packaged = importlib.resources.files("jobs") / "conf"
    return packaged if packaged.is_dir() else Path(__file__).resolve().parent.parent / "conf"


@functools.cache
def load_drugs() -> Drugs:
    """conf/drugs.yaml; ConfigurationError where a code means two things."""
    return _load(Drugs, conf_folder() / "drugs.yaml", "drugs", ())


@functools.cache
def load_comorbidity(name: str) -> Comorbidity:
    """conf/comorbidity/<name>.yaml; ConfigurationError where there is none."""
    folder = conf_folder() / "comorbidity"
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.name.removesuffix(".yaml") for file in folder.iterdir()))
        raise ConfigurationError(f"cohort.comorbidity: {name} is not in conf/comorbidity; known: {known}")
    return _load(Comorbidity, path, "comorbidity", ())


def _check_drugs(study: Study, drugs: Drugs, path: Traversable) -> None:
    named = set(study.drugs.line_defining)
    for rules in study.rule_sets.values():
        named |= rules.substances()
    named |= set(study.exposure.coverage_days) | set(study.exposure.supply)
    for substance in sorted(named - {"default"}):
        if substance not in drugs.substances:
            near = difflib.get_close_matches(substance, drugs.substances, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigurationError(f"{path}: {substance} is not in conf/drugs.yaml{hint}")
    for class_ in study.drugs.classes:
        if class_ not in drugs.classes():
            known = ", ".join(sorted(drugs.classes()))
            raise ConfigurationError(f"{path}: drugs.classes: no substance has the class {class_}; known: {known}")
