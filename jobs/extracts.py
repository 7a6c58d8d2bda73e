"""Raw extracts as they lie in a delivery: found, checked by their headers, and read as text with lineage."""

from __future__ import annotations

import csv
import glob
import gzip
import hashlib
import io
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, FloatType, StringType, StructField, StructType

from jobs.config import InputFile, Site
from jobs.errors import InputError
from jobs.local_frame import local_frame
from jobs.sources.adapter import PLACE, ROW_BITS, SOURCE_PLACE, Adapter, RawTable

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

CORRUPT = "__corrupt"
DAMAGED = "__damaged"
BESIDE = "__beside"
MAXIMUM_COLUMNS = 20_000
PACKED = 5  # bytes of text in a byte of a compressed file, about
LINEAGE = ("source_file", "source_row", "delivery")
BLOCK, POSITION = PLACE[1:]
SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a vertical bar"}
PLAIN_NAME = re.compile(r"\w+")  # others would be read as paths into a struct
UNREADABLE = re.compile(r"FAILED_READ_FILE[^\]]*\][^\n]*?reading file (\S+?)\.?\s")
AS_TEXT = ("string", "large_string", "int", "uint", "half", "float", "double", "decimal", "date", "timestamp", "bool",
           "null", "dictionary<values=string")  # fmt: skip


@dataclass(frozen=True)
class Extract:
    """The files of one raw table of a delivery, all with the same format; `headers` by file, as adapter's names.

    What only a look into all of the files tells (jobs/contents.py): their `fingerprint`, and the header lines of those
    that are `plain`: rows are lines, cells are what stands between the separators, and nothing is damaged.
    """

    raw: RawTable
    declared: InputFile
    files: tuple[str, ...]
    headers: Mapping[str, tuple[str, ...]]
    unknown_columns: tuple[str, ...]
    types: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # of Parquet, by file
    fingerprint: str = ""
    plain: Mapping[str, str] = field(default_factory=dict)  # file -> its header line


def options_of(raw: RawTable, declared: InputFile) -> dict[str, str]:
    """How the reader is told to read the files of a raw table."""
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


def open_file(file: str) -> BinaryIO:
    """The bytes of a file, unpacked where its name says that it is compressed."""
    return cast(BinaryIO, gzip.open(file) if file.endswith(".gz") else Path(file).open("rb"))


def _first_line(session: Callable[[], SparkSession], name: str, file: str, options: Mapping[str, str]) -> str:
    short = Path(file).name
    if "://" in file:
        row = session().read.text(file).first()
        if row is None:
            raise InputError(f"inputs.{name}: {short} is empty; ask for the extract again")
        return str(row[0])
    try:
        with open_file(file) as stream:
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


def _ensure_text(name: str, file: str, names: tuple[str, ...], types: tuple[str, ...]) -> None:
    """InputError for a column of Parquet whose type does not give the text that a CSV file would hold."""
    for column, type_ in zip(names, types, strict=True):
        if not column.startswith("__") and not type_.startswith(AS_TEXT):
            raise InputError(
                f"inputs.{name}: {Path(file).name} has the column {column} as {_kind(type_)} instead of text, a "
                "number or a date; deliver it as text"
            )


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


def identifier_kind(extracts: Mapping[str, Extract]) -> str:
    """number or text, as which all raw tables have the identifier of people, or nothing where none says any;
    InputError where they differ: numbers have lost their leading zeros, and those people would be two."""
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
    return max(people.values(), default="")


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


