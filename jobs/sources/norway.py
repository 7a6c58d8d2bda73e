"""Norway: cancer registry, hospital file (NPR), prescriptions, H-prescriptions, causes of death, life table.

What a delivery may name differently stands in the site file: column names under `inputs.<table>.columns`, codes under
`adapter` (sexes, sexes_in_words, statuses, regions, metastases, basis, receptors, recurrences, routes,
accepted_nprid_reg).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import TYPE_CHECKING

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.sources.adapter import Adapter, RawTable
from jobs.sources.claims import claims_of, seen_in_hospital
from jobs.sources.icdo import icd10_of
from jobs.sources.life_table import RAW_TABLES as LIFE_TABLES
from jobs.sources.life_table import conform_life_table
from jobs.sources.parse import (
    ATC_SHAPE,
    ICD10_SHAPE,
    bare_code,
    compact_precision,
    decoded,
    impossible,
    impossible_number,
    joined_reasons,
    missing,
    no_code,
    not_after_delivery,
    number,
    reason,
    site_codes,
    unknown_code,
    with_capped_dates,
    with_compact_dates,
)
from jobs.sources.unpivot import unpivoted
from schemas import TABLES

if TYPE_CHECKING:
    from jobs.config import Site


def _either_case(codes: Mapping[str, str]) -> dict[str, str]:
    """The codes as they are, in lower and in upper case."""
    return {same: meaning for code, meaning in codes.items() for same in (code, code.lower(), code.upper())}


# Codes that differ between deliveries; a site file replaces them under `adapter`.
SEX = _either_case({"1": "male", "2": "female", "M": "male", "K": "female"})
SEX_IN_WORDS = _either_case({"Mann": "male", "Kvinne": "female"})
STATUS = _either_case({"B": "alive", "D": "dead", "U": "emigrated", ".": "lost"})
# METASTASE, and the digits of older years: 1 2 regional nodes, 3 5 6 8 local growth, 4 an organ outside. D is direct
# growth; C, a spread to an unknown site, may be regional or distant.
STAGE = _either_case(
    {
        "0": "localised", "A": "regional", "B": "distant", "C": "", "D": "localised", "9": "", "7": "",
        "1": "regional", "2": "regional", "3": "localised", "4": "distant", "5": "localised", "6": "localised",
        "8": "localised",
    }
)  # fmt: skip
RECURRENCE = _either_case({"L": "local", "R": "regional", "F": "distant"})
ROUTE = {"WBOC05": "iv", "WBOC10": "im", "WBOC15": "sc", "WBOC20": "oral", "WBOC39": "unspecified"}
BASIS = {"10": "clinical", "20": "cytology", "70": "histology", "72": "histology", "80": "autopsy",
         "90": "death_certificate"}  # fmt: skip
RECEPTOR = {"1": "positive", "0": "negative", "2": "equivocal", "9": ""}
REGION = {"1": "south_east", "2": "west", "3": "central", "4": "north"}
ATC, NATIONAL = r"^[A-Z]\d{2}[A-Z]{2}\d{2}$", r"^\d[A-Z]{2}\d{2}$"


def _death(day: Column, known_to: Column) -> Column:
    """The day of death, by a compact date; known to the month it is the month's last."""
    return F.when(known_to == "month", F.last_day(day)).otherwise(day)


def _topography() -> Column:
    return bare_code(F.col("S_topografiIcdo3"))


