"""Who belongs to a study, from when, until when: the cohort and its attrition, from one annotated frame of tumours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

from pyspark.sql import Column, Window, WindowSpec
from pyspark.sql import functions as F

from jobs.codes import starts_with
from jobs.comorbidity import with_comorbidity_index
from jobs.config import load_comorbidity
from jobs.exposures import given_rows
from schemas import TABLES

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from jobs.config import Drugs, Study

MARKERS = ("er", "pr", "her2")
NOT_IN_LIFE = ("death_certificate", "autopsy")
NOT_INVASIVE = ("0", "1", "2")  # ICD-O behaviour: benign, uncertain, in situ
BIOMARKER_DAYS = 90
DAYS_PER_MONTH = 30.4375
ER_PR_POSITIVE = ("positive", "1+", "2+", "3+")

Span = tuple[date, date]


@dataclass(frozen=True)
class Step:
    """One step of the selection: who remains, and the condition for it on a tumour (NULL: does not remain)."""

    label: str
    remains: Column


def build_cohort(tables: Mapping[str, DataFrame], study: Study, drugs: Drugs, country: str | None = None) -> DataFrame:
    """The study's people: one row per person (schemas: cohort).

    `tables` are conformed tables by name; `person` and `tumour` must be there, the others need not. National drug
    codes are those of `country` (None: of all).
    """
    steps = _steps(study)
    selected = _selection(tables, study, steps).where(F.col("passed") == len(steps) - 1)
    with_tumour = people_of_kind(tables["tumour"], study)
    return (
        selected.transform(_describe, study)
        .transform(_with_second_cancer, tables, study)
        .transform(_with_prior_treatment, given_rows(tables, with_tumour, study.drugs.line_defining, drugs, country))
        .transform(_with_comorbidity, tables, study, with_tumour)
        .transform(_with_ends, study)
        .select(*TABLES["cohort"].column_names)
    )


def build_attrition(tables: Mapping[str, DataFrame], study: Study, drugs: Drugs) -> DataFrame:
    """One row per step of the selection (schemas: attrition): the people and tumours that remain after it.

    Step 0 is every registered tumour of the kind; the last step's people are the cohort. `drugs` selects nobody.
    """
    steps = _steps(study)
    numbers = range(len(steps))
    by_person = (
        _selection(tables, study, steps)
        .groupBy("person_id")
        .agg(*(F.sum((F.col("passed") >= number).cast("bigint")).alias(f"rows_{number}") for number in numbers))
    )
    totals = by_person.agg(
        *(F.coalesce(F.sum(f"rows_{number}"), F.lit(0)).alias(f"rows_{number}") for number in numbers),
        *(F.count_if(F.col(f"rows_{number}") > 0).alias(f"persons_{number}") for number in numbers),
    )
    rows = F.array(
        *(
            F.struct(
                F.lit(number).alias("step"),
                F.lit(step.label).alias("label"),
                F.col(f"persons_{number}").alias("persons"),
                F.col(f"rows_{number}").alias("rows"),
            )
            for number, step in enumerate(steps)
        )
    )
    return totals.select(F.inline(rows)).select(*TABLES["attrition"].column_names)


def people_of_kind(tumour: DataFrame, study: Study) -> DataFrame:
    """The people (person_id, once) with a tumour of the study's kind: rows of nobody else bear on cohort and
    attrition."""
    return _tumours_of_kind(tumour, study).select("person_id").distinct()


def comorbidity_fingerprint(study: Study) -> str | None:
    """What the study's comorbidity index is made of, as a hash; None where the study has none."""
    name = study.cohort.comorbidity
    return None if name is None else load_comorbidity(name).fingerprint()


def covered_spans(study: Study) -> dict[str | None, list[Span]]:
    """Days on which every source that the study lists covers a region, as disjoint spans, first and last day included.

    Key None stands for every region that the study does not name, and for a region that is unknown.
    """
    entries = study.cohort.treatment_information
    sources = sorted({entry.source for entry in entries})
    regions: list[str | None] = [*sorted({entry.region for entry in entries} - {"*"}), None]
    spans: dict[str | None, list[Span]] = {}
    for region in regions:
        of_sources = [
            _merged((e.from_, e.until) for e in entries if e.source == source and e.region in ("*", region))
            for source in sources
        ]
        spans[region] = reduce(_intersection, of_sources) if of_sources else []
    return spans