def _parquet_schema(session: Callable[[], SparkSession], name: str, file: str) -> tuple[list[str], tuple[str, ...]]:
    """The columns and their types, as Arrow calls them."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyspark.errors import PySparkException
    from pyspark.sql.pandas.types import to_arrow_schema

    try:
        if "://" in file:
            schema = to_arrow_schema(session().read.parquet(file).schema, timezone="UTC")
        else:
            schema = pq.read_schema(file)
        return list(schema.names), tuple(str(column.type) for column in schema)
    except (OSError, pa.ArrowException, PySparkException):
        raise InputError(f"inputs.{name}: {Path(file).name} is not Parquet; see format in the site file") from None


def _header(session: Callable[[], SparkSession], name: str, file: str, options: Mapping[str, str]) -> list[str]:
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
    used = options_of(raw, declared)["sep"]
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
    options = options_of(raw, declared)
    headers, unknown = {}, set()
    types: dict[str, tuple[str, ...]] = {}
    for file in files:
        if declared.format == "parquet":
            header, types[file] = _parquet_schema(session, raw.name, file)
        else:
            header = _header(session, raw.name, file, options)
        names, strange = _names(raw.name, file, header, raw, declared)
        headers[file] = tuple(names)
        unknown |= set(strange)
        if file in types:
            _ensure_text(raw.name, file, headers[file], types[file])
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
        identifier_kind(extracts)
    return extracts


def _text(read: DataFrame, column: str) -> Column:
    """As text; whole numbers that were written as floating-point ones, as integers with gaps are, without a point."""
    value = read[column]
    if read.schema[column].dataType not in (DoubleType(), FloatType()):
        return F.make_valid_utf8(value.cast("string"))  # what is no text becomes the sign by which it is known
    is_whole = (value == F.floor(value)) & (F.abs(value) < 2**53)  # beyond, whole numbers are not told apart
    return F.when(is_whole, value.cast("bigint").cast("string")).otherwise(value.cast("string"))


def _with_damage(read: DataFrame, cells: list[str]) -> DataFrame:
    """Adds DAMAGED: a cell that was not in the encoding it claims carries the replacement character; no text has a
    NUL."""
    text = F.col("__text")
    is_damaged = F.contains(text, F.lit("\ufffd")) | F.contains(text, F.lit("\0"))
    return read.withColumn("__text", F.concat_ws("", *cells)).withColumn(DAMAGED, is_damaged).drop("__text")


def _read_group(
    spark: SparkSession, extract: Extract, files: list[str], names: tuple[str, ...], header: str | None
) -> DataFrame:
    """Files of one header: their cells as text, CORRUPT, DAMAGED and each row's place; `header`: the line, of plain
    files."""
    place = [_short_name(extract).alias("__file"), F.col("_metadata.file_block_start").alias(BLOCK)]
    position = F.monotonically_increasing_id().alias(POSITION)
    options = options_of(extract.raw, extract.declared)
    if header is not None:
        # Less than half of the time: the reader of CSV goes from sign to sign.
        lines = spark.read.text(files).select("value", *place)
        lines = lines.where((F.col("value") != header) & (F.trim("value") != ""))
        cells = F.split("value", re.escape(options["sep"]), -1).alias("cells")
        rows = lines.select(cells, "__file", BLOCK, position)
        named = [F.get("cells", F.lit(number)).alias(name) for number, name in enumerate(names)]
        is_malformed = F.size("cells") != len(names)
        judged = (is_malformed.alias(CORRUPT), F.lit(False).alias(DAMAGED))
        return rows.select(*named, *judged, "__file", BLOCK, POSITION)
    if extract.declared.format == "parquet":
        read = spark.read.parquet(*files)
        columns = [_text(read, column).alias(name) for column, name in zip(read.columns, names, strict=True)]
        told = read.select(*columns, F.lit(False).alias(CORRUPT), *place, position)
    else:
        schema = StructType([StructField(name, StringType()) for name in (*names, CORRUPT)])
        reader = spark.read.schema(schema).option("header", True).option("mode", "PERMISSIVE")
        reader = reader.option("columnNameOfCorruptRecord", CORRUPT).option("escape", '"').option("enforceSchema", True)
        # With pruning, a row with a cell too few or too many is seen only where the missing cell is used.
        reader = reader.option("columnPruning", False)
        reader = reader.option("ignoreLeadingWhiteSpace", True).option("ignoreTrailingWhiteSpace", True)
        for option, value in options.items():
            reader = reader.option(option, value)
        read = reader.csv(files)
        told = read.select("*", *place, position).withColumn(CORRUPT, F.col(CORRUPT).isNotNull())
    return _with_damage(told, [name for name in names if not name.startswith("__")])


def _short_name(extract: Extract) -> Column:
    """The end of a file's path, as long as is needed to tell the files apart."""
    parts = parts_that_differ(extract.files)
    if parts == 1:
        return F.col("_metadata.file_name")  # known of a file, where a path would be cut for each row
    return F.substring_index("_metadata.file_path", "/", -parts)


