"""The stages in the order of the data, and the one way in which each of them runs, commits and is found done."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from expectations.suite import ROWS
from jobs import aggregate, cohort, exposures, ingest
from jobs.changes import Span, UntoldError, changes, concern, span_since
from jobs.codes import DRUG_TABLES
from jobs.config import Drugs, Site, Study, load_drugs
from jobs.contents import with_contents
from jobs.deliveries import SETTLED, SUPERSEDED, day_of, settle
from jobs.delivery_rules import Judgement, held_back, judge_delivery, mostly_held_back, raise_if_refused
from jobs.erasure import MARKER, SUPPRESSIONS, Erasure, erase, is_unfinished, read_suppressions, recover
from jobs.errors import ConfigurationError, InputError
from jobs.extracts import Extract, find_extracts, identifier_kind, reading
from jobs.gate import (
    RuleOutcome,
    check_added,
    check_table,
    judge,
    looks_at_rows_alone,
    looks_into,
    raise_if_critical,
)
from jobs.identity import key_check, pseudonym_of, read_key
from jobs.lines import build as lines
from jobs.local_frame import local_frame
from jobs.manifest import Manifest, StageRecord, code_version, fingerprint
from jobs.persons import build_persons, rebuild_persons
from jobs.report.page import render_report
from jobs.report.printed import counted
from jobs.report.quality import render_quality
from jobs.results import MANIFEST, STAMP, STAMP_TEXT, ensure_writable, read_manifest, still_there, write_files
from jobs.sources.adapter import Adapter, load_adapter
from jobs.store import CONFORMED_SCHEMA, Commit, Lock, Store, last_finished
from jobs.survival.tables import csv_bytes, result_tables
from schemas import CONFORMED, FRAMES, SITE, TABLES

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

Tables = dict[str, "DataFrame"]
Counts = dict[str, "pd.DataFrame"]
NAMES = 3  # of contacts, by the way they are made: those of two ways cannot be told to be the same
CLAIMS_A_PARTITION = 200_000
CLAIMS_LOOKED_UP = 1_000_000  # so many go to every machine, to find the people of whom they speak
KEPT = "retention_days"  # in the note of each table of an ingest
SEEN = "seen"  # in the note of a marker: identities of later inputs that make the same of its stage
OVERWRITTEN = ("person", "life_table")  # of all deliveries together, or the same for all
INGEST_ANEW = (
    "ingest all deliveries into a new warehouse, with the same key and a copy of the folder conformed/suppressions "
    "where there is one, or erased people come back"
)
Before = tuple[str, Counts] | None  # a delivery's date, and its ledger and profile


@dataclass
class Run:
    """What the stages of one run share."""

    study: Study | None
    site: Site
    delivery: str
    session: Callable[[], SparkSession]
    report_line: Callable[[str], None]
    versions: dict[str, int] = field(default_factory=dict)  # table -> version that this run reads
    identities: dict[str, str] = field(default_factory=dict)  # table -> identity of the commit of that version
    rows: dict[str, int] = field(default_factory=dict)
    warnings: dict[str, list[str]] = field(default_factory=dict)  # stage -> warnings
    outcomes: dict[str, dict[str, list[RuleOutcome]]] = field(default_factory=dict)  # stage -> table -> rules
    repeats_nothing: set[str] = field(default_factory=set)  # tables of whose new rows none is another delivery's
    base: Commit | None = None  # of the marker of the tables that the run adds to
    latest: str = ""  # the last of the deliveries in the tables

    @cached_property
    def adapter(self) -> Adapter:
        return load_adapter(self.site.country)

    @cached_property
    def drugs(self) -> Drugs:
        return load_drugs()

    @cached_property
    def extracts(self) -> dict[str, Extract]:
        return find_extracts(self.session, self.site.of_delivery(self.delivery), self.adapter)

    @property
    def identifiers(self) -> str:
        """Whether the delivery has the identifiers of people as numbers or as text; empty where it makes none."""
        return "" if self.adapter.numbers_people else identifier_kind(self.extracts)

    @cached_property
    def contents(self) -> dict[str, Extract]:
        """The extracts with what a look into their files tells."""
        cache = None if "://" in self.site.warehouse else Path(self.site.warehouse) / "_raw_fingerprints.json"
        return with_contents(self.spark, self.extracts, cache)

    @cached_property
    def spark(self) -> SparkSession:
        return self.session()

    @cached_property
    def store(self) -> Store:
        return Store(self.spark, self.site.warehouse, self.site.retention_days)

    @cached_property
    def out(self) -> Path:
        return Path(self.site.out)

    @property
    def the_study(self) -> Study:
        if self.study is None:
            raise ConfigurationError("this stage needs a study; name it with --study")
        return self.study

    @property
    def tables_before(self) -> Mapping[str, int]:
        """Table -> version of the tables that the run adds to."""
        return {} if self.base is None else self.base.note["tables"]

    @property
    def deliveries_before(self) -> Mapping[str, str]:
        """Delivery -> fingerprint of its ingest, of those in the tables that the run adds to."""
        return {} if self.base is None else self.base.note["deliveries"]

    @property
    def adds_new_delivery(self) -> bool:
        """Whether the run adds to tables that hold nothing of its delivery yet."""
        return self.base is not None and self.delivery not in self.deliveries_before

    @property
    def is_program_of_base(self) -> bool:
        """Whether this very program made the tables that the run adds to."""
        return self.base is not None and self.base.note["code"] == code_version()

    def schema(self, table: str) -> str:
        """The schema (folder of the warehouse) that owns a table."""
        of_site = table in (*CONFORMED, *SITE) and table != "runs"
        of_site = of_site or table.startswith(("quarantine_", SUPERSEDED))
        return CONFORMED_SCHEMA if of_site or self.study is None else self.study.name

    def day_of(self, table: str) -> str | None:
        """The column with the day by which to look for what a delivery repeats, where there is one."""
        return day_of(table, self.adapter.contacts_keep_day)

    def read(self, table: str) -> DataFrame:
        return self.store.read(self.schema(table), table, self.versions[table])

    def use(self, table: str, commit: Commit) -> None:
        """Let the rest of the run read this version."""
        self.versions[table], self.rows[table] = commit.version, commit.rows
        self.identities[table] = commit.identity

    def use_of_base(self, table: str) -> Commit:
        """Let the rest of the run read a table that it adds nothing to as it stood."""
        if self.base is None:
            raise ValueError(f"nothing stood before {table}")
        commit = _of_marker(self, self.base, table)
        self.use(table, commit)
        return commit

    def conformed(self) -> Tables:
        return {name: self.read(name) for name in CONFORMED if name in self.versions}


@dataclass(frozen=True)
class Stage:
    """A stage: what of the configuration it depends on, and a context manager that gives its tables.

    `marker` is the table written last, when all others passed their gates; its commit names their versions.
    """

    name: str
    marker: str
    depends_on: Callable[[Run], Any]
    tables: Callable[[Run], AbstractContextManager[Tables]]
    reads: Callable[[Run], list[str]]
    stamp: Callable[[Run], dict[str, Any]] = lambda run: {}  # what every commit of the stage also says
    then: Mapping[str, Mapping[str, Callable[[Run], DataFrame]]] = field(default_factory=dict)
    # table -> the tables that are made of it once it is written
    adds: Callable[[Run], bool] = lambda run: False  # whether its tables add to the deliveries that are there
    people: Callable[[Run, Collection[Span]], DataFrame] | None = None
    # whose rows alone bear on its tables, before and after what happened in the spans


def _inputs_of_ingest(run: Run) -> Any:
    site = run.site.model_dump(mode="json", include={"country", "adapter"})
    no_paths: Any = {"path": True, "key_file": {"path"}}
    declared = {name: raw.model_dump(exclude=no_paths) for name, raw in sorted(run.site.inputs.items())}
    key = key_check(read_key(run.site))
    return {
        "site": site,
        "inputs": declared,
        "delivery": run.delivery,
        "key": key,
        "files": {name: extract.fingerprint for name, extract in run.contents.items()},
    }


@contextmanager
def _ingest(run: Run) -> Iterator[Tables]:
    key = read_key(run.site)
    suppressions = read_suppressions(run.store)
    with ThreadPoolExecutor(1) as meanwhile:
        looked_up = meanwhile.submit(_delivery_before, run)
        made = ingest.ingested_tables(run.spark, run.site, run.adapter, run.contents, run.delivery, key, suppressions)
        with reading(run.contents), made as done, _tables_to_write(run, done, looked_up.result()) as tables:
            yield tables


@contextmanager
def _tables_to_write(run: Run, done: ingest.IngestedTables, before: Before) -> Iterator[Tables]:
    """The tables to write of a delivery that no rule on it as a whole refuses, and then the page that shows it."""
    quarantined = {f"quarantine_{name}": frame for name, frame in sorted(done.quarantined.items())}
    claims = {} if done.claims is None else {"person_claims": done.claims}
    stays = _has_later_life_table(run)
    conformed = {name: frame for name, frame in done.conformed.items() if name != "life_table" or not stays}
    counts = {"unknown_codes": done.unknown_codes, "profile": done.profile, "ledger": done.ledger}
    now = {name: counts[name].toPandas() for name in ("ledger", "profile")}
    judged = _judge(run, now, quarantined, before)
    run.outcomes["ingest"] = {name: [one.outcome for one in ones] for name, ones in judged.items()}
    refused = any(not one.outcome.passed for ones in judged.values() for one in ones)
    held = {f"quarantine_{name}": name for name in held_back(now["ledger"])}
    stay = run.tables_before if run.adds_new_delivery else {}
    try:
        raise_if_refused(judged, _quality_file(run))
        changed = {table: frame for table, frame in quarantined.items() if table in held or table not in stay}
        yield {**claims, **conformed, **changed, **counts}
    finally:
        if refused or len(run.outcomes["ingest"]) > len(judged):

            def as_written(name: str, frame: DataFrame) -> DataFrame:
                return run.read(name).where(F.col("delivery") == run.delivery) if name in run.versions else frame

            with ThreadPoolExecutor(1) as meanwhile:
                unknown = meanwhile.submit(as_written("unknown_codes", done.unknown_codes).toPandas)
                reasons = _reasons({name: as_written(table, quarantined[table]) for table, name in held.items()})
            page = {**now, "unknown_codes": unknown.result(), "quarantine_reasons": reasons}
            _quality_page(run, page, before)


def _has_later_life_table(run: Run) -> bool:
    """Whether a later delivery than the run's brought the life table that stands."""
    if run.base is None or run.latest <= run.delivery or "life_table" not in run.tables_before:
        return False
    stands = run.store.read(CONFORMED_SCHEMA, "life_table", _of_marker(run, run.base, "life_table").version)
    brought = stands.agg(F.max("delivery")).collect()[0][0]
    return brought is not None and str(brought) > run.delivery


