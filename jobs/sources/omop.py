"""OMOP CDM 5.4: persons, observation periods, conditions, drug exposures, measurements, deaths and the vocabulary.

What a delivery may name or code differently stands in the site file: column names under `inputs.<table>.columns`, code
lists under `adapter` (see conf/sites/omop.yaml). Codes are the vocabulary's where it has them: an ICD-10 or ICD-O-3
source concept is read as its code, a standard concept through the site's mapping of it or of an ancestor, a drug
through its ATC ancestors, else its RxNorm ingredients. Concept 0 and concepts without such a code are listed among the
unknown codes. A concept that the vocabulary has withdrawn keeps its own code; as an ancestor it is not followed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import reduce
from typing import TYPE_CHECKING, Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.errors import ConfigurationError
from jobs.local_frame import local_frame
from jobs.sources.adapter import Adapter, RawTable
from jobs.sources.claims import claims_of
from jobs.sources.icdo import icd10_of
from jobs.sources.life_table import RAW_TABLES as LIFE_TABLES
from jobs.sources.life_table import conform_life_table
from jobs.sources.parse import (
    ATC_SHAPE,
    counted_codes,
    decoded,
    digits_between_dashes,
    first_day,
    impossible,
    joined_reasons,
    missing,
    number,
    reason,
    site_codes,
    unknown_code,
    with_whole_dates,
)
from schemas import TABLES

if TYPE_CHECKING:
    from jobs.config import Site

# Codes that a site file may replace under `adapter`. "" is a code that is known and not used.
SEX = {"8507": "male", "8532": "female"}
DRUG_TYPE = {
    "32818": "hospital",  # EHR administration record
    "38000180": "hospital",  # inpatient administration, of earlier vocabularies
    "32825": "dispensing",  # EHR dispensing record
    "32869": "dispensing",  # pharmacy claim
    "38000175": "dispensing",  # dispensed in pharmacy, of earlier vocabularies
    "32838": "",  # EHR prescription: written, which says neither given nor dispensed
    "38000177": "",  # prescription written, of earlier vocabularies
}
POSITION = {"32902": "main", "32901": "main", "32903": "main", "32908": "secondary", "32896": "secondary",
            "0": "secondary"}  # fmt: skip
BASIS = {"32815": "death_certificate"}
ROUTE = {"4171047": "iv", "4142048": "sc", "4302612": "im", "4132161": "oral"}
RESULT = {
    "9191": "positive", "45884084": "positive", "9189": "negative", "45878583": "negative", "positive": "positive",
    "negative": "negative", "equivocal": "equivocal", "0": "0", "1+": "1+", "2+": "2+", "3+": "3+",
    "amplified": "amplified", "not amplified": "not_amplified",
}  # fmt: skip
# Metastasis, AJCC/UICC stage 4, AJCC/UICC M1; their descendants with them.
MEASUREMENT: Mapping[str, Mapping[str, str]] = {
    "36769180": {"stage": "distant"}, "1633308": {"stage": "distant"}, "1635142": {"stage": "distant"},
}  # fmt: skip
ICD10_VOCABULARIES = ("ICD10", "ICD10CM", "ICD10GM", "ICD10CN")
RXNORM_VOCABULARIES = ("RxNorm", "RxNorm Extension")
TUMOUR_ICD10 = ("C", "D0")  # what makes a row of the table `tumour`
SECONDARY = ("C77", "C78", "C79")  # spread of another tumour, never one of its own
TOLD = {
    "stage": ("localised", "regional", "distant", "value"), "recurrence": ("local", "regional", "distant"),
    "marker": ("her2", "er", "pr"), "method": ("ihc", "ish", "percent"), "site": ("primary", "metastasis"),
}  # fmt: skip
CONDITION_FIELD = "1147127"  # condition_occurrence.condition_occurrence_id
EXTENTS = ("localised", "regional", "distant")
ICD10 = r"^[A-Z]\d{2}[0-9A-Z]{0,3}$"
PART = r"^\d{1,2}$"  # of a date: month or day
ICDO3 = r"^(\d{4}/\d)-(C\d{2}\.?\d?)$"
LONGEST_CODE = 20
MOST = 1e9
COMBINATION = r"(?i)\band\b|combinations"
# Free text, identifiers of others and of the source: neither used nor kept with quarantined rows.
NOT_KEPT = ("person_source_value", "provider_id", "visit_detail_id", "stop_reason", "sig", "lot_number",
            "cause_source_value", "address_1", "address_2", "latitude", "longitude")  # fmt: skip


def _setting(site: Site, key: str, default: Any) -> Any:
    return site.adapter.get(key, default)


def _day(site: Site, key: str) -> Column | None:
    said = site.adapter.get(key)
    if said is None:
        return None
    try:
        return F.lit(date.fromisoformat(str(said)))
    except ValueError:
        raise ConfigurationError(f"adapter.{key}: write the date as YYYY-MM-DD") from None


def _days(site: Site, key: str) -> int:
    said = site.adapter.get(key, 0)
    if isinstance(said, bool) or not isinstance(said, int) or said < 0:
        raise ConfigurationError(f"adapter.{key}: give a number of days")
    return said


# ---- cells ----


def _with_dates(frame: DataFrame, dates: Mapping[str, str]) -> DataFrame:
    """Adds columns with the dates of others: YYYY-MM-DD, with or without a time of day, or YYYYMMDD; NULL for anything
    else."""

    def digits(cell: str) -> Column:
        text, size = F.col(cell), F.octet_length(F.col(cell))
        has_end = (size == 10) | F.substring(text, 11, 1).isin(" ", "T")
        return F.when(size == 8, text).when(has_end, digits_between_dashes(text, (1, 4), (6, 2), (9, 2)))

    return with_whole_dates(frame, {name: digits(cell) for name, cell in dates.items()})


def _number(name: str) -> Column:
    typed = number(name)
    return F.when(F.abs(typed) < MOST, typed)


def _whole_text(name: str) -> Column:
    """A whole number as text, without the `.0` that some programs write."""
    # To replace nothing takes the engine longer than to find nothing.
    return F.when(F.contains(F.col(name), F.lit(".")), F.regexp_replace(name, r"\.0+$", "")).otherwise(F.col(name))


def _whole_number(name: str) -> Column:
    """NULL for anything else: a cast alone would cut 12.7 down to 12."""
    whole = _whole_text(name)
    typed = whole.try_cast("bigint")
    return F.when((typed.cast("string") == whole) | whole.rlike(r"^-?\d{1,18}$"), typed)


def _concept(name: str) -> Column:
    """The concept, as a number; NULL for concept 0 too."""
    return F.nullif(_whole_number(name), F.lit(0).cast("bigint"))


def _unreadable(name: str, typed: Column, kind: str) -> Column:
    return reason(F.col(name).isNotNull() & typed.isNull(), f"{kind}:{name}")


def _no_whole_numbers(*names: str) -> list[Column]:
    return [_unreadable(name, _whole_number(name), "impossible_number") for name in names]


def _tidy(frame: DataFrame) -> DataFrame:
    """Concepts as whole numbers."""
    return frame.withColumns({name: _whole_text(name) for name in frame.columns if name.endswith("_concept_id")})


# ---- raw tables ----


def _annotate_person(frame: DataFrame, site: Site) -> DataFrame:
    sexes = site_codes(site, "sexes", SEX)
    year, month, day = (_whole_text(name) for name in ("year_of_birth", "month_of_birth", "day_of_birth"))
    precision = F.when(month.isNull(), "year").when(day.isNull(), "month").otherwise("day")
    two_digits = F.lpad(month, 2, "0")
    text = F.when(precision == "year", F.concat(year, F.lit("0701"))).otherwise(
        F.concat(year, two_digits, F.coalesce(F.lpad(day, 2, "0"), F.lit("15")))
    )
    known = F.coalesce(month, F.lit("1")).rlike(PART) & F.coalesce(day, F.lit("1")).rlike(PART)
    dated = with_whole_dates(_tidy(frame), {"birth_date": F.when(year.rlike(r"^\d{4}$") & known, text)})
    return dated.withColumns(
        {
            "sex": decoded("gender_concept_id", sexes),
            "birth_date_precision": precision,
            "reasons": joined_reasons(
                missing("year_of_birth"), missing("gender_concept_id"),
                impossible("year_of_birth", F.col("birth_date")),
                unknown_code("gender_concept_id", sexes),
            ),
        }
    )  # fmt: skip


def _annotate_observation_period(frame: DataFrame, _: Site) -> DataFrame:
    cells = {"__start": "observation_period_start_date", "observed_to": "observation_period_end_date"}
    start, end = map(F.col, cells)
    reasons = joined_reasons(
        missing("observation_period_start_date"),
        missing("observation_period_end_date"),
        _unreadable("observation_period_start_date", start, "impossible_date"),
        _unreadable("observation_period_end_date", end, "impossible_date"),
        reason(end < start, "end_before_start"),
    )
    return _with_dates(_tidy(frame), cells).withColumn("reasons", reasons)


def _annotate_death(frame: DataFrame, _: Site) -> DataFrame:
    reasons = joined_reasons(missing("death_date"), impossible("death_date", F.col("died")))
    return _with_dates(_tidy(frame), {"died": "death_date"}).withColumn("reasons", reasons)


def _annotate_condition(frame: DataFrame, _: Site) -> DataFrame:
    reasons = joined_reasons(
        missing("condition_occurrence_id"),
        missing("condition_start_date"),
        impossible("condition_start_date", F.col("start_date")),
    )
    return _with_dates(_tidy(frame), {"start_date": "condition_start_date"}).withColumn("reasons", reasons)


def _annotate_visit(frame: DataFrame, _: Site) -> DataFrame:
    cells = {"__start": "visit_start_date", "visit_end": "visit_end_date"}
    start, end = map(F.col, cells)
    reasons = joined_reasons(
        missing("visit_occurrence_id"), missing("visit_start_date"), impossible("visit_start_date", start),
        _unreadable("visit_end_date", end, "impossible_date"), reason(end < start, "end_before_start"),
    )  # fmt: skip
    return _with_dates(_tidy(frame), cells).withColumn("reasons", reasons)


def _annotate_drug(frame: DataFrame, site: Site) -> DataFrame:
    cells = {"start_date": "drug_exposure_start_date", "last_date": "drug_exposure_end_date"}
    numbers = {"number": _number("quantity"), "days": _number("days_supply")}
    typed = _with_dates(_tidy(frame), cells).withColumns(numbers)
    start, end, quantity, days = map(F.col, (*cells, *numbers))
    cancels = F.lit(False) if not _counts_packages(site) else F.coalesce(quantity < 0, F.lit(False))
    end_counts = ~F.coalesce((_drug_type(site) == "dispensing") & (days > 0), F.lit(False))
    reasons = joined_reasons(
        missing("drug_exposure_id"), missing("drug_exposure_start_date"), impossible("drug_exposure_start_date", start),
        _unreadable("drug_exposure_end_date", end, "impossible_date"),
        # A supply may be planned to last beyond the delivery, but not for ever.
        reason(end_counts & (end > F.date_add(F.to_date("delivery"), 366)), "impossible_date:drug_exposure_end_date"),
        reason(end < start, "end_before_start"),
        _unreadable("quantity", quantity, "impossible_number"), _unreadable("days_supply", days, "impossible_number"),
        reason((quantity < 0) & ~cancels, "negative_number:quantity"),
        reason((days < 0) & ~cancels, "negative_number:days_supply"),
    )  # fmt: skip
    return typed.withColumn("reasons", reasons)


def _drug_type(site: Site) -> Column:
    """hospital or dispensing: what the type of a drug exposure means."""
    return decoded("drug_type_concept_id", site_codes(site, "drug_types", DRUG_TYPE))


def _counts_packages(site: Site) -> bool:
    said = _setting(site, "quantity", "units")
    if said not in ("units", "packages"):
        raise ConfigurationError("adapter.quantity: is units (tablets, millilitres) or packages")
    return bool(said == "packages")


def _annotate_measurement(frame: DataFrame, _: Site) -> DataFrame:
    reasons = joined_reasons(missing("measurement_date"), impossible("measurement_date", F.col("measured")))
    return _with_dates(_tidy(frame), {"measured": "measurement_date"}).withColumn("reasons", reasons)


def _annotate_location(frame: DataFrame, _: Site) -> DataFrame:
    return _tidy(frame).withColumns({"reasons": joined_reasons(missing("location_id"))})


def _annotate_concept(frame: DataFrame, _: Site) -> DataFrame:
    number = _concept("concept_id")
    return frame.withColumns(
        {
            "concept": number,
            "is_combination": F.coalesce(F.col("concept_name").rlike(COMBINATION), F.lit(False)),
            "reasons": joined_reasons(
                missing("concept_id"),
                missing("vocabulary_id"),
                missing("concept_code"),
                *_no_whole_numbers("concept_id"),
                reason(
                    (F.col("vocabulary_id") == "ATC") & ~F.upper("concept_code").rlike(ATC_SHAPE),
                    "unknown_code:concept_code",
                ),
            ),
        }
    )


def _annotate_ancestor(frame: DataFrame, _: Site) -> DataFrame:
    typed = {
        "ancestor": _concept("ancestor_concept_id"),
        "descendant": _concept("descendant_concept_id"),
        "levels": F.col("min_levels_of_separation").try_cast("int"),
    }
    absent = joined_reasons(
        missing("ancestor_concept_id"), missing("descendant_concept_id"),
        *_no_whole_numbers("ancestor_concept_id", "descendant_concept_id", "min_levels_of_separation"),
    )  # fmt: skip
    return frame.withColumns({**typed, "reasons": absent})


def _relate(annotated: Mapping[str, DataFrame], _: Site) -> dict[str, DataFrame]:
    """Deaths before the earliest day on which the person can have been born."""
    earliest = first_day(F.col("birth_date"), F.col("birth_date_precision"))
    born = (
        annotated["person"]
        .where((F.size("reasons") == 0) & F.col("person_id").isNotNull())
        .groupBy("person_id")
        .agg(F.min(earliest).alias("__born"))
    )
    deaths = annotated["death"].join(born, on="person_id", how="left")
    too_early = F.coalesce(F.col("died") < F.col("__born"), F.lit(False))
    told = F.sort_array(F.array_append("reasons", F.lit("death_before_birth")))
    return {"death": deaths.withColumn("reasons", F.when(too_early, told).otherwise(F.col("reasons"))).drop("__born")}


# ---- the vocabulary ----


@dataclass(frozen=True)
class _Vocabulary:
    """CONCEPT (concept, vocabulary_id, concept_class_id, concept_code, is_combination, invalid_reason) and
    CONCEPT_ANCESTOR (ancestor, descendant, levels)."""

    concepts: DataFrame
    ancestors: DataFrame

    def icd10_codes(self, used: DataFrame, vocabularies: list[str]) -> DataFrame:
        """One row per concept of `used` that is an ICD-10 or ICD-O-3 code: concept, code, kind (morphology)."""
        known = self.concepts.join(F.broadcast(used), on="concept", how="left_semi")
        plain = F.upper(F.regexp_replace("concept_code", r"\W", ""))
        kind = F.nullif(F.regexp_extract("concept_code", ICDO3, 1), F.lit(""))
        site = F.nullif(F.regexp_replace(F.regexp_extract("concept_code", ICDO3, 2), r"\W", ""), F.lit(""))
        is_icdo = F.col("vocabulary_id") == "ICDO3"
        code = F.when(is_icdo, icd10_of(site, kind)).otherwise(F.substring(plain, 1, 6))
        return (
            known.where(is_icdo | F.col("vocabulary_id").isin(*vocabularies))
            .select("concept", code.alias("code"), F.when(is_icdo, kind).alias("kind"))
            .where(F.col("code").rlike(ICD10))
            .groupBy("concept")
            .agg(F.min("code").alias("code"), F.min("kind").alias("kind"))
        )

    def nearest(self, used: DataFrame, mapping: DataFrame) -> DataFrame:
        """The row of `mapping` (by `mapped`, a concept) that is a concept of `used` itself or its nearest ancestor."""
        mapped = F.broadcast(mapping)
        own = used.select("concept", F.col("concept").alias("mapped"), F.lit(0).alias("levels"))
        above = self.ancestors.join(F.broadcast(used), F.col("descendant") == F.col("concept"), "inner").select(
            "concept", F.col("ancestor").alias("mapped"), "levels"
        )
        found = own.unionByName(above).join(mapped, on="mapped", how="inner")
        facts = [name for name in mapping.columns if name != "mapped"]
        closest = F.min_by(F.struct(*facts), F.struct("levels", "mapped"))
        return found.groupBy("concept").agg(closest.alias("closest")).select("concept", "closest.*")

    def drug_codes(self, used: DataFrame) -> DataFrame:
        """One row per concept of `used` with a code: concept, codes (array of code_system and code).

        ATC codes of the fifth level where there are any, else RxNorm ingredients. A class of combinations does not
        speak for a drug of one ingredient.
        """
        above = self.ancestors.join(F.broadcast(used), F.col("descendant") == F.col("concept"), "inner").select(
            "concept", F.col("ancestor").alias("meant")
        )
        related = above.unionByName(used.select("concept", F.col("concept").alias("meant"))).distinct()
        is_atc = (F.col("vocabulary_id") == "ATC") & (F.col("concept_class_id") == "ATC 5th")
        is_ingredient = F.col("vocabulary_id").isin(*RXNORM_VOCABULARIES) & (F.col("concept_class_id") == "Ingredient")
        coded = self.concepts.where(is_atc | is_ingredient).select(
            F.col("concept").alias("meant"),
            F.when(is_atc, "atc").otherwise("rxnorm").alias("code_system"),
            F.upper("concept_code").alias("code"),
            "is_combination",
            F.col("invalid_reason").isNotNull().alias("is_withdrawn"),
        )
        codes = related.join(F.broadcast(coded), on="meant", how="inner").where(
            ~F.col("is_withdrawn") | (F.col("meant") == F.col("concept"))
        )
        gathered = codes.groupBy("concept").agg(
            F.collect_set(F.when(F.col("code_system") == "rxnorm", F.struct("code_system", "code"))).alias("rxnorm"),
            F.collect_set(
                F.when(F.col("code_system") == "atc", F.struct("code_system", "code", "is_combination"))
            ).alias("atc"),
        )
        is_single = F.size("rxnorm") == 1
        speaking = F.filter("atc", lambda one: ~(is_single & one["is_combination"]))
        atc = F.transform(
            speaking, lambda one: F.struct(one["code_system"].alias("code_system"), one["code"].alias("code"))
        )
        return gathered.select("concept", F.when(F.size(atc) > 0, atc).otherwise(F.col("rxnorm")).alias("codes")).where(
            F.size("codes") > 0
        )


def _looked_up(frame: DataFrame) -> DataFrame:
    """The rows as a table of the driver's: of concepts in use only, nobody's. Without it the vocabulary, the largest
    table of a delivery, would be read once more for every table that is made."""
    return frame.sparkSession.createDataFrame(frame.toArrow(), frame.schema)


def _vocabulary(accepted: Mapping[str, DataFrame]) -> _Vocabulary:
    return _Vocabulary(
        accepted["concept"].select(
            "concept", "vocabulary_id", "concept_class_id", "concept_code", "is_combination", "invalid_reason"
        ),
        accepted["concept_ancestor"].select("ancestor", "descendant", "levels"),
    )


def _used(*columns: tuple[DataFrame, str]) -> DataFrame:
    """The distinct concepts in these columns: concept."""
    parts = [frame.select(_concept(name).alias("concept")) for frame, name in columns]
    return reduce(DataFrame.unionByName, parts).where(F.col("concept").isNotNull()).distinct()


def _strange(rows: DataFrame, raw_table: str, column: str) -> DataFrame:
    """The codes of rows that have no meaning here, counted."""
    # What is no code but a text of its own is counted, not shown.
    shown = F.when(F.length(column) > LONGEST_CODE, F.lit("(text)")).otherwise(F.col(column))
    return counted_codes(rows, raw_table, column, F.coalesce(shown, F.lit("0")))


# ---- people ----


def _regions(accepted: Mapping[str, DataFrame], site: Site) -> tuple[DataFrame, list[DataFrame]]:
    """PERSON with `region`, and the regions without a meaning."""
    person, source = accepted["person"], str(_setting(site, "region_from", "state"))
    place = "person"
    if source not in ("location_id", "care_site_id"):
        if "location" not in accepted:
            return person.withColumn("region", F.lit(None).cast("string")), []
        place = "location"
        if source not in accepted["location"].columns:
            raise ConfigurationError("adapter.region_from: LOCATION has no such column; PERSON's are location_id, "
                                     "care_site_id")  # fmt: skip
        places = accepted["location"].select("location_id", F.col(source).alias("__place"))
        person = person.join(F.broadcast(places), on="location_id", how="left")
    else:
        person = person.withColumn("__place", F.col(source))
    regions = site_codes(site, "regions", {})
    if not regions:
        return person.withColumn("region", F.col("__place")), []
    strangers = person.where(F.col("__place").isNotNull() & ~F.col("__place").isin(*regions))
    named = strangers.withColumn(source, F.col("__place"))
    return person.withColumn("region", decoded("__place", regions)), [_strange(named, place, source)]


def _last_observed(accepted: Mapping[str, DataFrame], site: Site) -> DataFrame:
    """One row per person whose observation ended before all others': the last day of the last period.

    Time between two periods counts as observed. Who died then, or within the site's `death_within_days`, was observed
    until death.
    """
    until = _day(site, "observed_until")
    ended = (
        accepted["observation_period"]
        .groupBy("person_id", "delivery")
        .agg(F.max("observed_to").alias("last_day"), F.min(F.struct("source_file", "source_row")).alias("place"))
    )
    died = accepted["death"].groupBy("person_id").agg(F.min("died").alias("died"))
    observed_until = F.to_date("delivery") if until is None else until
    until_death = F.coalesce(F.col("died") <= F.date_add("last_day", _days(site, "death_within_days")), F.lit(False))
    return (
        ended.join(died, on="person_id", how="left")
        .where((F.col("last_day") < observed_until) & ~until_death)
        .select("person_id", F.col("last_day").alias("emigration_date"), "place.*", "delivery")
    )


def _claims(accepted: Mapping[str, DataFrame], person: DataFrame, site: Site) -> DataFrame:
    deaths = accepted["death"].select(
        "person_id", F.col("died").alias("death_date"), F.lit("day").alias("death_date_precision"),
        F.lit(0).alias("priority"), "source_file", "source_row", "delivery",
    )  # fmt: skip
    return claims_of(
        person.withColumn("priority", F.lit(1)),
        deaths,
        _last_observed(accepted, site).withColumn("priority", F.lit(2)),
    )


# ---- conditions ----


def _icd10_of_concept(concept: str, code: str) -> tuple[int, str]:
    plain = code.replace(".", "").upper()
    if not concept.isdigit() or re.fullmatch(ICD10, plain) is None:
        raise ConfigurationError(f"adapter.condition_icd10.{concept}: give a concept's number and an ICD-10 code")
    return int(concept), plain


def _with_icd10(conditions: DataFrame, vocabulary: _Vocabulary, site: Site) -> DataFrame:
    """Conditions with `icd10` (NULL where none is known) and `morphology`."""
    vocabularies = [str(name) for name in _setting(site, "icd10_vocabularies", ICD10_VOCABULARIES)]
    used = _used((conditions, "condition_source_concept_id"), (conditions, "condition_concept_id"))
    codes = _looked_up(vocabulary.icd10_codes(used, vocabularies))
    of_source = codes.select(
        F.col("concept").alias("__source"), F.col("code").alias("source_code"), F.col("kind").alias("source_kind")
    )
    of_standard = codes.select(
        F.col("concept").alias("__standard"), F.col("code").alias("standard_code"), F.col("kind").alias("standard_kind")
    )
    found = (
        conditions.withColumns(
            {"__source": _concept("condition_source_concept_id"), "__standard": _concept("condition_concept_id")}
        )
        .join(F.broadcast(of_source), on="__source", how="left")
        .join(F.broadcast(of_standard), on="__standard", how="left")
    )
    candidates = [F.col("source_code"), F.col("standard_code")]
    mapping = site_codes(site, "condition_icd10", {})
    if mapping:
        rows = [_icd10_of_concept(concept, code) for concept, code in mapping.items()]
        frame = local_frame(conditions.sparkSession, rows, "mapped bigint, mapped_code string")
        standard = _used((conditions, "condition_concept_id"))
        nearest = _looked_up(vocabulary.nearest(standard, frame)).withColumnRenamed("concept", "__standard")
        found = found.join(F.broadcast(nearest), on="__standard", how="left")
        candidates.append(F.col("mapped_code"))
    if _setting(site, "condition_source_value", None) == "icd10":
        text = F.substring(F.upper(F.regexp_replace("condition_source_value", r"\W", "")), 1, 6)
        candidates.append(F.when(text.rlike(ICD10), text))
    kind = F.coalesce("source_kind", "standard_kind")
    return found.withColumns({"icd10": F.coalesce(*candidates), "morphology": kind})


def _purpose(site: Site) -> tuple[Column, Column, Column]:
    """Whether a condition tells of a tumour, of a contact, and whether its type is one that the site does not know."""
    purposes = site_codes(site, "condition_types", {})
    if not purposes:
        return F.lit(True), F.lit(True), F.lit(False)
    said = decoded("condition_type_concept_id", purposes)
    kind = F.col("condition_type_concept_id")
    strange = kind.isNotNull() & ~kind.isin(*purposes)
    return (
        F.coalesce(said.isin("tumour", "both"), F.lit(False)),
        F.coalesce(said.isin("hospital", "both"), F.lit(False)),
        strange,
    )


def _category() -> Column:
    """The three characters, and whether invasive: what makes two codes of a person the same tumour."""
    behaviour = F.regexp_extract(F.coalesce("morphology", F.lit("")), r"/(\d)", 1)
    invasive = F.when(behaviour == "", F.col("icd10").startswith("C")).otherwise(behaviour == "3")
    return F.concat(F.substring("icd10", 1, 3), F.when(invasive, "/3").otherwise("/2"))


def _tumour_rows(conditions: DataFrame, site: Site) -> DataFrame:
    """The conditions of tumours, each with `tumour_id` and `diagnosis_date` of the first of its kind in the person."""
    is_tumour, _, _ = _purpose(site)
    begins = [str(code) for code in _setting(site, "tumour_icd10", TUMOUR_ICD10)]
    secondary = [str(code) for code in _setting(site, "secondary_icd10", SECONDARY)]
    starts = reduce(lambda a, b: a | b, (F.col("icd10").startswith(code) for code in begins))
    spread = F.substring("icd10", 1, 3).isin(*secondary)
    basis = site_codes(site, "basis", BASIS)
    said = F.coalesce(decoded("condition_type_concept_id", basis), decoded("condition_status_concept_id", basis))
    of_tumour = conditions.where(is_tumour & starts & ~spread).withColumns({"category": _category(), "basis": said})
    of_kind = Window.partitionBy("person_id", "category").orderBy("start_date", "source_file", "source_row")
    first = of_kind.rowsBetween(Window.unboundedPreceding, Window.unboundedFollowing)
    return of_tumour.withColumns(
        {
            "tumour_id": F.first("condition_occurrence_id").over(first),
            "diagnosis_date": F.first("start_date").over(first),
            "is_first": F.row_number().over(of_kind.rowsBetween(Window.unboundedPreceding, Window.currentRow)) == 1,
        }
    )


def _hospital_diagnosis(accepted: Mapping[str, DataFrame], conditions: DataFrame, site: Site) -> DataFrame:
    _, of_contact, _ = _purpose(site)
    positions = site_codes(site, "positions", POSITION)
    position = F.coalesce(
        decoded("condition_status_concept_id", positions),
        decoded("condition_type_concept_id", positions),
        F.lit("secondary"),
    )
    rows = conditions.where(of_contact).withColumns(
        {
            "contact_id": F.coalesce("visit_occurrence_id", "condition_occurrence_id"),
            "position": position,
            "end_date": F.lit(None).cast("date"),
        }
    )
    if "visit_occurrence" in accepted:
        visits = (
            accepted["visit_occurrence"]
            .groupBy("person_id", "visit_occurrence_id")
            .agg(F.max("visit_end").alias("visit_end"))
        )
        rows = rows.join(visits, on=["person_id", "visit_occurrence_id"], how="left").withColumn(
            "end_date", F.when(F.col("visit_end") >= F.col("start_date"), F.col("visit_end"))
        )
    names = TABLES["hospital_diagnosis"].column_names
    facts = [name for name in names if name not in ("contact_id", "icd10", "position")]
    first = F.min_by(F.struct(*facts), F.struct("start_date", "source_file", "source_row")).alias("first")
    grouped = rows.groupBy("contact_id", "icd10", "position").agg(first)
    return grouped.select("contact_id", "icd10", "position", "first.*").select(*names)


# ---- measurements ----


def _fact(key: str, meaning: Any) -> str:
    """What an entry of the site's list tells; ConfigurationError where it says nothing that can be told."""
    if isinstance(meaning, Mapping):
        facts = [fact for fact in ("stage", "recurrence", "marker") if fact in meaning]
        if len(facts) == 1 and all(meaning[said] in TOLD.get(said, ()) for said in meaning):
            return facts[0]
    raise ConfigurationError(
        f"adapter.measurements.{key}: write {{stage: distant|regional|localised|value}}, {{recurrence: local|regional|"
        "distant} or {marker: her2|er|pr, method: ihc|ish|percent, site: primary|metastasis}"
    )


