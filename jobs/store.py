"""The warehouse: the only place that reads and writes Delta tables, and the lock that keeps it to one writer."""

from __future__ import annotations

import json
import os
import re
import secrets
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

from jobs.errors import InputError, WarehouseLockedError
from schemas import CONFORMED, TABLES, Table, quarantine

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

CONFORMED_SCHEMA = "conformed"
COMMIT_FILE = re.compile(r"\d{20}\.json")
USER_METADATA = "spark.databricks.delta.commitInfo.userMetadata"
EVENTS = ("dispensing", "hospital_diagnosis", "hospital_drug")  # large: many rows of each person
GONE = ("FILE_NOT_EXIST", "FileNotFound")  # in what the engine says of a file that is not there
HOLDS = "holds"  # beside the note of a commit that brings no new rows: the version whose rows it has, and how many


@dataclass(frozen=True)
class Commit:
    """The newest commit of a table: its version, the note that the writing stage left in it (empty: none) and the
    number of rows it wrote."""

    version: int
    note: Mapping[str, Any]
    rows: int
    holds: int | None = None  # an older version, where this commit only moved or brought back its rows

    @property
    def content(self) -> int:
        """The version that first had these rows."""
        return self.version if self.holds is None else self.holds

    @property
    def fingerprint(self) -> str | None:
        """The fingerprint of the stage that wrote it; None where the newest commit is no stage's."""
        value = self.note.get("fingerprint")
        return str(value) if value is not None else None

    @property
    def identity(self) -> str:
        """The version, what made it and beside what: after a warehouse was made anew, the same version is another."""
        return f"{self.content}@{(self.fingerprint or 'nothing')[:16]}{self.note.get('beside', '')[:16]}"


def _commit(version: int, text: str | None, metrics: Mapping[str, str] | None) -> Commit:
    note = json.loads(text or "{}")
    held = note.pop(HOLDS, {})
    rows = int(held.get("rows", (metrics or {}).get("numOutputRows", 0)))
    return Commit(version, note, rows, held.get("version"))


def _commits_in(log: Path, limit: int | None) -> list[Commit] | None:
    """The commits of a log on a file system, the newest first, read as Delta's protocol lays them out: the engine would
    start a job to tell them. None where the log does not say, as where only a checkpoint is left."""
    commits = []
    with suppress(OSError, ValueError):  # a folder that is exchanged just now, a commit that is no JSON
        files = sorted((file for file in log.glob("*.json") if COMMIT_FILE.fullmatch(file.name)), reverse=True)[:limit]
        for file in files:
            with file.open(encoding="utf-8") as actions:
                told = (json.loads(action).get("commitInfo") for action in actions)
                info = next((one for one in told if one is not None), None)
            if info is None:
                return None
            commits.append(_commit(int(file.stem), info.get("userMetadata"), info.get("operationMetrics")))
        return commits or None
    return None


def last_finished(commits: Iterable[Commit]) -> Commit | None:
    """Of a marker's commits, the newest first, that of the last run that finished: it names the stage's tables."""
    return next((commit for commit in commits if "tables" in commit.note), None)


def contract_of(name: str) -> Table:
    """The contract of a table by its name; each `quarantine_<raw table>` has the same one, and a `superseded_<table>`
    that of its table."""
    return quarantine if name.startswith("quarantine_") else TABLES[name.removeprefix("superseded_")]