def _judge(run: Run, now: Counts, quarantined: Tables, before: Before) -> dict[str, list[Judgement]]:
    """What the rules on a delivery as a whole say; reasons are counted only where they could be those of most rows."""
    reasons = _reasons({name: quarantined[f"quarantine_{name}"] for name in mostly_held_back(now["ledger"])})
    absent = {name: raw.absent for name, raw in run.site.inputs.items()}
    return judge_delivery({**now, "quarantine_reasons": reasons}, before[1] if before else None, absent)


def _reasons(quarantined: Tables) -> pd.DataFrame:
    """Rows held back by raw table and reason; `quarantined` by raw table."""
    import pandas as pd

    parts = [
        frame.select(F.lit(name).alias("raw_table"), F.explode("reasons").alias("reason"))
        for name, frame in quarantined.items()
    ]
    if not parts:
        return pd.DataFrame(columns=["raw_table", "reason", "n"])
    together = reduce(lambda a, b: a.unionByName(b), parts)
    counted: pd.DataFrame = together.groupBy("raw_table", "reason").agg(F.count("*").alias("n")).toPandas()
    return counted


def _quality_page(run: Run, now: Counts, before: Before) -> None:
    """Write what the delivery looks like, also where a rule refuses it."""
    now = {name: table.sort_values(list(table.columns), ignore_index=True) for name, table in now.items()}
    rules = [
        {"table": table, **asdict(outcome)} for table, judged in run.outcomes["ingest"].items() for outcome in judged
    ]
    unknown = {name: extract.unknown_columns for name, extract in run.extracts.items()}
    additions = run.site.deliveries == "additions"
    html = render_quality(run.site.name, run.delivery, run.site.synthetic, now, rules, before, unknown, additions)
    write_files(run.out, {_quality_file(run): html.encode()})


def _quality_file(run: Run) -> str:
    return f"quality/{run.delivery}.html"


