"""The tables of a study: from cohort to treatment lines."""

from schemas.contract import PERSON_ID, Column, Table

LINE_REASONS = ("death", "emigration", "second_cancer", "information_end", "study_end")
END_REASONS = ("switch", "gap", *LINE_REASONS)
NEXT_STATES = ("next_line", "died", "emigrated", "second_cancer", "information_end", "alive")

attrition = Table(
    name="attrition",
    layer="derived",
    grain="one row per step of the selection",
    key=("step",),
    may_be_empty=False,
    columns=(
        Column("step", "int", "0 is everyone considered", nullable=False),
        Column("label", "string", "who remains after this step", nullable=False),
        Column("persons", "bigint", "people who remain", nullable=False),
        Column("rows", "bigint", "tumours that remain", nullable=False),
    ),
)

cohort = Table(
    name="cohort",
    layer="derived",
    grain="one row per person",
    key=("person_id",),
    may_be_empty=False,
    columns=(
        PERSON_ID,
        Column("index_date", "date", "the study's index date", nullable=False),
        Column(
            "index_kind",
            "string",
            "how the index came about",
            nullable=False,
            codes=("de_novo", "relapse", "diagnosis"),
        ),
        Column("birth_date", "date", "date of birth", nullable=False),
        Column("age_at_index", "int", "completed years", nullable=False),
        Column("sex", "string", "registered sex", nullable=False, codes=("female", "male")),
        Column(
            "receptor",
            "string",
            "hormone receptors",
            nullable=False,
            codes=("hormone_positive", "hormone_negative", "unknown"),
        ),
        Column(
            "stage",
            "string",
            "stage of the index tumour at its diagnosis; NULL: not known",
            codes=("localised", "regional", "distant"),
        ),
        Column("receptor_disagrees", "boolean", "tumours of the person disagree on a marker", nullable=False),
        Column("comorbidity_index", "int", "Charlson index; NULL: look-back not observed"),
        Column("region", "string", "region of residence"),
        Column("prior_treatment", "boolean", "line-defining drug before index", nullable=False),
        Column("months_since_prior", "double", "months (30.4375 days) from the last day given before index to index"),
        Column("disease_free_days", "int", "days from the diagnosis of the index tumour to index", nullable=False),
        Column("has_treatment_information", "boolean", "sources cover [index - lead, index]", nullable=False),
        Column("follow_up_end", "date", "end of follow-up for lines", nullable=False),
        Column("follow_up_end_reason", "string", "why", nullable=False, codes=LINE_REASONS),
        Column("observation_end", "date", "end of follow-up for lines, had the person not died", nullable=False),
        Column("survival_end", "date", "end of follow-up for survival", nullable=False),
        Column("survival_end_reason", "string", "why", nullable=False, codes=("death", "emigration", "study_end")),
    ),
)

exposures = Table(
    name="exposures",
    layer="derived",
    grain="one row per period of one substance",
    key=("person_id", "substance", "given_from", "given_to", "covered_until", "source"),
    columns=(
        PERSON_ID,
        Column("substance", "string", "active ingredient of conf/drugs.yaml", nullable=False),
        Column("class", "string", "class of the substance in conf/drugs.yaml", nullable=False),
        Column("given_from", "date", "first day given", nullable=False),
        Column("given_to", "date", "last day given", nullable=False),
        Column("covered_until", "date", "first day without effect", nullable=False),
        Column("source", "string", "where it was registered", nullable=False, codes=("hospital_drug", "dispensing")),
    ),
)

treatment_lines = Table(
    name="treatment_lines",
    layer="derived",
    grain="one row per rule set x person x line",
    key=("rule_set", "person_id", "line_number"),
    columns=(
        Column("rule_set", "string", "name of the rule set in the study file", nullable=False),
        PERSON_ID,
        Column("line_number", "int", "1 is the first line", nullable=False),
        Column("regimen", "array<string>", "substances, sorted", nullable=False),
        Column("line_start", "date", "first day", nullable=False),
        Column("line_end", "date", "first day after the line", nullable=False),
        Column("duration_days", "int", "line_end - line_start in days", nullable=False),
        Column("end_reason", "string", "why the line ended", nullable=False, codes=END_REASONS),
        Column("end_observed", "boolean", "true for switch, gap, death", nullable=False),
        Column("next_state", "string", "what came next", nullable=False, codes=NEXT_STATES),
        Column("next_state_date", "date", "when", nullable=False),
        Column("concomitant", "array<string>", "other classes during the line, sorted", nullable=False),
        Column("concomitant_at_start", "array<string>", "other classes around its start, sorted", nullable=False),
    ),
)

line_counts = Table(
    name="line_counts",
    layer="derived",
    grain="one row per rule set x what was counted",
    key=("rule_set", "counted"),
    may_be_empty=False,
    columns=(
        Column("rule_set", "string", "name of the rule set in the study file", nullable=False),
        Column("counted", "string", "what the line engine counted", nullable=False),
        Column("n", "bigint", "how many", nullable=False),
    ),
)

unresolved_codes = Table(
    name="unresolved_codes",
    layer="derived",
    grain="one row per source x code system x code that no substance is known for",
    key=("source", "code_system", "code"),
    columns=(
        Column("source", "string", "where it was registered", nullable=False),
        Column("code_system", "string", "what it is written in", nullable=False),
        Column("code", "string", "the code", nullable=False),
        Column("n", "bigint", "rows of cohort members", nullable=False),
        Column("persons", "bigint", "cohort members", nullable=False),
    ),
)

DERIVED = {
    table.name: table for table in (attrition, cohort, exposures, unresolved_codes, treatment_lines, line_counts)
}