class Store:
    """Delta tables under one warehouse address, addressed by schema (folder) and table name."""

    def __init__(self, spark: SparkSession, warehouse: str, retention_days: int = 30) -> None:
        self.spark = spark
        self.warehouse = warehouse.rstrip("/")
        self._retention_days = retention_days

    def _address(self, schema: str, name: str) -> str:
        return f"delta.`{self.warehouse}/{schema}/{name}`"

    def _log(self, schema: str, name: str) -> Path | None:
        """The folder of a table's log; None on an object store."""
        return None if _is_remote(self.warehouse) else Path(self.warehouse, schema, name, "_delta_log")

    def commits(self, schema: str, name: str, limit: int | None = None) -> list[Commit]:
        """The commits that are still in the log, the newest first; none where there is no such table."""
        log = self._log(schema, name)
        if log is not None:
            if not log.is_dir():
                return []
            commits = _commits_in(log, limit)
            if commits is not None:
                return commits
        return self._history(schema, name, limit)

    def _history(self, schema: str, name: str, limit: int | None = None) -> list[Commit]:
        """The same, told by the engine."""
        from pyspark.errors import AnalysisException

        few = f" LIMIT {limit}" if limit is not None else ""
        try:
            history = self.spark.sql(f"DESCRIBE HISTORY {self._address(schema, name)}{few}").collect()
        except AnalysisException:
            return []
        return [_commit(int(row["version"]), row["userMetadata"], row["operationMetrics"]) for row in history]

    def newest(self, schema: str, name: str) -> Commit | None:
        """The newest commit, or None where there is no such table."""
        return next(iter(self.commits(schema, name, limit=1)), None)

    def existing(self, schema: str, name: str) -> Commit:
        """The newest commit of a table that is there; InputError where its log cannot be read."""
        newest = self.newest(schema, name)
        if newest is None:
            raise InputError(f"table {schema}.{name} has no commit that can be read; restore the warehouse")
        return newest

    def holding(self, schema: str, name: str, version: int) -> Commit:
        """The commit to read for the rows of a version: a later one that moved or brought them back, else its own."""
        holding = (one for one in self.commits(schema, name) if one.content == version)
        return next(holding, Commit(version, {}, 0))

    def is_whole(self, schema: str, name: str, version: int) -> bool:
        """Whether every file of that version is still there."""
        from py4j.protocol import Py4JJavaError
        from pyspark.errors import PySparkException
        from pyspark.sql import functions as F

        try:
            table = self.read(schema, name, version)
            if _is_remote(self.warehouse) or any(Path(self.warehouse, schema, name).glob("deletion_vector_*.bin")):
                # Opens each file, and what says which of its rows were taken out, and reads no column.
                table.agg(F.sum(F.lit(1))).collect()
                return True
            files = table.inputFiles()
        except InputError:
            return False
        except (PySparkException, Py4JJavaError) as error:
            if any(gone in str(error) for gone in GONE):
                return False
            raise
        return all(Path(unquote(file.removeprefix("file:").replace("///", "/"))).is_file() for file in files)

    def read(self, schema: str, name: str, version: int) -> DataFrame:
        """The table as of `version`; InputError where it is gone."""
        from pyspark.errors import AnalysisException

        try:
            return self.spark.sql(f"SELECT * FROM {self._address(schema, name)} VERSION AS OF {version}")
        except AnalysisException:
            raise InputError(f"table {schema}.{name}: version {version} is not there; run its stage again") from None

    def changes(self, schema: str, name: str, first: int, last: int) -> DataFrame:
        """Delta's change data feed of these versions, the last one included: its columns beside the table's. Where it
        is gone the engine has errors of many kinds, most of them when it is read."""
        feed = self.spark.read.format("delta").option("readChangeFeed", "true")
        feed = feed.option("startingVersion", first).option("endingVersion", last)
        return feed.load(f"{self.warehouse}/{schema}/{name}")

    def count(self, schema: str, name: str, version: int) -> int:
        """The rows of a version, from Delta's own statistics."""
        return self.read(schema, name, version).count()

    def _kept(self) -> dict[str, str]:
        kept = f"interval {self._retention_days} days"
        return {
            "delta.logRetentionDuration": kept,
            "delta.deletedFileRetentionDuration": kept,
            # Else commits go by their own age, though the version that they made was the newest until yesterday.
            "delta.enableExpiredLogCleanup": "false",
        }

    def keep_as_long(self, schema: str, name: str) -> None:
        """Let a table that was made to be kept for fewer days be kept as long as is set now: what Delta no longer
        remembers to have taken out it would delete, and it reads most properties only where a table is new."""
        told = self._told_properties(schema, name)
        days = re.fullmatch(r"interval (\d+) days", told.get("delta.deletedFileRetentionDuration", ""))
        is_as_long = days is not None and int(days[1]) >= self._retention_days
        if not is_as_long or told.get("delta.enableExpiredLogCleanup") != "false":
            self._with_rows_of(self.existing(schema, name), self._setting(schema, name, self._kept()))

    def _told_properties(self, schema: str, name: str) -> dict[str, str]:
        """The properties that a table has."""
        told = self.spark.sql(f"SHOW TBLPROPERTIES {self._address(schema, name)}").collect()
        return {row["key"]: row["value"] for row in told}

    def _setting(self, schema: str, name: str, properties: Mapping[str, str]) -> str:
        """The statement that gives a table these properties."""
        given = ", ".join(f"'{key}' = '{value}'" for key, value in properties.items())
        return f"ALTER TABLE {self._address(schema, name)} SET TBLPROPERTIES ({given})"

    def _properties(self, name: str) -> dict[str, str]:
        properties = self._kept()
        # Of each file the log tells from when to when it goes, by which files are left unread, and no text of a row.
        told = [one.name for one in contract_of(name).columns if one.type == "date" or one.name == "delivery"]
        if told:
            properties["delta.dataSkippingStatsColumns"] = ",".join(told)
        else:
            properties["delta.dataSkippingNumIndexedCols"] = "0"
        if name in CONFORMED or name == "person_claims":
            properties["delta.enableChangeDataFeed"] = "true"
        return properties

    def _write(
        self,
        schema: str,
        name: str,
        frame: DataFrame,
        mode: Literal["append", "error", "overwrite"],
        note: Mapping[str, Any],
        options: Mapping[str, str],
    ) -> Commit:
        contract = contract_of(name)
        typed = frame.select(*[frame[column.name].cast(column.type) for column in contract.columns])
        text = json.dumps(note, sort_keys=True)
        writer = typed.write.format("delta").mode(mode).option("userMetadata", text).options(**options)
        writer.options(**self._properties(name)).save(f"{self.warehouse}/{schema}/{name}")
        commit = self.newest(schema, name)
        if commit is None or commit.note != note:
            raise WarehouseLockedError(f"table {schema}.{name} was written by somebody else meanwhile; run again")
        return commit

    def overwrite(self, schema: str, name: str, frame: DataFrame, note: Mapping[str, Any]) -> Commit:
        """Replace the table in one commit that carries `note`, with the stage's fingerprint in it."""
        log = self._log(schema, name)
        if log is not None and not log.is_dir():  # or the engine starts a job to find no files
            return self._write(schema, name, frame, "error", note, {})
        return self._write(schema, name, frame, "overwrite", note, {"overwriteSchema": "true"})

    def replace_delivery(
        self, schema: str, name: str, frame: DataFrame, delivery: str, note: Mapping[str, Any]
    ) -> Commit:
        """Replace one delivery's rows by `frame`, all of which are that delivery's, in one commit."""
        return self._write(schema, name, frame, "overwrite", note, {"replaceWhere": f"delivery = '{delivery}'"})

    def append(self, schema: str, name: str, frame: DataFrame, note: Mapping[str, Any]) -> Commit:
        """Add rows in one commit."""
        return self._write(schema, name, frame, "append", note, {})

    def remove(self, schema: str, name: str, rows: DataFrame, identity: Sequence[str]) -> None:
        """Take rows out by the columns that tell them apart; nothing of them stands in a predicate."""
        if rows.isEmpty():
            return
        if name in EVENTS:
            self._spare_files(schema, name)
        view = f"removed_{secrets.token_hex(8)}"
        rows.select(*identity).createOrReplaceTempView(view)
        same = " AND ".join(f"t.`{column}` <=> s.`{column}`" for column in identity)
        try:
            self.spark.sql(
                f"MERGE INTO {self._address(schema, name)} t USING {view} s ON {same} WHEN MATCHED THEN DELETE"
            )
        finally:
            self.spark.catalog.dropTempView(view)

    def _spare_files(self, schema: str, name: str) -> None:
        """Let rows be taken out of a table by vectors beside its files, which are not written anew for it.

        Not before there is a row to take out: of a table with this property the engine lists the files once more for
        each plan, and each time that it changes the plan.
        """
        vectors = "delta.enableDeletionVectors"
        if self._told_properties(schema, name).get(vectors) != "true":
            self.spark.sql(self._setting(schema, name, {vectors: "true"}))

    def write_beside(self, schema: str, name: str, folder: str, frame: DataFrame, note: Mapping[str, Any]) -> None:
        """Write a table's rows as the first version of a new table in another folder of the schema."""
        columns = contract_of(name).columns
        typed = frame.select(*[frame[column.name].cast(column.type) for column in columns])
        writer = typed.write.format("delta").option("userMetadata", json.dumps(note, sort_keys=True))
        writer.options(**self._properties(name)).save(f"{self.warehouse}/{schema}/{folder}")

    def forget_cached(self) -> None:
        """Read logs anew: a folder was exchanged under its name."""
        jvm: Any = self.spark._jvm
        jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()
        self.spark.catalog.clearCache()

    def tables(self, schema: str) -> list[str]:
        """The Delta tables of a schema, sorted; on an object store those that a contract names."""
        if _is_remote(self.warehouse):
            return sorted(name for name in TABLES if self.newest(schema, name) is not None)
        folders = Path(self.warehouse, schema).glob("*")
        return sorted(path.name for path in folders if path.name[0] != "." and (path / "_delta_log").is_dir())

    def optimize(self, schema: str, name: str) -> tuple[int, int]:
        """Put the newest rows into fewer files, and rows that were taken out of files out of them for good, in a commit
        that says which version it holds; how many files there were and are."""
        outcome = self._with_rows_of(self.existing(schema, name), f"OPTIMIZE {self._address(schema, name)}")
        told = outcome.collect()[0]["metrics"]
        before = int(told["totalConsideredFiles"])
        return before, before - int(told["numFilesRemoved"]) + int(told["numFilesAdded"])

    def vacuum(self, schema: str, name: str) -> int:
        """Delete files that no version within the retention needs; how many data files there are fewer."""
        address = self._address(schema, name)
        self.keep_as_long(schema, name)
        # Delta refuses less than a week, would log the vacuum as a newer version of the table, and would go by the days
        # that the table says, though fewer are set now.
        for key in ("retentionDurationCheck", "vacuum.logging", "vacuum.retentionWindowIgnore"):
            self.spark.conf.set(f"spark.databricks.delta.{key}.enabled", "false")
        retain = f"RETAIN {24 * self._retention_days} HOURS"
        if _is_remote(self.warehouse):
            deleted = self.spark.sql(f"VACUUM {address} {retain} DRY RUN").count()
            self.spark.sql(f"VACUUM {address} {retain}")
            return deleted
        before = self._data_files(schema, name)
        self.spark.sql(f"VACUUM {address} {retain}")
        return before - self._data_files(schema, name)

    def _data_files(self, schema: str, name: str) -> int:
        return sum(1 for _ in Path(self.warehouse, schema, name).rglob("*.parquet"))

    def note(self, schema: str, name: str, commit: Commit) -> None:
        """Let the newest rows, which are the commit's, carry its note, by a new commit."""
        self._with_rows_of(commit, self._setting(schema, name, {"treatment_lines.note": "renewed"}))
        if self.existing(schema, name).note != commit.note:
            raise WarehouseLockedError(f"table {schema}.{name} was written by somebody else meanwhile; run again")

    def restore(self, schema: str, name: str, commit: Commit) -> None:
        """Make the table what it was at a commit, by a new one."""
        self._with_rows_of(commit, f"RESTORE TABLE {self._address(schema, name)} TO VERSION AS OF {commit.version}")

    def _with_rows_of(self, commit: Commit, statement: str) -> DataFrame:
        """Run a statement whose own commit has the rows and the note of another one, and let it say so."""
        note = {**commit.note, HOLDS: {"version": commit.content, "rows": commit.rows}}
        self.spark.conf.set(USER_METADATA, json.dumps(note, sort_keys=True))
        try:
            return self.spark.sql(statement)
        finally:
            self.spark.conf.unset(USER_METADATA)

    def schemas(self) -> list[str]:
        """The schemas of the warehouse, sorted; on an object store only the conformed one is known."""
        if _is_remote(self.warehouse):
            return [CONFORMED_SCHEMA]
        folders = [path for path in Path(self.warehouse).glob("*") if path.is_dir()]
        return sorted(path.name for path in folders if not path.name.startswith(("_", ".")))

    def disown(self, schema: str, name: str) -> None:
        """Add a commit without a fingerprint: the rows stay for the data owner, but no stage takes them for done."""
        self.spark.sql(self._setting(schema, name, {"treatment_lines.gate": "failed"}))


