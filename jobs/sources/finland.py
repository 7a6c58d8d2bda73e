"""Finland: population register, cancer register, care register, drugs given in hospital, purchases of medicines, two
files of deaths, test results of pathology, life table.

What a delivery may name differently stands in the site file: column names under `inputs.<table>.columns`, codes under
`adapter` (sexes, regions, stages, basis, statuses, recurrences, sample_sites, markers, methods, results, routes,
product_words).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import reduce
from operator import or_
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
    capped_day,
    counted_codes,
    decoded,
    first_day,
    impossible,
    impossible_number,
    joined_reasons,
    last_day,
    missing,
    no_code,
    number,
    partial_day,
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
STAGE = {"0": "", "1": "localised", "2": "regional", "3": "distant", "4": "", "9": ""}
BASIS = {"1": "clinical", "2": "clinical", "3": "cytology", "4": "histology", "5": "autopsy", "6": "death_certificate",
         "9": ""}  # fmt: skip
STATUS = {"1": "alive", "2": "dead", "3": "emigrated", "4": "lost"}
RECURRENCE = {"1": "local", "2": "regional", "3": "distant"}
SAMPLE_SITE = {"P": "primary", "M": "metastasis"}
MARKER = {"HER2": "her2", "ER": "er", "PR": "pr"}
METHOD = {"IHC": "ihc", "ISH": "ish", "PROS": "percent"}
RESULT = {"0": "0", "1+": "1+", "2+": "2+", "3+": "3+", "POS": "positive", "NEG": "negative", "AMP": "amplified",
          "EI AMP": "not_amplified"}  # fmt: skip
ROUTE = {"IV": "iv", "SC": "sc", "IM": "im", "PO": "oral"}
REGION: dict[str, str] = {}
# What follows the name of a product: its form or its route.
PRODUCT_WORDS = ("inf", "inj", "infuusio", "injektio", "kuiva-aine", "konsentraatti", "liuos", "tabl", "tabletti",
                 "kaps", "kapseli", "ruisku", "sc", "s.c.", "iv", "i.v.", "im", "i.m.")  # fmt: skip
# A strength: a number after a blank (but not as in alfa 2b), or a number with its unit (but not as in T-DM1).
STRENGTH_NUMBER = r"\d[\d.,]*+"
UNIT = r"\s*(?:%|(?:mg|g|mikrog|ug|µg|mcg|ml|l|iu|ky|ku|mu|yks|milj|mmol|mbq)(?![\p{L}\d]))"
AFTER_BLANK = rf"(?<!\s)\s++{STRENGTH_NUMBER}(?:{UNIT}|\s*(?:x|kpl)(?!\p{{L}})|(?![\p{{L}}\d])).*"
STRENGTH = rf"{AFTER_BLANK}|(?<![\d.,]){STRENGTH_NUMBER}{UNIT}.*"

FINNISH_DAY, FINNISH_MONTH = r"^(\d{1,2})\.(\d{1,2})\.(\d{4})$", r"^(\d{1,2})[./](\d{4})$"
MIDNIGHT = r"[ T]00:00(:00(\.0+)?)?$"
# The letter O where an ATC code has a digit.
MISSPELT_ATC = r"^[A-Z][O\d]{2}[A-Z]{2}[O\d]{2}$"
DIAGNOSES = ("PDGO", "pdgo", "sdg")  # prefixes of columns
# A cell of the care register with a code, a second one (I79.2 in E10.5+I79.2*), and the ATC code of an adverse effect.
CODE, BETWEEN = r"[A-Z]\d{2}(?:\.?[0-9A-Z]{1,3})?", r"\.*+[^\w.]\W*+"
SEVERAL = rf"(?i)^\W*+({CODE})(?:{BETWEEN}({CODE}))?(?:{BETWEEN}[A-Z]\d{{2}}[A-Z]{{2}}\d{{2}})?\W*+$"
FIRST = rf"(?i)^\W*+({CODE}){BETWEEN}"
LONGEST = 6  # letters and digits of one code
SECOND = "__second"


def _with_dates(frame: DataFrame, *names: str) -> DataFrame:
    """Adds what `partial_day`, `partial_precision` and `capped_day` give, of d.m.yyyy, m.yyyy and ISO dates, with or
    without a midnight."""

    def compact(name: str) -> Column:
        text = F.col(f"__written_{name}")
        day, month, year = (F.split_part(text, F.lit("."), F.lit(place)) for place in (1, 2, 3))
        whole = F.concat(F.substring(year, 1, 4), F.lpad(month, 2, "0"), F.lpad(day, 2, "0"))
        to_month = F.concat(
            F.regexp_extract(text, FINNISH_MONTH, 2), F.lpad(F.regexp_extract(text, FINNISH_MONTH, 1), 2, "0")
        )
        return F.when(text.rlike(FINNISH_DAY), whole).when(text.rlike(FINNISH_MONTH), to_month).otherwise(text)

    def written(name: str) -> Column:
        has_time = F.contains(F.col(name), F.lit(":"))
        return F.when(has_time, F.regexp_replace(name, MIDNIGHT, "")).otherwise(F.col(name))

    texts = frame.withColumns({f"__written_{name}": written(name) for name in names})
    return with_partial_dates(texts, {name: compact(name) for name in names})


def _inexact(name: str) -> Column:
    return reason(partial_precision(name) != "day", f"impossible_date:{name}")


def _whole(name: str) -> Column:
    """A code that was written as a number with decimals, without them."""
    return F.when(F.col(name).rlike(r"^\d+[,.]0+$"), F.regexp_extract(name, r"^\d+", 0)).otherwise(F.col(name))


def _with_whole(frame: DataFrame, lists: Mapping[str, Mapping[str, str]]) -> DataFrame:
    """The frame with the codes of these columns without decimals, unless the column's list has them so."""
    return frame.withColumns(
        {name: F.when(F.col(name).isin(*known), F.col(name)).otherwise(_whole(name)) for name, known in lists.items()}
    )


