"""The frames: counts and sums over people, bounded and additive. What a site may share after disclosure control."""

from schemas.contract import Column, Table

PRIMARY = "primary"  # the rule set that people are called treated by
ALL = "all"
UNTREATED = "untreated"
UNKNOWN = "unknown"
SEPARATOR = " + "  # between the substances of a regimen
CROSS = " x "  # between the variables of a stratum, and between their levels
GROUPS = ("treated", UNTREATED, "no_information")
LEVELS = {  # in the order in which they are shown; of other variables by their name
    "comorbidity_index": ("0", "1", "2", "3+", UNKNOWN),
    "time_since_prior": (
        "never treated",
        "under 6 months",
        "6 to 11 months",
        "12 to 23 months",
        "24 months or more",
    ),
    "disease_free_time": ("de novo", "under 1 year", "1 year", "2 to 4 years", "5 years or more"),
    "prior_treatment": ("yes", "no"),
    "receptor_disagrees": ("yes", "no"),
    "treated": GROUPS,
}


def _key(name: str, doc: str) -> Column:
    return Column(name, "string", doc, nullable=False)


def _count(name: str, doc: str) -> Column:
    return Column(name, "bigint", doc, nullable=False)


RULE_SET = _key("rule_set", "rule set of the study; '' where no line is concerned")
LINE_NUMBER = Column("line_number", "int", "line; 0 where no line is concerned", nullable=False)
REGIMEN = _key("regimen", "substances joined by ' + '; 'all': not split; '': no line is concerned; 'untreated': line 0")

frame_attrition = Table(
    "frame_attrition",
    "frame",
    "one row per step",
    ("step", "label"),
    (
        Column("step", "int", "0 is everyone considered", nullable=False),
        _key("label", "who remains"),
        _count("persons", "people who remain"),
        _count("rows", "tumours that remain"),
    ),
    may_be_empty=False,
)

frame_characteristics = Table(
    "frame_characteristics",
    "frame",
    "one row per group x variable x level",
    ("group", "variable", "level"),
    (
        Column("group", "string", "treatment", nullable=False, codes=GROUPS),
        _key("variable", "what is described"),
        _key("level", "its level"),
        _count("n", "people"),
    ),
    may_be_empty=False,
)

frame_uptake = Table(
    "frame_uptake",
    "frame",
    "one row per calendar year x substance",
    ("year", "substance"),
    (
        Column("year", "int", "calendar year of index", nullable=False),
        _key("substance", "line-defining substance"),
        _count("n", "people indexed that year who ever start it in a primary line"),
        _count("denominator", "people with treatment information indexed that year"),
    ),
)

frame_lines = Table(
    "frame_lines",
    "frame",
    "one row per rule set x line x regimen x end x what came next; line 0 is the index of everyone with information",
    ("rule_set", "line_number", "regimen", "end_reason", "next_state", "next_regimen"),
    (
        RULE_SET,
        LINE_NUMBER,
        REGIMEN,
        _key("end_reason", "why the line ended, or the follow-up of an untreated person; '' where line 0 goes on"),
        _key("next_state", "what came next"),
        _key("next_regimen", "regimen of the next line; '' where there is none"),
        _count("n", "lines; people for line 0"),
    ),
)

frame_time = Table(
    "frame_time",
    "frame",
    "one row per outcome x line x regimen x stratum x entry day x day x cause",
    ("outcome", "rule_set", "line_number", "regimen", "stratum", "level", "entry_day", "day", "cause"),
    (
        Column(
            "outcome",
            "string",
            "what is timed",
            nullable=False,
            codes=(
                "first_line",
                "line_duration",
                "line_duration_left_out",
                "line_duration_naive",
                "next_treatment",
                "overall_survival",
                "survival_from_line",
            ),
        ),
        RULE_SET,
        LINE_NUMBER,
        REGIMEN,
        _key("stratum", "variable; 'all' for everyone"),
        _key("level", "its level; 'all' for everyone"),
        Column("entry_day", "int", "day of entry under observation (left truncation), 0 mostly", nullable=False),
        Column("day", "int", "days from the start of the clock", nullable=False),
        Column("cause", "int", "0 censored, 1 the event, 2.. the others that jobs/aggregate.py names", nullable=False),
        _count("n", "people or lines"),
    ),
)


def _sum(name: str, doc: str) -> Column:
    return Column(name, "double", doc, nullable=False)


frame_net_survival = Table(
    "frame_net_survival",
    "frame",
    "one row per outcome x stratum x level x day since index on which somebody is at risk",
    ("outcome", "stratum", "level", "day"),
    (
        Column(
            "outcome",
            "string",
            "over the whole follow-up, or what of it lies in the study's period",
            nullable=False,
            codes=("net_survival", "net_survival_period"),
        ),
        _key("stratum", "variable; 'all' for everyone"),
        _key("level", "its level; 'all' for everyone"),
        Column(
            "day",
            "int",
            "day since index, from 1; 0: people observed for no day at all; -1: whom the life table does not cover",
            nullable=False,
        ),
        _count("n", "people at risk"),
        _count("events", "deaths on that day"),
        _count("entered", "of those at risk: on their first day"),
        _sum("w", "of those at risk: w, 1 / expected survival at the end of the day"),
        _sum("w_events", "of those who die: w"),
        _sum("w2_events", "of those who die: w squared"),
        _sum("hazard", "of those at risk: hazard of the population, per day"),
        _sum("w_hazard_start", "hazard x 1 / expected survival at the start of the day"),
        _sum("w_start", "1 / expected survival at the start of the day"),
        _sum("w_hazard_end", "hazard x 1 / expected survival at the end of the day"),
        _sum("w_end", "1 / expected survival at the end of the day"),
    ),
)

frame_expected_survival = Table(
    "frame_expected_survival",
    "frame",
    "one row per stratum x level x day since index that is tabulated",
    ("stratum", "level", "day"),
    (
        _key("stratum", "variable; 'all' for everyone"),
        _key("level", "its level; 'all' for everyone"),
        Column("day", "int", "day since index", nullable=False),
        _count("n", "people whom the life table covers, whatever became of them"),
        _sum("expected", "of all of them: probability to be alive had they been like the population"),
    ),
)

COVARIATES = (
    "age_group",
    "sex",
    "stage",
    "receptor",
    "index_kind",
    "region",
    "index_year",
    "index_period",
    "comorbidity_index",
    "prior_treatment",
)  # of the models: what is known at index

frame_patterns = Table(
    "frame_patterns",
    "frame",
    "one row per model x covariate pattern x entry day x day x event",
    ("model", *COVARIATES, "entry_day", "day", "event"),
    (
        Column(
            "model",
            "string",
            "overall_survival: day and death; untreated, untreated_survivors: no line of treatment, day 0",
            nullable=False,
            codes=("overall_survival", "untreated", "untreated_survivors"),
        ),
        *(_key(name, "its level; '' where the model does not have it") for name in COVARIATES),
        Column("entry_day", "int", "day of entry under observation (left truncation), 0 mostly", nullable=False),
        Column("day", "int", "days from index", nullable=False),
        Column("event", "int", "1: it happened", nullable=False),
        _count("n", "people"),
    ),
)

FRAMES = {
    table.name: table
    for table in (
        frame_attrition,
        frame_characteristics,
        frame_uptake,
        frame_lines,
        frame_time,
        frame_net_survival,
        frame_expected_survival,
        frame_patterns,
    )
}
