"""Erasing people: out of every table of a warehouse, past and present, and never in again.

Who is erased stays on a list of suppressions that a later ingest obeys. It holds hashes of pseudonyms, not pseudonyms:
nothing in the warehouse names an erased person, and still the same person is known again.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.errors import ConfigurationError, TreatmentLinesError
from jobs.manifest import fingerprint
from jobs.report.printed import counted
from jobs.store import CONFORMED_SCHEMA, Commit, Store, contract_of, last_finished

SUPPRESSIONS = "suppressions"
MARKER = "ledger"
PURPOSE = "treatment-lines suppression"
PSEUDONYM_DIGITS = 32
PSEUDONYM = re.compile(rf"(?=([0-9a-f]{{{PSEUDONYM_DIGITS}}}))")  # also within more digits
BESIDE, BEFORE = ".erasing_", ".before_erasing_"
UNFINISHED = "unfinished"  # in the list's note: whether somebody of it may still stand in tables


def _suppression(person: Column) -> Column:
    return F.substring(F.sha2(F.concat_ws("\u001f", F.lit(PURPOSE), person), 256), 1, 32)


def suppression_of(pseudonym: str) -> str:
    """The same of one person, worked out here."""
    return hashlib.sha256(f"{PURPOSE}\u001f{pseudonym}".encode()).hexdigest()[:32]


def read_suppressions(store: Store) -> DataFrame | None:
    """The list of suppressions; None where nobody was ever erased."""
    newest = store.newest(CONFORMED_SCHEMA, SUPPRESSIONS)
    return None if newest is None else store.read(CONFORMED_SCHEMA, SUPPRESSIONS, newest.version)


def is_unfinished(store: Store) -> bool:
    """Whether somebody of the list may still stand in tables, for an erasure did not come to its end."""
    newest = store.newest(CONFORMED_SCHEMA, SUPPRESSIONS)
    return newest is not None and bool(newest.note.get(UNFINISHED))


def mark_suppressed(rows: DataFrame, suppressions: DataFrame, mark: str) -> DataFrame:
    """`rows` with the boolean column `mark`: the row's person_id is on the list."""
    listed = suppressions.select(F.col("suppression").alias("__suppression"), F.lit(True).alias("__listed"))
    joined = rows.withColumn("__suppression", _suppression(F.col("person_id"))).join(
        F.broadcast(listed), "__suppression", "left"
    )
    return joined.withColumn(mark, F.coalesce("__listed", F.lit(False))).drop("__suppression", "__listed")


@dataclass(frozen=True)
class Erasure:
    """What an erasure did: people on the list, those of them that stood in a table, tables made anew, files read as
    proof; `ended`: people beside them whom earlier ones that did not come to their end had left."""

    people: int
    found: int
    tables: tuple[str, ...]
    files: int
    ended: int


def erase(
    store: Store, pseudonyms: Collection[str], note: Mapping[str, str], ensure_held: Callable[[], None]
) -> Erasure:
    """Take the people out of every table of the warehouse, and prove it; ConfigurationError on an object store, 1 if
    the proof fails. `note`: what the list of suppressions says of itself, the check of the key and the like."""
    if "://" in store.warehouse:
        raise ConfigurationError(
            "erase: a folder cannot be exchanged in one step on an object store; mount the warehouse as a file system"
        )
    warehouse = Path(store.warehouse)
    left = _listed_people(store) - set(pseudonyms) if is_unfinished(store) else set()
    everyone = {*pseudonyms, *left}
    people = store.spark.createDataFrame([(one,) for one in sorted(everyone)], "person_id string")
    ensure_held()
    _suppress(store, map(suppression_of, everyone), {**note, UNFINISHED: True})
    marker = last_finished(store.commits(CONFORMED_SCHEMA, MARKER))
    identities = {} if marker is None else marker.note.get("identities", {})
    touched, renewed, found = [], [], set[str]()
    for schema in store.schemas():
        for name in store.tables(schema):
            if "person_id" not in _columns(name) or not _finds(warehouse / schema / name, everyone):
                continue
            ensure_held()
            identity = identities.get(name) if schema == CONFORMED_SCHEMA else None
            found |= _renew(store, schema, name, people, identity, ensure_held)
            touched.append(f"{schema}.{name}")
            if schema == CONFORMED_SCHEMA:
                renewed.append(name)
    _rewrite_marker(store, renewed, ensure_held)
    files = sum(1 for _ in _files(warehouse))
    still = _finds(warehouse, everyone)
    if still:
        raise TreatmentLinesError(
            f"erase: an erased person is still in {counted(still, 'file', 'files')} of the warehouse; take out what "
            "the program did not write and erase again; if that does not help, report this line"
        )
    ensure_held()
    _suppress(store, (), {**note, UNFINISHED: False})
    return Erasure(len(set(pseudonyms)), len(found - left), tuple(touched), files, len(left))