def _atc(name: str) -> Column:
    """The ATC code in upper case, with zeros where a letter O stands in the place of a digit."""
    code = F.upper(F.regexp_replace(name, r"\s", ""))
    level = F.translate(F.substring(code, 2, 2), "O", "0")
    mended = F.concat(
        F.substring(code, 1, 1), level, F.substring(code, 4, 2), F.translate(F.substring(code, 6, 2), "O", "0")
    )
    return F.when(code.rlike(MISSPELT_ATC), mended).otherwise(code)


def _letters_and_digits(text: Column) -> Column:
    return F.nullif(F.regexp_replace(F.upper(text), "[^0-9A-Z]", ""), F.lit(""))


def _is_no_icd10(cell: Column) -> Column:
    return F.coalesce(~_letters_and_digits(cell).rlike(ICD10_SHAPE), F.lit(False))


def _annotate_population(frame: DataFrame, site: Site) -> DataFrame:
    sexes = site_codes(site, "sexes", SEX)
    dated = _with_dates(frame, "SYNTYMAPV", "MAASTAMUUTTOPV")
    return dated.withColumns(
        {
            "sex": decoded("SUKUPUOLI", sexes),
            "birth_date": partial_day("SYNTYMAPV"),
            "birth_date_precision": partial_precision("SYNTYMAPV"),
            "emigration_date": capped_day("MAASTAMUUTTOPV"),
            "region": decoded("ALUE", site_codes(site, "regions", REGION)),
            "reasons": joined_reasons(
                missing("SYNTYMAPV"), missing("SUKUPUOLI"), impossible("SYNTYMAPV", partial_day("SYNTYMAPV")),
                impossible("MAASTAMUUTTOPV", capped_day("MAASTAMUUTTOPV")), unknown_code("SUKUPUOLI", sexes),
                reason(partial_day("MAASTAMUUTTOPV") < partial_day("SYNTYMAPV"), "emigration_before_birth"),
            ),
        }
    )  # fmt: skip