def _mapped_measurements(accepted: Mapping[str, DataFrame], vocabulary: _Vocabulary, site: Site) -> DataFrame:
    """The measurements that the site's list means: `fact` (stage, recurrence, marker), `said`, `method`, `sampled`."""
    rows: list[tuple[str, str, str, str, str]] = []
    for key, meaning in _setting(site, "measurements", MEASUREMENT).items():
        fact = _fact(str(key), meaning)
        method, sampled = str(meaning.get("method", "ihc")), str(meaning.get("site", "primary"))
        rows.append((str(key).lower(), fact, str(meaning[fact]), method, sampled))
    spark = accepted["measurement"].sparkSession
    columns = "mapped string, fact string, said string, method string, sampled string"
    by_text = local_frame(spark, [row for row in rows if not row[0].isdigit()], columns)
    by_text = by_text.withColumnRenamed("mapped", "__text")
    by_number = local_frame(spark, [row for row in rows if row[0].isdigit()], columns)
    by_number = by_number.withColumn("mapped", F.col("mapped").cast("bigint"))
    measured = accepted["measurement"].withColumns(
        {"__concept": _concept("measurement_concept_id"), "__text": F.lower("measurement_source_value")}
    )
    used = _used((measured, "measurement_concept_id"))
    nearest = _looked_up(vocabulary.nearest(used, by_number)).withColumnRenamed("concept", "__concept")
    facts = ["fact", "said", "method", "sampled"]
    meant = nearest.select("__concept", F.struct(*facts).alias("by_concept"))
    written = by_text.select("__text", F.struct(*facts).alias("by_text"))
    return (
        measured.join(F.broadcast(meant), on="__concept", how="left")
        .join(F.broadcast(written), on="__text", how="left")
        .withColumn("meaning", F.coalesce("by_concept", "by_text"))
        .where(F.col("meaning").isNotNull())
        .select("*", "meaning.*")
    )


