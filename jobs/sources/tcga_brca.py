"""TCGA-BRCA: the clinical tables of the Genomic Data Commons, tab-separated, with three header lines.

What the tables cannot say, and what is done about it:

- Days are counted from the diagnosis, of which only the year is known. Day 0 is 1 July of that year, so every interval
  is exact and every calendar date is known to the year. Where the year is missing it is the latest one that the date of
  the form and the last contact allow.
- Where the day of birth is withheld (90 years and older, and a few others) the birthday is the day of diagnosis.
- Nobody is known to emigrate, but people are lost from observation. `emigration_date` of a person not known to be dead
  is the last day on which anything is known of them: a contact, a drug, a new tumour or the diagnosis itself.
- A death is taken from whichever form reports it. A form that reports a death without its day is held back, and the
  person stays under observation until the last contact.
- HER2 is positive where immunohistochemistry or in-situ hybridisation is, also where the other one is negative. Without
  a positive one, a negative hybridisation outweighs an equivocal stain. Indeterminate results are unknown.
- An ongoing treatment lasts to the last day known; one with a start only, and not ongoing, was given once.
- New tumours of the forms v1.5 carry no kind and are not read; nor are other malignancies, which mostly lack a day.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.sources.adapter import Adapter, RawTable
from jobs.sources.claims import claims_of
from jobs.sources.parse import ICD10_SHAPE, joined_reasons, no_code
from schemas import TABLES

if TYPE_CHECKING:
    from jobs.config import Site

LINEAGE = ("source_file", "source_row", "delivery")
OPTIONS = {"sep": "\t", "quote": ""}
HEADER_LINES = 3
DIAGNOSIS_MONTH, DIAGNOSIS_DAY = 7, 1
MOST_DAYS = 120 * 366

SEXES = {"FEMALE": "female", "MALE": "male"}
VITAL_STATUS = frozenset({"Alive", "Dead"})
RECEPTOR_RESULTS = frozenset({"Positive", "Negative", "Equivocal", "Indeterminate"})
ROUTES = {"IV": "iv", "PO": "oral", "IM": "im", "SC": "sc"}

# Groups of stage; within stages I and II the lymph nodes decide between localised and regional.
LOCALISED_WITHOUT_NODES = ("Stage I", "Stage IA", "Stage IB", "Stage II", "Stage IIA", "Stage IIB")
NODES_IMPLIED_ABSENT = ("Stage I", "Stage IA")

NEW_PRIMARY = "New Primary Tumor"
EVENT_TYPES = frozenset({"Distant Metastasis", "Locoregional Disease", "Locoregional Recurrence", NEW_PRIMARY})
LOCAL_SITES = "breast|chest ?wall|skin|derm"
# The first that fits. A new primary of another site is held back as an unknown code.
PRIMARY_SITES = (
    ("basal cell", "C44"),
    ("melanoma", "C43"),
    ("breast", "C50"),
    ("endometri", "C541"),
    ("renal|kidney", "C64"),
    ("colon", "C18"),
    ("rectum", "C20"),
    ("lung", "C34"),
    ("bone", "C41"),
    ("skin", "C44"),
)

# Several drugs in one cell. "Chemo, NOS" is one name.
BETWEEN_DRUGS = r"\s*(?:\+|/|\||&|,(?!\s*nos\b)|\band\b)\s*"
IN_PARENTHESES = r"\([^)]*\)"
SALT = r"\s+(?:hcl|hydrochloride|citrate|acetate|phosphate|disodium|sodium)$"
BLINDED = "placebo"


def drug_names(cell: Column) -> Column:
    """The drugs of a free-text cell: array<string> of distinct names in lower case, without salts and without what
    stands in parentheses. A cell that mentions a placebo says not what was given and stays one name."""
    text = F.lower(F.trim(cell))
    parts = F.split(F.regexp_replace(text, IN_PARENTHESES, " "), BETWEEN_DRUGS)
    names = F.transform(parts, lambda part: F.regexp_replace(F.trim(F.regexp_replace(part, r"\s+", " ")), SALT, ""))
    distinct = F.array_distinct(F.filter(names, lambda name: name != ""))
    return F.when(F.contains(text, F.lit(BLINDED)) | (F.size(distinct) == 0), F.array(text)).otherwise(distinct)


def _text(name: str) -> Column:
    """The cell, NULL for codes such as `[Not Available]`."""
    return F.when(~F.col(name).rlike(r"^\[.*\]$"), F.col(name))


def _number(name: str) -> Column:
    """Days, years of age or a year; NULL for anything else, and for more days than a life has."""
    days = F.when(_text(name).rlike(r"^-?\d{1,5}$"), _text(name).try_cast("int"))
    return F.when(F.abs(days) <= MOST_DAYS, days)


def _when(condition: Column, reason: str) -> Column:
    return F.when(F.coalesce(condition, F.lit(False)), F.lit(reason))


def _no_number(name: str) -> Column:
    return _when(_text(name).isNotNull() & _number(name).isNull(), f"impossible_date:{name}")


def _no_code(name: str, known: frozenset[str]) -> Column:
    return _when(~_text(name).isin(*sorted(known)), f"unknown_code:{name}")


def _with_reasons(frame: DataFrame, *reasons: Column) -> DataFrame:
    return frame.withColumn("reasons", joined_reasons(*reasons))


def _decode(name: str, codes: Mapping[str, str]) -> Column:
    return reduce(lambda chain, code: chain.when(F.col(name) == code, codes[code]), codes, F.when(F.lit(False), ""))


def _with_observation(frame: DataFrame, *contacts: str) -> DataFrame:
    """Adds contact_day and death_day, in days from the diagnosis."""
    days = [_number(name) for name in contacts]
    return frame.withColumns(
        {
            "contact_day": days[0] if len(days) == 1 else F.greatest(*days),
            "death_day": F.when(F.col("vital_status") == "Dead", _number("death_days_to")),
        }
    )


def _observation_reasons(*contacts: str) -> tuple[Column, ...]:
    """On the columns of `_with_observation`. A form that says neither that a person lived on a day nor that they died
    on one tells nothing."""
    is_dead = F.col("vital_status") == "Dead"
    nothing = F.col("contact_day").isNull() & F.col("death_day").isNull() & ~F.coalesce(is_dead, F.lit(False))
    return (
        _no_code("vital_status", VITAL_STATUS),
        _no_number("death_days_to"),
        *(_no_number(name) for name in contacts),
        _when(is_dead & F.col("death_day").isNull(), "missing_date:death_days_to"),
        _when(nothing, f"missing_date:{contacts[0]}"),
    )


def _icd10() -> Column:
    return F.upper(F.regexp_replace("icd_10", r"\W", ""))


def _annotate_patient(frame: DataFrame, _: Site) -> DataFrame:
    """Adds day_0, birth_date, contact_day, death_day, reasons."""
    observed = _with_observation(frame, "last_contact_days_to")
    last_day = F.coalesce("contact_day", "death_day")
    latest_year = F.year(F.date_sub(F.to_date(_text("form_completion_date"), "yyyy-M-d"), last_day))
    year = F.coalesce(_number("initial_pathologic_dx_year"), latest_year)
    birth_day, age = _number("birth_days_to"), _number("age_at_diagnosis")
    dated = observed.withColumn(
        "day_0",
        F.when(year.between(1900, 2100), F.make_date(year, F.lit(DIAGNOSIS_MONTH), F.lit(DIAGNOSIS_DAY))),
    )
    return _with_reasons(
        dated.withColumn(
            "birth_date",
            F.coalesce(F.date_add("day_0", birth_day), F.add_months("day_0", -12 * age)),
        ),
        *_observation_reasons("last_contact_days_to"),
        *(_no_number(name) for name in ("birth_days_to", "age_at_diagnosis", "initial_pathologic_dx_year")),
        _when(F.col("day_0").isNull(), "missing_date:initial_pathologic_dx_year"),
        _when(birth_day.isNull() & age.isNull(), "missing_date:birth_days_to"),
        _when((birth_day > 0) | (age < 0), "impossible_date:birth_days_to"),
        _when(F.col("death_day") < birth_day, "death_before_birth"),
        _when(_text("gender").isNull(), "missing:gender"),
        _no_code("gender", frozenset(SEXES)),
        no_code("icd_10", _icd10(), ICD10_SHAPE),
    )


def _annotate_follow_up(frame: DataFrame, _: Site) -> DataFrame:
    """Adds contact_day, death_day, reasons."""
    return _with_reasons(
        _with_observation(frame, "last_contact_days_to"), *_observation_reasons("last_contact_days_to")
    )


def _annotate_follow_up_v1_5(frame: DataFrame, _: Site) -> DataFrame:
    """Adds contact_day, death_day, reasons."""
    contacts = ("last_contact_days_to", "days_to_last_known_alive")
    return _with_reasons(_with_observation(frame, *contacts), *_observation_reasons(*contacts))


def _with_event(frame: DataFrame) -> DataFrame:
    """Adds event_day, and either kind (a recurrence) or icd10 (a new primary tumour)."""
    type_ = F.col("new_tumor_event_type")
    site = F.lower(F.concat_ws(" ", _text("new_tumor_event_site"), _text("new_tumor_event_site_other")))
    locoregional = F.when(site.rlike(LOCAL_SITES) & ~site.rlike("node"), "local").otherwise("regional")
    icd10 = F.coalesce(*(F.when(site.rlike(pattern), code) for pattern, code in PRIMARY_SITES))
    return frame.withColumns(
        {
            "event_day": _number("new_tumor_event_dx_days_to"),
            "kind": F.when(type_ == "Distant Metastasis", "distant").when(
                type_.startswith("Locoregional"), locoregional
            ),
            "icd10": F.when(type_ == NEW_PRIMARY, icd10),
        }
    )


def _annotate_follow_up_v2_1(frame: DataFrame, site: Site) -> DataFrame:
    """Adds contact_day, death_day, event_day, kind, icd10, reasons."""
    return _with_event(_annotate_follow_up(frame, site))


def _annotate_event(frame: DataFrame, _: Site) -> DataFrame:
    """Adds event_day, kind, icd10, reasons."""
    is_new_primary = F.col("new_tumor_event_type") == NEW_PRIMARY
    return _with_reasons(
        _with_event(frame),
        _when(_text("new_tumor_event_type").isNull(), "missing:new_tumor_event_type"),
        _no_code("new_tumor_event_type", EVENT_TYPES),
        _when(is_new_primary & F.col("icd10").isNull(), "unknown_code:new_tumor_event_site"),
        _no_number("new_tumor_event_dx_days_to"),
        _when(_text("new_tumor_event_dx_days_to").isNull(), "missing_date:new_tumor_event_dx_days_to"),
    )


def _annotate_drug(frame: DataFrame, _: Site) -> DataFrame:
    """Adds start_day, end_day, is_ongoing, names, reasons."""
    start, end = "pharmaceutical_tx_started_days_to", "pharmaceutical_tx_ended_days_to"
    name = "pharmaceutical_therapy_drug_name"
    typed = frame.withColumns(
        {
            "start_day": _number(start),
            "end_day": _number(end),
            "is_ongoing": F.coalesce(F.col("pharmaceutical_tx_ongoing_indicator") == "YES", F.lit(False)),
            "names": drug_names(_text(name)),
        }
    )
    return _with_reasons(
        typed,
        _when(_text(name).isNull(), f"missing:{name}"),
        _when(_text(start).isNull(), f"missing_date:{start}"),
        _no_number(start),
        _no_number(end),
        _when(F.col("end_day") < F.col("start_day"), "end_before_start"),
    )


def _hash(*parts: Column) -> Column:
    """A pseudonym made of pseudonyms: the tables give tumours no identifier."""
    return F.substring(F.sha2(F.concat_ws("\u001f", *parts), 256), 1, 32)


def _index_tumour_id() -> Column:
    return _hash(F.col("person_id"), F.lit("index"))


def _union(frames: list[DataFrame]) -> DataFrame | None:
    return reduce(DataFrame.unionByName, frames) if frames else None


def _first(frame: DataFrame, *key: str) -> DataFrame:
    """One row per key, the first by file and row."""
    order = Window.partitionBy(*key).orderBy("source_file", "source_row")
    rank = F.row_number().over(order.rowsBetween(Window.unboundedPreceding, Window.currentRow))
    return frame.withColumn("__rank", rank).where(F.col("__rank") == 1).drop("__rank")


def _events(accepted: Mapping[str, DataFrame]) -> DataFrame | None:
    """Dated new tumours of all forms: person_id, event_day, kind, icd10, lineage."""
    names = [name for name in ("follow_up_v2_1", "new_tumour", "follow_up_new_tumour") if name in accepted]
    columns = ("person_id", "event_day", "kind", "icd10", *LINEAGE)
    usable = F.col("event_day").isNotNull() & (F.col("kind").isNotNull() | F.col("icd10").isNotNull())
    return _union([accepted[name].where(usable).select(*columns) for name in names])


def _last_days(accepted: Mapping[str, DataFrame], events: DataFrame | None) -> DataFrame:
    """One row per person: death_day, and last_day, the last day on which anything is known (at least 0)."""
    no_day = F.lit(None).cast("int")
    known = [
        accepted[name].select("person_id", F.col("contact_day").alias("day"), "death_day")
        for name in ("patient", "follow_up_v1_5", "follow_up_v2_1", "follow_up_v4_0")
        if name in accepted
    ]
    if "drug" in accepted:
        of_drug = F.coalesce(F.greatest("start_day", "end_day"), F.col("start_day")).alias("day")
        known.append(accepted["drug"].select("person_id", of_drug, no_day.alias("death_day")))
    if events is not None:
        known.append(events.select("person_id", F.col("event_day").alias("day"), no_day.alias("death_day")))
    latest = F.greatest(F.lit(0), F.max("day"))
    return (
        reduce(DataFrame.unionByName, known)
        .groupBy("person_id")
        .agg(F.max("death_day").alias("death_day"), latest.alias("last_day"))
    )


def _stage() -> Column:
    """Summary stage from the pathological stage group, M and N."""
    stage, nodes = F.col("ajcc_pathologic_tumor_stage"), F.col("ajcc_nodes_pathologic_pn")
    distant = (F.col("ajcc_metastasis_pathologic_pm") == "M1") | stage.startswith("Stage IV")
    regional = stage.startswith("Stage III") | nodes.rlike("^N[123]")
    localised = stage.isin(*LOCALISED_WITHOUT_NODES) & nodes.startswith("N0") | stage.isin(*NODES_IMPLIED_ABSENT)
    return F.when(distant, "distant").when(regional, "regional").when(localised, "localised")


def _her2() -> Column:
    results = [F.col(name) for name in ("her2_status_by_ihc", "her2_fish_status")]

    def either(value: str) -> Column:
        return reduce(or_, [F.coalesce(result == value, F.lit(False)) for result in results])

    stain_equivocal = F.col("her2_status_by_ihc") == "Equivocal"
    return (
        F.when(either("Positive"), "positive")
        .when((F.col("her2_fish_status") == "Negative") & (stain_equivocal | either("Negative")), "negative")
        .when(either("Equivocal"), "equivocal")
        .when(either("Negative"), "negative")
    )


def _hormone_receptor(name: str) -> Column:
    return F.when(F.col(name).isin("Positive", "Negative", "Equivocal"), F.lower(name))


def _persons(patients: DataFrame) -> DataFrame:
    by_year = F.lit("year")
    died = F.date_add("day_0", "death_day")
    return patients.select(
        "person_id",
        _decode("gender", SEXES).alias("sex"),
        "birth_date",
        by_year.alias("birth_date_precision"),
        died.alias("death_date"),
        F.when(died.isNotNull(), by_year).alias("death_date_precision"),
        F.when(died.isNull(), F.date_add("day_0", "last_day")).alias("emigration_date"),
        F.lit(None).cast("string").alias("region"),
        *LINEAGE,
    )


def _tumours(patients: DataFrame, events: DataFrame | None) -> DataFrame:
    nothing = F.lit(None).cast("string")
    by_year, histology = F.lit("year").alias("diagnosis_date_precision"), F.lit("histology").alias("basis")
    tumours = patients.select(
        "person_id",
        _index_tumour_id().alias("tumour_id"),
        F.col("day_0").alias("diagnosis_date"),
        by_year,
        _icd10().alias("icd10"),
        _text("icd_o_3_histology").alias("morphology"),
        _stage().alias("stage"),
        _hormone_receptor("er_status_by_ihc").alias("er"),
        _hormone_receptor("pr_status_by_ihc").alias("pr"),
        _her2().alias("her2"),
        histology,
        *LINEAGE,
    )
    if events is None:
        return tumours
    primaries = events.where(F.col("icd10").isNotNull()).select(
        "person_id",
        _hash(F.col("person_id"), F.col("icd10"), F.col("event_day")).alias("tumour_id"),
        F.date_add("day_0", "event_day").alias("diagnosis_date"),
        by_year,
        "icd10",
        *(nothing.alias(name) for name in ("morphology", "stage", "er", "pr", "her2")),
        histology,
        *LINEAGE,
    )
    return tumours.unionByName(_first(primaries, "tumour_id"))


def _recurrences(events: DataFrame) -> DataFrame:
    rows = events.where(F.col("kind").isNotNull()).select(
        "person_id",
        _index_tumour_id().alias("tumour_id"),
        F.date_add("day_0", "event_day").alias("event_date"),
        F.lit("year").alias("event_date_precision"),
        "kind",
        *LINEAGE,
    )
    return _first(rows, "person_id", "event_date", "kind")


def _hospital_drugs(drugs: DataFrame) -> DataFrame:
    """One row per drug that a cell names."""
    last = F.greatest("start_day", F.coalesce("death_day", "last_day"))
    end = F.coalesce("end_day", F.when(F.col("is_ongoing"), last))
    return drugs.select(
        "person_id",
        F.col("bcr_drug_barcode").alias("contact_id"),
        F.date_add("day_0", "start_day").alias("start_date"),
        F.date_add("day_0", end).alias("end_date"),
        F.lit("name").alias("code_system"),
        F.explode("names").alias("code"),
        F.when(_text("route_of_administration").isNotNull(), F.coalesce(_route(), F.lit("unspecified"))).alias("route"),
        *LINEAGE,
    )


def _route() -> Column:
    return _decode("route_of_administration", ROUTES)


def _conform(accepted: Mapping[str, DataFrame], _: Site) -> dict[str, DataFrame]:
    events = _events(accepted)
    patients = accepted["patient"].drop("death_day").join(_last_days(accepted, events), on="person_id", how="inner")
    day_0 = patients.select("person_id", "day_0", "death_day", "last_day")
    dated_events = None if events is None else events.join(day_0, on="person_id", how="inner")
    tables = {
        "person_claims": claims_of(_persons(patients).withColumn("priority", F.lit(1))),
        "tumour": _tumours(patients, dated_events),
    }
    if dated_events is not None:
        tables["recurrence"] = _recurrences(dated_events)
    if "drug" in accepted:
        tables["hospital_drug"] = _hospital_drugs(accepted["drug"].join(day_0, on="person_id", how="inner"))
    return {name: table.select(*TABLES[name].column_names) for name, table in tables.items()}


BARCODE = "bcr_patient_barcode"
OBSERVATION = (BARCODE, "vital_status", "last_contact_days_to", "death_days_to")
NEW_TUMOUR = (
    "new_tumor_event_type",
    "new_tumor_event_site",
    "new_tumor_event_site_other",
    "new_tumor_event_dx_days_to",
)
# Missing is written in many ways, all in brackets.
MISSING = frozenset(
    {"[Not Available]", "[Not Applicable]", "[Not Evaluated]", "[Unknown]", "[Discrepancy]", "[Completed]"}
)

ADAPTER = Adapter(
    country="tcga_brca",
    raw_tables=(
        RawTable(
            name="patient",
            annotate=_annotate_patient,
            columns=(
                *OBSERVATION,
                "form_completion_date",
                "birth_days_to",
                "gender",
                "initial_pathologic_dx_year",
                "age_at_diagnosis",
                "ajcc_nodes_pathologic_pn",
                "ajcc_metastasis_pathologic_pm",
                "ajcc_pathologic_tumor_stage",
                "er_status_by_ihc",
                "pr_status_by_ihc",
                "her2_status_by_ihc",
                "her2_fish_status",
                "icd_10",
                "icd_o_3_histology",
            ),
            id_column=BARCODE,
            options=OPTIONS,
            header_lines=HEADER_LINES,
            code_columns={
                name: RECEPTOR_RESULTS | MISSING
                for name in ("er_status_by_ihc", "pr_status_by_ihc", "her2_status_by_ihc", "her2_fish_status")
            },
        ),
        RawTable(
            name="drug",
            annotate=_annotate_drug,
            columns=(
                BARCODE,
                "bcr_drug_barcode",
                "pharmaceutical_therapy_drug_name",
                "pharmaceutical_tx_started_days_to",
                "pharmaceutical_tx_ongoing_indicator",
                "pharmaceutical_tx_ended_days_to",
                "route_of_administration",
            ),
            id_column=BARCODE,
            id_parts=("bcr_drug_barcode",),
            required=False,
            options=OPTIONS,
            header_lines=HEADER_LINES,
        ),
        RawTable(
            name="follow_up_v1_5",
            annotate=_annotate_follow_up_v1_5,
            columns=(*OBSERVATION, "bcr_followup_barcode", "days_to_last_known_alive"),
            id_column=BARCODE,
            id_parts=("bcr_followup_barcode",),
            required=False,
            options=OPTIONS,
            header_lines=HEADER_LINES,
        ),
        RawTable(
            name="follow_up_v2_1",
            annotate=_annotate_follow_up_v2_1,
            columns=(*OBSERVATION, "bcr_followup_barcode", *NEW_TUMOUR),
            id_column=BARCODE,
            id_parts=("bcr_followup_barcode",),
            required=False,
            options=OPTIONS,
            header_lines=HEADER_LINES,
            code_columns={"new_tumor_event_type": EVENT_TYPES | MISSING},
        ),
        RawTable(
            name="follow_up_v4_0",
            annotate=_annotate_follow_up,
            columns=(*OBSERVATION, "bcr_followup_barcode"),
            id_column=BARCODE,
            id_parts=("bcr_followup_barcode",),
            required=False,
            options=OPTIONS,
            header_lines=HEADER_LINES,
        ),
        RawTable(
            name="new_tumour",
            annotate=_annotate_event,
            columns=(BARCODE, *NEW_TUMOUR),
            id_column=BARCODE,
            required=False,
            options=OPTIONS,
            header_lines=HEADER_LINES,
        ),
        RawTable(
            name="follow_up_new_tumour",
            annotate=_annotate_event,
            columns=(BARCODE, "bcr_followup_barcode", *NEW_TUMOUR),
            id_column=BARCODE,
            id_parts=("bcr_followup_barcode",),
            required=False,
            options=OPTIONS,
            header_lines=HEADER_LINES,
        ),
    ),
    conform=_conform,
)