def _annotate_cancer(frame: DataFrame, site: Site) -> DataFrame:
    sexes, statuses = site_codes(site, "sexes", SEX), site_codes(site, "statuses", STATUS)
    # Each in a step of its own, or the engine's plan has all that makes a date wherever the date is used.
    cells = {"birth_date": "P_fodselsdato", "diagnosis_date": "S_diagnosedato", "__since": "P_statusdato"}
    dated = with_capped_dates(frame, cells).withColumn("__status", decoded("P_personstatus", statuses))
    born, diagnosed, since, status = F.col("birth_date"), F.col("diagnosis_date"), F.col("__since"), F.col("__status")
    inexact = compact_precision("S_diagnosedato") != "day"
    since_known_to = compact_precision("P_statusdato")
    is_dead = status == "dead"
    died = _death(since, since_known_to)
    return dated.withColumns(
        {
            "sex": decoded("P_kjonn", sexes),
            "diagnosis_date": F.when(inexact, F.greatest(diagnosed, born)).otherwise(diagnosed),
            "death_date": F.when(is_dead, died),
            "death_precision": F.when(is_dead, since_known_to),
            # Who was lost to follow-up is observed until then, as who emigrated.
            "emigration_date": F.when(status.isin("emigrated", "lost"), since),
            "region": decoded("P_helseregion", site_codes(site, "regions", REGION)),
            "reasons": joined_reasons(
                missing("P_fodselsdato"), missing("S_diagnosedato"), missing("P_kjonn"), missing("S_topografiIcdo3"),
                missing("S_tumornr"), impossible("P_fodselsdato", born), impossible("S_diagnosedato", diagnosed),
                impossible("P_statusdato", since), unknown_code("P_kjonn", sexes),
                no_code("S_topografiIcdo3", _topography(), ICD10_SHAPE), unknown_code("P_personstatus", statuses),
                reason((status != "alive") & F.col("P_statusdato").isNull(), "missing:P_statusdato"),
                reason(is_dead & (died < born), "death_before_birth"),
            ),
        }
    )  # fmt: skip


def _annotate_recurrence(frame: DataFrame, site: Site) -> DataFrame:
    kinds = site_codes(site, "recurrences", RECURRENCE)
    return with_capped_dates(frame, {"event_date": "R_dato"}).withColumns(
        {
            "kind": decoded("R_type", kinds),
            "reasons": joined_reasons(
                missing("R_dato"),
                missing("R_type"),
                impossible("R_dato", F.col("event_date")),
                unknown_code("R_type", kinds),
            ),
        }
    )


def _annotate_hospital(frame: DataFrame, site: Site) -> DataFrame:
    accepted = [str(code) for code in site.adapter.get("accepted_nprid_reg", ["1"])]
    sexes = site_codes(site, "sexes", SEX)
    dated = with_compact_dates(frame, {"start_date": "inndato", "end_date": "utdato", "birth_date": "fodselsar"})
    born = not_after_delivery(F.col("birth_date"), compact_precision("fodselsar"))
    typed = dated.withColumns({"sex": decoded("kjonn", sexes), "birth_date": born})
    start, end, born = F.col("start_date"), F.col("end_date"), F.col("birth_date")
    reasons = joined_reasons(
        impossible("fodselsar", born), missing("inndato"), impossible("inndato", start), impossible("utdato", end),
        reason(end < start, "end_before_start"), unknown_code("kjonn", sexes),
        reason(F.col("nprid_reg").isNotNull() & ~F.col("nprid_reg").isin(*accepted), "identity_not_certain:nprid_reg"),
    )  # fmt: skip
    return typed.withColumn("reasons", reasons)


def _annotate_prescription(frame: DataFrame, _: Site) -> DataFrame:
    typed = frame.withColumn("amount", number("DDD"))
    return _dispensed(typed, "Utlevering_Dato", "ATC", impossible_number("DDD", F.col("amount")))


def _annotate_h_prescription(frame: DataFrame, site: Site) -> DataFrame:
    strange = unknown_code("kjonn", site_codes(site, "sexes_in_words", SEX_IN_WORDS))
    return _dispensed(frame, "utleveringsdato", "atc_1", strange).withColumn("amount", F.lit(None).cast("double"))


def _dispensed(frame: DataFrame, day: str, code: str, *more: Column) -> DataFrame:
    typed = with_compact_dates(frame, {"dispensed_date": day}).withColumn("atc_code", F.upper(code))
    reasons = joined_reasons(
        missing(day),
        missing(code),
        impossible(day, F.col("dispensed_date")),
        reason(compact_precision(day) != "day", f"impossible_date:{day}"),
        no_code(code, F.col("atc_code"), ATC_SHAPE),
        *more,
    )
    return typed.withColumn("reasons", reasons)


def _annotate_death(frame: DataFrame, _: Site) -> DataFrame:
    day, known_to = F.col("death_date"), compact_precision("doddato")
    died = _death(day, known_to)
    return with_capped_dates(frame, {"death_date": "doddato"}).withColumns(
        {
            "death_date": died,
            "death_precision": known_to,
            "reasons": joined_reasons(
                missing("doddato"), impossible("doddato", day),
                reason(F.year(died) < F.col("fodselsar").try_cast("int"), "death_before_birth"),
            ),
        }
    )  # fmt: skip