def _value() -> Column:
    """What was found: a concept's number, else the text."""
    return F.coalesce(_concept("value_as_concept_id").cast("string"), F.lower("value_source_value"))


def _linked(measured: DataFrame, tumours: DataFrame) -> DataFrame:
    """Measurements with `tumour_id` and `diagnosis_date` of the tumour they name, else of the person's only one."""
    of_condition = tumours.select("person_id", F.col("condition_occurrence_id").alias("measurement_event_id"),
                                  F.struct("tumour_id", "diagnosis_date").alias("named")).distinct()  # fmt: skip
    only = (
        tumours.where("is_first")
        .groupBy("person_id")
        .agg(F.count(F.lit(1)).alias("n"), F.min(F.struct("tumour_id", "diagnosis_date")).alias("only"))
        .where(F.col("n") == 1)
        .drop("n")
    )
    field_known = F.coalesce(F.col("meas_event_field_concept_id") == CONDITION_FIELD, F.lit(True))
    event = F.when(field_known, F.col("measurement_event_id"))
    return (
        measured.withColumn("measurement_event_id", event)
        .join(of_condition, on=["person_id", "measurement_event_id"], how="left")
        .join(only, on="person_id", how="left")
        .withColumn("tumour", F.coalesce("named", "only"))
        .select("*", "tumour.*")
    )


