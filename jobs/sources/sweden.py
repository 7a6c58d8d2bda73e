"""Sweden: population and migrations, cancer register, a cancer's quality register (samples), patient register, drugs
given in hospital, prescriptions, causes of death, life table.

What a delivery may name differently stands in the site file: column names under `inputs.<table>.columns`, codes under
`adapter` (sexes, regions, basis, nodes, metastases, recurrences, migrations, sample_sites, her2_ihc, her2_ish, routes,
procedure_routes, hormone_positive_percent).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.errors import ConfigurationError
from jobs.sources.adapter import Adapter, RawTable
from jobs.sources.claims import claims_of, seen_in_hospital
from jobs.sources.icdo import icd10_of
from jobs.sources.life_table import RAW_TABLES as LIFE_TABLES
from jobs.sources.life_table import conform_life_table
from jobs.sources.migration import last_moves
from jobs.sources.parse import (
    ATC_SHAPE,
    ICD10_SHAPE,
    bare_code,
    capped_day,
    decoded,
    first_day,
    impossible,
    impossible_number,
    joined_reasons,
    last_day,
    missing,
    no_code,
    number,
    partial_precision,
    reason,
    site_codes,
    unknown_code,
    with_partial_dates,
)
from jobs.sources.unpivot import unpivoted
from schemas import TABLES

if TYPE_CHECKING:
    from jobs.config import Site

# Codes that differ between deliveries; a site file replaces them under `adapter`.
SEX = {"1": "male", "2": "female"}
BASIS = {"1": "clinical", "2": "clinical", "3": "histology", "4": "autopsy", "5": "cytology", "6": "clinical",
         "7": "autopsy", "8": "clinical"}  # fmt: skip
NODES = {
    f"{letter}{digit}{part}": {"0": "localised", "X": ""}.get(digit, "regional")
    for letter in ("", "N")
    for digit in "0123X"
    for part in ("", "a", "b", "c", "A", "B", "C")
}
METASTASES = {
    f"{letter}{digit}{part}": "distant" if digit == "1" else ""
    for letter in ("", "M")
    for digit in "01X"
    for part in ("", "a", "b", "c", "A", "B", "C")
}
RECURRENCE = {"L": "local", "R": "regional", "F": "distant"}
MIGRATION = {code: way for way, codes in (("in", ("I", "Inv", "INV")), ("out", ("U", "Utv", "UTV"))) for code in codes}
SAMPLE_SITE = {"P": "primary", "M": "metastasis"}
HER2_IHC = {"0": "0", "1": "1+", "2": "2+", "3": "3+", "1+": "1+", "2+": "2+", "3+": "3+"}
HER2_ISH = {"1": "amplified", "2": "not_amplified", "3": "equivocal"}
ROUTE = {"iv": "iv", "sc": "sc", "im": "im", "po": "oral"}
# Health care regions of the counties; Halland belongs to two and is counted to the west.
COUNTIES = {
    "stockholm": ("01", "09"),
    "central": ("03", "04", "17", "18", "19", "20", "21"),
    "south_east": ("05", "06", "08"),
    "south": ("07", "10", "12"),
    "west": ("13", "14"),
    "north": ("22", "23", "24", "25"),
}
REGION = {
    code: region
    for region, counties in COUNTIES.items()
    for county in counties
    for code in (county, county.lstrip("0"))
}
HORMONE_POSITIVE_PERCENT = 10  # stained cells
BY_STUDY = "study"

# Parts that are all unknown are no date at all.
UNKNOWN = r"^(0000|9999)-?(00|99)?-?(00|99)?$"
ATC = r"^[A-Z][0-9]{2}[A-Z]{2}[0-9]{2}$"  # a whole one
ATC_AMONG_OTHERS = r"(?:^|[\s;,])[A-Z][0-9]{2}[A-Z]{2}[0-9]{2}[\u0085\u2028\u2029]?(?:$|[\s;,])"
DIAGNOSES = tuple(f"DIA{number}" for number in range(1, 31))
CAUSES = tuple(f"EKOD{number}" for number in range(1, 8))
PROCEDURES = ("OP", *(f"OP{number}" for number in range(1, 31)))


def _with_dates(frame: DataFrame, *names: str) -> DataFrame:
    """The frame with dates of which nothing is known as missing, and what `capped_day` and `partial_precision` give."""

    def known_of(text: Column) -> Column:
        may_be_unknown = F.startswith(text, F.lit("0000")) | F.startswith(text, F.lit("9999"))
        return F.when(~(may_be_unknown & text.rlike(UNKNOWN)), text)

    known = frame.withColumns({name: known_of(F.col(name)) for name in names})
    return with_partial_dates(known, {name: F.col(name) for name in names})


def _inexact(name: str) -> Column:
    """The reason for a date whose day must be known."""
    return reason(partial_precision(name) != "day", f"impossible_date:{name}")


def _impossible_number(name: str, least: float | None = None, most: float | None = None) -> Column:
    typed = number(name)
    if least is not None:
        typed = F.when(typed >= least, typed)
    if most is not None:
        typed = F.when(typed <= most, typed)
    return impossible_number(name, typed)


def _annotate_population(frame: DataFrame, site: Site) -> DataFrame:
    sexes = site_codes(site, "sexes", SEX)
    return _with_dates(frame, "FODELSEMAN").withColumns(
        {
            "sex": decoded("KON", sexes),
            "birth_date": capped_day("FODELSEMAN"),
            "birth_date_precision": partial_precision("FODELSEMAN"),
            "region": decoded("LAN", site_codes(site, "regions", REGION)),
            "reasons": joined_reasons(
                missing("FODELSEMAN"), missing("KON"), impossible("FODELSEMAN", capped_day("FODELSEMAN")),
                unknown_code("KON", sexes),
            ),
        }
    )  # fmt: skip


def _annotate_migration(frame: DataFrame, site: Site) -> DataFrame:
    ways = site_codes(site, "migrations", MIGRATION)
    return _with_dates(frame, "DATUM").withColumns(
        {
            "moved": capped_day("DATUM"),
            "way": decoded("TYP", ways),
            "reasons": joined_reasons(
                missing("DATUM"), missing("TYP"), impossible("DATUM", capped_day("DATUM")), unknown_code("TYP", ways)
            ),
        }
    )


def _annotate_cancer(frame: DataFrame, _: Site) -> DataFrame:
    return _with_dates(frame, "DIADAT").withColumns(
        {
            "diagnosis_date": capped_day("DIADAT"),
            "diagnosis_date_precision": partial_precision("DIADAT"),
            "reasons": joined_reasons(
                missing("TumorID"), missing("DIADAT"), missing("ICDO10"), impossible("DIADAT", capped_day("DIADAT")),
                no_code("ICDO10", bare_code(F.col("ICDO10")), ICD10_SHAPE),
            ),
        }
    )  # fmt: skip


def _annotate_recurrence(frame: DataFrame, site: Site) -> DataFrame:
    kinds = site_codes(site, "recurrences", RECURRENCE)
    return _with_dates(frame, "RECDAT").withColumns(
        {
            "event_date": capped_day("RECDAT"),
            "event_date_precision": partial_precision("RECDAT"),
            "kind": decoded("RECTYP", kinds),
            "reasons": joined_reasons(
                missing("RECDAT"), missing("RECTYP"), impossible("RECDAT", capped_day("RECDAT")),
                unknown_code("RECTYP", kinds),
            ),
        }
    )  # fmt: skip


def _annotate_sample(frame: DataFrame, site: Site) -> DataFrame:
    sites = site_codes(site, "sample_sites", SAMPLE_SITE)
    return _with_dates(frame, "PROVDAT").withColumns(
        {
            "sample_date": capped_day("PROVDAT"),
            "sample_date_precision": partial_precision("PROVDAT"),
            "site": decoded("PROVLOKAL", sites),
            "reasons": joined_reasons(
                missing("PROVDAT"), missing("PROVLOKAL"), impossible("PROVDAT", capped_day("PROVDAT")),
                unknown_code("PROVLOKAL", sites), _impossible_number("ER_PROC", 0, 100),
                _impossible_number("PR_PROC", 0, 100),
            ),
        }
    )  # fmt: skip


def _annotate_patient(frame: DataFrame, _: Site) -> DataFrame:
    dated = _with_dates(frame, "INDATUM", "UTDATUM")
    start, end = capped_day("INDATUM"), capped_day("UTDATUM")
    is_start_inexact, is_end_inexact = (partial_precision(name) != "day" for name in ("INDATUM", "UTDATUM"))
    has_drug = F.col("__has_drug")
    return dated.withColumn("__has_drug", _procedure_cells(dated).rlike(ATC_AMONG_OTHERS)).withColumns(
        {
            "start_date": F.when(is_start_inexact, F.least(start, F.coalesce(end, start))).otherwise(start),
            "end_date": F.when(is_end_inexact, F.greatest(start, end)).otherwise(end),
            "reasons": joined_reasons(
                missing("INDATUM"), impossible("INDATUM", start), impossible("UTDATUM", end),
                reason(
                    last_day(end, partial_precision("UTDATUM")) < first_day(start, partial_precision("INDATUM")),
                    "end_before_start",
                ),
                # With a drug the row is kept without its diagnosis. Most rows have none, so that a column that was
                # retyped still stops the run.
                reason(_is_no_icd10("HDIA") & ~has_drug, "unknown_code:HDIA"),
                reason(is_start_inexact & has_drug, "inexact_date_of_drug:INDATUM"),
            ),
        }
    )  # fmt: skip


def _is_no_icd10(name: str) -> Column:
    return F.coalesce(~bare_code(F.col(name)).rlike(ICD10_SHAPE), F.lit(False))


def _procedures(frame: DataFrame) -> Column:
    """The codes of all procedure cells, each cell a list separated by blanks, commas or semicolons."""
    return F.array_remove(F.array_distinct(F.split(_procedure_cells(frame), r"[\s;,]+")), "")


def _procedure_cells(frame: DataFrame) -> Column:
    return F.concat_ws(" ", *[F.upper(column) for column in PROCEDURES if column in frame.columns])


def _annotate_hospital_drugs(frame: DataFrame, _: Site) -> DataFrame:
    start, end = capped_day("STARTDAT"), capped_day("SLUTDAT")
    reasons = joined_reasons(
        missing("STARTDAT"), missing("ATC"), impossible("STARTDAT", start), impossible("SLUTDAT", end),
        _inexact("STARTDAT"), _inexact("SLUTDAT"), reason(end < start, "end_before_start"),
        no_code("ATC", F.upper("ATC"), ATC_SHAPE),
    )  # fmt: skip
    return _with_dates(frame, "STARTDAT", "SLUTDAT").withColumns(
        {
            "start_date": start,
            # A last day that is the first is a single administration, not a period.
            "end_date": F.when(end != start, end),
            "reasons": reasons,
        }
    )


def _annotate_prescription(frame: DataFrame, _: Site) -> DataFrame:
    typed = _with_dates(frame, "EDATUM").withColumns(
        {
            "dispensed_date": capped_day("EDATUM"),
            "packages": number("antal"),
            "ddd": number("antal") * number("FORPDDD"),
        }
    )
    reasons = joined_reasons(
        missing("EDATUM"), missing("ATC"), impossible("EDATUM", F.col("dispensed_date")), _inexact("EDATUM"),
        no_code("ATC", F.upper("ATC"), ATC_SHAPE),
        impossible_number("antal", F.col("packages")), _impossible_number("FORPDDD", 0),
    )  # fmt: skip
    return typed.withColumn("reasons", reasons)


def _annotate_death(frame: DataFrame, _: Site) -> DataFrame:
    return _with_dates(frame, "DODSDAT").withColumns(
        {
            "death_date": capped_day("DODSDAT"),
            "death_date_precision": partial_precision("DODSDAT"),
            "reasons": joined_reasons(missing("DODSDAT"), impossible("DODSDAT", capped_day("DODSDAT"))),
        }
    )


def _births(population: DataFrame) -> DataFrame:
    """One row per person: birth_date, and __born_first, the first day that it may be."""
    born = F.col("birth_date")
    first = first_day(born, F.col("birth_date_precision"))
    return population.select("person_id", born.alias("__born"), first.alias("__born_first"))


def _not_before_birth(frame: DataFrame, births: DataFrame, date: str) -> DataFrame:
    """Where the date or the birth is inexact and the date may still be on or after it, it is not before it.

    `frame` has `<date>_precision`, which is lowered where only the birth's month made the day.
    """
    precision = f"{date}_precision"
    last = last_day(F.col(date), F.col(precision))
    is_moved = F.coalesce((F.col(date) < F.col("__born")) & (last >= F.col("__born_first")), F.lit(False))
    was_exact = F.col(precision) == "day"
    joined = frame.join(births, on="person_id", how="left")
    return joined.withColumns(
        {
            date: F.when(is_moved, F.col("__born")).otherwise(F.col(date)),
            precision: F.when(is_moved & was_exact, "month").otherwise(F.col(precision)),
        }
    ).drop("__born", "__born_first")


def _claims(accepted: Mapping[str, DataFrame], births: DataFrame) -> DataFrame:
    """What the registers of deaths, migrations, population and patients say of a person."""
    deaths = _not_before_birth(accepted["deaths"], births, "death_date").withColumn("priority", F.lit(0))
    population = accepted["population"].withColumn("priority", F.lit(2))
    claims = [deaths, population, seen_in_hospital(accepted["patient"], priority=3)]
    if "migration" in accepted:
        claims.append(last_moves(accepted["migration"]).withColumn("priority", F.lit(1)))
    return claims_of(*claims)


def _tumour(cancer: DataFrame, births: DataFrame, site: Site) -> DataFrame:
    digits = F.regexp_extract(F.regexp_replace("SNOMED3", r"\W", ""), r"^M?(\d{5})\d?$", 1)
    morphology = F.when(digits != "", F.concat(F.substring(digits, 1, 4), F.lit("/"), F.substring(digits, 5, 1)))
    nothing = F.lit(None).cast("string")
    return (
        _not_before_birth(cancer, births, "diagnosis_date")
        .withColumns(
            {
                "tumour_id": F.col("TumorID"),
                "icd10": icd10_of(bare_code(F.col("ICDO10")), morphology),
                "morphology": morphology,
                "stage": F.coalesce(
                    decoded("TNM_M", site_codes(site, "metastases", METASTASES)),
                    decoded("TNM_N", site_codes(site, "nodes", NODES)),
                ),
                "basis": decoded("DIGR", site_codes(site, "basis", BASIS)),
                **dict.fromkeys(("er", "pr", "her2"), nothing),
            }
        )
        .select(*TABLES["tumour"].column_names)
    )


def _recurrence(rows: DataFrame, births: DataFrame) -> DataFrame:
    named = _not_before_birth(rows, births, "event_date").withColumn("tumour_id", F.col("TumorID"))
    return named.select(*TABLES["recurrence"].column_names)


def _cut_off(site: Site) -> float | None:
    """Per cent of stained cells from which a hormone receptor is positive; None where each study says."""
    said = site.adapter.get("hormone_positive_percent", HORMONE_POSITIVE_PERCENT)
    if said == BY_STUDY:
        return None
    if isinstance(said, bool) or not isinstance(said, int | float) or not 0 <= said <= 100:
        raise ConfigurationError(f"adapter.hormone_positive_percent: write a number from 0 to 100, or {BY_STUDY}")
    return float(said)


def _biomarker(samples: DataFrame, births: DataFrame, site: Site) -> DataFrame:
    """One row per result: HER2 by stain and by in situ hybridisation, ER and PR by the country's cut-off."""
    cut_off = _cut_off(site)

    def result(marker: str, method: str, value: Column) -> Column:
        return F.struct(F.lit(marker).alias("marker"), F.lit(method).alias("method"), value.alias("result"))

    def hormone(marker: str, name: str) -> Column:
        percent = number(name)
        if cut_off is None:
            return result(marker, "percent", percent.cast("string"))
        status = F.when(percent >= cut_off, "positive").when(percent < cut_off, "negative")
        return result(marker, "ihc", status)

    results = F.array(
        result("her2", "ihc", decoded("HER2_IHC", site_codes(site, "her2_ihc", HER2_IHC))),
        result("her2", "ish", decoded("HER2_ISH", site_codes(site, "her2_ish", HER2_ISH))),
        hormone("er", "ER_PROC"),
        hormone("pr", "PR_PROC"),
    )
    return (
        _not_before_birth(samples, births, "sample_date")
        .withColumn("tumour_id", F.col("TumorID"))
        .withColumn("one", F.explode(F.filter(results, lambda one: one["result"].isNotNull())))
        .select("*", "one.*")
        .select(*TABLES["biomarker"].column_names)
    )