def _annotate_cancer(frame: DataFrame, site: Site) -> DataFrame:
    stages, basis = site_codes(site, "stages", STAGE), site_codes(site, "basis", BASIS)
    statuses = site_codes(site, "statuses", STATUS)
    whole = _with_whole(frame, {"stage": stages, "basis": basis, "status_close": statuses})
    dated = _with_dates(whole, "dg_date", "ex_date")
    status = decoded("status_close", statuses)
    closed = capped_day("ex_date")
    first = first_day(partial_day("dg_date"), partial_precision("dg_date"))
    return dated.withColumns(
        {
            "diagnosis_date": capped_day("dg_date"),
            "diagnosis_date_precision": partial_precision("dg_date"),
            "death_date": F.when(status == "dead", closed),
            "death_date_precision": F.when(status == "dead", partial_precision("ex_date")),
            "emigration_date": F.when(status.isin("emigrated", "lost"), closed),
            "reasons": joined_reasons(
                missing("tumour_no"), missing("dg_date"), missing("topo"),
                impossible("dg_date", capped_day("dg_date")), impossible("ex_date", closed),
                no_code("topo", _letters_and_digits(F.col("topo")), ICD10_SHAPE),
                reason(status.isin("dead", "emigrated", "lost") & F.col("ex_date").isNull(), "missing:ex_date"),
                reason(last_day(closed, partial_precision("ex_date")) < first, "end_before_start"),
            ),
        }
    )  # fmt: skip


def _annotate_recurrence(frame: DataFrame, site: Site) -> DataFrame:
    kinds = site_codes(site, "recurrences", RECURRENCE)
    return _with_dates(frame, "PVM").withColumns(
        {
            "event_date": capped_day("PVM"),
            "event_date_precision": partial_precision("PVM"),
            "kind": decoded("LAJI", kinds),
            "reasons": joined_reasons(
                missing("PVM"), missing("LAJI"), impossible("PVM", capped_day("PVM")),
                unknown_code("LAJI", kinds),
            ),
        }
    )  # fmt: skip


def _annotate_care(frame: DataFrame, _: Site) -> DataFrame:
    typed = _with_dates(frame, "TUPVA", "LPVM").withColumns(
        {
            "start_date": partial_day("TUPVA"),
            "end_date": partial_day("LPVM"),
        }
    )
    start, end = F.col("start_date"), F.col("end_date")
    reasons = joined_reasons(
        missing("TUPVA"), impossible("TUPVA", start), impossible("LPVM", end), _inexact("TUPVA"), _inexact("LPVM"),
        reason(end < start, "end_before_start"),
        reason(_is_no_icd10(_codes_of("PDGO")[0]), "unknown_code:PDGO"),
    )  # fmt: skip
    return typed.withColumn("reasons", reasons)


def _product_name(name: str, site: Site) -> Column:
    """A product in lower case up to its strength or its form; all of a cell that begins with one."""
    words = [re.escape(str(word).lower()) for word in site.adapter.get("product_words", PRODUCT_WORDS)]
    forms = [rf"(?<!\s)\s++(?:{'|'.join(words)})(?!\p{{L}}).*"] if words else []
    rest = f"(?:{'|'.join([*forms, STRENGTH])})$"
    product = F.lower(F.trim(F.col(name)))
    named = F.regexp_replace(F.regexp_replace(product, rest, ""), r"(?<![\s,;:(-])[\s,;:(-]++$", "")
    return F.coalesce(F.nullif(named, F.lit("")), F.nullif(product, F.lit("")))