def _delivery_before(run: Run) -> Before:
    """The date of the delivery before the run's, and its ledger and profile; None where they are no longer kept."""
    for commit in run.store.commits(CONFORMED_SCHEMA, "ledger"):
        earlier = [day for day in commit.note.get("deliveries", {}) if day < run.delivery]
        if not earlier or "profile" not in commit.note["tables"]:
            continue
        versions = {"ledger": commit.version, "profile": _of_marker(run, commit, "profile").version}
        if not all(_is_kept(run, *one) for one in versions.items()):
            return None
        is_before = F.col("delivery") == max(earlier)
        return max(earlier), {
            name: run.store.read(CONFORMED_SCHEMA, name, version).where(is_before).toPandas()
            for name, version in versions.items()
        }
    return None


def _is_kept(run: Run, table: str, version: int) -> bool:
    """Whether the files of a version are there, as those of the newest one are."""
    newest = run.store.newest(CONFORMED_SCHEMA, table)
    is_newest = newest is not None and newest.version == version
    return is_newest or run.store.is_whole(CONFORMED_SCHEMA, table, version)


def _partitions(run: Run, rows: int, rows_per_partition: int) -> int:
    """How many partitions of about that size the engine of this run should make."""
    at_a_time = int(run.spark.conf.get("spark.default.parallelism", "1") or 1)
    return lines.partitions_for(rows, rows_per_partition, at_a_time)


def _persons(run: Run) -> DataFrame:
    """The people of all deliveries, from what was written of what each says; where a new delivery speaks of few, the
    others as they stood."""
    claims, rows = run.read("person_claims"), run.rows["person_claims"]
    people, before = _stood(run, "person"), _stood(run, "person_claims")
    if run.adds_new_delivery and run.is_program_of_base and people is not None and before is not None:
        added = rows - before.rows
        if added <= min(CLAIMS_LOOKED_UP, people.rows):
            # Each of those people may be spoken of in every delivery.
            partitions = _partitions(run, added * (1 + len(run.deliveries_before)), CLAIMS_A_PARTITION)
            stood = run.store.read(CONFORMED_SCHEMA, "person", people.version)
            return rebuild_persons(stood, claims, claims.where(F.col("delivery") == run.delivery), partitions)
    return build_persons(claims, _partitions(run, rows, CLAIMS_A_PARTITION))


@contextmanager
def _cohort(run: Run) -> Iterator[Tables]:
    _ensure_sources(run)
    tables, study = run.conformed(), run.the_study
    yield {
        "attrition": cohort.build_attrition(tables, study, run.drugs),
        "cohort": cohort.build_cohort(tables, study, run.drugs, run.site.country),
    }


def _ensure_sources(run: Run) -> None:
    """InputError where a source that tells who was treated has no rows."""
    for source in sorted({entry.source for entry in run.the_study.cohort.treatment_information}):
        if not run.rows.get(source):
            raise InputError(
                f"cohort.treatment_information counts on {source}, which the delivery does not have; everyone would "
                "look untreated"
            )


def _people_of_cohort(run: Run, spans: Collection[Span]) -> DataFrame:
    """The people with a tumour of the study's kind, now or in the spans."""
    _ensure_sources(run)
    tumours = [run.read("tumour"), *(changes(run.store, span) for span in spans if span.table == "tumour")]
    return reduce(lambda a, b: a.union(b), [cohort.people_of_kind(rows, run.the_study) for rows in tumours])


@contextmanager
def _exposures(run: Run) -> Iterator[Tables]:
    tables, people = run.conformed(), run.read("cohort")
    study, country = run.the_study, run.site.country
    yield {
        "unresolved_codes": exposures.build_unresolved_codes(tables, people, study, run.drugs, country),
        "exposures": exposures.build_exposures(
            tables, people, study, run.drugs, country, run.site.interval_coverage_days
        ),
    }


@contextmanager
def _lines(run: Run) -> Iterator[Tables]:
    rows = run.rows.get("exposures", 0) + run.rows.get("cohort", 0)
    partitions = _partitions(run, rows, run.site.line_partition_rows)
    records = lines.build_line_records(run.read("cohort"), run.read("exposures"), run.the_study, partitions).persist()
    try:
        yield {"line_counts": lines.select_line_counts(records), "treatment_lines": lines.select_lines(records)}
    finally:
        records.unpersist()


@contextmanager
def _aggregate(run: Run) -> Iterator[Tables]:
    people, treatment_lines = run.read("cohort").persist(), run.read("treatment_lines").persist()
    life_table = run.read("life_table") if "life_table" in _life_table(run) else None
    try:
        yield aggregate.build_frames(run.read("attrition"), people, treatment_lines, run.the_study, life_table)
    finally:
        people.unpersist()
        treatment_lines.unpersist()


def _life_table(run: Run) -> list[str]:
    """The life table where the study asks for net survival; InputError where the site has none."""
    if run.the_study.survival.net_strata is None:
        return []
    if "life_table" not in run.versions:
        raise InputError(
            "survival.net_strata: net survival needs a life table; name inputs.life_table in the site file"
        )
    return ["life_table"]


def _study_parts(*keys: str) -> Callable[[Run], Any]:
    def parts(run: Run) -> Any:
        return {"study": run.the_study.model_dump(mode="json", by_alias=True, include=set(keys))}

    return parts


def _cohort_parts(run: Run) -> Any:
    study = run.the_study
    comorbidity = cohort.comorbidity_fingerprint(study)
    lead = study.rule_sets["primary"].index_lead_days
    return [
        _study_parts("period", "cohort", "drugs")(run),
        lead,
        run.drugs.fingerprint(),
        comorbidity,
        run.site.country,
    ]


def _exposures_parts(run: Run) -> Any:
    return [
        _study_parts("drugs", "exposure")(run),
        run.drugs.fingerprint(),
        run.site.country,
        run.site.interval_coverage_days,
    ]


def _inputs_of_cohort(run: Run) -> list[str]:
    return [name for name in CONFORMED if name in run.versions and name != "life_table"]


def _inputs_of_exposures(run: Run) -> list[str]:
    return [*(name for name in DRUG_TABLES if name in run.versions), "cohort"]