def _spread(linked: DataFrame, site: Site) -> tuple[DataFrame, DataFrame, DataFrame]:
    """(person_id, tumour_id, stage), the table `recurrence`, and the stages without a meaning.

    Distant spread seen up to the day of diagnosis is the stage; later, or of a tumour that is not told, a recurrence of
    its own day.
    """
    stages = {**{extent: extent for extent in EXTENTS}, **site_codes(site, "stages", {})}
    staged = linked.where(F.col("fact") == "stage").withColumn("__value", _value())
    extent = F.when(F.col("said") != "value", F.col("said")).otherwise(decoded("__value", stages))
    read = staged.withColumn("extent", extent)
    strange = read.where((F.col("said") == "value") & F.col("__value").isNotNull() & ~F.col("__value").isin(*stages))
    at_diagnosis = F.coalesce(F.col("measured") <= F.col("diagnosis_date"), F.lit(False))
    distant = F.col("extent") == "distant"
    order = F.struct("measured", "source_file", "source_row")
    of_tumour = (
        read.where(F.col("tumour_id").isNotNull() & F.col("extent").isNotNull() & (~distant | at_diagnosis))
        .groupBy("person_id", "tumour_id")
        .agg(F.max(distant).alias("is_distant"), F.min_by("extent", order).alias("first"))
        .select(
            "person_id", "tumour_id", F.when(F.col("is_distant"), "distant").otherwise(F.col("first")).alias("stage")
        )
    )
    later = read.where(distant & ~at_diagnosis).withColumn("said", F.lit("distant"))
    events = later.drop("__value", "extent").unionByName(linked.where(F.col("fact") == "recurrence"))
    recurrences = (
        events.groupBy("person_id", "tumour_id", F.col("measured").alias("event_date"), F.col("said").alias("kind"))
        .agg(F.min(F.struct("source_file", "source_row", "delivery")).alias("place"))
        .select("*", "place.*", F.lit("day").alias("event_date_precision"))
        .select(*TABLES["recurrence"].column_names)
    )
    return of_tumour, recurrences, strange