def offsets_of(splits: Iterable[tuple[str, int, int, int]]) -> dict[tuple[str, int], int]:
    """What to add to `__position` of the rows of each split (file, first byte) to get their `source_row`.

    `splits`: file, first byte, rows, lowest position of each.
    """
    offsets, before = {}, dict[str, int]()
    for file, block, rows, first in sorted(splits):
        offsets[file, block] = before.get(file, 0) - first + 1
        before[file] = before.get(file, 0) + rows
    return offsets


def with_source_row(
    rows: DataFrame, offsets: Mapping[tuple[str, int], int], file_numbers: Mapping[str, int]
) -> DataFrame:
    """SOURCE_PLACE, and `source_row` (1 is the first row after the header) for `__block` and `__position`."""
    known = [(file, block, offset, file_numbers[file]) for (file, block), offset in offsets.items()]
    columns = f"source_file string, {BLOCK} long, __offset long, __number long"
    joined = rows.join(F.broadcast(local_frame(rows.sparkSession, known, columns)), ["source_file", BLOCK], "left")
    told = joined.withColumn("source_row", F.col(POSITION) + F.col("__offset"))
    placed = told.withColumn(SOURCE_PLACE, F.shiftleft("__number", ROW_BITS) + F.col("source_row"))
    return placed.drop(BLOCK, POSITION, "__offset", "__number")


def numbers_of(offsets: Iterable[Mapping[tuple[str, int], int]]) -> dict[str, int]:
    """A number for each file's name, in the order of names."""
    return {name: number for number, name in enumerate(sorted({name for one in offsets for name, _ in one}))}


def splits_of(rows: DataFrame, *counts: Column) -> DataFrame:
    """What `offsets_of` needs, and `counts` beside it: one row per split of a file."""
    return rows.groupBy("source_file", BLOCK).agg(F.count("*").alias("__n"), F.min(POSITION).alias("__first"), *counts)


def _without_more_header_lines(rows: DataFrame, more: int) -> DataFrame:
    offsets = offsets_of(tuple(row) for row in splits_of(rows).collect())
    numbered = with_source_row(rows, offsets, numbers_of([offsets])).where(F.col("source_row") > more)
    placed = numbered.withColumns({BLOCK: F.lit(0).cast("long"), POSITION: F.col("source_row")})
    return placed.drop("source_row", SOURCE_PLACE)


def size_of(extract: Extract) -> int:
    """Bytes of the extract's files as text; 0 on an object store, where nobody said."""
    files = [file for file in extract.files if "://" not in file]
    return sum(Path(file).stat().st_size * (PACKED if file.endswith((".gz", ".parquet")) else 1) for file in files)


def parts_that_differ(files: Sequence[str]) -> int:
    """How many parts of the files' paths, from the end, tell them apart: one, but where folders have files of the same
    name."""
    count = 1
    while len({"/".join(file.split("/")[-count:]) for file in files}) < len(files):
        count += 1
    return count


def read_extract(spark: SparkSession, extract: Extract) -> DataFrame:
    """The raw rows: every column of the adapter as trimmed text (empty is NULL), absent optional ones as NULL,
    `__corrupt` and `__damaged` (booleans), `__beside` (what columns that the adapter ignores hold), source_file, and
    the place in the file: `__block` (first byte of the split) and `__position`, which grows with the rows of a split.

    To number the rows of a file, the rows of each split before must have been counted: see `with_source_row`.
    """
    groups: dict[tuple[tuple[str, ...], tuple[str, ...], str | None], list[str]] = {}
    for file in extract.files:
        alike = (extract.headers[file], extract.types.get(file, ()), extract.plain.get(file))
        groups.setdefault(alike, []).append(file)
    parts = [_read_group(spark, extract, files, names, header) for (names, _, header), files in groups.items()]
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
    # NUL stands between them: it is in no cell of a row that can be accepted.
    said = [F.concat(F.lit(f"{name}="), F.nullif(F.trim(F.col(name)), F.lit(""))) for name in ignored]
    beside = F.nullif(F.concat_ws("\0", *said), F.lit("")) if ignored else F.lit(None)
    rows = read.select(
        *text,
        CORRUPT,
        DAMAGED,
        beside.cast("string").alias(BESIDE),
        F.col("__file").alias("source_file"),
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