TABLE_STAGES = (
    Stage(
        "ingest",
        "ledger",
        _inputs_of_ingest,
        _ingest,
        lambda run: [],
        lambda run: {
            "key": key_check(read_key(run.site)),
            "names": NAMES,
            "identifiers": run.identifiers or _noted_identifiers(run, MARKER),
            KEPT: run.site.retention_days,
        },
        {"person_claims": {"person": _persons}},
        lambda run: run.site.deliveries == "additions",
    ),
    Stage("cohort", "attrition", _cohort_parts, _cohort, _inputs_of_cohort, people=_people_of_cohort),
    Stage(
        "exposures",
        "unresolved_codes",
        _exposures_parts,
        _exposures,
        _inputs_of_exposures,
        people=lambda run, spans: run.read("cohort"),
    ),
    Stage(
        "lines",
        "line_counts",
        _study_parts("drugs", "rule_sets"),
        _lines,
        lambda run: ["cohort", "exposures"],
    ),
    Stage(
        "aggregate",
        "frame_time",
        _study_parts("period", "drugs", "rule_sets", "strata", "age_groups", "index_periods", "survival"),
        _aggregate,
        lambda run: ["attrition", "cohort", "treatment_lines", *_life_table(run)],
    ),
)
FILE_STAGES = ("survival", "report")
STAGES = (*[stage.name for stage in TABLE_STAGES], *FILE_STAGES)


def _made_of(stage: Stage, run: Run) -> dict[str, Any]:
    """What a stage's tables depend on; its fingerprint is the stage's."""
    return {
        "stage": stage.name,
        "code": code_version(),
        "configuration": fingerprint(stage.depends_on(run)),
        "inputs": {table: run.identities[table] for table in stage.reads(run)},
    }


def _done(stage: Stage, run: Run, wanted: str) -> dict[str, Commit] | None:
    """The commits of a stage's tables if every newest one carries `wanted`, else None."""
    marker = run.store.newest(run.schema(stage.marker), stage.marker)
    if marker is None or marker.fingerprint != wanted:
        return None
    commits = {stage.marker: marker}
    for table, version in marker.note["tables"].items():
        commit = run.store.newest(run.schema(table), table)
        if commit is None or commit.fingerprint != wanted or commit.content != version:
            return None
        commits[table] = commit
    run.warnings[stage.name] = list(marker.note["warnings"])
    return commits


def _unconcerned(stage: Stage, run: Run, made_of: Mapping[str, Any], lock: Lock | None) -> dict[str, Commit] | None:
    """The commits of a stage's tables where nothing is new but rows of conformed tables, and none of them is of the
    stage's people; the marker then also says up to which versions that is so. Only under a lock is anybody asked."""
    schema = run.schema(stage.marker)
    marker = run.store.newest(schema, stage.marker) if stage.people else None
    if marker is None or "inputs" not in marker.note:
        return None
    commits = _done(stage, run, fingerprint({**made_of, "inputs": marker.note["inputs"]}))
    if commits is None:
        return None
    since, now = _inputs_seen(marker), made_of["inputs"]
    new = sorted(table for table in now if since.get(table) != now[table])
    if since.keys() != now.keys() or not set(new) <= set(CONFORMED):
        return None
    if new:
        if lock is None or _concerned(stage, run, {table: since[table] for table in new}, now):
            return None
        lock.ensure_held()
        run.store.note(schema, stage.marker, replace(marker, note={**marker.note, SEEN: now}))
        run.report_line(f"{stage.name}: what is new in {', '.join(new)} concerns none of its people")
    return commits


def _inputs_seen(marker: Commit) -> Mapping[str, str]:
    """The identities of the inputs that a stage was made of, or of later ones that make the same."""
    seen: Mapping[str, str] = marker.note.get(SEEN, marker.note["inputs"])
    return seen


def _concerned(stage: Stage, run: Run, since: Mapping[str, str], inputs: Collection[str]) -> bool:
    """Whether a row of the stage's people changed in conformed tables since the versions of these identities; true
    also where nobody can tell, or telling would take longer than to compute the stage."""
    try:
        spans = [span_since(run.store, table, identity, run.versions[table]) for table, identity in since.items()]
        later = [span for span in spans if span is not None]
        few = 2 * sum(span.rows for span in later) <= sum(run.rows[table] for table in inputs)
        if len(later) < len(spans) or not few or stage.people is None:
            return True
        people = stage.people(run, later).select("person_id").persist()
        try:
            return concern(run.store, later, people)
        finally:
            people.unpersist()
    except UntoldError:
        run.report_line(
            f"{stage.name}: the change feed no longer tells what changed since its last run; all is computed again"
        )
        return True


def _known(run: Run, wanted: str) -> dict[str, Commit] | None:
    """The tables as they were when the run's delivery was the last one, if its files were ingested as they are now;
    where later ones were there before it, the tables as they are."""
    marker = TABLE_STAGES[0].marker
    holding = [
        commit
        for commit in run.store.commits(CONFORMED_SCHEMA, marker)
        if commit.note.get("deliveries", {}).get(run.delivery) == wanted
    ]
    if not holding:
        return None
    commit = next((one for one in holding if max(one.note["deliveries"]) == run.delivery), holding[0])
    commits = {marker: commit}
    for table in commit.note["tables"]:
        commits[table] = _of_marker(run, commit, table)
        if not _is_kept(run, table, commits[table].version):
            raise InputError(
                f"delivery {run.delivery}: its version of the tables is no longer kept (retention_days: "
                f"{run.site.retention_days}); run the newest delivery, or ingest this one into another warehouse"
            )
    if len(commit.note["deliveries"]) > 1:  # the commit wrote one delivery's rows beside those of others
        commits[marker] = replace(commit, rows=run.store.count(CONFORMED_SCHEMA, marker, commit.version))
    run.warnings["ingest"] = list(commit.note["warnings"])
    run.latest = max(commit.note["deliveries"])
    return commits


def _of_marker(run: Run, marker: Commit, table: str) -> Commit:
    """A table as it was when the marker of the ingest was written."""
    held = run.store.holding(CONFORMED_SCHEMA, table, marker.note["tables"][table])
    return replace(held, rows=marker.note["rows"][table])


def _gate(table: str, run: Run) -> list[RuleOutcome]:
    """Judge a table as written; where a critical rule fails the table counts as not done."""
    context = {
        "study": run.study,
        "delivery": max(run.delivery, run.latest),
        "tables": {name: run.read(name) for name in looks_into(table) if name in run.versions},
    }
    outcomes = _judged_by_added(table, run, context)
    if outcomes is None:
        outcomes = check_table(table, run.read(table), context)
    if any(outcome.severity == "critical" and not outcome.passed for outcome in outcomes):
        run.store.disown(run.schema(table), table)
    return outcomes


