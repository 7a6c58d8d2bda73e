"""Raw extracts as they lie in a delivery: found, fingerprinted by content, checked, and read as text with lineage."""

from __future__ import annotations

import csv
import glob
import gzip
import hashlib
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, FloatType, StringType, StructField, StructType

from jobs.config import InputFile, Site
from jobs.errors import InputError
from jobs.local_frame import local_frame
from jobs.sources.adapter import PLACE, Adapter, RawTable

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

CORRUPT = "__corrupt"
BESIDE = "__beside"
MAXIMUM_COLUMNS = 20_000
PACKED = 5  # bytes of text in a byte of a compressed file, about
LINEAGE = ("source_file", "source_row", "delivery")
BLOCK, POSITION = PLACE[1:]
SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a vertical bar"}
PLAIN_NAME = re.compile(r"\w+")  # others would be read as paths into a struct
CHUNK = 1 << 24
FILES_AT_A_TIME = 2  # each with some chunks in memory
UNREADABLE = re.compile(r"FAILED_READ_FILE[^\]]*\][^\n]*?reading file (\S+?)\.?\s")
AS_TEXT = ("string", "large_string", "int", "uint", "half", "float", "double", "decimal", "date", "timestamp", "bool",
           "null", "dictionary<values=string")  # fmt: skip


@dataclass(frozen=True)
class Extract:
    """The files of one raw table of a delivery, all with the same format; `header` by file, as adapter's names."""

    raw: RawTable
    declared: InputFile
    files: tuple[str, ...]
    headers: Mapping[str, tuple[str, ...]]
    unknown_columns: tuple[str, ...]
    types: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # of Parquet, by file


def _options(raw: RawTable, declared: InputFile) -> dict[str, str]:
    return {"sep": ",", "encoding": "UTF-8", **raw.options, **declared.options}


def _files(name: str, declared: InputFile) -> tuple[str, ...]:
    if "://" in declared.path:
        return (declared.path,)
    path = Path(declared.path)
    if path.is_dir():
        found = [file for file in sorted(path.rglob("*")) if file.is_file() and file.name[0] not in "._"]
    else:
        found = [Path(file) for file in sorted(glob.glob(declared.path))]
    if not found:
        raise InputError(f"inputs.{name}: no file at {declared.path}; see path in the site file")
    return tuple(str(file) for file in found)


def _open(file: str) -> BinaryIO:
    return cast(BinaryIO, gzip.open(file) if file.endswith(".gz") else Path(file).open("rb"))


def _first_line(session: Callable[[], SparkSession], name: str, file: str, options: Mapping[str, str]) -> str:
    short = Path(file).name
    if "://" in file:
        row = session().read.text(file).first()
        if row is None:
            raise InputError(f"inputs.{name}: {short} is empty; ask for the extract again")
        return str(row[0])
    try:
        with _open(file) as stream:
            start = stream.read(4)
            line = start + stream.readline(50_000_000)
    except (OSError, EOFError, zlib.error):
        raise InputError(f"inputs.{name}: {short} cannot be read, or is not what its suffix says") from None
    if not line.strip():
        raise InputError(f"inputs.{name}: {short} is empty; ask for the extract again")
    if b"\0" in line and not options["encoding"].upper().startswith("UTF-16") or start == b"PAR1":
        raise InputError(f"inputs.{name}: {short} is not a text file; see format in the site file")
    try:
        return line.decode(options["encoding"])
    except (UnicodeDecodeError, LookupError):
        raise InputError(
            f"inputs.{name}: the header of {short} is not {options['encoding']}; see options.encoding in the site file"
        ) from None


