"""Denmark: central person register, migrations, cancer register, patient register of both generations (LPR2 to March
2019, LPR3 after), prescriptions, pathology, a clinical database, deaths, life table.

What a delivery may name differently stands in the site file: column names under `inputs.<table>.columns`, codes under
`adapter` (sexes, regions, statuses, migrations, extents, basis, recurrences, sample_sites, snomed, receptors,
diagnosis_types, reporting_systems, withdrawals, drug_prefixes), columns of SAS day numbers under `adapter.sas_columns`.
Codes are the same in upper and lower case.

A four-digit number from 1900 to 2099 may be a year, or a SAS day number of 1965; no cell by itself tells which. Read as
a day, a column of bare years would put everybody's events into 1965, so it is held back as an impossible date. Few
events of a delivery are of 1965, but many births: where the site file says that a column is of SAS day numbers
(`sas_columns`), such a number is a day there.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.errors import ConfigurationError
from jobs.sources.adapter import SOURCE_PLACE, SUPPRESSED, Adapter, Annotate, RawTable
from jobs.sources.claims import claims_of, seen_in_hospital
from jobs.sources.icdo import icd10_of
from jobs.sources.life_table import RAW_TABLES as LIFE_TABLES
from jobs.sources.life_table import conform_life_table
from jobs.sources.migration import last_moves
from jobs.sources.parse import (
    ATC_SHAPE,
    ICD10_SHAPE,
    bare_code,
    counted_codes,
    decoded,
    digits_between_dashes,
    impossible,
    impossible_number,
    is_malformed,
    joined_reasons,
    missing,
    no_code,
    number,
    reason,
    site_codes,
    with_whole_dates,
)
from schemas import TABLES

if TYPE_CHECKING:
    from jobs.config import Site

# Codes that differ between deliveries; a site file replaces them under `adapter`.
SEX = {"M": "male", "K": "female", "1": "male", "2": "female"}
STATUS = {"01": "alive", "1": "alive", "70": "lost", "80": "emigrated", "90": "dead"}
MIGRATION = {"I": "in", "U": "out"}
EXTENT = {"0": "localised", "1": "regional", "2": "distant", "9": ""}
BASIS = {"1": "clinical", "2": "cytology", "3": "histology", "4": "autopsy", "5": "death_certificate", "9": ""}
RECURRENCE = {"L": "local", "R": "regional", "F": "distant"}
SAMPLE_SITE = {"P": "primary", "M": "metastasis"}
# HER2 by stain: SNOMED codes of the pathology register.
SNOMED = {"F29600": "negative", "F29603": "positive", "F29605": "1+", "F29606": "2+", "F29607": "3+"}
RECEPTOR = {"1": "positive", "0": "negative", "9": ""}
# Types of diagnosis; referrals say why somebody was sent, not what they have.
DIAGNOSIS_TYPE = {"A": "main", "B": "secondary", "C": "secondary", "G": "secondary", "H": "", "M": "", "+": ""}
# Which generation reported a contact of the newer tables; "" is the meaning of an empty cell, where a site has one.
REPORTING_SYSTEM = {"LPR3": "newer", "LPR2": "older"}
WITHDRAWAL = {"JA": "withdrawn", "NEJ": ""}
# Codes of the hospital classification (SKS) that stand for drugs, beside those made of M and an ATC code.
DRUG_PREFIXES = ("BOHJ", "BWHA")
SKS_ATC = r"^M([A-Z]\d{2}[A-Z]{2}\d{2})$"
SKS_ICD10 = r"^D([A-Z]\d{2}[0-9A-Z]{0,3})$"
# No code of the SKS begins like this: those of diagnoses have lost their D, those of drugs their M.
NO_PREFIX = r"^[A-Z]\d{2}"
REPEATS, HELD_BACK, NO_CONTACT = "repeats_lpr2", "contact_held_back", "no_contact"
DATES = (
    "foedselsdato", "statusdato", "haend_dato", "d_dodsdto", "d_diagnosedato", "d_recidiv", "d_inddto", "d_uddto",
    "d_odto", "dato_start", "dato_slut", "eksd", "d_rekvdato", "d_dato",
)  # fmt: skip
MONTHS = {
    "jan": "01", "feb": "02", "mar": "03", "apr": "04", "may": "05", "jun": "06", "jul": "07", "aug": "08", "sep": "09",
    "oct": "10", "nov": "11", "dec": "12",
}  # fmt: skip
WITH_TIME = r"^(\S+?)[ T:]\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?\z"
SAS_DAY = r"^-?\d{1,5}(\.0+)?\z"
SAS_DAY_NO_YEAR = r"^(?!(19|20)\d{2}(\.|\z))-?\d{1,5}(\.0+)?\z"

CONTACTS = {"lpr_adm": "recnum", "lpr_a_kontakt": "dw_ek_kontakt"}
# Table without a person -> its contacts' table.
OF_CONTACTS = {
    "lpr_diag": "lpr_adm", "lpr_sksopr": "lpr_adm", "lpr_sksube": "lpr_adm",
    "lpr_a_diagnose": "lpr_a_kontakt", "procedurer_kirurgi": "lpr_a_kontakt", "procedurer_andre": "lpr_a_kontakt",
}  # fmt: skip
PROCEDURES = ("lpr_sksopr", "lpr_sksube", "procedurer_kirurgi", "procedurer_andre")


def _sas_columns(site: Site) -> list[str]:
    """Columns in which a number from 1900 to 2099 is a SAS day number, no year."""
    named = site.adapter.get("sas_columns") or []
    columns = [str(name).lower() for name in named] if isinstance(named, list) else [""]
    if not set(columns) <= set(DATES):
        raise ConfigurationError(f"adapter.sas_columns: write a list of columns, of {', '.join(DATES)}")
    return columns


def _with_dates(frame: DataFrame, site: Site, dates: Mapping[str, str]) -> DataFrame:
    """Adds columns with the dates of others: YYYY-MM-DD and DD-MM-YYYY with or without a time, YYYYMMDD, 01JAN2015, and
    SAS day numbers (days since 1960-01-01, up to five digits, negative before); NULL for anything else, also for what
    may be a bare year."""

    def without_time(cell: str) -> Column:
        # Most have none, and to cut nothing takes the engine longer than to find nothing.
        return F.when(F.contains(F.col(cell), F.lit(":")), F.regexp_extract(cell, WITH_TIME, 1)).otherwise(F.col(cell))

    def digits(name: str) -> Column:
        text = F.col(f"__written_{name}")
        size = F.octet_length(text)
        in_words = decoded(F.lower(F.substring(text, 3, 3)), MONTHS)
        year_first = digits_between_dashes(text, (1, 4), (6, 2), (9, 2))
        day_first = digits_between_dashes(text, (7, 4), (4, 2), (1, 2))
        return (
            F.when(size == 8, text)
            .when(size == 10, F.coalesce(year_first, day_first))
            .when(size == 9, F.concat(F.substring(text, 6, 4), in_words, F.substring(text, 1, 2)))
        )

    def day(name: str) -> Column:
        text, no_year = F.col(f"__written_{name}"), dates[name] not in _sas_columns(site)
        days = F.substring_index(text, ".", 1).try_cast("int")
        since_1960 = F.date_add(F.lit("1960-01-01").cast("date"), days)
        return F.coalesce(F.col(name), F.when(text.rlike(SAS_DAY_NO_YEAR if no_year else SAS_DAY), since_1960))

    written = frame.withColumns({f"__written_{name}": without_time(cell) for name, cell in dates.items()})
    dated = with_whole_dates(written, {name: digits(name) for name in dates})
    return dated.withColumns({name: day(name) for name in dates})


def _code(name: str) -> Column:
    return bare_code(F.col(name))


def _icd10(name: str) -> Column:
    """A code of the hospital classification or a plain one, without its D."""
    code = _code(name)
    return F.when(code.rlike(SKS_ICD10), F.substring(code, 2, 6)).otherwise(code)


def _decoded(code: Column | str, meaning: Mapping[str, str]) -> Column:
    """The meaning of each code, whatever its case; NULL for others and for codes that mean nothing."""
    return decoded(F.upper(code), {known.upper(): value for known, value in meaning.items()})


def _unknown_code(name: str, known: Mapping[str, str]) -> Column:
    """A code without a meaning, whatever its case."""
    upper = F.upper(name)
    return reason(upper.isNotNull() & ~upper.isin(*map(str.upper, known)), f"unknown_code:{name}")


def _annotate_person(frame: DataFrame, site: Site) -> DataFrame:
    sexes, statuses = site_codes(site, "sexes", SEX), site_codes(site, "statuses", STATUS)
    dated = _with_dates(frame, site, {"birth_date": "foedselsdato", "__since": "statusdato"})
    born, since, status = F.col("birth_date"), F.col("__since"), _decoded("status", statuses)
    return dated.withColumns(
        {
            "sex": _decoded("koen", sexes),
            "death_date": F.when(status == "dead", since),
            "emigration_date": F.when(status.isin("emigrated", "lost"), since),
            "region_of": _decoded("region", site_codes(site, "regions", {})),
            "reasons": joined_reasons(
                missing("foedselsdato"), missing("koen"), impossible("foedselsdato", born),
                impossible("statusdato", since), _unknown_code("koen", sexes), _unknown_code("status", statuses),
                reason((status != "alive") & since.isNull(), "missing:statusdato"),
                reason((status == "dead") & (since < born), "death_before_birth"),
            ),
        }
    )  # fmt: skip


def _annotate_move(frame: DataFrame, site: Site) -> DataFrame:
    ways = site_codes(site, "migrations", MIGRATION)
    return _with_dates(frame, site, {"moved": "haend_dato"}).withColumns(
        {
            "way": _decoded("indud_kode", ways),
            "reasons": joined_reasons(
                missing("haend_dato"), missing("indud_kode"), impossible("haend_dato", F.col("moved")),
                _unknown_code("indud_kode", ways),
            ),
        }
    )  # fmt: skip


def _annotate_death(frame: DataFrame, site: Site) -> DataFrame:
    reasons = joined_reasons(missing("d_dodsdto"), impossible("d_dodsdto", F.col("death_date")))
    return _with_dates(frame, site, {"death_date": "d_dodsdto"}).withColumn("reasons", reasons)


def _annotate_cancer(frame: DataFrame, site: Site) -> DataFrame:
    reasons = joined_reasons(
        missing("tumornr"), missing("d_diagnosedato"), missing("c_icd10"),
        impossible("d_diagnosedato", F.col("diagnosis_date")), no_code("c_icd10", _icd10("c_icd10"), ICD10_SHAPE),
    )  # fmt: skip
    return _with_dates(frame, site, {"diagnosis_date": "d_diagnosedato"}).withColumn("reasons", reasons)


def _annotate_recurrence(frame: DataFrame, site: Site) -> DataFrame:
    kinds = site_codes(site, "recurrences", RECURRENCE)
    return _with_dates(frame, site, {"event_date": "d_recidiv"}).withColumns(
        {
            "kind": _decoded("recidivtype", kinds),
            "reasons": joined_reasons(
                missing("d_recidiv"), missing("recidivtype"), impossible("d_recidiv", F.col("event_date")),
                _unknown_code("recidivtype", kinds),
            ),
        }
    )  # fmt: skip


def _annotate_older_contact(frame: DataFrame, site: Site) -> DataFrame:
    return _annotate_contact(frame, site, "recnum", "d_inddto", "d_uddto")


def _annotate_newer_contact(frame: DataFrame, site: Site) -> DataFrame:
    name = "lprindberetningssystem"
    system = _decoded(F.coalesce(name, F.lit("")), site_codes(site, "reporting_systems", REPORTING_SYSTEM))
    # Kept, a contact that the older tables may have too might count twice; dropped as theirs, not at all.
    is_unknown = system.isNull() | ~system.isin("newer", "older")
    fates = [reason(system == "older", REPEATS), reason(is_unknown, f"unknown_code:{name}")]
    more = fates if "lpr_adm" in site.inputs else []
    return _annotate_contact(frame, site, "dw_ek_kontakt", "dato_start", "dato_slut", *more)


def _annotate_contact(frame: DataFrame, site: Site, link: str, first: str, last: str, *more: Column) -> DataFrame:
    start, end = F.col("start_date"), F.col("end_date")
    reasons = joined_reasons(
        missing(link), missing(first), impossible(first, start), impossible(last, end),
        reason(end < start, "end_before_start"), *more,
    )  # fmt: skip
    dated = _with_dates(frame, site, {"start_date": first, "end_date": last})
    return dated.withColumns({"contact_id": F.col(link), "reasons": reasons})


def _annotate_diagnosis(code: str, type_: str, withdrawn: str | None) -> Annotate:
    def annotate(frame: DataFrame, site: Site) -> DataFrame:
        types = site_codes(site, "diagnosis_types", DIAGNOSIS_TYPE)
        more = []
        if withdrawn is not None:
            said = site_codes(site, "withdrawals", WITHDRAWAL)
            more = [reason(_decoded(withdrawn, said) == "withdrawn", "withdrawn"), _unknown_code(withdrawn, said)]
        return frame.withColumns(
            {
                "icd10": _icd10(code),
                "is_icd10": _code(code).rlike(SKS_ICD10),
                "position": _decoded(type_, types),
                "reasons": joined_reasons(
                    missing(code), missing(type_), reason(_code(code).rlike(NO_PREFIX), f"unknown_code:{code}"), *more
                ),
            }
        )

    return annotate


def _annotate_procedure(code: str, day: str) -> Annotate:
    def annotate(frame: DataFrame, site: Site) -> DataFrame:
        sks = _code(code)
        cut_off = [F.startswith(sks, F.lit(prefix[1:])) for prefix in _drug_prefixes(site) if len(prefix) > 3]
        has_no_prefix = reduce(lambda a, b: a | b, cut_off, sks.rlike(NO_PREFIX)) & ~_is_drug(sks, site)
        reasons = joined_reasons(
            missing(code), impossible(day, F.col("given")), reason(has_no_prefix, f"unknown_code:{code}")
        )
        return _with_dates(frame, site, {"given": day}).withColumns({"sks": sks, "reasons": reasons})

    return annotate


def _drug_prefixes(site: Site) -> list[str]:
    return [str(prefix).upper() for prefix in site.adapter.get("drug_prefixes", DRUG_PREFIXES)]


def _is_drug(sks: Column, site: Site) -> Column:
    """Whether a code of procedures stands for a drug."""
    prefixes = [F.startswith(sks, F.lit(prefix)) for prefix in _drug_prefixes(site)]
    return reduce(lambda a, b: a | b, prefixes, sks.rlike(SKS_ATC))


def _annotate_prescription(frame: DataFrame, site: Site) -> DataFrame:
    return _with_dates(frame, site, {"dispensed_date": "eksd"}).withColumns(
        {
            "packages": number("apk"),
            "ddd": number("apk") * number("volume"),
            "reasons": joined_reasons(
                missing("eksd"), missing("atc"), impossible("eksd", F.col("dispensed_date")),
                no_code("atc", _code("atc"), ATC_SHAPE),
                *(impossible_number(name, number(name)) for name in ("apk", "volume")),
            ),
        }
    )  # fmt: skip


def _annotate_sample(frame: DataFrame, site: Site) -> DataFrame:
    sites = site_codes(site, "sample_sites", SAMPLE_SITE)
    return _with_dates(frame, site, {"sample_date": "d_rekvdato"}).withColumns(
        {
            "site": _decoded("provested", sites),
            "reasons": joined_reasons(
                missing("d_rekvdato"), missing("c_snomedkode"), impossible("d_rekvdato", F.col("sample_date")),
                missing("provested"), _unknown_code("provested", sites),
            ),
        }
    )  # fmt: skip


def _annotate_receptors(frame: DataFrame, site: Site) -> DataFrame:
    reasons = joined_reasons(missing("d_dato"), impossible("d_dato", F.col("sample_date")))
    return _with_dates(frame, site, {"sample_date": "d_dato"}).withColumn("reasons", reasons)


def _relate(annotated: Mapping[str, DataFrame], site: Site) -> dict[str, DataFrame]:
    """Diagnoses and procedures with their contact's person, days and fate."""
    related = {}
    for name, of in OF_CONTACTS.items():
        if name not in annotated or of not in annotated:
            continue
        link = CONTACTS[of]
        facts = ("person_id", "contact_id", "start_date", "end_date")
        held_back = F.when(F.array_contains("reasons", REPEATS), REPEATS).when(F.size("reasons") > 0, HELD_BACK)
        # Of a malformed contact nothing is believed, but that it may be an erased person's.
        fate = F.when(is_malformed(), NO_CONTACT).otherwise(F.coalesce(held_back, F.lit("")))
        believed = (F.when(~is_malformed(), F.col(column)).alias(column) for column in facts)
        contact = F.struct(is_malformed().alias("malformed"), F.col(SUPPRESSED), fate.alias("fate"), *believed)
        # Of a number that several rows have, the accepted row's contact.
        contacts = annotated[of].where(F.col(link).isNotNull()).groupBy(link).agg(F.min(contact).alias("__contact"))
        fate_of = F.coalesce("__contact.fate", F.lit(NO_CONTACT))
        joined = annotated[name].join(contacts, on=link, how="left")
        reasons = F.concat(
            "reasons", F.when(fate_of != "", F.array(fate_of)).otherwise(F.array().cast("array<string>"))
        )
        related[name] = joined.withColumns(
            {
                **{fact: F.col(f"__contact.{fact}") for fact in facts},
                SUPPRESSED: F.coalesce(f"__contact.{SUPPRESSED}", SUPPRESSED),
                "reasons": F.sort_array(reasons),
            }
        ).drop("__contact")
    return related