def _merged(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for first, last in sorted(span for span in spans if span[0] <= span[1]):
        if merged and first <= merged[-1][1] + timedelta(days=1):
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


def _intersection(left: list[Span], right: list[Span]) -> list[Span]:
    both = [(max(a[0], b[0]), min(a[1], b[1])) for a in left for b in right]
    return sorted(span for span in both if span[0] <= span[1])


def _steps(study: Study) -> list[Step]:
    """The selection in order, on the columns of `_annotate`; the first step is every registered tumour of the kind."""
    rules, period = study.cohort, study.period
    steps = [
        Step(f"registered tumours ({', '.join((*rules.tumour.icd10, *rules.tumour.morphology))})", F.lit(True)),
        Step("person known to the registers", F.col("known")),
        Step("invasive", F.col("invasive")),
        Step("diagnosed in life (not by death certificate or autopsy only)", F.col("in_life")),
    ]
    if rules.index == "metastasis":
        steps.append(Step("distant spread", F.col("index_date").isNotNull()))
        event = "first distant spread"
        chosen = "one tumour per person: the one that spread, else the latest before index"
    else:
        event = "first diagnosis"
        chosen = "one tumour per person: the first"
    steps += [
        Step(f"{event} on or after {period.index_from}", F.col("index_date") >= F.lit(period.index_from)),
        Step(f"{event} on or before {period.index_until}", F.col("index_date") <= F.lit(period.index_until)),
        Step(chosen, F.col("is_index_tumour")),
    ]
    if rules.tumour.stage:
        stages = rules.tumour.stage
        steps.append(Step(f"stage at diagnosis {' or '.join(stages)}", F.col("stage").isin(*stages)))
    for marker in MARKERS:
        required = getattr(rules.tumour, marker)
        if required is not None:
            steps.append(Step(f"{marker.upper()} {required}", F.col(f"status_{marker}") == required))
    return [
        *steps,
        Step(f"at least {rules.age_min} years at index", F.col("age_at_index") >= rules.age_min),
        Step("alive at index", F.col("death_date").isNull() | (F.col("death_date") >= F.col("index_date"))),
        Step(
            "resident at index", F.col("emigration_date").isNull() | (F.col("emigration_date") >= F.col("index_date"))
        ),
    ]


def _selection(tables: Mapping[str, DataFrame], study: Study, steps: list[Step]) -> DataFrame:
    """Every tumour of the kind with what decides about it, and `passed`: the number of the last step it remains in."""
    failed = (F.when(~F.coalesce(step.remains, F.lit(False)), number) for number, step in enumerate(steps))
    passed = F.coalesce(*failed, F.lit(len(steps))) - 1
    return _annotate(tables, study).withColumn("passed", passed)


def _annotate(tables: Mapping[str, DataFrame], study: Study) -> DataFrame:
    """One row per tumour of the kind. Added to its columns: known, invasive, in_life, the person's columns,
    index_date (of the person), first_diagnosis, is_index_tumour, status_<marker>, receptor_disagrees, age_at_index.

    Events of other tables come as one array per person, so that no frame is joined to itself.
    """
    person = tables["person"].select(
        "person_id", "sex", "birth_date", "death_date", "emigration_date", "region", F.lit(True).alias("known")
    )
    eligible = F.col("known").isNotNull() & F.col("invasive") & F.col("in_life")
    tumours = _tumours_of_kind(tables["tumour"], study).join(person, on="person_id", how="left")
    of_person = tumours.withColumn("eligible", eligible).withColumn(
        "first_diagnosis", F.min(F.when(F.col("eligible"), F.col("diagnosis_date"))).over(_person())
    )
    indexed = (
        of_person.transform(_with_first_spread, tables, study)
        if study.cohort.index == "metastasis"
        else (
            of_person.withColumns(
                {"index_date": F.col("first_diagnosis"), "spread_tumour_id": F.lit(None).cast("string")}
            )
        )
    )
    return (
        indexed.withColumn("is_index_tumour", _is_index_tumour())
        .transform(_with_status, tables, study)
        .withColumn("receptor_disagrees", _receptor_disagrees())
        .withColumn("age_at_index", _completed_years("birth_date", "index_date"))
    )


def _person() -> WindowSpec:
    return Window.partitionBy("person_id").rowsBetween(Window.unboundedPreceding, Window.unboundedFollowing)


def _is_index_tumour() -> Column:
    """The eligible tumour that the spread names, else the latest up to index, else the first after it."""
    since_diagnosis = F.datediff("index_date", "diagnosis_date")
    closest = Window.partitionBy("person_id").orderBy(
        F.col("eligible").desc(),
        F.coalesce(F.col("tumour_id") == F.col("spread_tumour_id"), F.lit(False)).desc(),
        (since_diagnosis >= 0).desc(),
        F.abs(since_diagnosis),
        # Of two on one day the more advanced; then by what does not depend on the pseudonyms' key.
        F.coalesce(F.array_position(F.lit(["localised", "regional", "distant"]), F.col("stage")), F.lit(0)).desc(),
        F.col("source_file"),
        F.col("source_row"),
    )
    rank = F.row_number().over(closest.rowsBetween(Window.unboundedPreceding, Window.currentRow))
    return F.col("eligible") & F.col("index_date").isNotNull() & (rank == 1)


def _receptor_disagrees() -> Column:
    """Whether one eligible tumour of the person up to index is positive and another negative for the same marker."""
    counts = F.col("eligible") & (F.col("is_index_tumour") | (F.col("diagnosis_date") <= F.col("index_date")))

    def some(marker: str, status: str) -> Column:
        return F.coalesce(F.max(counts & (F.col(f"status_{marker}") == status)).over(_person()), F.lit(False))

    return reduce(or_, (some(marker, "positive") & some(marker, "negative") for marker in MARKERS))


def _tumours_of_kind(tumour: DataFrame, study: Study) -> DataFrame:
    rules = study.cohort.tumour
    of_kind = starts_with("icd10", rules.icd10)
    if rules.morphology:
        of_kind &= starts_with("morphology", rules.morphology)
    return tumour.where(of_kind).select(
        "person_id",
        "tumour_id",
        "diagnosis_date",
        "stage",
        "source_file",
        "source_row",
        *MARKERS,
        _invasive().alias("invasive"),
        _in_life().alias("in_life"),
    )


def _invasive() -> Column:
    """By the behaviour digit of the morphology; without one, by a chapter C code."""
    behaviour = F.regexp_extract(F.coalesce("morphology", F.lit("")), r"/(\d)", 1)
    return F.when(behaviour == "", F.col("icd10").startswith("C")).otherwise(~behaviour.isin(*NOT_INVASIVE))


def _in_life() -> Column:
    return ~F.coalesce(F.col("basis").isin(*NOT_IN_LIFE), F.lit(False))


def _with_first_spread(tumours: DataFrame, tables: Mapping[str, DataFrame], study: Study) -> DataFrame:
    """Adds the first distant spread ever of the person: index_date, spread_tumour_id (NULL: not named).

    Over all tumours of the kind, whatever their receptors: stage distant at diagnosis, distant recurrences that name
    one of these tumours or none, and, where the study says so, hospital codes.
    """
    at_diagnosis = F.when(
        F.col("eligible") & (F.col("stage") == "distant"), _spread(F.col("diagnosis_date"), F.col("tumour_id"))
    )
    first = [F.min(at_diagnosis).over(_person())]
    if "recurrence" in tables:
        distant = tables["recurrence"].where(F.col("kind") == "distant")
        tumours = _join_events(tumours, distant, "recurrences", F.struct("event_date", "tumour_id"))
        of_kind = F.collect_set(F.when(F.col("in_life"), F.col("tumour_id"))).over(_person())
        counted = F.filter(
            "recurrences", lambda event: event["tumour_id"].isNull() | F.array_contains(of_kind, event["tumour_id"])
        )
        first.append(F.array_min(F.transform(counted, lambda event: _spread(event["event_date"], event["tumour_id"]))))
    hospital = study.cohort.spread_from_hospital
    if hospital is not None and "hospital_diagnosis" in tables:
        coded = tables["hospital_diagnosis"].where(starts_with("icd10", hospital.icd10))
        tumours = _join_events(tumours, coded, "contacts", F.struct("contact_id", "start_date"))
        since_diagnosis = F.filter("contacts", lambda contact: contact["start_date"] >= F.col("first_diagnosis"))
        dates = F.array_sort(F.transform(since_diagnosis, lambda contact: contact["start_date"]))
        completing = F.get(dates, F.lit(hospital.contacts - 1))
        first.append(F.when(completing.isNotNull(), _spread(completing, None)))
    spread = first[0] if len(first) == 1 else F.least(*first)
    return tumours.withColumn("spread", spread).withColumns(
        {"index_date": F.col("spread.day"), "spread_tumour_id": F.col("spread.tumour_id")}
    )


def _spread(day: Column, tumour_id: Column | None) -> Column:
    """A spread that sorts by day, and on one day those that name a tumour first."""
    named = F.lit(None).cast("string") if tumour_id is None else tumour_id
    return F.struct(day.alias("day"), named.isNull().alias("unnamed"), named.alias("tumour_id"))


def _join_events(tumours: DataFrame, events: DataFrame, name: str, event: Column) -> DataFrame:
    """Adds the distinct events of the person as an array, NULL where there are none."""
    of_person = events.groupBy("person_id").agg(F.collect_set(event).alias(name))
    return tumours.join(of_person, on="person_id", how="left")


def _with_status(tumours: DataFrame, tables: Mapping[str, DataFrame], study: Study) -> DataFrame:
    """Adds status_<marker> to every tumour: of its biomarkers, else of its own column.

    The latest metastatic sample up to index + 90 days decides, else the latest primary one; samples that name no
    tumour count for each of the person's.
    """
    if "biomarker" not in tables:
        return tumours.withColumns({f"status_{marker}": F.col(marker) for marker in MARKERS})
    sample = F.struct(
        (F.col("site") == "metastasis").alias("metastatic"),
        "sample_date",
        _reading(study).alias("reading"),
        "marker",
        "tumour_id",
    )
    read = tables["biomarker"].where(_reading(study).isNotNull())

    def status(marker: str) -> Column:
        def counts(sample: Column) -> Column:
            of_tumour = sample["tumour_id"].isNull() | (sample["tumour_id"] == F.col("tumour_id"))
            in_time = sample["sample_date"] <= F.date_add("index_date", BIOMARKER_DAYS)
            return (sample["marker"] == marker) & of_tumour & in_time

        return F.coalesce(_status(F.array_max(F.filter("samples", counts))["reading"]), F.col(marker))

    joined = _join_events(tumours, read, "samples", sample)
    return joined.withColumns({f"status_{marker}": status(marker) for marker in MARKERS}).drop("samples")


def _reading(study: Study) -> Column:
    """A result as a rank; the highest of a day's results decides: 4 positive, 3 negative for sure, 2 equivocal,
    1 negative unless another result says otherwise. NULL: no reading.

    HER2: ISH amplified or IHC 3+ is positive; IHC 2+ is equivocal unless ISH tells. Oestrogen and progesterone: the
    study's percentage, or any stain.
    """
    result, method = F.col("result"), F.col("method")
    ihc = (
        F.when(result.isin("3+", "positive"), 4)
        .when(result.isin("2+", "equivocal"), 2)
        .when(result.isin("0", "1+", "negative"), 1)
    )
    ish = (
        F.when(result.isin("amplified", "positive"), 4)
        .when(result.isin("not_amplified", "negative"), 3)
        .when(result == "equivocal", 2)
    )
    stain = F.when(result.isin(*ER_PR_POSITIVE), 4).when(result.isin("0", "negative"), 3).when(result == "equivocal", 2)
    percent = result.try_cast("double")
    share = F.when(percent >= study.cohort.hormone_positive_percent, 4).when(percent.isNotNull(), 3)
    her2 = F.when(method == "ish", ish).when(method == "ihc", ihc)
    return F.when(F.col("marker") == "her2", her2).when(method == "percent", share).when(method == "ihc", stain)


def _status(reading: Column) -> Column:
    return F.when(reading == 4, "positive").when(reading.isin(1, 3), "negative").when(reading == 2, "equivocal")


def _completed_years(born: str, day: str) -> Column:
    def number(column: str) -> Column:
        return F.year(column) * 10_000 + F.month(column) * 100 + F.dayofmonth(column)

    return F.floor((number(day) - number(born)) / 10_000).cast("int")


def _describe(selected: DataFrame, study: Study) -> DataFrame:
    """Adds index_kind, receptor, disease_free_days, covered_until, has_treatment_information to the index tumours."""
    to_index = F.datediff("index_date", "diagnosis_date")
    soon = to_index <= study.cohort.de_novo_days
    is_first = F.col("diagnosis_date") == F.col("first_diagnosis")
    de_novo = F.when(soon & is_first, "de_novo").otherwise("relapse")
    hormones = [F.coalesce(F.col(f"status_{marker}"), F.lit("unknown")) for marker in ("er", "pr")]
    positive = (hormones[0] == "positive") | (hormones[1] == "positive")
    negative = (hormones[0] == "negative") & (hormones[1] == "negative")
    receptor = F.when(positive, "hormone_positive").when(negative, "hormone_negative").otherwise("unknown")
    return selected.withColumns(
        {
            "index_kind": de_novo if study.cohort.index == "metastasis" else F.lit("diagnosis"),
            "receptor": receptor,
            # A date known to the month can put the spread a few days before the diagnosis.
            "disease_free_days": F.greatest(to_index, F.lit(0)),
            "covered_until": _covered_until(study),
            "has_treatment_information": _has_information(study),
        }
    )


def _covered_until(study: Study) -> Column:
    """The last day of the span that covers [index - lead, index] in the person's region; NULL: not covered."""
    lead = study.rule_sets["primary"].index_lead_days
    first, last = F.date_sub("index_date", lead), F.col("index_date")

    def end_of(spans: list[Span]) -> Column:
        cases = (F.when((first >= F.lit(start)) & (last <= F.lit(end)), F.lit(end)) for start, end in spans)
        return F.coalesce(*cases, F.lit(None).cast("date"))

    spans = covered_spans(study)
    until = end_of(spans[None])
    for region, of_region in spans.items():
        if region is not None:
            until = F.when(F.col("region") == region, end_of(of_region)).otherwise(until)
    return until


def _has_information(study: Study) -> Column:
    return _covered_until(study).isNotNull() if study.cohort.treatment_information else F.lit(True)


def _with_second_cancer(cohort: DataFrame, tables: Mapping[str, DataFrame], study: Study) -> DataFrame:
    """Adds second_cancer_date: the first other invasive cancer after index, diagnosed in life."""
    rules = study.cohort.second_cancer
    if rules is None:
        return cohort.withColumn("second_cancer_date", F.lit(None).cast("date"))
    other = tables["tumour"].where(_invasive() & _in_life() & ~starts_with("icd10", rules.icd10_except))
    joined = _join_events(cohort, other, "other_cancers", F.col("diagnosis_date"))
    after = F.filter("other_cancers", lambda day: day > F.col("index_date"))
    return joined.withColumn("second_cancer_date", F.array_min(after))


def _with_prior_treatment(cohort: DataFrame, given: DataFrame) -> DataFrame:
    """Adds prior_treatment and months_since_prior, from the last day before index on which a row of `given` was."""
    joined = _join_events(cohort, given, "given", F.struct("start_date", "end_date"))
    before = F.filter("given", lambda row: row["start_date"] < F.col("index_date"))
    days = F.transform(
        before, lambda row: F.least(F.coalesce(row["end_date"], row["start_date"]), F.date_sub("index_date", 1))
    )
    last = F.array_max(days)
    return joined.withColumns(
        {
            "prior_treatment": last.isNotNull(),
            "months_since_prior": F.datediff("index_date", last) / DAYS_PER_MONTH,
        }
    )


def _with_comorbidity(cohort: DataFrame, tables: Mapping[str, DataFrame], study: Study, people: DataFrame) -> DataFrame:
    """Adds comorbidity_index, NULL where its look-back was not observed."""
    rules = study.cohort
    if rules.comorbidity is None or rules.hospital_observed_from is None or "hospital_diagnosis" not in tables:
        return cohort.withColumn("comorbidity_index", F.lit(None).cast("int"))
    diagnoses = tables["hospital_diagnosis"].join(people, on="person_id", how="left_semi")
    scored = cohort.transform(
        with_comorbidity_index,
        diagnoses,
        load_comorbidity(rules.comorbidity),
        rules.tumour.icd10,
        rules.comorbidity_lookback_days,
    )
    observed = F.date_sub("index_date", rules.comorbidity_lookback_days) >= F.lit(rules.hospital_observed_from)
    return scored.withColumn("comorbidity_index", F.when(observed, F.col("comorbidity_index")))


def _with_ends(cohort: DataFrame, study: Study) -> DataFrame:
    """Adds the ends of follow-up for lines and for survival, with their reasons."""
    until = F.lit(study.period.follow_up_until)
    ends = {
        "death": F.col("death_date"),
        "emigration": F.col("emigration_date"),
        "second_cancer": F.col("second_cancer_date"),
        # The last covered day. Cover that lasts to the study's end is not lost during the study.
        "information_end": F.when(F.col("covered_until") < until, F.col("covered_until")),
        "study_end": until,
    }
    of_lines = _earliest(ends)
    of_observation = _earliest({reason: day for reason, day in ends.items() if reason != "death"})
    of_survival = _earliest({reason: ends[reason] for reason in ("death", "emigration", "study_end")})
    return cohort.withColumns(
        {
            "follow_up_end": of_lines["day"],
            "follow_up_end_reason": of_lines["reason"],
            "observation_end": of_observation["day"],
            "survival_end": of_survival["day"],
            "survival_end_reason": of_survival["reason"],
        }
    )


def _earliest(ends: Mapping[str, Column]) -> Column:
    """struct(day, order, reason) of the earliest day that is known; on one day the first listed."""
    candidates = [
        F.when(day.isNotNull(), F.struct(day.alias("day"), F.lit(order).alias("order"), F.lit(reason).alias("reason")))
        for order, (reason, day) in enumerate(ends.items())
    ]
    return F.least(*candidates)
