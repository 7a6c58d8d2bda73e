"""From people and lines to frames: counts that are bounded whatever the number of people, and additive over people."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.local_frame import local_frame
from jobs.net_frame import build_net_frames
from schemas import FRAMES
from schemas.frames import ALL, COVARIATES, CROSS, PRIMARY, SEPARATOR, UNKNOWN, UNTREATED

if TYPE_CHECKING:
    from jobs.config import AgeGroups, RuleSet, Study

DAYS_PER_YEAR = 365.25
NEXT_STATES = {"death": "died", "emigration": "emigrated", "study_end": "alive"}  # the other reasons name the state


def build_frames(
    attrition: DataFrame, cohort: DataFrame, lines: DataFrame, study: Study, life_table: DataFrame | None = None
) -> dict[str, DataFrame]:
    """All frames of a study by name (schemas: FRAMES). Those of net survival are empty without a life table."""
    return {
        "frame_attrition": build_frame_attrition(attrition),
        "frame_characteristics": build_frame_characteristics(cohort, lines, study),
        "frame_uptake": build_frame_uptake(cohort, lines, study),
        "frame_lines": build_frame_lines(cohort, lines, study),
        "frame_time": build_frame_time(cohort, lines, study),
        **_net_survival(cohort, lines, study, life_table),
        "frame_patterns": build_frame_patterns(cohort, lines, study),
    }


def _net_survival(
    cohort: DataFrame, lines: DataFrame, study: Study, life_table: DataFrame | None
) -> dict[str, DataFrame]:
    wanted = study.survival.net_strata
    if wanted is None or life_table is None:
        names = ("frame_net_survival", "frame_expected_survival")
        return {name: local_frame(cohort.sparkSession, [], FRAMES[name].struct()) for name in names}
    strata: dict[str, Column] = {ALL: F.lit(ALL)}
    strata.update({name: _stratum(name, study) for name in wanted})
    longest = (study.period.follow_up_until - study.period.index_from).days
    period = study.survival.net_period
    window = (period.from_, period.until) if period else None
    return build_net_frames(_with_treatment(cohort, lines), life_table, strata, longest, window)


def build_frame_attrition(attrition: DataFrame) -> DataFrame:
    """One row per step of the selection."""
    return attrition.select(*FRAMES["frame_attrition"].column_names)


def build_frame_characteristics(cohort: DataFrame, lines: DataFrame, study: Study) -> DataFrame:
    """One row per group x variable x level: how many of the treated, the untreated, and those without treatment
    information have it. `age_at_index` is counted by completed years, so that any average can be made from it."""
    levels = {
        ALL: F.lit(ALL),
        "age_at_index": F.col("age_at_index").cast("string"),
        "prior_treatment": F.when(F.col("prior_treatment"), "yes").otherwise("no"),
        "time_since_prior": _time_since_prior(),
        "comorbidity_index": _comorbidity(),
        "receptor_disagrees": F.when(F.col("receptor_disagrees"), "yes").otherwise("no"),
        **{
            name: _stratum(name, study)
            for name in ("age_group", "sex", "receptor", "index_kind", "region", "index_year")
        },
    }
    at_most = study.age_groups.at_most
    if at_most is not None:
        levels[f"at_most_{at_most}_without_comorbidity"] = _without_reason_not_to_treat(at_most)
    if study.cohort.index == "metastasis":
        levels["disease_free_time"] = _disease_free_time()
    people = _with_treatment(cohort, lines).select(
        _group().alias("group"), F.inline(_pairs(levels, "variable", "level"))
    )
    return _counted(people, "frame_characteristics")


def build_frame_uptake(cohort: DataFrame, lines: DataFrame, study: Study) -> DataFrame:
    """One row per calendar year of index x line-defining substance: of the people with treatment information, how
    many have it in any line of the primary rule set."""
    substances = F.array(*(F.lit(name) for name in study.drugs.line_defining)).cast("array<string>")
    people = (
        _with_treatment(cohort, lines)
        .where("has_treatment_information")
        .select(F.year("index_date").alias("year"), "started", F.explode(substances).alias("substance"))
    )
    counted = people.groupBy("year", "substance").agg(
        F.count_if(F.array_contains("started", F.col("substance"))).alias("n"), F.count("*").alias("denominator")
    )
    return counted.select(*FRAMES["frame_uptake"].column_names)


def build_frame_lines(cohort: DataFrame, lines: DataFrame, study: Study) -> DataFrame:
    """One row per rule set x line x regimen x end x what came next, of people with treatment information.

    Line 0 is the index, so that flows start from everyone: its regimen is '' for those who go on to line 1, and
    `untreated` for those who never do, with the reason for which their follow-up ended.
    """
    regimen = F.array_join("regimen", SEPARATOR)
    following = Window.partitionBy("rule_set", "person_id").orderBy("line_number").rowsBetween(1, 1)
    treated = lines.join(_informed(cohort), on="person_id", how="left_semi").select(
        "rule_set",
        "line_number",
        regimen.alias("regimen"),
        "end_reason",
        "next_state",
        F.coalesce(F.first(regimen).over(following), F.lit("")).alias("next_regimen"),
    )
    # A line 1 stands for its person at the index: nobody has two of a rule set.
    go_on = treated.where(F.col("line_number") == 1).select(
        "rule_set",
        F.lit(0).alias("line_number"),
        F.lit("").alias("regimen"),
        F.lit("").alias("end_reason"),
        F.lit("next_line").alias("next_state"),
        F.col("regimen").alias("next_regimen"),
    )
    rule_sets = F.array(*(F.lit(name) for name in study.rule_sets))
    next_states = F.create_map(*(F.lit(text) for pair in NEXT_STATES.items() for text in pair))
    untreated = (
        _with_treatment(cohort, lines)
        .where("has_treatment_information")
        .select("follow_up_end_reason", F.explode(F.array_except(rule_sets, "treated_under")).alias("rule_set"))
        .select(
            "rule_set",
            F.lit(0).alias("line_number"),
            F.lit(UNTREATED).alias("regimen"),
            F.col("follow_up_end_reason").alias("end_reason"),
            F.coalesce(next_states[F.col("follow_up_end_reason")], F.col("follow_up_end_reason")).alias("next_state"),
            F.lit("").alias("next_regimen"),
        )
    )
    return _counted(treated.unionByName(go_on).unionByName(untreated), "frame_lines")


def build_frame_time(cohort: DataFrame, lines: DataFrame, study: Study) -> DataFrame:
    """One row per outcome x line x regimen x stratum x day x cause; 0 is censored. Outcomes and their causes:

    - overall_survival: index to death (1) or `survival_end`; everyone, by the study's strata;
    - first_line: index to the first line of the primary rule set (1), death (2) or a second cancer (3), else
      `follow_up_end`; day 0 where it began before; people with treatment information, by strata known at index;
    - survival_from_line: max(line_start, index_date) to death (1) or `survival_end`;
    - line_duration: start of a line to its end (1) or the death that ended it (2), censored at A = observation_end -
      the largest gap of the rule set, because a stop within that gap of the end of observation cannot be told from
      treatment that goes on (docs/statistics.md);
    - line_duration_left_out: lines that start on or after A, all on day 0: they tell nothing about duration;
    - line_duration_naive: start to end as the table of lines has it, whatever ended it (1);
    - next_treatment: start of a line to the next line (1), death (2) or a second cancer (3), else `follow_up_end`.

    Outcomes of lines are of people with treatment information, for lines up to `survival.lines`, by regimen and for
    `all` of them.
    """
    survival = _overall_survival(cohort, lines, study)
    if not study.survival.lines:
        return _counted(survival, "frame_time")
    first = _first_line(cohort, lines, study)
    return _counted(survival.unionByName(first).unionByName(_line_times(cohort, lines, study)), "frame_time")


def build_frame_patterns(cohort: DataFrame, lines: DataFrame, study: Study) -> DataFrame:
    """One row per model x covariate pattern x day x event, of the models that the study has.

    - overall_survival: index to death (1) or `survival_end`, of everyone;
    - untreated: of people with treatment information, 1 without a line of the primary rule set; day 0;
    - untreated_survivors: the same of those who did not die within `survived_days`.
    """
    cox, undertreatment = study.survival.cox, study.survival.undertreatment
    people = _with_treatment(cohort, lines)
    is_death = F.col("survival_end_reason") == "death"
    survived = F.datediff("survival_end", "index_date")
    parts = [local_frame(people.sparkSession, [], FRAMES["frame_patterns"].struct()).drop("n")]

    def add(model: str, rows: DataFrame, covariates: tuple[str, ...], day: Column, event: Column) -> None:
        levels = {name: _stratum(name, study) if name in covariates else F.lit("") for name in COVARIATES}
        parts.append(
            rows.select(
                F.lit(model).alias("model"),
                *(column.alias(name) for name, column in levels.items()),
                F.lit(0).alias("entry_day"),
                day.alias("day"),
                event.cast("int").alias("event"),
            )
        )

    if cox is not None:
        add("overall_survival", people, (*cox.covariates, *cox.strata), survived, is_death)
    if undertreatment is not None:
        informed = people.where("has_treatment_information")
        lived = informed.where(~(is_death & (survived < undertreatment.survived_days)))
        untreated = ~F.array_contains("treated_under", PRIMARY)
        add("untreated", informed, undertreatment.covariates, F.lit(0), untreated)
        add("untreated_survivors", lived, undertreatment.covariates, F.lit(0), untreated)
    return _counted(reduce(DataFrame.unionByName, parts), "frame_patterns")


def _overall_survival(cohort: DataFrame, lines: DataFrame, study: Study) -> DataFrame:
    strata: dict[str, Column] = {ALL: F.lit(ALL)}
    strata.update({name: _stratum(name, study) for name in study.strata})
    return _with_treatment(cohort, lines).select(
        F.lit("overall_survival").alias("outcome"),
        F.lit("").alias("rule_set"),
        F.lit(0).alias("line_number"),
        F.lit("").alias("regimen"),
        F.lit(0).alias("entry_day"),
        F.datediff("survival_end", "index_date").alias("day"),
        (F.col("survival_end_reason") == "death").cast("int").alias("cause"),
        F.inline(_pairs(strata, "stratum", "level")),
    )


def _first_line(cohort: DataFrame, lines: DataFrame, study: Study) -> DataFrame:
    strata: dict[str, Column] = {ALL: F.lit(ALL)}
    known_at_index = (name for name in study.strata if "treated" not in name.split(CROSS))
    strata.update({name: _stratum(name, study) for name in known_at_index})
    first = lines.where((F.col("rule_set") == PRIMARY) & (F.col("line_number") == 1)).select("person_id", "line_start")
    reason = F.col("follow_up_end_reason")
    ended = F.when(reason == "death", 2).when(reason == "second_cancer", 3).otherwise(0)
    has_line = F.col("line_start").isNotNull()  # greatest() passes over NULL
    until = F.when(has_line, F.greatest("line_start", "index_date")).otherwise(F.col("follow_up_end"))
    return (
        cohort.where("has_treatment_information")
        .join(first, on="person_id", how="left")
        .select(
            F.lit("first_line").alias("outcome"),
            F.lit(PRIMARY).alias("rule_set"),
            F.lit(1).alias("line_number"),
            F.lit("").alias("regimen"),
            F.lit(0).alias("entry_day"),
            F.datediff(until, "index_date").alias("day"),
            F.when(has_line, 1).otherwise(ended).alias("cause"),
            F.inline(_pairs(strata, "stratum", "level")),
        )
    )


def _line_times(cohort: DataFrame, lines: DataFrame, study: Study) -> DataFrame:
    gaps = F.create_map(*(F.lit(part) for name, rules in study.rule_sets.items() for part in (name, _gap(rules))))
    judged_until = F.date_sub("observation_end", gaps[F.col("rule_set")])
    is_judged = F.col("line_start") < judged_until
    has_ended = F.col("line_end") <= judged_until
    of_line_end = F.when(F.col("end_reason") == "death", 2).otherwise(1)
    what_next = (
        F.when(F.col("next_state") == "next_line", 1)
        .when(F.col("next_state") == "died", 2)
        .when(F.col("next_state") == "second_cancer", 3)
        .otherwise(0)
    )

    def timed(outcome: str, since: str | Column, until: str | Column, cause: Column) -> Column:
        day = F.datediff(until, since).alias("day")
        return F.struct(F.lit(outcome).alias("outcome"), day, cause.cast("int").alias("cause"))

    duration_end = F.when(has_ended, F.col("line_end")).otherwise(judged_until)
    clock_start = F.greatest("line_start", "index_date")
    outcomes = F.array(
        F.when(
            is_judged, timed("line_duration", "line_start", duration_end, F.when(has_ended, of_line_end).otherwise(0))
        ).otherwise(timed("line_duration_left_out", "line_start", "line_start", F.lit(0))),
        timed("line_duration_naive", "line_start", "line_end", F.lit(1)),
        timed("next_treatment", "line_start", "next_state_date", what_next),
        timed("survival_from_line", clock_start, "survival_end", F.col("survival_end_reason") == "death"),
    )
    return (
        lines.where(F.col("line_number") <= study.survival.lines)
        .join(_informed(cohort), on="person_id", how="inner")
        .select(
            "rule_set",
            "line_number",
            F.explode(F.array(F.array_join("regimen", SEPARATOR), F.lit(ALL))).alias("regimen"),
            outcomes.alias("outcomes"),
        )
        .select(
            "rule_set",
            "line_number",
            "regimen",
            F.lit(ALL).alias("stratum"),
            F.lit(ALL).alias("level"),
            F.lit(0).alias("entry_day"),
            F.inline("outcomes"),
        )
    )


def _gap(rules: RuleSet) -> int:
    return max([rules.gap_days, *rules.gap_days_by_substance.values()])


def _informed(cohort: DataFrame) -> DataFrame:
    return cohort.where("has_treatment_information").select(
        "person_id", "index_date", "observation_end", "survival_end", "survival_end_reason"
    )


def _with_treatment(cohort: DataFrame, lines: DataFrame) -> DataFrame:
    """Adds arrays: `treated_under` (rule sets with a line), `started` (substances in lines of the primary rule set)."""
    of_primary = F.when(F.col("rule_set") == PRIMARY, F.col("regimen"))
    of_person = lines.groupBy("person_id").agg(
        F.collect_set("rule_set").alias("treated_under"),
        F.array_distinct(F.flatten(F.collect_list(of_primary))).alias("started"),
    )
    none = F.array().cast("array<string>")
    joined = cohort.join(of_person, on="person_id", how="left")
    return joined.withColumns({name: F.coalesce(name, none) for name in ("treated_under", "started")})


def _counted(rows: DataFrame, name: str) -> DataFrame:
    table = FRAMES[name]
    return rows.groupBy(*table.key).agg(F.count("*").alias("n")).select(*table.column_names)


def _pairs(levels: dict[str, Column], name: str, level: str) -> Column:
    return F.array(*(F.struct(F.lit(key).alias(name), column.alias(level)) for key, column in levels.items()))


def _group() -> Column:
    is_treated = F.array_contains("treated_under", PRIMARY)
    return (
        F.when(~F.col("has_treatment_information"), "no_information").when(is_treated, "treated").otherwise(UNTREATED)
    )


def _stratum(name: str, study: Study) -> Column:
    """The level of a stratum of the study file, as text; of a cross the levels, joined as its name."""
    if CROSS in name:
        # Between the levels stands what between the variables does, so it must not stand in one, as in a region's name.
        levels = (F.replace(_stratum(variable, study), F.lit(CROSS), F.lit("-")) for variable in name.split(CROSS))
        return F.concat_ws(CROSS, *levels)
    if name == "index_period":
        return _index_period(study)
    if name == "comorbidity_index":
        return _comorbidity()
    if name == "prior_treatment":
        return F.when(F.col("prior_treatment"), "yes").otherwise("no")
    if name == "age_group":
        return _age_group(study.age_groups)
    if name == "index_year":
        return F.year("index_date").cast("string")
    if name == "treated":
        return _group()
    return F.coalesce(F.col(name), F.lit(UNKNOWN))


def _age_group(groups: AgeGroups) -> Column:
    youngest, *others = groups.labels()
    label: Column = F.lit(youngest)
    for low, name in zip(groups.from_years, others, strict=True):
        label = F.when(F.col("age_at_index") >= low, name).otherwise(label)
    return label


def _index_period(study: Study) -> Column:
    label: Column = F.lit(None).cast("string")
    for period in study.index_period_labels():
        label = F.when(F.year("index_date") >= int(period.split("-")[0]), period).otherwise(label)
    return label


def _comorbidity() -> Column:
    index = F.col("comorbidity_index")
    return F.when(index.isNull(), UNKNOWN).when(index >= 3, "3+").otherwise(index.cast("string"))


def _without_reason_not_to_treat(at_most: int) -> Column:
    old, index = F.col("age_at_index") > at_most, F.col("comorbidity_index")
    return F.when(old | (index > 0), "no").when(index.isNull(), UNKNOWN).otherwise("yes")


def _time_since_prior() -> Column:
    months = F.col("months_since_prior")
    return (
        F.when(months.isNull(), "never treated")
        .when(months < 6, "under 6 months")
        .when(months < 12, "6 to 11 months")
        .when(months < 24, "12 to 23 months")
        .otherwise("24 months or more")
    )


def _disease_free_time() -> Column:
    years = F.col("disease_free_days") / DAYS_PER_YEAR
    return (
        F.when(F.col("index_kind") == "de_novo", "de novo")
        .when(years < 1, "under 1 year")
        .when(years < 2, "1 year")
        .when(years < 5, "2 to 4 years")
        .otherwise("5 years or more")
    )
