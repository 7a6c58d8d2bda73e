"""Delta commits that carry their fingerprint, versions that stay readable, and one writer per warehouse."""

from __future__ import annotations

import datetime
import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.errors import InputError, WarehouseLockedError
from jobs.store import Commit, Lock, Store, _commits_in, _LocalFiles
from schemas import TABLES

STEPS = TABLES["attrition"].struct()


def test_a_commit_carries_its_note_and_old_versions_stay(spark: SparkSession, tmp_path: Path) -> None:
    store = Store(spark, str(tmp_path))
    assert store.newest("study", "attrition") is None
    first = store.overwrite(
        "study", "attrition", spark.createDataFrame([(0, "all", 5, 6)], STEPS), {"fingerprint": "a"}
    )
    rows = spark.createDataFrame([(0, "all", 7, 8), (1, "some", 2, 2)], STEPS)
    second = store.overwrite("study", "attrition", rows, {"fingerprint": "b"})
    assert (first.version, first.fingerprint, first.rows) == (0, "a", 1)
    assert (second.version, second.fingerprint, second.rows) == (1, "b", 2)
    assert store.newest("study", "attrition") == second
    assert [row.persons for row in store.read("study", "attrition", 0).collect()] == [5]
    store.disown("study", "attrition")
    disowned = store.newest("study", "attrition")
    assert disowned is not None
    assert (disowned.version, disowned.fingerprint) == (2, None)
    with pytest.raises(InputError, match="version 9 is not there"):
        store.read("study", "attrition", 9)
    assert store.schemas() == ["study"]