def _annotate_hospital_drugs(frame: DataFrame, site: Site) -> DataFrame:
    name = _product_name("VALMISTE", site)
    code = _atc("ATC")
    dated = _with_dates(frame, "ALOITUSPV", "LOPETUSPV")
    start, end = partial_day("ALOITUSPV"), partial_day("LOPETUSPV")
    has_code = code.rlike(ATC_SHAPE)
    return dated.withColumns(
        {
            "start_date": start,
            "end_date": F.when(end != start, end),
            "code_system": F.when(has_code, "atc").otherwise("name"),
            "code": F.when(has_code, code).otherwise(name),
            "reasons": joined_reasons(
                missing("ALOITUSPV"), impossible("ALOITUSPV", start), impossible("LOPETUSPV", end),
                _inexact("ALOITUSPV"), _inexact("LOPETUSPV"), reason(end < start, "end_before_start"),
                reason(~F.coalesce(has_code, F.lit(False)) & name.isNull(), "missing:VALMISTE"),
            ),
        }
    )  # fmt: skip


def _annotate_purchase(frame: DataFrame, _: Site) -> DataFrame:
    typed = _with_dates(frame, "OSTOPV").withColumns(
        {"dispensed_date": partial_day("OSTOPV"), "atc_code": _atc("ATC"), "packages": number("PLKM")}
    )
    reasons = joined_reasons(
        missing("OSTOPV"), missing("ATC"), impossible("OSTOPV", F.col("dispensed_date")), _inexact("OSTOPV"),
        no_code("ATC", F.col("atc_code"), ATC_SHAPE), impossible_number("PLKM", F.col("packages")),
    )  # fmt: skip
    return typed.withColumn("reasons", reasons)


def _annotate_death(frame: DataFrame, _: Site) -> DataFrame:
    return _with_dates(frame, "KUOLPV").withColumns(
        {
            "death_date": capped_day("KUOLPV"),
            "death_date_precision": partial_precision("KUOLPV"),
            "reasons": joined_reasons(missing("KUOLPV"), impossible("KUOLPV", capped_day("KUOLPV"))),
        }
    )


def _annotate_pathology(frame: DataFrame, site: Site) -> DataFrame:
    sites, markers = site_codes(site, "sample_sites", SAMPLE_SITE), site_codes(site, "markers", MARKER)
    methods, results = site_codes(site, "methods", METHOD), site_codes(site, "results", RESULT)
    is_percent = decoded("MENETELMA", methods) == "percent"
    percent = F.when(number("TULOS").between(0, 100), number("TULOS").cast("string"))
    sampled = capped_day("NAYTEPV")
    return _with_dates(frame, "NAYTEPV").withColumns(
        {
            "sample_date": sampled,
            "site": decoded("NAYTE", sites),
            "marker": decoded("MARKKERI", markers),
            "method": decoded("MENETELMA", methods),
            "result": F.when(is_percent, percent).otherwise(decoded("TULOS", results)),
            "reasons": joined_reasons(
                *(missing(name) for name in ("NAYTEPV", "NAYTE", "MARKKERI", "MENETELMA", "TULOS")),
                impossible("NAYTEPV", sampled), unknown_code("NAYTE", sites), unknown_code("MARKKERI", markers),
                unknown_code("MENETELMA", methods), reason(is_percent & percent.isNull(), "impossible_number:TULOS"),
                reason(~is_percent & ~F.col("TULOS").isin(*results), "unknown_code:TULOS"),
            ),
        }
    )  # fmt: skip


def _claims(accepted: Mapping[str, DataFrame]) -> DataFrame:
    """What the registers of causes of death, population, cancer and care say of a person, believed in this order."""
    priorities = {"deaths": 0, "deaths_population": 1, "population": 2, "cancer": 3}
    said = [
        accepted[name].withColumn("priority", F.lit(place)) for name, place in priorities.items() if name in accepted
    ]
    return claims_of(*said, seen_in_hospital(accepted["care"], priority=4))