def _biomarker(linked: DataFrame, site: Site) -> tuple[DataFrame, DataFrame]:
    """The table `biomarker`, and the results without a meaning."""
    meaning = site_codes(site, "receptors", RESULT)
    sampled = linked.where(F.col("fact") == "marker").withColumn("__value", _value())
    read = decoded("__value", meaning)
    of_ish = F.when(read == "positive", "amplified").when(read == "negative", "not_amplified").otherwise(read)
    percent = F.regexp_replace("value_as_number", ",", ".")
    result = (
        F.when(F.col("method") == "percent", F.when(percent.try_cast("double").isNotNull(), percent))
        .when(F.col("method") == "ish", of_ish)
        .otherwise(read)
    )
    judged = sampled.withColumn("result", result)
    strange = judged.where(F.col("result").isNull() & F.col("__value").isNotNull())
    table = judged.where(F.col("result").isNotNull()).select(
        "person_id", "tumour_id", F.col("measured").alias("sample_date"), F.col("sampled").alias("site"),
        F.col("said").alias("marker"), "method", "result", "source_file", "source_row", "delivery",
    )  # fmt: skip
    return table.select(*TABLES["biomarker"].column_names), strange


def _strange_values(rows: DataFrame) -> list[DataFrame]:
    by_concept = _concept("value_as_concept_id").isNotNull()
    return [
        _strange(rows.where(by_concept), "measurement", "value_as_concept_id"),
        _strange(rows.where(~by_concept), "measurement", "value_source_value"),
    ]