def _is_remote(address: str) -> bool:
    return "://" in address


class Lock:
    """One writer per warehouse. The holder counts up in the lock file; a lock whose count stands still for
    `patience` beats belongs to nobody. No clock time and no process number is compared between machines."""

    def __init__(self, spark: SparkSession, warehouse: str, beat_seconds: float = 2.0, patience: int = 4) -> None:
        self._files = _HadoopFiles(spark, warehouse) if _is_remote(warehouse) else _LocalFiles(Path(warehouse))
        self._beat_seconds = beat_seconds
        self._patience = patience
        self._token = secrets.token_hex(8)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.lost = False

    def __enter__(self) -> Lock:
        if not self._files.create(self._content(0)):
            self._take_over_if_dead()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if not self.lost and self._is_mine():
            self._files.delete()

    def ensure_held(self) -> None:
        """WarehouseLockedError if somebody took the lock over meanwhile."""
        if self.lost:
            raise WarehouseLockedError("another run took the warehouse over; wait for it and run again")

    def _content(self, count: int) -> str:
        return json.dumps({"token": self._token, "count": count})

    def _is_mine(self) -> bool:
        with suppress(OSError, ValueError, AttributeError):
            return bool(json.loads(self._files.read() or "{}").get("token") == self._token)
        return False

    def _take_over_if_dead(self) -> None:
        before = self._files.read()
        for _ in range(self._patience):
            self._stop.wait(self._beat_seconds)
            if self._files.read() != before:
                raise WarehouseLockedError("another run holds the warehouse; wait until it ends and run again")
        self._files.delete()
        if not self._files.create(self._content(0)):
            raise WarehouseLockedError("another run took the warehouse first; wait until it ends and run again")

    def _beat(self) -> None:
        count = 0
        while not self._stop.wait(self._beat_seconds):
            count += 1
            if not self._is_mine():
                self.lost = True
                return
            self._files.replace(self._content(count))