def _claims(accepted: Mapping[str, DataFrame]) -> DataFrame:
    """What the registers of migrations, deaths, persons and patients say of a person, believed in this order."""
    exact = F.when(F.col("death_date").isNotNull(), "day")
    person, claims = accepted["person"], []
    if "vnds" in accepted:
        moves = last_moves(accepted["vnds"])
        person = _without_returned(person, moves)
        claims.append(moves.withColumn("priority", F.lit(-1)))  # the others keep the rank that tables have them with
    claims.append(
        person.withColumns(
            {"priority": F.lit(1), "region": F.col("region_of"), "birth_date_precision": F.lit("day"),
             "death_date_precision": exact}
        )
    )  # fmt: skip
    if "deaths" in accepted:
        claims.append(accepted["deaths"].withColumns({"priority": F.lit(0), "death_date_precision": exact}))
    contacts = [accepted[name] for name in CONTACTS if name in accepted]
    columns = ("person_id", "start_date", SOURCE_PLACE, "delivery")
    if contacts:
        seen = reduce(DataFrame.unionByName, [frame.select(*columns) for frame in contacts])
        claims.append(seen_in_hospital(seen, priority=2))
    return claims_of(*claims)


def _without_returned(person: DataFrame, moves: DataFrame) -> DataFrame:
    """The person register without the emigrations after which, or on whose day, the last move known was back."""
    back = moves.where(F.col("emigration_date").isNull()).select("person_id", "last_move")
    has_returned = F.coalesce(F.col("last_move") >= F.col("emigration_date"), F.lit(False))
    joined = person.join(back, on="person_id", how="left")
    return joined.withColumn("emigration_date", F.when(~has_returned, F.col("emigration_date"))).drop("last_move")


