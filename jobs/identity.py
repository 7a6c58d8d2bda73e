"""Raw identifiers become keyed pseudonyms: the first half of HMAC-SHA-256 (RFC 2104), computed inside Spark.

The key is joined from a one-row table, never written as a literal: a literal can be read from the query plan.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.config import Site
from jobs.errors import ConfigurationError, QualityError
from jobs.local_frame import local_frame
from jobs.sources.adapter import CONTENT

MINIMUM_KEY_BYTES = 32
BLOCK_BYTES = 64
INNER, OUTER, SECRET = "__inner_pad", "__outer_pad", "__secret"


def read_key(site: Site) -> bytes:
    """The site's key, from the file or the environment variable it names; ConfigurationError if missing or short."""
    if site.pseudonym_key_file:
        try:
            key = Path(site.pseudonym_key_file).read_bytes().strip()
        except OSError:
            raise ConfigurationError("pseudonym_key_file: cannot be read; see the site file") from None
        origin = "pseudonym_key_file"
    else:
        key = os.environb.get(site.pseudonym_key_env.encode(), b"").strip()
        origin = f"environment variable {site.pseudonym_key_env}"
        if not key:
            raise ConfigurationError(f"{origin} is not set; put the pseudonym key there or name pseudonym_key_file")
    if len(key) < MINIMUM_KEY_BYTES:
        raise ConfigurationError(f"{origin}: the pseudonym key is shorter than {MINIMUM_KEY_BYTES} bytes")
    return key


def key_check(key: bytes) -> str:
    """A value that tells whether two runs use the same key, and tells nothing else about it (16 hex digits)."""
    stretched = hashlib.pbkdf2_hmac("sha256", key, b"treatment-lines key check", 100_000)
    return stretched.hex()[:16]


def pseudonym_of(identifier: str, key: bytes) -> str:
    """The pseudonym of one identifier, as `pseudonymise` makes it."""
    return hmac.new(key, identifier.encode(), hashlib.sha256).hexdigest()[:32]


def with_key(frame: DataFrame, key: bytes) -> DataFrame:
    """`frame` with columns made of the key, which the other functions read: `without_key` takes them out again, before
    anything is written, shown or brought elsewhere."""
    block = (hashlib.sha256(key).digest() if len(key) > BLOCK_BYTES else key).ljust(BLOCK_BYTES, b"\0")
    pads = (bytes(byte ^ pad for byte in block) for pad in (0x36, 0x5C))
    row = (*pads, hmac.new(key, b"hashes", hashlib.sha256).digest())
    table = local_frame(frame.sparkSession, [row], f"{INNER} binary, {OUTER} binary, {SECRET} binary")
    return frame.crossJoin(F.broadcast(table))


def without_key(keyed: DataFrame) -> DataFrame:
    """What `with_key` was given, or what was made of it."""
    return keyed.drop(INNER, OUTER, SECRET)


def _first_half(digest: Column) -> Column:
    """The first 32 of the 64 digits of a SHA-256."""
    # As bytes: in text the engine looks for where each sign ends.
    return F.substring(digest.cast("binary"), 1, 32).cast("string")


def row_pseudonym() -> Column:
    """32 hexadecimal digits that stand for a row by what it says: the same row delivered again has the same."""
    return _first_half(F.sha2(F.concat_ws("|", "person_id", *CONTENT), 256))


def _pseudonym(text: Column) -> Column:
    inner = F.unhex(F.sha2(F.concat(F.col(INNER), text.cast("binary")), 256))
    return _first_half(F.sha2(F.concat(F.col(OUTER), inner), 256))


def with_hashes(keyed: DataFrame, said: Sequence[Column], names: tuple[str, str]) -> DataFrame:
    """`keyed` with two hashes (64 and 32 bits) of a secret made of the key and what is `said`, one after the other
    without what is NULL.

    They tell equal rows of one warehouse. Without the secret who knows all of a row but an identifier could try
    identifiers until the hash fits.
    """
    hashes = (F.xxhash64(SECRET, *said), F.hash(SECRET, *said))
    return keyed.withColumns(dict(zip(names, hashes, strict=True)))


def _register_number(identifier: Column) -> Column:
    return _pseudonym(F.concat_ws("\u001f", F.lit("number of a register"), identifier))


def people_of(key_file: DataFrame, broken: Column, key: bytes) -> DataFrame:
    """Whose a register's numbers are: `register_number` and `person_id`, pseudonyms both, and `is_unsaid` where a row
    of the key file (columns identifier, person) is broken or has an empty cell."""
    said = with_key(key_file, key).select(
        _register_number(F.col("identifier")).alias("register_number"),
        _pseudonym(F.col("person")).alias("person_id"),
        (broken | F.col("identifier").isNull() | F.col("person").isNull()).alias("is_unsaid"),
    )
    return said.distinct()


def ensure_one_person(name: str, people: DataFrame) -> None:
    """QualityError where `people_of` a key file does not say of each number whose it is."""
    of_number = people.groupBy("register_number").agg(
        F.count_distinct("person_id").alias("people"), F.count_if("is_unsaid").alias("unsaid")
    )
    ambiguous, unsaid = of_number.agg(F.count_if(F.col("people") > 1), F.count_if(F.col("unsaid") > 0)).collect()[0]
    if ambiguous or unsaid:
        raise QualityError(
            f"inputs.{name}: rows that are damaged or have an empty cell name {unsaid:,} numbers, {ambiguous:,} numbers"
            " belong to several people; ask for the key file again; nothing was written"
        )


def identify(rows: DataFrame, id_column: str, people: DataFrame, key: bytes) -> DataFrame:
    """`rows` with `person_id` in the place of a register's number, by `people_of` its key file; where it has none NULL,
    and the number's pseudonym in `register_number`, for rows of two such numbers are not the same.

    The number is made a pseudonym before rows are brought together by it.
    """
    number = with_key(rows, key).withColumn("register_number", _register_number(F.col(id_column)))
    known = people.select("register_number", "person_id")
    joined = without_key(number).drop(id_column).join(known, "register_number", "left")
    return joined.withColumn("register_number", F.when(F.col("person_id").isNull(), F.col("register_number")))


def pseudonymise(keyed: DataFrame, id_column: str, parts: Mapping[str, str] | Sequence[str] = ()) -> DataFrame:
    """`keyed` with `person_id` in the place of `id_column`, and each of `parts` replaced by the pseudonym of
    (column, person, value), or of (column, value) where the identifier is missing and `person_id` NULL; `parts` may say
    which column's name to use."""
    names = parts if isinstance(parts, Mapping) else {part: part for part in parts}
    part = {
        name: F.when(
            F.col(name).isNotNull(),
            _pseudonym(F.concat_ws("\u001f", F.lit(known_as.lower()), F.col(id_column), F.col(name))),
        )
        for name, known_as in names.items()
    }
    dropped = [] if id_column == "person_id" else [id_column]
    return keyed.withColumns(part).withColumn("person_id", _pseudonym(F.col(id_column))).drop(*dropped)


def pseudonymise_links(keyed: DataFrame, links: Mapping[str, str]) -> DataFrame:
    """`keyed` with each column of `links` replaced by the pseudonym of (its purpose, value): the same in every table
    with a column of that purpose."""
    linked = {
        name: F.when(F.col(name).isNotNull(), _pseudonym(F.concat_ws("\u001f", F.lit(f"link {purpose}"), F.col(name))))
        for name, purpose in links.items()
    }
    return keyed.withColumns(linked)