def _listed_people(store: Store) -> set[str]:
    """The people of the list whose pseudonym stands anywhere in the warehouse."""
    import pyarrow.compute as pc

    listed = read_suppressions(store)
    hashes = set() if listed is None else {str(row[0]) for row in listed.collect()}
    people = set[str]()

    def look_at(texts: Iterable[str]) -> None:
        people.update(one for one in texts if suppression_of(one) in hashes)

    for path in _files(Path(store.warehouse)):
        content = path.read_bytes()
        look_at(PSEUDONYM.findall(content.decode("latin-1")))
        with suppress(OSError, ValueError):  # what cannot be read is made anew all the same: see _holds
            for text in _text_columns(path, content):
                values = pc.drop_null(pc.unique(text)).to_pylist()
                look_at(value for value in values if len(value) == PSEUDONYM_DIGITS)
                longer = (value for value in values if len(value) > PSEUDONYM_DIGITS)
                look_at(found for value in longer for found in PSEUDONYM.findall(value))
    return people


def _columns(name: str) -> list[str]:
    try:
        return contract_of(name).column_names
    except KeyError:
        return []


def _suppress(store: Store, suppressions: Iterable[str], note: Mapping[str, Any]) -> None:
    """Put these on the list, and the note with it."""
    fresh = store.spark.createDataFrame([(one,) for one in sorted(suppressions)], "suppression string")
    listed = read_suppressions(store)
    everyone = (fresh if listed is None else listed.unionByName(fresh)).distinct().localCheckpoint()
    of_list = {"fingerprint": secrets.token_hex(16), **note}
    store.overwrite(CONFORMED_SCHEMA, SUPPRESSIONS, everyone.coalesce(1), of_list)


def _renewed_fingerprint(commit: Commit) -> str:
    return fingerprint(["erased", commit.fingerprint, secrets.token_hex(16)])


def _renew(
    store: Store,
    schema: str,
    name: str,
    people: DataFrame,
    identity: str | None,
    ensure_held: Callable[[], None],
) -> set[str]:
    """The newest rows without the people, in a fresh folder with a fresh log, in the place of the old one; those of the
    commit of that identity, where there is one: a run that failed leaves newer ones. Returns who was in them."""
    newest = store.existing(schema, name)
    newest = next((one for one in store.commits(schema, name) if one.identity == identity), newest)
    rows = store.read(schema, name, newest.version)
    found = rows.select("person_id").join(F.broadcast(people), "person_id").distinct().collect()
    kept = rows.join(F.broadcast(people), "person_id", "left_anti")
    # Derived tables get no fingerprint: they are to be run again.
    note = {key: value for key, value in newest.note.items() if key == "key"}
    if schema == CONFORMED_SCHEMA:
        note["fingerprint"] = _renewed_fingerprint(newest)
    _exchange(store, schema, name, kept, note, ensure_held)
    return {str(row[0]) for row in found}


def _exchange(
    store: Store,
    schema: str,
    name: str,
    rows: DataFrame,
    note: Mapping[str, Any],
    ensure_held: Callable[[], None],
) -> None:
    folder = Path(store.warehouse, schema)
    store.write_beside(schema, name, BESIDE + name, rows, note)
    ensure_held()  # who took the lock over has cleared away what lay beside
    (folder / name).rename(folder / (BEFORE + name))
    (folder / (BESIDE + name)).rename(folder / name)
    shutil.rmtree(folder / (BEFORE + name))
    store.forget_cached()