def _tumour(cancer: DataFrame, site: Site) -> DataFrame:
    digits = F.regexp_extract(_code("c_morfo3"), r"^M?(\d{5})\d?$", 1)
    morphology = F.when(digits != "", F.concat(F.substring(digits, 1, 4), F.lit("/"), F.substring(digits, 5, 1)))
    nothing = F.lit(None).cast("string")
    return cancer.withColumns(
        {
            "tumour_id": F.col("tumornr"),
            "diagnosis_date_precision": F.lit("day"),
            "icd10": icd10_of(_icd10("c_icd10"), morphology),
            "morphology": morphology,
            "stage": _decoded("udbredelse", site_codes(site, "extents", EXTENT)),
            "basis": _decoded("diaggrundlag", site_codes(site, "basis", BASIS)),
            **dict.fromkeys(("er", "pr", "her2"), nothing),
        }
    ).select(*TABLES["tumour"].column_names)


def _recurrence(rows: DataFrame) -> DataFrame:
    named = rows.withColumns({"tumour_id": F.col("tumornr"), "event_date_precision": F.lit("day")})
    return named.select(*TABLES["recurrence"].column_names)


def _once(rows: DataFrame, table: str) -> DataFrame:
    """One row per key of the table, the first by its place in the files: a code may be written twice on a contact."""
    contract = TABLES[table]
    rest = [name for name in contract.column_names if name not in contract.key]
    first = F.min(F.struct("source_file", "source_row", *(n for n in rest if n not in ("source_file", "source_row"))))
    grouped = rows.groupBy(*contract.key).agg(first.alias("__first"))
    return grouped.select(*contract.key, "__first.*").select(*contract.column_names)