def _tumour(cancer: DataFrame, site: Site) -> DataFrame:
    kind, behaviour = _whole("morpho"), _whole("beh")
    is_whole = kind.rlike(r"^\d{4}$") & behaviour.rlike(r"^\d$")
    morphology = F.when(is_whole, F.concat(kind, F.lit("/"), behaviour))
    nothing = F.lit(None).cast("string")
    return cancer.withColumns(
        {
            "tumour_id": F.col("tumour_no"),
            "icd10": icd10_of(_letters_and_digits(F.col("topo")), morphology),
            "morphology": morphology,
            "stage": decoded("stage", site_codes(site, "stages", STAGE)),
            "basis": decoded("basis", site_codes(site, "basis", BASIS)),
            **dict.fromkeys(("er", "pr", "her2"), nothing),
        }
    ).select(*TABLES["tumour"].column_names)


def _codes_of(column: str) -> tuple[Column, Column]:
    """The first code of a cell, and the second; of a cell of more, the first, and all of it, which is no code."""
    cell = F.col(column)
    is_long = F.length(cell) > LONGEST
    has_two, has_more = is_long & cell.rlike(SEVERAL), is_long & _is_no_icd10(cell) & cell.rlike(FIRST)
    first = F.when(has_two, F.regexp_extract(cell, SEVERAL, 1)).when(has_more, F.regexp_extract(cell, FIRST, 1))
    rest = F.when(has_two, F.regexp_extract(cell, SEVERAL, 2)).when(has_more, cell)
    return first.otherwise(cell), rest


def _diagnoses(care: DataFrame) -> DataFrame:
    """One row per code and position on a contact, also of what is no ICD-10; of a cell with two codes the second is a
    secondary diagnosis."""

    def position(column: str) -> Column:
        return F.lit("main" if column.upper() == "PDGO" else "secondary")

    cells = {}
    for column in care.columns:
        if column.startswith(DIAGNOSES):
            cells[column], cells[f"{column}{SECOND}"] = _codes_of(column)
    return unpivoted(care.withColumns(cells), DIAGNOSES, _letters_and_digits, position)


def _hospital_diagnosis(care: DataFrame) -> DataFrame:
    codes = _diagnoses(care).where(F.col("cell").rlike(ICD10_SHAPE))
    named = codes.withColumns({"icd10": F.col("cell"), "position": F.col("of_column")})
    return named.select(*TABLES["hospital_diagnosis"].column_names)


def _hospital_drug(given: DataFrame, site: Site) -> DataFrame:
    route = F.coalesce(decoded("ANTOREITTI", site_codes(site, "routes", ROUTE)), F.lit("unspecified"))
    return given.withColumn("route", route).select(*TABLES["hospital_drug"].column_names)


def _dispensing(purchases: DataFrame) -> DataFrame:
    nothing = F.lit(None)
    return purchases.withColumns(
        {"atc": F.col("atc_code"), "ddd": nothing.cast("double"), "days_supply": nothing.cast("int")}
    ).select(*TABLES["dispensing"].column_names)


def _strange_codes(accepted: Mapping[str, DataFrame]) -> DataFrame:
    """ATC codes in which a letter O was read as a zero, and diagnoses that are no ICD-10, with counts."""
    is_mended = F.upper(F.regexp_replace("ATC", r"\s", "")) != _atc("ATC")
    parts = [
        counted_codes(accepted[name].where(is_mended), name, "ATC with O for 0", F.col("ATC"))
        for name in ("purchases", "hospital_drugs")
        if name in accepted
    ]
    care = accepted["care"]
    cells = [_is_no_icd10(F.col(column)) for column in care.columns if column.startswith(DIAGNOSES)]
    strange = _diagnoses(care.where(reduce(or_, cells))).where(~F.col("cell").rlike(ICD10_SHAPE))
    parts.append(counted_codes(strange, "care", "PDGO, SDG", F.col("cell")))
    return reduce(DataFrame.unionByName, parts)