def _tumour(tumours: DataFrame, stages: DataFrame | None) -> DataFrame:
    first = tumours.where("is_first")
    nothing = F.lit(None).cast("string")
    staged = (
        first.withColumn("stage", nothing)
        if stages is None
        else first.join(stages, on=["person_id", "tumour_id"], how="left")
    )
    return staged.withColumns(
        {
            "diagnosis_date_precision": F.lit("day"),
            "er": nothing,
            "pr": nothing,
            "her2": nothing,
        }
    ).select(*TABLES["tumour"].column_names)


# ---- drugs ----


def _with_codes(drugs: DataFrame, vocabulary: _Vocabulary) -> DataFrame:
    """Drug exposures with `codes` (array of code_system, code): of the standard concept, else of the source's."""
    used = _used((drugs, "drug_concept_id"), (drugs, "drug_source_concept_id"))
    codes = _looked_up(vocabulary.drug_codes(used))
    of_standard = codes.select(F.col("concept").alias("__standard"), F.col("codes").alias("standard_codes"))
    of_source = codes.select(F.col("concept").alias("__source"), F.col("codes").alias("source_codes"))
    return (
        drugs.withColumns(
            {"__standard": _concept("drug_concept_id"), "__source": _concept("drug_source_concept_id")}
        )
        .join(F.broadcast(of_standard), on="__standard", how="left")
        .join(F.broadcast(of_source), on="__source", how="left")
        .withColumn("codes", F.coalesce("standard_codes", "source_codes"))
    )  # fmt: skip