def _hospital_diagnosis(accepted: Mapping[str, DataFrame]) -> DataFrame:
    parts = [
        accepted[name].where(F.col("is_icd10") & F.col("position").isNotNull())
        .select(*TABLES["hospital_diagnosis"].column_names)
        for name in ("lpr_diag", "lpr_a_diagnose")
        if name in accepted
    ]  # fmt: skip
    return _once(reduce(DataFrame.unionByName, parts), "hospital_diagnosis")


def _hospital_drug(accepted: Mapping[str, DataFrame], site: Site) -> DataFrame:
    """One row per drug code on a contact and day: M and an ATC code is the latter, other codes stay."""
    is_atc, is_drug = F.col("sks").rlike(SKS_ATC), _is_drug(F.col("sks"), site)
    columns = {
        "code_system": F.when(is_atc, "atc").otherwise("sks"),
        "code": F.when(is_atc, F.substring("sks", 2, 7)).otherwise(F.col("sks")),
        "start_date": F.coalesce("given", "start_date"),
        "end_date": F.lit(None).cast("date"),
        "route": F.lit("unspecified"),
    }
    parts = [
        accepted[name].where(is_drug).withColumns(columns).select(*TABLES["hospital_drug"].column_names)
        for name in PROCEDURES
        if name in accepted
    ]
    return _once(reduce(DataFrame.unionByName, parts), "hospital_drug")