def _claims(accepted: Mapping[str, DataFrame]) -> DataFrame:
    """What the register of deaths, the cancer registry and the hospital file (birth to the year) say of a person."""
    registry = accepted["cancer"].select(
        "*", F.lit(1).alias("priority"), compact_precision("P_fodselsdato").alias("birth_date_precision"),
        F.col("death_precision").alias("death_date_precision"),
    )  # fmt: skip
    deaths = accepted["deaths"].select(
        "*", F.lit(0).alias("priority"), F.col("death_precision").alias("death_date_precision")
    )
    return claims_of(registry, deaths, seen_in_hospital(accepted["hospital"], priority=2, birth_precision="year"))


def _tumour(cancer: DataFrame, site: Site) -> DataFrame:
    receptors = site_codes(site, "receptors", RECEPTOR)
    # A grade may follow the behaviour.
    morphology = F.regexp_replace("S_morfologiIcdo3", r"^(\d{4})/?(\d)\d?$", "$1/$2")
    tumours = cancer.select(
        "person_id",
        F.col("S_tumornr").alias("tumour_id"),
        "diagnosis_date",
        compact_precision("S_diagnosedato").alias("diagnosis_date_precision"),
        icd10_of(_topography(), morphology).alias("icd10"),
        F.when(morphology.rlike(r"^\d{4}/\d$"), morphology).alias("morphology"),
        decoded("S_met", site_codes(site, "metastases", STAGE)).alias("stage"),
        decoded("S_er", receptors).alias("er"),
        decoded("S_pr", receptors).alias("pr"),
        decoded("S_her2", receptors).alias("her2"),
        decoded("S_basis", site_codes(site, "basis", BASIS)).alias("basis"),
        "source_file",
        "source_row",
        "delivery",
    )
    return tumours.select(*TABLES["tumour"].column_names)


def _recurrence(rows: DataFrame) -> DataFrame:
    return rows.select(
        "person_id", F.col("S_tumornr").alias("tumour_id"), "event_date",
        compact_precision("R_dato").alias("event_date_precision"), "kind", "source_file", "source_row", "delivery",
    ).select(*TABLES["recurrence"].column_names)  # fmt: skip


def _hospital_diagnosis(hospital: DataFrame) -> DataFrame:
    def position(column: str) -> Column:
        return F.lit("main" if column == "tilstand_1_1" else "secondary")

    diagnoses = unpivoted(hospital, ("tilstand_",), bare_code, position).select(
        "person_id", "contact_id", "start_date", "end_date", F.col("cell").alias("icd10"),
        F.col("of_column").alias("position"), "source_file", "source_row", "delivery",
    )  # fmt: skip
    return diagnoses.select(*TABLES["hospital_diagnosis"].column_names)


def _hospital_drug(hospital: DataFrame, site: Site) -> DataFrame:
    """One row per drug code on a contact; the other procedure codes of the contact give the route."""
    procedures = [c for c in hospital.columns if c.startswith(("ncmp_", "cyto_", "ncsp_"))]
    ways = _either_case(site_codes(site, "routes", ROUTE))
    routes = F.coalesce(*[decoded(column, ways) for column in procedures], F.lit("unspecified"))
    cell, size = F.col("cell"), F.octet_length(F.col("cell"))  # most other codes are told by their length
    system = F.when((size == 7) & cell.rlike(ATC), "atc").when((size == 5) & cell.rlike(NATIONAL), "national")
    drugs = (
        unpivoted(hospital.withColumn("route", routes), ("ncmp_", "cyto_", "ncsp_"))
        .withColumn("code_system", system)
        .where(F.col("code_system").isNotNull())
        .select(
            "person_id", "contact_id", "start_date", F.lit(None).cast("date").alias("end_date"), "code_system",
            F.col("cell").alias("code"), "route", "source_file", "source_row", "delivery",
        )
    )  # fmt: skip
    return drugs.select(*TABLES["hospital_drug"].column_names)


