"""The conformed tables: one shape for all countries."""

from schemas.contract import LINEAGE, PERSON_ID, Column, Table, precision_of

TRISTATE = ("positive", "negative", "equivocal")
OLDEST = 130  # the highest age that a life table may have

person = Table(
    name="person",
    layer="conformed",
    grain="one row per person",
    key=("person_id",),
    may_be_empty=False,
    columns=(
        PERSON_ID,
        Column("sex", "string", "registered sex", nullable=False, codes=("female", "male")),
        Column("birth_date", "date", "date of birth", nullable=False),
        precision_of("birth_date"),
        Column("death_date", "date", "date of death; NULL: not known to be dead"),
        precision_of("death_date"),
        Column("emigration_date", "date", "last day as a resident; NULL: resident"),
        Column("region", "string", "health region of residence, the country's own code"),
        *LINEAGE,
    ),
)

tumour = Table(
    name="tumour",
    layer="conformed",
    grain="one row per person x tumour",
    key=("person_id", "tumour_id"),
    may_be_empty=False,
    columns=(
        PERSON_ID,
        Column("tumour_id", "string", "identifier of the tumour, a pseudonym", nullable=False, identifies=True),
        Column("diagnosis_date", "date", "date of diagnosis", nullable=False),
        precision_of("diagnosis_date"),
        Column("icd10", "string", "ICD-10 site, letters and digits without dot", nullable=False),
        Column("morphology", "string", "ICD-O-3 morphology with behaviour, four digits / one digit"),
        Column("stage", "string", "extent at diagnosis", codes=("localised", "regional", "distant")),
        Column("er", "string", "oestrogen receptor", codes=TRISTATE),
        Column("pr", "string", "progesterone receptor", codes=TRISTATE),
        Column("her2", "string", "HER2", codes=TRISTATE),
        Column(
            "basis",
            "string",
            "basis of diagnosis",
            codes=("histology", "cytology", "clinical", "death_certificate", "autopsy"),
        ),
        *LINEAGE,
    ),
)

recurrence = Table(
    name="recurrence",
    layer="conformed",
    grain="one row per event",
    key=("person_id", "tumour_id", "event_date", "event_date_precision", "kind"),
    columns=(
        PERSON_ID,
        Column("tumour_id", "string", "the tumour that recurred; NULL: not named", identifies=True),
        Column("event_date", "date", "date of the recurrence", nullable=False),
        precision_of("event_date"),
        Column("kind", "string", "extent", nullable=False, codes=("local", "regional", "distant")),
        *LINEAGE,
    ),
)

dispensing = Table(
    name="dispensing",
    layer="conformed",
    grain="one row per dispensing x ATC code",
    key=("delivery", "source_file", "source_row", "atc"),
    columns=(
        PERSON_ID,
        Column("dispensed_date", "date", "date on which the pharmacy handed it out", nullable=False),
        Column("atc", "string", "ATC code, upper case", nullable=False),
        Column("packages", "double", "number of packages; negative cancels"),
        Column("ddd", "double", "defined daily doses"),
        Column("days_supply", "int", "days of supply where the source says so"),
        *LINEAGE,
    ),
)

hospital_diagnosis = Table(
    name="hospital_diagnosis",
    layer="conformed",
    grain="one row per diagnosis on a contact",
    key=("contact_id", "icd10", "position"),
    columns=(
        PERSON_ID,
        Column("contact_id", "string", "identifier of the contact, a pseudonym", nullable=False, identifies=True),
        Column("start_date", "date", "first day of the contact", nullable=False),
        Column("end_date", "date", "last day of the contact"),
        Column("icd10", "string", "ICD-10, letters and digits without dot", nullable=False),
        Column("position", "string", "place of the diagnosis", nullable=False, codes=("main", "secondary")),
        *LINEAGE,
    ),
)

hospital_drug = Table(
    name="hospital_drug",
    layer="conformed",
    grain="one row per administration or period of one drug",
    key=("contact_id", "code_system", "code", "start_date", "end_date"),
    columns=(
        PERSON_ID,
        Column("contact_id", "string", "identifier of the contact, a pseudonym", nullable=False, identifies=True),
        Column("start_date", "date", "day given, or first day of a period", nullable=False),
        Column("end_date", "date", "last day of a period; NULL: given once"),
        Column(
            "code_system",
            "string",
            "what `code` is written in",
            nullable=False,
            codes=("atc", "national", "sks", "name", "rxnorm"),
        ),
        Column("code", "string", "code in that system, upper case (names: lower case)", nullable=False),
        Column("route", "string", "way of giving", codes=("iv", "sc", "im", "oral", "unspecified")),
        *LINEAGE,
    ),
)

biomarker = Table(
    name="biomarker",
    layer="conformed",
    grain="one row per result",
    key=("delivery", "source_file", "source_row", "marker", "method"),
    columns=(
        PERSON_ID,
        Column("tumour_id", "string", "the tumour sampled; NULL: not named", identifies=True),
        Column("sample_date", "date", "date of the sample", nullable=False),
        Column("site", "string", "where the sample was taken", nullable=False, codes=("primary", "metastasis")),
        Column("marker", "string", "what was measured", nullable=False, codes=("her2", "er", "pr")),
        Column("method", "string", "how it was measured", nullable=False, codes=("ihc", "ish", "percent")),
        Column(
            "result",
            "string",
            "ihc: 0, 1+, 2+, 3+ or positive/negative/equivocal; ish: amplified, "
            "not_amplified, equivocal; percent: number",
            nullable=False,
        ),
        *LINEAGE,
    ),
)

life_table = Table(
    name="life_table",
    layer="conformed",
    grain="one row per country x sex x calendar year x age (x region)",
    key=("country", "region", "sex", "year", "age"),
    may_be_empty=False,
    columns=(
        Column("country", "string", "ISO 3166 two letters, lower case", nullable=False),
        Column("region", "string", "region; NULL: the whole country"),
        Column("sex", "string", "sex", nullable=False, codes=("female", "male")),
        Column("year", "int", "calendar year", nullable=False),
        Column("age", "int", "completed years", nullable=False),
        Column("probability_of_death", "double", "probability of dying within one year", nullable=False),
        *LINEAGE,
    ),
)

CONFORMED = {
    table.name: table
    for table in (person, tumour, recurrence, dispensing, hospital_diagnosis, hospital_drug, biomarker, life_table)
}