def _stood(run: Run, table: str) -> Commit | None:
    """A table as the run found it; None where it is new, or was made anew since the marker named its version."""
    if run.base is None or table not in run.base.note["tables"]:
        return None
    stood = _of_marker(run, run.base, table)
    return stood if run.base.note.get("identities", {}).get(table) == stood.identity else None


def _judged_by_added(table: str, run: Run, context: Mapping[str, Any]) -> list[RuleOutcome] | None:
    """The outcomes from what the gate counted before and the rows that a new delivery added; None where all rows are to
    be judged: their rules look further than a row, other rows changed too, or nobody knows what was counted."""
    if run.base is None or table not in SETTLED or not looks_at_rows_alone(table):
        return None
    stood, counts = _stood(run, table), run.base.note.get("counts", {}).get(table)
    if stood is None or counts is None or not run.is_program_of_base:
        return None
    if stood.version == run.versions[table]:
        return judge(table, counts)
    if not _only_appended(run, stood, run.versions[table]):
        return None
    compared = table in run.repeats_nothing
    return check_added(table, run.read(table), run.delivery, run.day_of(table), compared, counts, context)


def _only_appended(run: Run, stood: Commit, version: int) -> bool:
    """Whether nothing was done to a table as the run found it but to append the rows of a new delivery."""
    return run.adds_new_delivery and version == stood.version + 1


def _counts(outcomes: list[RuleOutcome]) -> dict[str, int]:
    return {ROWS: outcomes[0].rows, **{outcome.rule: outcome.violations for outcome in outcomes}}


def _warnings(table: str, outcomes: list[RuleOutcome]) -> list[str]:
    return [
        f"{table}: {outcome.rule} ({outcome.violations:,} of {outcome.rows:,} rows)"
        for outcome in outcomes
        if not outcome.passed
    ]


def _has_gate(table: str) -> bool:
    return table in CONFORMED or table in ("cohort", "exposures", "treatment_lines")


class _Gates:
    """The gates of a stage's tables, several at a time, each as soon as the table and those that its rules may look
    into are written; when the block ends, those that have not begun never do."""

    def __init__(self, run: Run, to_write: Collection[str]) -> None:
        self._run = run
        self._missing = set(to_write)
        self._waiting: set[str] = set()
        self._one_at_a_time = threading.Lock()
        self._pool = ThreadPoolExecutor(ingest.TABLES_AT_A_TIME)
        self._judged: dict[str, Future[list[RuleOutcome]]] = {}

    def __enter__(self) -> _Gates:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def judge_what_can_be(self, written: str, changed: Iterable[str]) -> None:
        """Begin to judge what only waited for a table that is `written` and can be read, and what changed with it."""
        with self._one_at_a_time:
            self._missing.discard(written)
            self._waiting.update(filter(_has_gate, changed))
            ready = [name for name in self._waiting if self._missing.isdisjoint(looks_into(name))]
            self._waiting.difference_update(ready)
            self._begin(ready)

    def _begin(self, tables: Iterable[str]) -> None:
        self._judged.update({name: self._pool.submit(_gate, name, self._run) for name in tables})

    def outcomes(self, tables: Iterable[str]) -> dict[str, list[RuleOutcome]]:
        """The outcomes of all the tables with a gate, when everything is written."""
        gated = list(filter(_has_gate, tables))
        self._begin(name for name in gated if name not in self._judged)
        return {name: self._judged[name].result() for name in gated}


def _base(stage: Stage, run: Run) -> Commit | None:
    """The last commit of the stage's marker where the stage adds to what is there, and every table as it was then: a
    run that did not finish, or failed its gate, leaves nothing behind."""
    if not stage.adds(run):
        return None
    schema = run.schema(stage.marker)
    commits = run.store.commits(schema, stage.marker)
    base = last_finished(commits)
    if base is None:
        return None
    others = set(base.note["deliveries"]) - {run.delivery}
    if others and run.adapter.names_contacts and base.note.get("names") != NAMES:
        raise ConfigurationError(
            "warehouse: another version of the program made it and named contacts otherwise, so that the same one "
            f"would count again; {INGEST_ANEW}"
        )
    behind = {} if base is commits[0] else {stage.marker: base}
    for table, version in base.note["tables"].items():
        newest = run.store.newest(schema, table)
        if newest is None or newest.content != version:
            behind[table] = _of_marker(run, base, table)
    if not all(run.store.is_whole(schema, table, commit.version) for table, commit in behind.items()):
        raise InputError(
            "warehouse: what was there before a delivery that did not pass is no longer kept (retention_days: "
            f"{run.site.retention_days}) and cannot be put back; {INGEST_ANEW}"
        )
    for table, commit in behind.items():
        run.store.restore(schema, table, commit)
    return base


def _keep_as_long(run: Run) -> None:
    """Let the conformed tables be kept as long as the site says now, where the last ingest was told less."""
    marker = run.store.newest(CONFORMED_SCHEMA, MARKER)
    if marker is not None and marker.note.get(KEPT, -1) < run.site.retention_days:
        for name in run.store.tables(CONFORMED_SCHEMA):
            run.store.keep_as_long(CONFORMED_SCHEMA, name)


def _is_made_whole(stage: Stage, run: Run, table: str) -> bool:
    """Whether a table is written with all its rows, and not added to those that stand."""
    return run.base is None or table not in (*run.tables_before, stage.marker) or table in OVERWRITTEN


def _write(stage: Stage, run: Run, table: str, frame: DataFrame, note: Mapping[str, Any]) -> dict[str, Commit]:
    """Write one table of a stage: all of it, or one delivery of it."""
    schema, before = run.schema(table), run.tables_before
    if _is_made_whole(stage, run, table):
        return {table: run.store.overwrite(schema, table, frame, note)}
    if table not in SETTLED:
        if run.adds_new_delivery:
            return {table: run.store.append(schema, table, frame, note)}
        return {table: run.store.replace_delivery(schema, table, frame, run.delivery, note)}
    versions = {}
    for name in (table, SUPERSEDED + table):
        newest = run.store.newest(schema, name) if name in before else None
        if newest is not None:
            versions[name] = newest.version
    settled = settle(run.store, table, frame, run.delivery, versions, note, run.adds_new_delivery, run.day_of(table))
    if not settled.repeats:
        run.repeats_nothing.add(table)
    return settled.commits