def test_commits_are_those_that_the_engine_tells(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(spark, str(tmp_path))
    one, more = ("conformed", "recurrence"), TABLES["recurrence"].struct()
    rows = spark.createDataFrame(
        [(f"p{n}", "t", None, "day", "local", "file", n, f"2024-0{1 + n % 2}-01") for n in range(6)], more
    )
    log = tmp_path / "conformed" / "recurrence" / "_delta_log"

    def told() -> list[Commit]:
        newest = store.newest(*one)
        assert [newest] == _commits_in(log, 1) == store._history(*one, limit=1)
        return [] if newest is None else [newest]

    seen: list[Commit] = []
    store.overwrite(*one, rows, {"fingerprint": "a"})
    seen += told()
    store.append(*one, rows.where("source_row = 1").withColumn("source_row", F.lit(9).cast("bigint")), {"x": 1})
    seen += told()
    store.remove(*one, rows.where("source_row = 3"), ["source_row"])
    seen += told()
    store.replace_delivery(*one, rows.where("delivery = '2024-01-01'"), "2024-01-01", {"fingerprint": "b"})
    seen += told()
    store.restore(*one, seen[0])
    seen += told()
    store.disown(*one)
    seen += told()
    assert [commit.version for commit in seen] == list(range(6))
    assert [commit.note.get("fingerprint") for commit in seen] == ["a", None, None, "b", "a", None]
    assert [commit.content for commit in seen] == [0, 1, 2, 3, 0, 5]
    assert (store.holding(*one, 0), store.holding(*one, 3), seen[4].rows) == (seen[4], seen[3], 6)
    assert [commit.rows for commit in seen][:2] == [6, 1]
    assert seen[::-1] == store.commits(*one) == _commits_in(log, None) == store._history(*one)
    # What the log itself does not say is asked of the engine.
    assert _commits_in(tmp_path, 1) is None
    for says_nothing in ('{"commitInfo":', '{"add":{}}\n'):
        log.joinpath(f"{6:020}.json").write_text(says_nothing)
        assert _commits_in(log, 1) is None
        assert _commits_in(log, None) is None
    log.joinpath(f"{6:020}.json").unlink()
    monkeypatch.setattr("jobs.store._commits_in", lambda log, limit: None)
    assert store.newest(*one) == seen[-1]


def _recurrence(spark: SparkSession, number: int) -> DataFrame:
    row = (f"p{number}", "t", None, "day", "local", "file", number, "2024-01-01")
    return spark.createDataFrame([row], TABLES["recurrence"].struct())


def test_a_version_is_there_however_old_its_commit_is(spark: SparkSession, tmp_path: Path) -> None:
    """As where deliveries come once a year: what passed last can be read, and put back, when the next one failed."""
    store, one = Store(spark, str(tmp_path)), ("conformed", "recurrence")
    for number in range(10):
        store.append(*one, _recurrence(spark, number), {"fingerprint": f"{number}"})
    for commit in (tmp_path / "conformed" / "recurrence" / "_delta_log").iterdir():
        if commit.is_file():
            long_ago = commit.stat().st_mtime - 400 * 86_400
            os.utime(commit, (long_ago, long_ago))
    store.forget_cached()
    passed = store.existing(*one)
    store.append(*one, _recurrence(spark, 10), {"fingerprint": "refused"})  # the tenth after the first: a checkpoint
    store.disown(*one)
    assert store.count(*one, passed.version) == 10
    assert store.is_whole(*one, passed.version)
    store.restore(*one, passed)
    newest = store.existing(*one)
    assert store.count(*one, newest.version) == 10
    assert newest.identity == passed.identity


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_version_without_one_of_its_files_is_not_whole(spark: SparkSession, tmp_path: Path, scheme: str) -> None:
    store = Store(spark, f"{scheme}{tmp_path}")
    store.overwrite("conformed", "recurrence", _recurrence(spark, 1), {"fingerprint": "a"})
    store.overwrite("conformed", "recurrence", _recurrence(spark, 2), {"fingerprint": "b"})
    assert [store.is_whole("conformed", "recurrence", version) for version in range(3)] == [True, True, False]
    Store(spark, store.warehouse, 0).vacuum("conformed", "recurrence")
    assert [store.is_whole("conformed", "recurrence", version) for version in range(2)] == [False, True]


@pytest.mark.parametrize(("days", "gone_for", "is_kept"), [(7, 10, False), (7, 3, True), (60, 40, True)])
def test_vacuum_goes_by_the_retention_that_is_set_now(
    spark: SparkSession, tmp_path: Path, days: int, gone_for: int, is_kept: bool
) -> None:
    """Shorter or longer than that of the day on which the table was made."""
    store, one = Store(spark, str(tmp_path), 30), ("conformed", "recurrence")
    store.overwrite(*one, _recurrence(spark, 1), {"fingerprint": "a"})
    store.overwrite(*one, _recurrence(spark, 2), {"fingerprint": "b"})
    table = tmp_path / "conformed" / "recurrence"
    log = table / "_delta_log" / f"{1:020}.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    (removed,) = (action["remove"] for action in actions if "remove" in action)
    removed["deletionTimestamp"] -= gone_for * 86_400_000
    for checksum in (table / "_delta_log").glob("*.crc"):
        checksum.unlink()
    log.write_text("".join(json.dumps(action) + "\n" for action in actions))
    long_ago = time.time() - 400 * 86_400
    os.utime(table / removed["path"], (long_ago, long_ago))
    store.forget_cached()
    Store(spark, str(tmp_path), days).vacuum(*one)
    assert store.is_whole(*one, 0) == (table / removed["path"]).exists() == is_kept


def test_a_version_needs_what_says_which_rows_were_taken_out(spark: SparkSession, tmp_path: Path) -> None:
    store, one = Store(spark, str(tmp_path)), ("conformed", "hospital_drug")
    rows = [(f"p{n}", "c", None, None, "atc", "L01XC03", "iv", "file", n, "2024-01-01") for n in range(9)]
    given = spark.createDataFrame(rows, TABLES["hospital_drug"].struct()).coalesce(1)
    store.overwrite(*one, given, {"fingerprint": "a"})
    for number in (1, 2):
        store.remove(*one, given.where(f"source_row = {number}"), ["source_row"])
    versions = [commit.version for commit in reversed(store.commits(*one))]
    assert all(store.is_whole(*one, version) for version in versions)
    vectors = sorted((tmp_path / "conformed" / "hospital_drug").glob("deletion_vector_*.bin"), key=os.path.getmtime)
    assert len(vectors) == 2
    vectors[0].unlink()
    assert [store.is_whole(*one, version) for version in (versions[0], versions[-2], versions[-1])] == [
        True, False, True
    ]  # fmt: skip


def test_another_note_is_no_new_version_of_the_rows(spark: SparkSession, tmp_path: Path) -> None:
    store, one = Store(spark, str(tmp_path)), ("conformed", "recurrence")
    first = store.overwrite(*one, _recurrence(spark, 1), {"fingerprint": "a"})
    for seen in ("x", "y"):
        store.note(*one, replace(first, note={**first.note, "seen": seen}))
    newest = store.existing(*one)
    assert newest.version == 2
    assert newest.note == {"fingerprint": "a", "seen": "y"}
    assert (newest.content, newest.rows, newest.identity) == (first.version, first.rows, first.identity)


def test_the_log_tells_days_and_no_text_of_a_row(spark: SparkSession, tmp_path: Path) -> None:
    store, dispensing = Store(spark, str(tmp_path)), TABLES["dispensing"]
    row = ("c0ffee" * 5, datetime.date(2020, 5, 17), "L02BA01", 1.0, None, None, "a_file.csv", 7, "2020-06-30")
    store.overwrite("conformed", "dispensing", spark.createDataFrame([row], dispensing.struct()), {})
    counts = spark.createDataFrame([(0, "everyone", 5, 6)], STEPS)
    store.overwrite("study", "attrition", counts, {})
    logs = [next(tmp_path.glob(f"{table}/_delta_log/*.json")) for table in ("conformed/dispensing", "study/attrition")]
    for log, told in zip(logs, ({"dispensed_date": "2020-05-17", "delivery": "2020-06-30"}, {}), strict=True):
        actions = [json.loads(line) for line in log.read_text().splitlines()]
        stats = [json.loads(action["add"]["stats"]) for action in actions if "add" in action]
        assert [(one["numRecords"], one.get("minValues", {}), one.get("maxValues", {})) for one in stats] == [
            (1, told, told)
        ]
        assert not any(text in log.read_text() for text in ("c0ffee", "L02BA01", "a_file.csv", "everyone"))


def test_a_second_writer_is_refused_while_the_first_lives(spark: SparkSession, tmp_path: Path) -> None:
    with Lock(spark, str(tmp_path), beat_seconds=0.05):
        other = Lock(spark, str(tmp_path), beat_seconds=0.05, patience=20)
        with pytest.raises(WarehouseLockedError, match="another run holds the warehouse"):
            other.__enter__()
    assert not (tmp_path / "_lock").exists()


def test_a_dead_writer_is_taken_over_and_would_notice(spark: SparkSession, tmp_path: Path) -> None:
    dead = Lock(spark, str(tmp_path), beat_seconds=3600)
    dead.__enter__()
    with Lock(spark, str(tmp_path), beat_seconds=0.05, patience=2) as heir:
        heir.ensure_held()
        dead._beat_seconds = 0.01
        dead._stop = threading.Event()
        dead._beat()
        with pytest.raises(WarehouseLockedError, match="took the warehouse over"):
            dead.ensure_held()
    assert not (tmp_path / "_lock").exists()


def test_of_many_writers_one_creates_the_lock(tmp_path: Path) -> None:
    won: list[bool] = []
    barrier = threading.Barrier(8)

    def attempt() -> None:
        files = _LocalFiles(tmp_path)
        barrier.wait()
        won.append(files.create("x"))

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 7 + [True]


def test_a_warehouse_that_is_made_is_its_owners_alone(tmp_path: Path) -> None:
    """Who may read one that is there is its site's decision."""
    made, stood = tmp_path / "new" / "warehouse", tmp_path / "stood"
    stood.mkdir()
    stood.chmod(0o750)
    for folder, mode in ((made, 0o700), (stood, 0o750)):
        _LocalFiles(folder)
        _LocalFiles(folder)
        assert folder.stat().st_mode & 0o777 == mode


def test_the_same_version_of_a_warehouse_made_anew_is_another() -> None:
    before, after = (Commit(0, {"fingerprint": letter * 64}, 5) for letter in "ab")
    assert before.identity != after.identity
    assert before.identity == Commit(0, {"fingerprint": "a" * 64}, 7).identity
    assert Commit(1, {}, 0).identity == "1@nothing"
    added = [Commit(1, {"fingerprint": "c" * 64, "beside": letter * 64}, 5) for letter in "ab"]
    assert added[0].identity != added[1].identity, "the same delivery on top of others"