def _parquet_types(name: str, file: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """The type of each column; InputError for one that does not give the text that a CSV file would hold."""
    import pyarrow.parquet as pq

    types = tuple(str(column.type) for column in pq.read_schema(file))
    for column, type_ in zip(names, types, strict=True):
        if not column.startswith("__") and not type_.startswith(AS_TEXT):
            raise InputError(
                f"inputs.{name}: {Path(file).name} has the column {column} as {_kind(type_)} instead of text, a "
                "number or a date; deliver it as text"
            )
    return types


def _kind(type_: str) -> str:
    """A type without its parts; whole and other numbers are of one kind, for columns with gaps come as either."""
    kind = re.split(r"[<\[(]", type_)[0].removeprefix("large_")
    if kind == "dictionary":
        return "string"
    return "number" if re.match("u?int|half|float|double|decimal", kind) else kind


def _ensure_same_kinds(name: str, extract: Extract) -> None:
    """InputError where a column of Parquet has another kind of type in another file: an identifier would lose zeros."""
    first: dict[str, str] = {}
    for file, types in extract.types.items():
        for column, type_ in zip(extract.headers[file], types, strict=True):
            kind = _kind(type_)
            if kind == "null" or column.startswith("__"):
                continue
            if first.setdefault(column, kind) != kind:
                raise InputError(
                    f"inputs.{name}: {Path(file).name} has the column {column} as {kind}, other files as "
                    f"{first[column]}; deliver all of them alike"
                )


def _ensure_same_identifiers(extracts: Mapping[str, Extract]) -> None:
    """InputError where raw tables have the identifier of people as numbers and as text: numbers have lost their leading
    zeros, and those people would be two. Parquet on an object store counts as text."""
    people: dict[str, str] = {}
    for name, extract in extracts.items():
        if extract.raw.id_column is None:
            continue
        told_by, kind = name, _identifier_kind(name, extract, extract.raw.id_column)
        key_file = extracts.get(key_file_of(name))
        if key_file is not None:
            told_by = key_file.raw.name
            _ensure_alike({name: kind, told_by: _identifier_kind(told_by, key_file, "identifier")})
            kind = _identifier_kind(told_by, key_file, "person")
        people[told_by] = kind
    _ensure_alike(people)


def _ensure_alike(kinds: Mapping[str, str]) -> None:
    number, text = (next((name for name, one in kinds.items() if one == kind), None) for kind in ("number", "text"))
    if number is not None and text is not None:
        raise InputError(
            f"inputs.{number}: has the identifier of people as a number, inputs.{text} as text, where zeros may lead; "
            "deliver all of them as text"
        )


def _identifier_kind(name: str, extract: Extract, column: str) -> str:
    """number, text, or nothing where no file has any; InputError for types in which identifiers get decimals or lose
    digits: decimals, and floats of 32 bits or fewer."""
    kinds = set()
    for file, types in extract.types.items():
        type_ = dict(zip(extract.headers[file], types, strict=True)).get(column, "null")
        if re.fullmatch(r"decimal\d*\(\d+, [1-9]\d*\)|(half)?float", type_):
            raise InputError(
                f"inputs.{name}: {Path(file).name} has the identifier {column} with decimals; deliver it as text"
            )
        kinds.add("number" if _kind(type_) == "number" else type_ if type_ == "null" else "text")
    kinds -= {"null"}
    return (kinds or {"" if extract.types else "text"}).pop()


def _parquet_columns(session: Callable[[], SparkSession], name: str, file: str) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyspark.errors import PySparkException

    try:
        if "://" in file:
            return list(session().read.parquet(file).columns)
        return list(pq.read_schema(file).names)
    except (OSError, pa.ArrowException, PySparkException):
        raise InputError(f"inputs.{name}: {Path(file).name} is not Parquet; see format in the site file") from None


def _header(
    session: Callable[[], SparkSession], name: str, file: str, declared: InputFile, options: Mapping[str, str]
) -> list[str]:
    if declared.format == "parquet":
        return _parquet_columns(session, name, file)
    line = _first_line(session, name, file, options).lstrip("\ufeff").rstrip("\r\n")
    if line.count(options["sep"]) >= MAXIMUM_COLUMNS:
        raise InputError(
            f"inputs.{name}: {Path(file).name} has more than {MAXIMUM_COLUMNS} columns; see "
            "options.sep in the site file, or ask for the extract again"
        )
    csv.field_size_limit(100_000_000)
    try:
        return [column.strip() for column in next(csv.reader(io.StringIO(line), delimiter=options["sep"]))]
    except (csv.Error, StopIteration, TypeError):
        raise InputError(
            f"inputs.{name}: the header of {Path(file).name} cannot be read; see options.sep in the site file"
        ) from None


def _ensure_known(raw: RawTable, declared: InputFile) -> None:
    """InputError where the site renames a column that the adapter does not have: a slip that would leave it empty."""
    strange = sorted(set(declared.columns) - {*raw.columns, *raw.optional})
    if strange:
        raise InputError(
            f"inputs.{raw.name}.columns: {strange[0]} is no column of the adapter; known: "
            f"{', '.join((*raw.columns, *raw.optional))}"
        )


def _ensure_separated(name: str, file: str, header: list[str], raw: RawTable, declared: InputFile) -> None:
    """InputError for a header of one cell that holds what separates cells elsewhere; its text is not said."""
    used = _options(raw, declared)["sep"]
    others = {sep: header[0].count(sep) for sep in SEPARATORS if sep != used} if len(header) == 1 else {}
    likely = max(others, key=lambda sep: others[sep], default="")
    if declared.format != "parquet" and others.get(likely):
        raise InputError(
            f"inputs.{name}: {Path(file).name} is read with {SEPARATORS.get(used, used)} as separator, and its header "
            f"looks separated by {SEPARATORS[likely]}; see options.sep in the site file"
        )


def _names(name: str, file: str, header: list[str], raw: RawTable, declared: InputFile) -> tuple[list[str], list[str]]:
    """The header by the adapter's names, and the columns the adapter does not know; InputError for a lost column."""
    if not raw.names_columns:
        if len(header) != len(raw.columns):
            _ensure_separated(name, file, header, raw, declared)
            raise InputError(
                f"inputs.{name}: {Path(file).name} has {len(header)} columns instead of {len(raw.columns)}; see "
                "options.sep in the site file"
            )
        return list(raw.columns), []
    # What the site renames comes last: it wins over a column of the adapter that has that name.
    ordered = sorted((*raw.columns, *raw.optional), key=lambda column: column in declared.columns)
    adapters = {written.lower(): column for column in ordered for written in declared.named(column)}
    prefixes = {
        written.rstrip("*").lower(): column[:-1].lower()
        for column in ordered
        if column.endswith("*")
        for written in declared.named(column)
    }
    names, unknown, same = [], [], Counter[str]()
    for column in header:
        lower = column.lower()
        prefix = max((one for one in prefixes if lower.startswith(one)), key=len, default=None)
        if lower in adapters:
            names.append(adapters[lower])
        elif prefix is not None and PLAIN_NAME.fullmatch(lower):
            names.append(prefixes[prefix] + lower.removeprefix(prefix))
        else:
            # By its name, wherever it stands; two of one name are told apart.
            digest = hashlib.sha256(lower.encode()).hexdigest()[:16]
            names.append(f"__unknown_{digest}_{same[lower]}")
            same[lower] += 1
            unknown.append(column)
    lost = [column for column in raw.columns if column not in names]
    if lost:
        _ensure_separated(name, file, header, raw, declared)
        expected = " or ".join(declared.named(lost[0]))
        raise InputError(
            f"inputs.{name}: {Path(file).name} has no column {expected}"
            f"{f' and {len(lost) - 1} more' if len(lost) > 1 else ''}; if it was renamed, say so under columns:"
        )
    repeated = {column for column in names if names.count(column) > 1}
    if repeated:
        raise InputError(
            f"inputs.{name}: {Path(file).name} has the column {min(repeated)} twice; ask for the extract again, or see "
            "columns in the site file"
        )
    return names, unknown


def _extract(session: Callable[[], SparkSession], raw: RawTable, declared: InputFile) -> Extract:
    _ensure_known(raw, declared)
    files = _files(raw.name, declared)
    options = _options(raw, declared)
    headers, unknown = {}, set()
    types: dict[str, tuple[str, ...]] = {}
    for file in files:
        header = _header(session, raw.name, file, declared, options)
        names, strange = _names(raw.name, file, header, raw, declared)
        headers[file] = tuple(names)
        unknown |= set(strange)
        if declared.format == "parquet" and "://" not in file:
            types[file] = _parquet_types(raw.name, file, headers[file])
    extract = Extract(raw, declared, files, headers, tuple(sorted(unknown)), types)
    _ensure_same_kinds(raw.name, extract)
    return extract


def _key_file(extract: Extract) -> RawTable:
    """The key file of a raw table, as a table that is read like one."""
    raw = extract.raw
    parts = set(raw.id_parts) & {column for header in extract.headers.values() for column in header}
    if raw.id_column is None or parts:
        raise InputError(
            f"inputs.{raw.name}.key_file: the table has {'numbers of its own beside' if parts else 'no'} "
            "identifiers of people; deliver it with the identifiers of the others"
        )
    return RawTable(
        name=key_file_of(raw.name),
        annotate=lambda rows, _: rows,
        columns=("identifier", "person"),
        id_column=None,
        options=raw.options,
    )


def key_file_of(name: str) -> str:
    """The name of the extract with the key file of a raw table."""
    return f"{name}.key_file"


def find_extracts(session: Callable[[], SparkSession], site: Site, adapter: Adapter) -> dict[str, Extract]:
    """Each raw table's files and headers, and those of key files, checked before anything is read or written;
    InputError.

    `session` is called only for files on an object store."""
    known = {raw.name for raw in adapter.raw_tables}
    strangers = sorted(set(site.inputs) - known)
    if strangers:
        raise InputError(
            f"inputs.{strangers[0]}: {adapter.country} has no such raw table; known: {', '.join(sorted(known))}"
        )
    extracts = {}
    for raw in adapter.raw_tables:
        declared = site.inputs.get(raw.name)
        if declared is None:
            if raw.required:
                raise InputError(f"inputs.{raw.name}: is missing; {adapter.country} needs it")
            continue
        extracts[raw.name] = _extract(session, raw, declared)
        if declared.key_file is not None:
            key_file = _key_file(extracts[raw.name])
            extracts[key_file.name] = _extract(session, key_file, declared.key_file)
    if not adapter.numbers_people:
        _ensure_same_identifiers(extracts)
    return extracts


def _text(read: DataFrame, column: str) -> Column:
    """As text; whole numbers that were written as floating-point ones, as integers with gaps are, without a point."""
    value = read[column]
    if read.schema[column].dataType not in (DoubleType(), FloatType()):
        return F.make_valid_utf8(value.cast("string"))  # what is no text becomes the sign by which it is known
    is_whole = (value == F.floor(value)) & (F.abs(value) < 2**53)  # beyond, whole numbers are not told apart
    return F.when(is_whole, value.cast("bigint").cast("string")).otherwise(value.cast("string"))


def _read_group(spark: SparkSession, extract: Extract, files: list[str], names: tuple[str, ...]) -> DataFrame:
    place = [F.col("_metadata.file_path").alias("__file"), F.col("_metadata.file_block_start").alias(BLOCK)]
    position = F.monotonically_increasing_id().alias(POSITION)
    if extract.declared.format == "parquet":
        read = spark.read.parquet(*files)
        columns = [_text(read, column).alias(name) for column, name in zip(read.columns, names, strict=True)]
        return read.select(*columns, F.lit(None).cast("string").alias(CORRUPT), *place, position)
    schema = StructType([StructField(name, StringType()) for name in (*names, CORRUPT)])
    reader = spark.read.schema(schema).option("header", True).option("mode", "PERMISSIVE")
    reader = reader.option("columnNameOfCorruptRecord", CORRUPT).option("escape", '"').option("enforceSchema", True)
    # With pruning, a row with a cell too few or too many is seen only where the missing cell is used.
    reader = reader.option("columnPruning", False)
    reader = reader.option("ignoreLeadingWhiteSpace", True).option("ignoreTrailingWhiteSpace", True)
    for option, value in _options(extract.raw, extract.declared).items():
        reader = reader.option(option, value)
    return reader.csv(files).select("*", *place, position)


def offsets_of(splits: Iterable[tuple[str, int, int, int]]) -> dict[tuple[str, int], int]:
    """What to add to `__position` of the rows of each split (file, first byte) to get their `source_row`.

    `splits`: file, first byte, rows, lowest position of each.
    """
    offsets, before = {}, dict[str, int]()
    for file, block, rows, first in sorted(splits):
        offsets[file, block] = before.get(file, 0) - first + 1
        before[file] = before.get(file, 0) + rows
    return offsets


def with_source_row(rows: DataFrame, offsets: Mapping[tuple[str, int], int]) -> DataFrame:
    """`source_row` in the place of `__block` and `__position`: 1 is the first row after the header."""
    known = [(file, block, offset) for (file, block), offset in offsets.items()]
    table = local_frame(rows.sparkSession, known, f"source_file string, {BLOCK} long, __offset long")
    return (
        rows.join(F.broadcast(table), ["source_file", BLOCK], "left")
        .withColumn("source_row", F.col(POSITION) + F.col("__offset"))
        .drop(BLOCK, POSITION, "__offset")
    )


def splits_of(rows: DataFrame, *counts: Column) -> DataFrame:
    """What `offsets_of` needs, and `counts` beside it: one row per split of a file."""
    return rows.groupBy("source_file", BLOCK).agg(F.count("*").alias("__n"), F.min(POSITION).alias("__first"), *counts)


def _without_more_header_lines(rows: DataFrame, more: int) -> DataFrame:
    offsets = offsets_of(tuple(row) for row in splits_of(rows).collect())
    numbered = with_source_row(rows, offsets).where(F.col("source_row") > more)
    return numbered.withColumns({BLOCK: F.lit(0).cast("long"), POSITION: F.col("source_row")}).drop("source_row")


def size_of(extract: Extract) -> int:
    """Bytes of the extract's files as text; 0 on an object store, where nobody said."""
    files = [file for file in extract.files if "://" not in file]
    return sum(Path(file).stat().st_size * (PACKED if file.endswith((".gz", ".parquet")) else 1) for file in files)


def read_extract(spark: SparkSession, extract: Extract) -> DataFrame:
    """The raw rows: every column of the adapter as trimmed text (empty is NULL), absent optional ones as NULL,
    `__corrupt` (boolean), `__beside` (what columns that the adapter ignores hold), source_file, and the place in the
    file: `__block` (first byte of the split) and `__position`, which grows with the rows of a split.

    To number the rows of a file, the rows of each split before must have been counted: see `with_source_row`.
    """
    groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for file in extract.files:
        groups.setdefault((extract.headers[file], extract.types.get(file, ())), []).append(file)
    parts = [_read_group(spark, extract, files, names) for (names, _), files in groups.items()]
    read = parts[0]
    for part in parts[1:]:
        read = read.unionByName(part, allowMissingColumns=True)
    wanted = [name for name in read.columns if not name.startswith("__")]
    wanted += [name for name in extract.raw.optional if name not in wanted and not name.endswith("*")]
    text = [
        F.expr(f"nullif(trim(`{name}`), '')" if name in read.columns else "CAST(NULL AS STRING)").alias(name)
        for name in wanted
    ]
    ignored = sorted(name for name in read.columns if name.startswith("__unknown"))
    said = [F.concat(F.lit(f"{name}="), F.nullif(F.trim(F.col(name)), F.lit(""))) for name in ignored]
    beside = F.nullif(F.concat_ws("\0", *said), F.lit("")) if ignored else F.lit(None)
    rows = read.select(
        *text,
        F.col(CORRUPT).isNotNull().alias(CORRUPT),
        beside.cast("string").alias(BESIDE),
        F.substring_index("__file", "/", -1).alias("source_file"),
        BLOCK,
        POSITION,
    )
    more = extract.raw.header_lines - 1
    return _without_more_header_lines(rows, more) if more else rows


@contextmanager
def reading(extracts: Mapping[str, Extract]) -> Iterator[None]:
    """InputError where the engine cannot read a file to its end; its own words may hold a cell."""
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    try:
        yield
    except (Py4JJavaError, PySparkException) as error:
        found = UNREADABLE.search(str(error))
        if found is None:
            raise
        short = found[1].rsplit("/", 1)[-1]
        tables = [name for name, extract in extracts.items() if short in {Path(file).name for file in extract.files}]
        if not tables:
            raise
        raise InputError(
            f"inputs.{tables[0]}: {short} cannot be read to its end: it is damaged, or a row has more than 20,480 "
            "cells; ask for the extract again"
        ) from None


def _ensure_whole(name: str, file: str, extract: Extract) -> None:
    """InputError for a compressed file that ends too early, and for a first or last cell with a line break. Rows end at
    line breaks; where one lies in another cell, both halves have too few cells, but here one has as many as a row."""
    options = _options(extract.raw, extract.declared)
    if extract.declared.format == "parquet":
        return
    quote, separator = options.get("quote", '"').encode(), options["sep"].encode()
    looks_for_quotes = len(quote) == len(separator) == 1 and not options["encoding"].upper().startswith("UTF-16")
    cells, rest, lines = len(extract.headers[file]), b"", 0
    try:
        with _open(file) as stream:
            while chunk := stream.read(CHUNK):
                if not looks_for_quotes:
                    continue
                text = rest + chunk
                # The last whole line stays until the line after it is there.
                last = text.rfind(b"\n", 0, max(text.rfind(b"\n"), 0)) + 1
                if quote in text:
                    lines += _broken_rows(text, last, quote, separator, cells)
                rest = text[last:]
    except (OSError, EOFError, zlib.error):
        raise InputError(
            f"inputs.{name}: {Path(file).name} cannot be read to its end; ask for the extract again"
        ) from None
    if looks_for_quotes and quote in rest:
        lines += _broken_rows(rest + b"\n", len(rest) + 1, quote, separator, cells)
    if lines:
        raise InputError(
            f"inputs.{name}: in {lines:,} {'row' if lines == 1 else 'rows'} of {Path(file).name} the quote of the "
            "first or last cell does not close on its line; deliver cells without line breaks, or say options.quote in "
            "the site file"
        )


def _broken_rows(text: bytes, until: int, quote: bytes, separator: bytes, cells: int) -> int:
    """How many lines before the place `until` leave a quote open, and have all their cells themselves or before a line
    that has: one that starts with the other half of a cell."""
    inside = b"(?:[^\\r\\n" + quote + b"]++|" + quote * 2 + b")*+"
    opened = re.compile(b"(?:^|[\\r\\n]|" + re.escape(separator) + b")[ \\t]*" + quote + inside + b"(?=([\\r\\n]))")
    other_half = re.compile(b"[^\\r\\n" + quote + b"]*+" + quote + b"[ \\t]*" + re.escape(separator) + b"[^\\r\\n]*+")

    def row_of(line: bytes, strict: bool = False) -> list[str]:
        lines = [line.decode("latin-1")]
        return next(csv.reader(lines, delimiter=separator.decode(), quotechar=quote.decode(), strict=strict), [])

    def leaves_open(line: bytes) -> bool:
        try:
            row_of(line, strict=True)
        except csv.Error as error:
            return "end of data" in str(error)
        return False

    n = 0
    # Often only the header has quotes: from the end of the line before the first one to the end of the last one's line.
    first, last = text.rfind(b"\n", 0, text.find(quote)), text.find(b"\n", text.rfind(quote))
    for match in opened.finditer(text, max(first, 0), last + 1 or len(text)):
        end = match.end()
        if end >= until:
            break
        line = text[max(text.rfind(b"\n", 0, end), text.rfind(b"\r", 0, end)) + 1 : end]
        after = other_half.match(text, end + (2 if text[end : end + 2] == b"\r\n" else 1))
        if leaves_open(line):
            n += len(row_of(line)) == cells or (after is not None and len(row_of(after[0])) == cells)
    return n


def fingerprint_files(spark: SparkSession, extracts: Mapping[str, Extract], cache_file: Path | None) -> dict[str, str]:
    """Raw table -> SHA-256 over its files' names and contents. Contents are cached by path, size and time of change;
    on an object store, size and time stand for the content."""
    cache: dict[str, str] = {}
    if cache_file is not None and cache_file.exists():
        cache = json.loads(cache_file.read_text())
    fresh: dict[str, str] = {}

    def content(name: str, file: str) -> str:
        told, is_new = _content_of(spark, file, cache, fresh)
        if is_new:
            _ensure_whole(name, file, extracts[name])
        return told

    files = [(name, file) for name, extract in sorted(extracts.items()) for file in extract.files]
    totals = {name: hashlib.sha256() for name in sorted(extracts)}
    with ThreadPoolExecutor(FILES_AT_A_TIME) as pool:
        for (name, file), told in zip(files, pool.map(lambda one: content(*one), files), strict=True):
            totals[name].update(Path(file).name.encode() + b"\0")
            totals[name].update(told.encode())
    prints = {name: total.hexdigest() for name, total in totals.items()}
    if cache_file is not None and fresh != cache:
        cache_file.parent.mkdir(parents=True, exist_ok=True)
        cache_file.write_text(json.dumps(fresh, sort_keys=True))
    return prints


def _content_of(spark: SparkSession, file: str, cache: Mapping[str, str], fresh: dict[str, str]) -> tuple[str, bool]:
    """A hash of the file's content, and whether it is new: read now, and on this machine."""
    if "://" in file:
        listed = spark.read.format("binaryFile").load(file).select("path", "length", "modificationTime")
        state = "|".join(str(tuple(row)) for row in listed.orderBy("path").collect())
        return hashlib.sha256(state.encode()).hexdigest(), False
    stat = Path(file).stat()
    key = hashlib.sha256(f"{file}|{stat.st_size}|{stat.st_mtime_ns}".encode()).hexdigest()
    if key not in cache:
        with open(file, "rb") as stream:
            fresh[key] = hashlib.file_digest(stream, "sha256").hexdigest()
    else:
        fresh[key] = cache[key]
    return fresh[key], key not in cache
