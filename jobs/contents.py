"""What only a look into all of a delivery's files tells: a fingerprint, whether they are whole, and whether they are
plain enough to be read line by line."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import secrets
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jobs.errors import InputError
from jobs.extracts import Extract, open_file, options_of, parts_that_differ
from jobs.manifest import code_version

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CHUNK = 1 << 24
FILES_AT_A_TIME = 2  # each with some chunks in memory


@dataclass(frozen=True)
class Content:
    """A hash of a file's bytes, and its header line where it is plain; see `Extract.plain`."""

    digest: str
    header: str | None


def with_contents(spark: SparkSession, extracts: Mapping[str, Extract], cache_file: Path | None) -> dict[str, Extract]:
    """The extracts with `fingerprint` (SHA-256 over the names and contents of their files) and `plain`; InputError for
    files that are not whole.

    Contents are cached, where the folder of `cache_file` is there, by path, size, time of change and options; on an
    object store, size and time stand for the content.
    """
    cache: dict[str, Content] = {}
    if cache_file is not None and cache_file.exists():
        told = json.loads(cache_file.read_text())
        if told.get("code") == code_version():
            cache = {key: Content(**content) for key, content in told["files"].items()}
    fresh: dict[str, Content] = {}

    def content_of(extract: Extract, file: str) -> Content:
        if "://" in file:
            return Content(_listed(spark, extract, file), None)
        stat = Path(file).stat()
        told_by = f"{file}|{stat.st_size}|{stat.st_mtime_ns}|{_read_by(extract)}"
        key = hashlib.sha256(told_by.encode()).hexdigest()
        if key not in fresh:
            fresh[key] = cache.get(key) or _read(extract, file)
        return fresh[key]

    files = [(extract, file) for _, extract in sorted(extracts.items()) for file in extract.files]
    with ThreadPoolExecutor(FILES_AT_A_TIME) as pool:
        contents = {
            (extract.raw.name, file): content
            for (extract, file), content in zip(files, pool.map(lambda one: content_of(*one), files), strict=True)
        }
    if cache_file is not None and cache_file.parent.is_dir() and fresh != cache:
        written = {"code": code_version(), "files": {key: asdict(content) for key, content in fresh.items()}}
        beside = cache_file.with_name(f"{cache_file.name}.{secrets.token_hex(4)}")
        beside.write_text(json.dumps(written, sort_keys=True))
        beside.replace(cache_file)
    return {name: _with_contents(extract, contents) for name, extract in extracts.items()}


def _with_contents(extract: Extract, contents: Mapping[tuple[str, str], Content]) -> Extract:
    total, plain = hashlib.sha256(), {}
    parts = parts_that_differ(extract.files)
    for file in extract.files:
        content = contents[extract.raw.name, file]
        name = "/".join(file.split("/")[-parts:])
        total.update(name.encode() + b"\0" + content.digest.encode())
        if content.header is not None:
            plain[file] = content.header
    return replace(extract, fingerprint=total.hexdigest(), plain=plain)


def _read_by(extract: Extract) -> str:
    """What of the site file and the adapter decides whether a file is plain."""
    return json.dumps([extract.declared.format, options_of(extract.raw, extract.declared)], sort_keys=True)


def _listed(spark: SparkSession, extract: Extract, file: str) -> str:
    """A hash of what an object store tells of files; InputError where two have one name, by which rows are told."""
    listed = spark.read.format("binaryFile").load(file).select("path", "length", "modificationTime")
    files = listed.orderBy("path").collect()
    if len({row["path"].rpartition("/")[2] for row in files}) < len(files):
        raise InputError(f"inputs.{extract.raw.name}: two files have the same name; give each its own")
    return hashlib.sha256("|".join(str(tuple(row)) for row in files).encode()).hexdigest()


def _read(extract: Extract, file: str) -> Content:
    """The content of a file on this machine; InputError for one that ends too early, and for a first or last cell with
    a line break. Rows end at line breaks; where one lies in another cell, both halves have too few cells, but here one
    has as many as a row."""
    with open(file, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if extract.declared.format == "parquet":
        return Content(digest, None)
    options = options_of(extract.raw, extract.declared)
    quote, separator = options.get("quote", '"').encode(), options["sep"].encode()
    looks_for_quotes = len(quote) == len(separator) == 1 and not options["encoding"].upper().startswith("UTF-16")
    cells, rest, lines = len(extract.headers[file]), b"", 0
    plain = _Plain(options, quote)
    try:
        with open_file(file) as stream:
            while chunk := stream.read(CHUNK):
                if not looks_for_quotes:
                    continue
                text = rest + chunk
                # The last whole line stays until the line after it is there.
                last = text.rfind(b"\n", 0, max(text.rfind(b"\n"), 0)) + 1
                if quote in text:
                    lines += _broken_rows(text, last, quote, separator, cells)
                plain.look(text[:last])
                rest = text[last:]
    except (OSError, EOFError, zlib.error):
        raise InputError(
            f"inputs.{extract.raw.name}: {Path(file).name} cannot be read to its end; ask for the extract again"
        ) from None
    if looks_for_quotes and quote in rest:
        lines += _broken_rows(rest + b"\n", len(rest) + 1, quote, separator, cells)
    if lines:
        raise InputError(
            f"inputs.{extract.raw.name}: in {lines:,} {'row' if lines == 1 else 'rows'} of {Path(file).name} the quote "
            "of the first or last cell does not close on its line; deliver cells without line breaks, or say "
            "options.quote in the site file"
        )
    plain.look(rest)
    return Content(digest, plain.header)


class _Plain:
    """Whether a file's rows are its lines and their cells what stands between the separators, so that both ways to read
    it give the same: UTF-8 without damage, no sign that is no text, no quote but in its first line, and that line only
    once, for by its text it is left out."""

    def __init__(self, options: Mapping[str, str], quote: bytes) -> None:
        known = options.keys() <= {"sep", "encoding", "quote"} and options["encoding"].upper() == "UTF-8"
        separator = options["sep"]
        self._is_plain = known and len(separator) == 1 and separator.isprintable() and not separator.isalnum()
        self._is_plain = self._is_plain and separator.isascii() and not separator.isspace()
        self._quote = quote
        self._header: bytes | None = None

    @property
    def header(self) -> str | None:
        """The header line of a plain file; None for any other, and for one without rows."""
        return self._header.decode() if self._is_plain and self._header else None

    def look(self, lines: bytes) -> None:
        """Look at the next lines, from the start of one to the end of one."""
        if not self._is_plain or not lines:
            return
        self._is_plain = _is_undamaged(lines)
        if self._header is None:
            first, _, lines = lines.partition(b"\n")
            self._header = first.removesuffix(b"\r")
            self._is_plain = self._is_plain and b"\r" not in self._header and not first.startswith(b"\xef\xbb\xbf")
        self._is_plain = self._is_plain and self._quote not in lines and self._header not in lines


def _is_undamaged(text: bytes) -> bool:
    """Whether it is UTF-8 in which no cell was damaged, without control characters but line breaks."""
    controls = int(np.count_nonzero(np.frombuffer(text, np.uint8) < 32))
    if controls != text.count(b"\n") + text.count(b"\r"):
        return False
    if text.isascii():
        return True
    try:
        return "\ufffd" not in text.decode()
    except UnicodeDecodeError:
        return False


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