def _rewrite_marker(store: Store, renewed: Iterable[str], ensure_held: Callable[[], None]) -> None:
    """The marker names the tables made anew, also those of an erasure that did not come to its end; what was ingested
    stays known, earlier versions do not."""
    marker = last_finished(store.commits(CONFORMED_SCHEMA, MARKER))
    if marker is None:
        return
    named = {name: store.holding(CONFORMED_SCHEMA, name, version) for name, version in marker.note["tables"].items()}
    identities = marker.note.get("identities", {})
    anew = {*renewed} | {name for name in identities if name in named and named[name].identity != identities[name]}
    if not anew:
        return
    note: dict[str, Any] = json.loads(json.dumps({"identities": {}, "counts": {}, **marker.note}))
    note["fingerprint"] = _renewed_fingerprint(marker)
    for name in anew & named.keys():
        newest = store.existing(CONFORMED_SCHEMA, name)
        note["tables"][name] = newest.version
        note["rows"][name] = store.count(CONFORMED_SCHEMA, name, newest.version)
        note["identities"][name] = newest.identity
        note["counts"].pop(name, None)  # the next gate judges all of it
    # Its history would name versions of the tables that now are others.
    rows = store.read(CONFORMED_SCHEMA, MARKER, marker.version)
    _exchange(store, CONFORMED_SCHEMA, MARKER, rows, note, ensure_held)


def recover(warehouse: Path) -> None:
    """Put in order what an erasure that was interrupted left behind."""
    for before in warehouse.glob(f"*/{BEFORE}*"):
        table = before.with_name(before.name.removeprefix(BEFORE))
        if table.exists():
            shutil.rmtree(before)
        else:
            before.rename(table)
    for beside in warehouse.glob(f"*/{BESIDE}*"):
        shutil.rmtree(beside)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _finds(folder: Path, pseudonyms: Iterable[str]) -> int:
    """How many files below a folder hold one of the pseudonyms: bytes as they are, and every text column of a Parquet
    file decoded."""
    wanted = sorted(set(pseudonyms))
    return sum(1 for path in _files(folder) if _holds(path, wanted))


def _holds(path: Path, wanted: list[str]) -> bool:
    import pyarrow as pa
    import pyarrow.compute as pc

    content = path.read_bytes()
    if any(one.encode() in content for one in wanted):
        return True
    try:
        for text in _text_columns(path, content):
            if pc.any(pc.is_in(text, pa.array(wanted, pa.string()))).as_py():
                return True
            # A pseudonym inside a longer text, such as a row kept in quarantine or statistics of a checkpoint.
            long = (value for value in text.to_pylist() if value is not None and len(value) > PSEUDONYM_DIGITS)
            joined = "\n".join(long)
            if any(one in joined for one in wanted):
                return True
    except (OSError, ValueError):
        return True  # what a killed writer left and nobody can read: who knows
    return False


def _text_columns(path: Path, content: bytes) -> Iterator[Any]:
    """The text columns of a Parquet file, some rows at a time; none of another file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.name.endswith(".parquet"):
        with pq.ParquetFile(pa.BufferReader(content)) as file:
            for batch in file.iter_batches(batch_size=200_000):
                yield from _texts(batch)


def _texts(batch: Any) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    def inside(array: Any) -> Iterator[Any]:
        kind = array.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            yield array.cast(pa.string())
        elif pa.types.is_dictionary(kind):
            yield from inside(array.dictionary_decode())
        elif pa.types.is_struct(kind):
            for place in range(kind.num_fields):
                yield from inside(pc.struct_field(array, place))
        elif pa.types.is_map(kind):
            yield from inside(array.keys)
            yield from inside(array.items)
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
            yield from inside(array.flatten())

    for column in batch.columns:
        yield from inside(column)