def _rows(stage: Stage, run: Run, table: str, commit: Commit) -> int:
    """The rows of a table without a gate, which would count them, as of a commit of this run."""
    if _is_made_whole(stage, run, table):
        return commit.rows
    stood = _stood(run, table)
    if stood is not None and _only_appended(run, stood, commit.version):
        return stood.rows + commit.rows
    return run.store.count(run.schema(table), table, commit.version)


def _compute(stage: Stage, run: Run, made_of: Mapping[str, Any], lock: Lock) -> dict[str, Commit]:
    """Write the stage's tables side by side and judge them, each as soon as what its rules look at is there; then write
    the marker."""
    wanted = fingerprint(made_of)
    note: dict[str, Any] = {"fingerprint": wanted, **stage.stamp(run)}
    if stage.name == "ingest":
        _keep_as_long(run)
    run.base = _base(stage, run)
    if run.base is not None:
        note["beside"] = fingerprint(run.deliveries_before)
        run.latest = max(run.delivery, *run.deliveries_before)

    def write(table: str, frame: DataFrame, note: Mapping[str, Any]) -> dict[str, Commit]:
        lock.ensure_held()
        commits = _write(stage, run, table, frame, note)
        for name, commit in commits.items():
            commits[name] = commit if _has_gate(name) else replace(commit, rows=_rows(stage, run, name, commit))
            run.use(name, commits[name])
        return commits

    with stage.tables(run) as tables:
        first = [name for name in tables if name != stage.marker]
        to_write = {*first, *(name for table in first for name in stage.then.get(table, ()))}
        stay = {name: run.use_of_base(name) for name in sorted(set(run.tables_before) - to_write)}
        # Small tables cost Spark's start of a job rather than its work, so several are written at a time.
        with _Gates(run, to_write) as gates, ThreadPoolExecutor(ingest.TABLES_AT_A_TIME) as pool:

            def write_and_judge(table: str, frame: DataFrame) -> dict[str, Commit]:
                commits = write(table, frame, note)
                if table not in commits and table in run.tables_before:
                    commits[table] = run.use_of_base(table)
                gates.judge_what_can_be(table, commits)
                for name, make in stage.then.get(table, {}).items():
                    commits |= write_and_judge(name, make(run))
                return commits

            written = pool.map(lambda name: write_and_judge(name, tables[name]), first)
            commits = {name: commit for one in written for name, commit in one.items()}
            commits |= {name: commit for name, commit in stay.items() if name not in commits}
            judged = gates.outcomes(commits)
        run.outcomes[stage.name] = {**run.outcomes.get(stage.name, {}), **judged}
        raise_if_critical(judged, _quality_file(run) if stage.name == "ingest" else "")
        for name, outcomes in judged.items():
            commits[name] = replace(commits[name], rows=outcomes[0].rows)
        warnings = [warning for name, outcomes in judged.items() for warning in _warnings(name, outcomes)]
        versions = {name: commit.content for name, commit in commits.items()}
        marker_note = {**note, **made_of, "tables": versions, "warnings": warnings}
        if stage.name == "ingest":
            marker_note["deliveries"] = {**run.deliveries_before, run.delivery: wanted}
            marker_note["rows"] = {name: commit.rows for name, commit in commits.items()}
            marker_note["identities"] = {name: commit.identity for name, commit in commits.items()}
            marker_note["counts"] = {name: _counts(judged[name]) for name in filter(looks_at_rows_alone, judged)}
        commits |= write(stage.marker, tables[stage.marker], marker_note)
    run.warnings[stage.name] = warnings
    return commits


def _progress(run: Run, stage: str, started: float, outcome: str, rows: int) -> None:
    number = STAGES.index(stage) + 1
    seconds = "" if outcome == "unchanged" else f" {time.monotonic() - started:.1f} s"
    run.report_line(f"[{number}/{len(STAGES)}] {stage}{seconds} {rows:,} rows{' unchanged' if not seconds else ''}")


def find_or_run(stage: Stage, run: Run, lock: Lock | None) -> StageRecord:
    """The stage's tables, computed unless their newest commits say that they are up to date.

    Without a lock nothing is computed: InputError names the stage that has to run first.
    """
    started = time.monotonic()
    made_of = _made_of(stage, run)
    wanted = fingerprint(made_of)
    commits = _known(run, wanted) if stage.name == "ingest" else _done(stage, run, wanted)
    if commits is None:
        commits = _unconcerned(stage, run, made_of, lock)
        wanted = wanted if commits is None else str(commits[stage.marker].fingerprint)
    outcome = "unchanged"
    if commits is None:
        if lock is None:
            raise InputError(f"stage {stage.name} is not up to date; run it first")
        outcome = "done"
        commits = _compute(stage, run, made_of, lock)
    for table, commit in commits.items():
        run.use(table, commit)
    rows = sum(commit.rows for commit in commits.values())
    if lock is not None:
        _progress(run, stage.name, started, outcome, rows)
    versions = {table: commit.version for table, commit in commits.items()}
    return StageRecord(stage.name, wanted, outcome, versions, rows)


def _collected(run: Run, table: str) -> pd.DataFrame:
    """A table of counts in the order of its key."""
    collected: pd.DataFrame = run.read(table).toPandas()
    return collected.sort_values(list(TABLES[table].key), ignore_index=True)


def _frames(run: Run) -> dict[str, pd.DataFrame]:
    return {name: _collected(run, name) for name in FRAMES}


def _small_tables(run: Run) -> dict[str, pd.DataFrame]:
    """The tables of counts that the report shows beside the frames."""
    names = [name for name in ("ledger", "unknown_codes", "unresolved_codes", "line_counts") if name in run.versions]
    return {name: _collected(run, name) for name in names}


def _manifest(run: Run, records: list[StageRecord]) -> Manifest:
    configuration = {
        "study": run.study.model_dump(mode="json", by_alias=True) if run.study else None,
        "site": run.site.model_dump(mode="json", exclude={"warehouse", "out", "pseudonym_key_file", "inputs"}),
    }
    return Manifest(
        study=run.study.name if run.study else "",
        country=run.site.country,
        delivery=run.delivery,
        synthetic=run.site.synthetic,
        configuration=configuration,
        configuration_hash=fingerprint(configuration),
        inputs={f"{run.schema(table)}.{table}": str(version) for table, version in run.versions.items()},
        stages=records,
        counts={table: rows for table, rows in run.rows.items() if table not in FRAMES},
        warnings=[warning for stage in STAGES for warning in run.warnings.get(stage, [])],
    )