def _biomarker(accepted: Mapping[str, DataFrame], site: Site) -> DataFrame | None:
    parts = []
    if "pathology" in accepted:
        stains = accepted["pathology"].withColumns(
            {"marker": F.lit("her2"), "result": _decoded("c_snomedkode", site_codes(site, "snomed", SNOMED))}
        )
        parts.append(stains.where(F.col("result").isNotNull()))
    if "receptors" in accepted:
        meaning = site_codes(site, "receptors", RECEPTOR)
        both = [F.struct(F.lit(name).alias("marker"), _decoded(name, meaning).alias("result")) for name in ("er", "pr")]
        known = F.filter(F.array(*both), lambda one: one["result"].isNotNull())
        each = accepted["receptors"].withColumn("one", F.explode(known)).select("*", "one.*")
        parts.append(each.withColumn("site", F.lit("primary")))
    if not parts:
        return None
    columns = TABLES["biomarker"].column_names
    full = [
        part.withColumns({"tumour_id": F.col("tumornr"), "method": F.lit("ihc")}).select(*columns) for part in parts
    ]
    return reduce(DataFrame.unionByName, full)


def _strange_codes(accepted: Mapping[str, DataFrame]) -> DataFrame:
    """Codes of diagnoses that are no diagnoses of the ICD-10, with counts."""
    columns = {"lpr_diag": "c_diag", "lpr_a_diagnose": "diag_kode"}
    parts = [
        counted_codes(accepted[name].where(~F.col("is_icd10")), name, column, _code(column))
        for name, column in columns.items()
        if name in accepted
    ]
    return reduce(DataFrame.unionByName, parts)