def _hospital_diagnosis(patient: DataFrame) -> DataFrame:
    """One row per diagnosis on a contact, codes of older classifications left out; the main one is often repeated as
    the first of the others."""

    def position(column: str) -> Column:
        return F.lit("main" if column == "HDIA" else "secondary")

    every = unpivoted(patient, ("HDIA", *DIAGNOSES, *CAUSES), bare_code, position)
    diagnoses = every.where(F.col("cell").rlike(ICD10_SHAPE))
    contact = ("person_id", "contact_id", "start_date", "end_date", "source_file", "source_row", "delivery")
    # main comes before secondary
    once = diagnoses.groupBy(*contact, F.col("cell").alias("icd10")).agg(F.min("of_column").alias("position"))
    return once.select(*TABLES["hospital_diagnosis"].column_names)


def _strange_diagnoses(patient: DataFrame) -> DataFrame:
    """Diagnoses that are no ICD-10, with counts."""
    columns = [column for column in ("HDIA", *DIAGNOSES, *CAUSES) if column in patient.columns]
    rows = patient.where(reduce(or_, map(_is_no_icd10, columns))).select(*columns)
    codes = unpivoted(rows, tuple(columns), lambda cell: cell, F.lit)
    counted = codes.where(_is_no_icd10("cell")).groupBy("of_column", "cell").agg(F.count("*").alias("n"))
    return counted.select(
        F.lit("patient").alias("raw_table"), F.col("of_column").alias("column"), F.col("cell").alias("code"), "n"
    )