def _file_stage(
    name: str, run: Run, records: list[StageRecord], depends_on: Any, files: Callable[[], dict[str, bytes]]
) -> None:
    """Add the record of a stage that writes files, and the manifest with it, unless they are there already."""
    started = time.monotonic()
    wanted = fingerprint({"stage": name, "code": code_version(), "depends_on": depends_on})
    if still_there(run.out, name, wanted):
        written = read_manifest(run.out)["stages"][name]["files"]
        records.append(StageRecord(name, wanted, "unchanged", {}, len(written), written))
        _progress(run, name, started, "unchanged", len(written))
        return
    written = write_files(run.out, {STAMP: STAMP_TEXT.encode(), **files()})
    records.append(StageRecord(name, wanted, "done", {}, len(written), written))
    content = json.dumps(_manifest(run, records).as_dict(), indent=1, sort_keys=True, default=str)
    write_files(run.out, {MANIFEST: content.encode()})
    _progress(run, name, started, "done", len(written))


def _record(run: Run, records: list[StageRecord]) -> None:
    """Add the run's stages to the table `runs` of the study (of the site, for an ingest alone)."""
    whole = fingerprint([record.fingerprint for record in records])
    rows = [
        (
            whole,
            run.study.name if run.study else "",
            record.stage,
            record.fingerprint,
            record.outcome,
            json.dumps(dict(sorted(record.versions.items()))),
            record.rows,
        )
        for record in records
    ]
    frame = local_frame(run.spark, rows, TABLES["runs"].struct())
    run.store.append(run.schema("runs"), "runs", frame.coalesce(1), {})


@contextmanager
def _locked(run: Run) -> Iterator[Lock]:
    """The lock of the run's warehouse, and tables in their places that an interrupted erasure was moving."""
    with Lock(run.spark, run.site.warehouse) as lock:
        if "://" not in run.site.warehouse:
            recover(Path(run.site.warehouse))
        yield lock


def ensure_followed_by_data(run: Run) -> None:
    """ConfigurationError where the study follows people beyond what the delivery can know: nobody dies there, and
    treatment that goes on looks stopped."""
    if run.study is not None and run.study.period.follow_up_until.isoformat() > run.delivery:
        raise ConfigurationError(
            f"period.follow_up_until {run.study.period.follow_up_until} is after the delivery of {run.delivery}; end "
            "follow-up where the data do"
        )


def ensure_one_key(run: Run) -> None:
    """ConfigurationError where the warehouse was made with another pseudonym key: one person would become two."""
    own = key_check(read_key(run.site))
    for table in ("person", "ledger", SUPPRESSIONS):
        commit = run.store.newest(CONFORMED_SCHEMA, table)
        if commit is not None and commit.note.get("key", own) != own:
            raise ConfigurationError(
                "pseudonym key: the warehouse was made with another key, and two keys would make two people of one; "
                "use that key, or another warehouse"
            )


def _noted_identifiers(run: Run, table: str) -> str:
    """As what a table identifies people, by its note: number or text, empty where it does not say."""
    commit = run.store.newest(CONFORMED_SCHEMA, table)
    return "" if commit is None else str(commit.note.get("identifiers", ""))


def ensure_same_identifiers(run: Run, identifiers: str) -> None:
    """InputError where the tables of the warehouse or the list of erased people identify people as text and
    `identifiers` are numbers, or the other way round: leading zeros are lost, one person would become two, and erased
    people would come back."""
    plural = {"number": "numbers", "text": "text"}
    for table, made in ((MARKER, "the tables in the warehouse were"), (SUPPRESSIONS, "the list of erased people was")):
        noted = _noted_identifiers(run, table)
        if noted and identifiers and noted != identifiers:
            raise InputError(
                f"the identifiers of people are {plural[identifiers]} now, and {made} made of {plural[noted]}; deliver "
                "them as before, or ingest all deliveries into a new warehouse and erase again, by the new "
                "identifiers, who was erased"
            )


def ensure_erasures_ended(run: Run) -> None:
    """InputError where an erasure did not come to its end: its people may still stand in tables, and a run would take
    them into others."""
    if is_unfinished(run.store):
        raise InputError(
            "an erasure did not come to its end, and its people may still stand in tables; let treatment-lines erase "
            "run to its end, with the same list, another or an empty one, then run again"
        )


def run_stages(run: Run, first: str, last: str) -> Manifest:
    """Run the stages from `first` to `last`; those before `first` must be up to date already.

    A stage whose tables or files are there under the same fingerprint is left alone. Raises the leaves of
    jobs.errors.
    """
    wanted = STAGES[: STAGES.index(last) + 1]
    ensure_followed_by_data(run)
    read_key(run.site)
    _ = run.extracts  # a missing file or column stops the run before Spark starts and before anything is written
    if first == "ingest" or last in FILE_STAGES:  # others write nothing there
        ensure_writable(run.out)
    records: list[StageRecord] = []
    with _locked(run) as lock:
        ensure_one_key(run)
        ensure_same_identifiers(run, run.identifiers)
        ensure_erasures_ended(run)
        for stage in TABLE_STAGES:
            if stage.name in wanted:
                held = lock if STAGES.index(stage.name) >= STAGES.index(first) else None
                records.append(find_or_run(stage, run, held))
                if run.latest > run.delivery and last != "ingest":
                    raise InputError(
                        f"delivery {run.delivery}: the tables hold the later delivery of {run.latest} too, and no "
                        f"version without it is kept; run --delivery {run.latest}"
                    )
        if "survival" in wanted:
            _survival(run, records)
        if "report" in wanted:
            _report(run, records)
        lock.ensure_held()
        _record(run, records)
    return _manifest(run, records)


def _survival(run: Run, records: list[StageRecord]) -> None:
    depends_on = [run.the_study.fingerprint(), {name: run.identities[name] for name in FRAMES}]

    def files() -> dict[str, bytes]:
        tables = result_tables(_frames(run), run.the_study)
        return {f"results/{name}.csv": csv_bytes(table) for name, table in tables.items()}

    _file_stage("survival", run, records, depends_on, files)


def _report(run: Run, records: list[StageRecord]) -> None:
    configuration = _manifest(run, records).configuration_hash  # says also whether the people are synthetic
    depends_on = [records[-1].fingerprint, configuration, run.delivery, dict(run.identities), run.warnings]

    def files() -> dict[str, bytes]:
        manifest = _manifest(run, records).as_dict()
        html = render_report(_frames(run), _small_tables(run), manifest, run.the_study, run.site.synthetic)
        return {"report.html": html.encode()}

    _file_stage("report", run, records, depends_on, files)