def _conform(accepted: Mapping[str, DataFrame], site: Site) -> dict[str, DataFrame]:
    conformed = {
        "person_claims": _claims(accepted),
        "tumour": _tumour(accepted["cancer"], site),
        "dispensing": accepted["prescriptions"]
        .withColumns({"atc": _code("atc"), "days_supply": F.lit(None).cast("int")})
        .select(*TABLES["dispensing"].column_names),
        **conform_life_table(accepted, site),
    }
    if "recurrence" in accepted:
        conformed["recurrence"] = _recurrence(accepted["recurrence"])
    if {"lpr_diag", "lpr_a_diagnose"} & set(accepted):
        conformed["hospital_diagnosis"] = _hospital_diagnosis(accepted)
        conformed["unknown_codes"] = _strange_codes(accepted)
    if set(PROCEDURES) & set(accepted):
        conformed["hospital_drug"] = _hospital_drug(accepted, site)
    biomarker = _biomarker(accepted, site)
    return conformed if biomarker is None else {**conformed, "biomarker": biomarker}


class _DanishTable(RawTable):
    """A raw table whose codes are the same in upper and lower case."""

    def known_codes(self, site: Site) -> dict[str, frozenset[str]]:
        cases = (str, str.upper, str.lower, str.capitalize)
        return {
            column: frozenset(case(code) for code in codes for case in cases)
            for column, codes in super().known_codes(site).items()
        }