def _hospital_drug(accepted: Mapping[str, DataFrame], site: Site) -> DataFrame:
    """One row per drug code on a contact, and per administration or period of the extract of drugs given."""
    patient = accepted["patient"]
    codes = _procedures(patient)
    route: Column = F.lit("unspecified")
    for code, way in site_codes(site, "procedure_routes", {}).items():
        route = F.when(F.array_contains(codes, code.upper()), way).otherwise(route)
    of_contacts = patient.select(
        "person_id", "contact_id", "start_date", F.lit(None).cast("date").alias("end_date"),
        F.lit("atc").alias("code_system"), F.explode(F.filter(codes, lambda code: code.rlike(ATC))).alias("code"),
        route.alias("route"), "source_file", "source_row", "delivery",
    )  # fmt: skip
    parts = [of_contacts.select(*TABLES["hospital_drug"].column_names)]
    if "hospital_drugs" in accepted:
        given = accepted["hospital_drugs"].withColumns(
            {
                "code_system": F.lit("atc"),
                "code": F.upper("ATC"),
                "route": F.coalesce(decoded("ADMSATT", site_codes(site, "routes", ROUTE)), F.lit("unspecified")),
            }
        )
        parts.append(given.select(*TABLES["hospital_drug"].column_names))
    return reduce(DataFrame.unionByName, parts)