def _dispensing(accepted: Mapping[str, DataFrame]) -> DataFrame:
    parts = [
        accepted[name].select(
            "person_id", "dispensed_date", F.col("atc_code").alias("atc"), F.lit(None).cast("double").alias("packages"),
            F.col("amount").alias("ddd"), F.lit(None).cast("int").alias("days_supply"),
            "source_file", "source_row", "delivery",
        )
        for name in ("prescriptions", "h_prescriptions")
        if name in accepted
    ]  # fmt: skip
    return reduce(DataFrame.unionByName, parts).select(*TABLES["dispensing"].column_names)


def _conform(accepted: Mapping[str, DataFrame], site: Site) -> dict[str, DataFrame]:
    return {
        "person_claims": _claims(accepted),
        "tumour": _tumour(accepted["cancer"], site),
        "recurrence": _recurrence(accepted["recurrence"]),
        "dispensing": _dispensing(accepted),
        "hospital_diagnosis": _hospital_diagnosis(accepted["hospital"]),
        "hospital_drug": _hospital_drug(accepted["hospital"], site),
        **conform_life_table(accepted, site),
    }


TEXT = {"sep": ";"}

ADAPTER = Adapter(
    country="norway",
    raw_tables=(
        RawTable(
            name="cancer",
            annotate=_annotate_cancer,
            columns=(
                "P_lopenr", "P_kjonn", "P_fodselsdato", "P_personstatus", "P_statusdato", "P_helseregion",
                "S_tumornr", "S_diagnosedato", "S_topografiIcdo3", "S_morfologiIcdo3", "S_met", "S_basis", "S_er",
                "S_pr", "S_her2",
            ),
            optional=("S_stadium", "S_side"),
            id_column="P_lopenr",
            unique=("person_id", "S_tumornr"),
            id_parts=("S_tumornr",),
            options=TEXT,
            site_codes={
                "P_kjonn": ("sexes", frozenset(SEX)),
                "P_personstatus": ("statuses", frozenset(STATUS)),
                "S_met": ("metastases", frozenset(STAGE)),
                "S_basis": ("basis", frozenset(BASIS)),
                "P_helseregion": ("regions", frozenset(REGION)),
                **{column: ("receptors", frozenset(RECEPTOR)) for column in ("S_er", "S_pr", "S_her2")},
            },
        ),
        RawTable(
            name="recurrence",
            annotate=_annotate_recurrence,
            columns=("P_lopenr", "S_tumornr", "R_dato", "R_type"),
            id_column="P_lopenr",
            unique=("person_id", "S_tumornr", "event_date", "kind"),
            id_parts=("S_tumornr",),
            options=TEXT,
            site_codes={"R_type": ("recurrences", frozenset(RECURRENCE))},
        ),
        RawTable(
            name="hospital",
            annotate=_annotate_hospital,
            columns=("lopenr", "inndato", "utdato", "fodselsar", "kjonn", "tilstand_1_1", "nprid_reg"),
            optional=("aar", "drg", "institusjonid", "doddato", "tilstand_*", "ncmp_*", "ncsp_*", "cyto_*"),
            id_column="lopenr",
            kept=("tilstand_*", "ncmp_*", "ncsp_*", "cyto_*"),
            names_contacts=True,
            options=TEXT,
        ),
        RawTable(
            name="prescriptions",
            annotate=_annotate_prescription,
            columns=("Pasient_Lopenummer", "Utlevering_Dato", "ATC", "DDD"),
            id_column="Pasient_Lopenummer",
            kept=(),
            options=TEXT,
        ),
        RawTable(
            name="h_prescriptions",
            annotate=_annotate_h_prescription,
            columns=("lopeNr", "atc_1", "utleveringsdato"),
            optional=("forskrivningsDato", "kjonn"),
            id_column="lopeNr",
            kept=(),
            required=False,
            options=TEXT,
            site_codes={"kjonn": ("sexes_in_words", frozenset(SEX_IN_WORDS))},
        ),
        RawTable(
            name="deaths",
            annotate=_annotate_death,
            columns=("lopenr", "fodselsar", "doddato"),
            id_column="lopenr",
            options=TEXT,
        ),
        *LIFE_TABLES,
    ),
    conform=_conform,
    contacts_keep_day=True,
)  # fmt: skip