def _conform(accepted: Mapping[str, DataFrame], site: Site) -> dict[str, DataFrame]:
    conformed = {
        "person_claims": _claims(accepted),
        "tumour": _tumour(accepted["cancer"], site),
        "dispensing": _dispensing(accepted["purchases"]),
        "hospital_diagnosis": _hospital_diagnosis(accepted["care"]),
        "unknown_codes": _strange_codes(accepted),
        **conform_life_table(accepted, site),
    }
    if "recurrence" in accepted:
        named = accepted["recurrence"].withColumn("tumour_id", F.col("tumour_no"))
        conformed["recurrence"] = named.select(*TABLES["recurrence"].column_names)
    if "hospital_drugs" in accepted:
        conformed["hospital_drug"] = _hospital_drug(accepted["hospital_drugs"], site)
    if "pathology" in accepted:
        results = accepted["pathology"].withColumn("tumour_id", F.col("tumour_no"))
        conformed["biomarker"] = results.select(*TABLES["biomarker"].column_names)
    return conformed


TEXT = {"sep": ";"}

ADAPTER = Adapter(
    country="finland",
    raw_tables=(
        RawTable(
            name="population",
            annotate=_annotate_population,
            columns=("HETU", "SUKUPUOLI", "SYNTYMAPV", "ALUE"),
            optional=("MAASTAMUUTTOPV",),
            id_column="HETU",
            unique=("person_id",),
            options=TEXT,
            site_codes={"SUKUPUOLI": ("sexes", frozenset(SEX)), "ALUE": ("regions", frozenset(REGION))},
        ),
        RawTable(
            name="cancer",
            annotate=_annotate_cancer,
            columns=("HETU", "tumour_no", "dg_date", "topo", "morpho", "beh", "stage"),
            optional=("basis", "ex_date", "status_close"),
            id_column="HETU",
            unique=("person_id", "tumour_no"),
            id_parts=("tumour_no",),
            options=TEXT,
            site_codes={
                "stage": ("stages", frozenset(STAGE)),
                "basis": ("basis", frozenset(BASIS)),
                "status_close": ("statuses", frozenset(STATUS)),
            },
        ),
        RawTable(
            name="recurrence",
            annotate=_annotate_recurrence,
            columns=("HETU", "PVM", "LAJI"),
            optional=("tumour_no",),
            id_column="HETU",
            unique=("person_id", "tumour_no", "event_date", "kind"),
            id_parts=("tumour_no",),
            required=False,
            options=TEXT,
        ),
        RawTable(
            name="care",
            annotate=_annotate_care,
            columns=("HETU", "TUPVA", "LPVM", "PDGO"),
            optional=("SDG*",),
            id_column="HETU",
            kept=("PDGO", "SDG*"),
            names_contacts=True,
            options=TEXT,
        ),
        RawTable(
            name="hospital_drugs",
            annotate=_annotate_hospital_drugs,
            columns=("HETU", "ATC", "VALMISTE", "ALOITUSPV"),
            optional=("LOPETUSPV", "ANTOREITTI"),
            id_column="HETU",
            kept=("ATC", "ANTOREITTI"),
            names_contacts=True,
            required=False,
            options=TEXT,
            site_codes={"ANTOREITTI": ("routes", frozenset(ROUTE))},
        ),
        RawTable(
            name="purchases",
            annotate=_annotate_purchase,
            columns=("HETU", "ATC", "OSTOPV", "PLKM", "VNRO"),
            id_column="HETU",
            kept=("ATC",),
            options=TEXT,
        ),
        RawTable(
            name="deaths",
            annotate=_annotate_death,
            columns=("HETU", "KUOLPV"),
            id_column="HETU",
            options=TEXT,
        ),
        RawTable(
            name="deaths_population",
            annotate=_annotate_death,
            columns=("HETU", "KUOLPV"),
            id_column="HETU",
            required=False,
            options=TEXT,
        ),
        RawTable(
            name="pathology",
            annotate=_annotate_pathology,
            columns=("HETU", "NAYTEPV", "NAYTE", "MARKKERI", "MENETELMA", "TULOS"),
            optional=("tumour_no",),
            id_column="HETU",
            id_parts=("tumour_no",),
            required=False,
            options=TEXT,
        ),
        *LIFE_TABLES,
    ),
    conform=_conform,
    contacts_keep_day=True,
)