def read_person(run: Run, pseudonym: str) -> tuple[pa.Table, pa.Table]:
    """The person's row of the cohort and rows of the exposures, both up to date; InputError where there are none."""
    ensure_one_key(run)
    ensure_erasures_ended(run)
    for stage in TABLE_STAGES[: STAGES.index("lines")]:
        find_or_run(stage, run, None)
    # Joined, because a literal of a predicate would stand in the plan.
    wanted = F.broadcast(run.spark.createDataFrame([(pseudonym,)], "person_id string"))
    cohort, exposures = (run.read(name).join(wanted, "person_id").toArrow() for name in ("cohort", "exposures"))
    if cohort.num_rows == 0:
        raise InputError(f"the person is not in the cohort of {run.the_study.name}; look into the conformed tables")
    return cohort, exposures


def erase_people(run: Run, identifiers: Collection[str]) -> Erasure:
    """Take people out of the site's tables and those of its studies, for good; see jobs/erasure.py."""
    key = read_key(run.site)
    with _locked(run) as lock:
        ensure_one_key(run)
        if not identifiers and not is_unfinished(run.store):
            raise InputError("--person-list: holds 0 identifiers; write one a line")
        made_of = _noted_identifiers(run, MARKER)
        ensure_same_identifiers(run, made_of)
        note = {"key": key_check(key), "identifiers": made_of or _noted_identifiers(run, SUPPRESSIONS)}
        return erase(run.store, [pseudonym_of(one, key) for one in identifiers], note, lock.ensure_held)


def _each_table(run: Run) -> Iterator[tuple[str, str]]:
    """Schema and name of every table of the warehouse, while its lock is held."""
    with _locked(run) as lock:
        for schema in run.store.schemas():
            for name in run.store.tables(schema):
                lock.ensure_held()
                yield schema, name


def optimize_tables(run: Run) -> Iterator[str]:
    """Put the newest version of every table into fewer files; one line per table."""
    for schema, name in _each_table(run):
        before, after = run.store.optimize(schema, name)
        yield f"{schema}.{name}: {counted(before, 'file', 'files')}, {after:,} now"


def vacuum_tables(run: Run) -> Iterator[str]:
    """Delete the files of versions older than the site's retention; one line per table."""
    for schema, name in _each_table(run):
        yield f"{schema}.{name}: {counted(run.store.vacuum(schema, name), 'file', 'files')} deleted"


def status_lines(run: Run) -> Iterator[str]:
    """One line per stage of the site and of each study in its warehouse: up to date, or why not; for a run without a
    date, which knows no files, without a look at files."""
    ingest_stage = TABLE_STAGES[0]
    marker = run.store.newest(CONFORMED_SCHEMA, ingest_stage.marker)
    if marker is None:
        yield "ingest: never finished"
        yield from _erased(run)
        return
    if run.delivery:
        yield f"ingest: {_why_not(marker, _made_of(ingest_stage, run)) or 'up to date'}"
    else:
        why_not = _why_not(marker, {**marker.note, "code": code_version()})
        yield f"ingest: {why_not or 'done; to compare files and configuration too, say --delivery DATE'}"
    yield from _deliveries(run)
    yield from _erased(run)
    for study in run.store.schemas():
        if study == CONFORMED_SCHEMA:
            continue
        for stage in TABLE_STAGES[1:]:
            commit = run.store.newest(study, stage.marker)
            if commit is None or "inputs" not in commit.note:
                yield f"{study} {stage.name}: never finished"
                continue
            seen = {**commit.note, "inputs": _inputs_seen(commit)}
            now = {**seen, "code": code_version(), "inputs": _newest_versions(run, study, commit)}
            asks = stage.people is not None and run.site.deliveries == "additions"
            why_not = _why_not(replace(commit, note=seen), now, asks)
            yield f"{study} {stage.name}: {why_not or 'up to date with its input tables'}"


def _erased(run: Run) -> Iterator[str]:
    """A line where anybody was erased."""
    suppressions = read_suppressions(run.store)
    if suppressions is not None:
        erased = counted(suppressions.count(), "person", "people")
        if is_unfinished(run.store):
            yield f"erased: {erased}, not to the end; nothing runs until treatment-lines erase did, with any list"
        else:
            yield f"erased: {erased}; no version from before their erasure can be read"


def _deliveries(run: Run) -> Iterator[str]:
    """One line per delivery: whether the tables can still be read as they were when it was the last one."""
    commits = [one for one in run.store.commits(CONFORMED_SCHEMA, "ledger") if "deliveries" in one.note]
    for day in sorted({day for commit in commits for day in commit.note["deliveries"]}):
        last = next((one for one in commits if max(one.note["deliveries"]) == day), None)
        if last is None:
            yield f"delivery {day}: in the tables, not to be read alone"
            continue
        if last.note.get("code") != code_version():
            yield f"delivery {day}: the program changed since, and would ingest its files again"
            continue
        versions = {name: _of_marker(run, last, name).version for name in last.note["tables"]}
        whole = all(_is_kept(run, *table) for table in versions.items())
        yield f"delivery {day}: {'can be run' if whole else 'its version of the tables is no longer kept'}"


def _newest_versions(run: Run, study: str, commit: Commit) -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    for table in commit.note["inputs"]:
        newest = run.store.newest(CONFORMED_SCHEMA if table in CONFORMED else study, table)
        versions[table] = newest.identity if newest else None
    return versions


def _why_not(commit: Commit, now: Mapping[str, Any], asks: bool = False) -> str:
    """Why a stage's tables are not what a run would make `now`; empty where they are. `asks`: new rows may leave the
    stage as it is."""
    if "inputs" not in commit.note:
        return "to be run again: a gate failed or a run did not finish"
    changed = sorted(table for table, version in now["inputs"].items() if commit.note["inputs"].get(table) != version)
    is_same_program = commit.note["code"] == now["code"]
    if changed:
        may_stay = asks and is_same_program and set(changed) <= set(CONFORMED)
        where = " where it concerns the study's people" if may_stay else ""
        return f"to be run again{where}: new version of {', '.join(changed)}"
    if not is_same_program:
        return "to be run again: the program changed"
    if commit.note["configuration"] != now["configuration"]:
        return "to be run again: files or configuration changed"
    return ""