class _LocalFiles:
    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # who may read one that is there, its site decided
        self._path = folder / "_lock"

    def create(self, content: str) -> bool:
        try:
            descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "w") as file:
            file.write(content)
        return True

    def read(self) -> str | None:
        with suppress(FileNotFoundError):
            return self._path.read_text()
        return None

    def replace(self, content: str) -> None:
        beside = self._path.with_name(f"_lock.{secrets.token_hex(4)}")
        beside.write_text(content)
        beside.replace(self._path)

    def delete(self) -> None:
        self._path.unlink(missing_ok=True)


class _HadoopFiles:
    """The same on any store that Spark can write to, through its own file system layer."""

    def __init__(self, spark: SparkSession, warehouse: str) -> None:
        jvm: Any = spark._jvm
        self._path = jvm.org.apache.hadoop.fs.Path(f"{warehouse}/_lock")
        configuration = spark._jsc.hadoopConfiguration()
        self._system = self._path.getFileSystem(configuration)

    def create(self, content: str) -> bool:
        from py4j.protocol import Py4JJavaError

        try:
            stream = self._system.create(self._path, False)
        except Py4JJavaError:
            return False
        stream.write(bytearray(content.encode()))
        stream.close()
        return True

    def read(self) -> str | None:
        from py4j.protocol import Py4JJavaError

        try:
            stream = self._system.open(self._path)
        except Py4JJavaError:
            return None
        content = bytes(stream.readAllBytes()).decode()
        stream.close()
        return content

    def replace(self, content: str) -> None:
        stream = self._system.create(self._path, True)
        stream.write(bytearray(content.encode()))
        stream.close()

    def delete(self) -> None:
        self._system.delete(self._path, False)