def _dispensing(prescriptions: DataFrame) -> DataFrame:
    return prescriptions.withColumns(
        {"atc": F.upper("ATC"), "days_supply": F.lit(None).cast("int")}
    ).select(*TABLES["dispensing"].column_names)  # fmt: skip


def _conform(accepted: Mapping[str, DataFrame], site: Site) -> dict[str, DataFrame]:
    births = _births(accepted["population"])
    conformed = {
        "person_claims": _claims(accepted, births),
        "tumour": _tumour(accepted["cancer"], births, site),
        "dispensing": _dispensing(accepted["prescriptions"]),
        "hospital_diagnosis": _hospital_diagnosis(accepted["patient"]),
        "hospital_drug": _hospital_drug(accepted, site),
        "unknown_codes": _strange_diagnoses(accepted["patient"]),
        **conform_life_table(accepted, site),
    }
    if "recurrence" in accepted:
        conformed["recurrence"] = _recurrence(accepted["recurrence"], births)
    if "quality_register" in accepted:
        conformed["biomarker"] = _biomarker(accepted["quality_register"], births, site)
    return conformed


TEXT = {"sep": ";"}

ADAPTER = Adapter(
    country="sweden",
    raw_tables=(
        RawTable(
            name="population",
            annotate=_annotate_population,
            columns=("LopNr", "KON", "FODELSEMAN", "LAN"),
            id_column="LopNr",
            unique=("person_id",),
            options=TEXT,
            site_codes={"KON": ("sexes", frozenset(SEX)), "LAN": ("regions", frozenset(REGION))},
        ),
        RawTable(
            name="migration",
            annotate=_annotate_migration,
            columns=("LopNr", "DATUM", "TYP"),
            id_column="LopNr",
            required=False,
            options=TEXT,
        ),
        RawTable(
            name="cancer",
            annotate=_annotate_cancer,
            columns=("LopNr", "TumorID", "DIADAT", "ICDO10", "SNOMED3", "DIGR"),
            optional=("TNM_T", "TNM_N", "TNM_M"),
            id_column="LopNr",
            unique=("person_id", "TumorID"),
            id_parts=("TumorID",),
            options=TEXT,
            site_codes={
                "DIGR": ("basis", frozenset(BASIS)),
                "TNM_N": ("nodes", frozenset(NODES)),
                "TNM_M": ("metastases", frozenset(METASTASES)),
            },
        ),
        RawTable(
            name="recurrence",
            annotate=_annotate_recurrence,
            columns=("LopNr", "RECDAT", "RECTYP"),
            optional=("TumorID",),
            id_column="LopNr",
            unique=("person_id", "TumorID", "event_date", "kind"),
            id_parts=("TumorID",),
            required=False,
            options=TEXT,
        ),
        RawTable(
            name="quality_register",
            annotate=_annotate_sample,
            columns=("LopNr", "PROVDAT", "PROVLOKAL", "ER_PROC", "PR_PROC", "HER2_IHC", "HER2_ISH"),
            optional=("TumorID",),
            id_column="LopNr",
            id_parts=("TumorID",),
            required=False,
            options=TEXT,
            site_codes={
                "HER2_IHC": ("her2_ihc", frozenset(HER2_IHC)),
                "HER2_ISH": ("her2_ish", frozenset(HER2_ISH)),
            },
        ),
        RawTable(
            name="patient",
            annotate=_annotate_patient,
            columns=("LopNr", "INDATUM", "UTDATUM", "HDIA"),
            optional=(*DIAGNOSES, *CAUSES, *PROCEDURES),
            id_column="LopNr",
            kept=("HDIA", *DIAGNOSES, *CAUSES, *PROCEDURES),
            names_contacts=True,
            options=TEXT,
        ),
        RawTable(
            name="hospital_drugs",
            annotate=_annotate_hospital_drugs,
            columns=("LopNr", "ATC", "STARTDAT"),
            optional=("SLUTDAT", "ADMSATT"),
            id_column="LopNr",
            kept=("ATC", "ADMSATT"),
            names_contacts=True,
            required=False,
            options=TEXT,
            site_codes={"ADMSATT": ("routes", frozenset(ROUTE))},
        ),
        RawTable(
            name="prescriptions",
            annotate=_annotate_prescription,
            columns=("LopNr", "ATC", "EDATUM", "antal"),
            optional=("FDATUM", "FORPDDD"),
            id_column="LopNr",
            kept=("ATC",),
            options=TEXT,
        ),
        RawTable(
            name="deaths",
            annotate=_annotate_death,
            columns=("LopNr", "DODSDAT"),
            id_column="LopNr",
            options=TEXT,
        ),
        *LIFE_TABLES,
    ),
    conform=_conform,
)