def _hospital_drug(given: DataFrame, site: Site) -> DataFrame:
    """One row per administration or period and code; an end on the day of the start is one administration."""
    route = F.coalesce(decoded("route_concept_id", site_codes(site, "routes", ROUTE)), F.lit("unspecified"))
    rows = given.select(
        "person_id",
        F.coalesce("visit_occurrence_id", "drug_exposure_id").alias("contact_id"),
        "start_date",
        F.when(F.col("last_date") > F.col("start_date"), F.col("last_date")).alias("end_date"),
        F.inline("codes").alias("code_system", "code"),
        route.alias("route"),
        "source_file",
        "source_row",
        "delivery",
    )
    table = TABLES["hospital_drug"]
    facts = [name for name in table.column_names if name not in table.key]
    first = F.min_by(F.struct(*facts), F.struct("source_file", "source_row")).alias("first")
    return rows.groupBy(*table.key).agg(first).select(*table.key, "first.*").select(*table.column_names)


def _dispensing(dispensed: DataFrame, site: Site) -> DataFrame:
    """One row per dispensing and ATC code. Days of supply: as stated, else from first to last day where they differ."""
    lasts = F.datediff("last_date", "start_date") + 1
    stated = F.when(F.col("days") > 0, F.round("days"))  # 0 days are unknown ones
    days = F.coalesce(stated, F.when(lasts > 1, lasts)).cast("int")
    packages = F.col("number") if _counts_packages(site) else F.lit(None).cast("double")
    atc = F.filter("codes", lambda one: one["code_system"] == "atc")
    rows = dispensed.select(
        "person_id", F.col("start_date").alias("dispensed_date"), F.inline(atc).alias("code_system", "atc"),
        packages.alias("packages"), F.lit(None).cast("double").alias("ddd"), days.alias("days_supply"), "source_file",
        "source_row", "delivery",
    )  # fmt: skip
    return rows.select(*TABLES["dispensing"].column_names)


def _conform(accepted: Mapping[str, DataFrame], site: Site) -> dict[str, DataFrame]:
    vocabulary = _vocabulary(accepted)
    person, strangers = _regions(accepted, site)
    coded = _with_icd10(accepted["condition_occurrence"], vocabulary, site)
    is_tumour, of_contact, strange_type = _purpose(site)
    strangers += [
        _strange(coded.where(F.col("icd10").isNull() & (is_tumour | of_contact)), "condition_occurrence",
                 "condition_concept_id"),
        _strange(coded.where(strange_type), "condition_occurrence", "condition_type_concept_id"),
    ]  # fmt: skip
    conditions = coded.where(F.col("icd10").isNotNull())
    tumours = _tumour_rows(conditions, site)
    drugs = _with_codes(accepted["drug_exposure"], vocabulary)
    kind = _drug_type(site)
    given, dispensed = drugs.where(kind == "hospital"), drugs.where(kind == "dispensing")
    has_atc = F.exists("codes", lambda one: one["code_system"] == "atc")
    without_code = given.where(F.col("codes").isNull()).unionByName(dispensed.where(~F.coalesce(has_atc, F.lit(False))))
    strangers.append(_strange(without_code, "drug_exposure", "drug_concept_id"))
    tables = {
        "person_claims": _claims(accepted, person, site),
        "hospital_diagnosis": _hospital_diagnosis(accepted, conditions, site),
        "hospital_drug": _hospital_drug(given.where(F.col("codes").isNotNull()), site),
        "dispensing": _dispensing(dispensed.where(has_atc), site),
        **conform_life_table(accepted, site),
    }
    stages: DataFrame | None = None
    if "measurement" in accepted:
        linked = _linked(_mapped_measurements(accepted, vocabulary, site), tumours)
        stages, tables["recurrence"], strange_stages = _spread(linked, site)
        tables["biomarker"], strange_results = _biomarker(linked, site)
        strangers += [*_strange_values(strange_stages), *_strange_values(strange_results)]
    tables["tumour"] = _tumour(tumours, stages)
    tables["unknown_codes"] = reduce(DataFrame.unionByName, strangers).groupBy("raw_table", "column", "code").agg(
        F.sum("n").alias("n")
    )  # fmt: skip
    return tables


def _datetimes(*names: str) -> tuple[str, ...]:
    return tuple(f"{name}_datetime" for name in names)