def _table(name: str, annotate: Annotate, columns: tuple[str, ...], **more: Any) -> RawTable:
    """A table of people, in the files' common format."""
    said: dict[str, Any] = {"id_column": "pnr", "required": False, "options": {"sep": ";"}, **more}
    return _DanishTable(name=name, annotate=annotate, columns=columns, **said)


ADAPTER = Adapter(
    country="denmark",
    raw_tables=(
        _table(
            "person", _annotate_person, ("pnr", "koen", "foedselsdato", "status", "statusdato", "region"),
            required=True, unique=("person_id",), site_codes={"region": ("regions", frozenset())},
        ),
        _table("vnds", _annotate_move, ("pnr", "indud_kode", "haend_dato"), optional=("indud_land",)),
        _table("deaths", _annotate_death, ("pnr", "d_dodsdto")),
        _table(
            "cancer", _annotate_cancer,
            ("pnr", "tumornr", "d_diagnosedato", "c_icd10", "c_morfo3", "udbredelse", "diaggrundlag"),
            required=True, id_parts=("tumornr",), unique=("person_id", "tumornr"),
            site_codes={"udbredelse": ("extents", frozenset(EXTENT)), "diaggrundlag": ("basis", frozenset(BASIS))},
        ),
        _table(
            "recurrence", _annotate_recurrence, ("pnr", "d_recidiv", "recidivtype"), optional=("tumornr",),
            id_parts=("tumornr",), unique=("person_id", "tumornr", "event_date", "kind"),
        ),
        _table(
            "lpr_adm", _annotate_older_contact, ("pnr", "recnum", "d_inddto", "d_uddto"), optional=("c_pattype",),
            links={"recnum": "recnum"}, unique=("person_id", "recnum"),
        ),
        _table(
            "lpr_diag", _annotate_diagnosis("c_diag", "c_diagtype", None), ("recnum", "c_diag", "c_diagtype"),
            id_column=None, links={"recnum": "recnum"},
            site_codes={"c_diagtype": ("diagnosis_types", frozenset(DIAGNOSIS_TYPE))},
        ),
        *(
            _table(
                name, _annotate_procedure("c_opr", "d_odto"), ("recnum", "c_opr", "d_odto"), id_column=None,
                links={"recnum": "recnum"},
            )
            for name in ("lpr_sksopr", "lpr_sksube")
        ),
        _table(
            "lpr_a_kontakt", _annotate_newer_contact,
            ("pnr", "dw_ek_kontakt", "dato_start", "dato_slut", "lprindberetningssystem"),
            links={"dw_ek_kontakt": "dw_ek_kontakt"}, unique=("person_id", "dw_ek_kontakt"),
            site_codes={"lprindberetningssystem": ("reporting_systems", frozenset(REPORTING_SYSTEM))},
        ),
        _table(
            "lpr_a_diagnose", _annotate_diagnosis("diag_kode", "diag_kode_type", "senere_afkraeftet"),
            ("dw_ek_kontakt", "diag_kode", "diag_kode_type", "senere_afkraeftet"), id_column=None,
            links={"dw_ek_kontakt": "dw_ek_kontakt"},
            site_codes={"diag_kode_type": ("diagnosis_types", frozenset(DIAGNOSIS_TYPE))},
        ),
        *(
            _table(
                name, _annotate_procedure("procedurekode", "dato_start"),
                ("dw_ek_kontakt", "procedurekode", "dato_start"), id_column=None,
                links={"dw_ek_kontakt": "dw_ek_kontakt"},
            )
            for name in ("procedurer_kirurgi", "procedurer_andre")
        ),
        _table(
            "prescriptions", _annotate_prescription, ("pnr", "eksd", "atc", "apk"), optional=("vnr", "volume"),
            required=True, kept=("atc",),
        ),
        _table(
            "pathology", _annotate_sample, ("pnr", "d_rekvdato", "c_snomedkode", "provested"), optional=("tumornr",),
            id_parts=("tumornr",), site_codes={"c_snomedkode": ("snomed", frozenset(SNOMED))},
        ),
        _table(
            "receptors", _annotate_receptors, ("pnr", "d_dato", "er", "pr"), optional=("tumornr",),
            id_parts=("tumornr",), site_codes={name: ("receptors", frozenset(RECEPTOR)) for name in ("er", "pr")},
        ),
        *LIFE_TABLES,
    ),
    conform=_conform,
    relate=_relate,
)  # fmt: skip