# Vocabulary files as they are downloaded: tab-separated, no quoting.
ATHENA = {"sep": "\t", "quote": ""}

ADAPTER = Adapter(
    country="omop",
    raw_tables=(
        RawTable(
            name="person",
            annotate=_annotate_person,
            columns=("person_id", "gender_concept_id", "year_of_birth"),
            optional=("month_of_birth", "day_of_birth", "birth_datetime", "race_concept_id", "ethnicity_concept_id",
                      "location_id", "provider_id", "care_site_id", "person_source_value", "gender_source_value",
                      "gender_source_concept_id", "race_source_value", "race_source_concept_id",
                      "ethnicity_source_value", "ethnicity_source_concept_id"),
            id_column="person_id",
            discarded=NOT_KEPT,
            unique=("person_id",),
        ),
        RawTable(
            name="observation_period",
            annotate=_annotate_observation_period,
            columns=("person_id", "observation_period_start_date", "observation_period_end_date"),
            optional=("observation_period_id", "period_type_concept_id"),
            id_column="person_id",
            discarded=NOT_KEPT,
            id_parts=("observation_period_id",),
        ),
        RawTable(
            name="death",
            annotate=_annotate_death,
            columns=("person_id", "death_date"),
            optional=("death_datetime", "death_type_concept_id", "cause_concept_id", "cause_source_value",
                      "cause_source_concept_id"),
            id_column="person_id",
            discarded=NOT_KEPT,
        ),
        RawTable(
            name="condition_occurrence",
            annotate=_annotate_condition,
            columns=("condition_occurrence_id", "person_id", "condition_concept_id", "condition_start_date",
                     "condition_type_concept_id"),
            optional=("condition_end_date", *_datetimes("condition_start", "condition_end"),
                      "condition_status_concept_id", "stop_reason", "provider_id", "visit_occurrence_id",
                      "visit_detail_id", "condition_source_value", "condition_source_concept_id",
                      "condition_status_source_value"),
            id_column="person_id",
            discarded=NOT_KEPT,
            id_parts=("condition_occurrence_id", "visit_occurrence_id"),
            site_codes={"condition_status_concept_id": ("positions", frozenset(POSITION))},
        ),
        RawTable(
            name="visit_occurrence",
            annotate=_annotate_visit,
            columns=("visit_occurrence_id", "person_id", "visit_start_date", "visit_end_date"),
            optional=("visit_concept_id", *_datetimes("visit_start", "visit_end"), "visit_type_concept_id",
                      "provider_id", "care_site_id", "visit_source_value", "visit_source_concept_id",
                      "admitted_from_concept_id", "admitted_from_source_value", "discharged_to_concept_id",
                      "discharged_to_source_value", "preceding_visit_occurrence_id"),
            id_column="person_id",
            discarded=NOT_KEPT,
            id_parts=("visit_occurrence_id", "preceding_visit_occurrence_id"),
            required=False,
        ),
        RawTable(
            name="drug_exposure",
            annotate=_annotate_drug,
            columns=("drug_exposure_id", "person_id", "drug_concept_id", "drug_exposure_start_date",
                     "drug_exposure_end_date", "drug_type_concept_id"),
            optional=(*_datetimes("drug_exposure_start", "drug_exposure_end"), "verbatim_end_date", "stop_reason",
                      "refills", "quantity", "days_supply", "sig", "route_concept_id", "lot_number", "provider_id",
                      "visit_occurrence_id", "visit_detail_id", "drug_source_value", "drug_source_concept_id",
                      "route_source_value", "dose_unit_source_value"),
            id_column="person_id",
            discarded=NOT_KEPT,
            id_parts=("drug_exposure_id", "visit_occurrence_id"),
            site_codes={"drug_type_concept_id": ("drug_types", frozenset(DRUG_TYPE))},
        ),
        RawTable(
            name="measurement",
            annotate=_annotate_measurement,
            columns=("measurement_id", "person_id", "measurement_concept_id", "measurement_date"),
            optional=("measurement_datetime", "measurement_time", "measurement_type_concept_id", "operator_concept_id",
                      "value_as_number", "value_as_concept_id", "unit_concept_id", "range_low", "range_high",
                      "provider_id", "visit_occurrence_id", "visit_detail_id", "measurement_source_value",
                      "measurement_source_concept_id", "unit_source_value", "unit_source_concept_id",
                      "value_source_value", "measurement_event_id", "meas_event_field_concept_id"),
            id_column="person_id",
            discarded=NOT_KEPT,
            id_parts=("measurement_id", "visit_occurrence_id", "measurement_event_id"),
            id_names={"measurement_event_id": "condition_occurrence_id"},
            required=False,
        ),
        RawTable(
            name="location",
            annotate=_annotate_location,
            columns=("location_id",),
            optional=("address_1", "address_2", "city", "state", "zip", "county", "location_source_value",
                      "country_concept_id", "country_source_value", "latitude", "longitude"),
            id_column=None,
            discarded=NOT_KEPT,
            unique=("location_id",),
            required=False,
        ),
        RawTable(
            name="concept",
            annotate=_annotate_concept,
            columns=("concept_id", "vocabulary_id", "concept_class_id", "concept_code"),
            optional=("concept_name", "domain_id", "standard_concept", "valid_start_date", "valid_end_date",
                      "invalid_reason"),
            id_column=None,
            discarded=("domain_id", "standard_concept", "valid_start_date", "valid_end_date"),
            kept=("vocabulary_id", "concept_class_id", "concept_code", "invalid_reason"),
            options=ATHENA,
            is_vocabulary=True,
        ),
        RawTable(
            name="concept_ancestor",
            annotate=_annotate_ancestor,
            columns=("ancestor_concept_id", "descendant_concept_id", "min_levels_of_separation"),
            optional=("max_levels_of_separation",),
            id_column=None,
            discarded=("max_levels_of_separation",),
            kept=(),
            options=ATHENA,
            is_vocabulary=True,
        ),
        *LIFE_TABLES,
    ),
    conform=_conform,
    relate=_relate,
    numbers_people=True,
)  # fmt: skip
