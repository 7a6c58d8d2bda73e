"""What a table contract is: columns, types, grain, key. One declaration, everything else derives from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pyarrow
    from pyspark.sql.types import StructType

Type = Literal["string", "date", "int", "bigint", "double", "boolean", "array<string>"]
Layer = Literal["conformed", "derived", "frame", "site"]


@dataclass(frozen=True)
class Column:
    """One column: `type` in Spark's spelling, `doc` with the unit, `codes` where only these values are allowed."""

    name: str
    type: Type
    doc: str
    nullable: bool = True
    codes: tuple[str, ...] = ()
    identifies: bool = False


@dataclass(frozen=True)
class Table:
    """One table: `grain` says what one row is, `key` names the columns that are unique together.

    `may_be_empty` is False where an empty table can only mean a fault.
    """

    name: str
    layer: Layer
    grain: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    may_be_empty: bool = True

    @property
    def column_names(self) -> list[str]:
        return [column.name for column in self.columns]

    def column(self, name: str) -> Column:
        """The column of that name; KeyError where there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"{self.name} has no column {name}")

    def ddl(self) -> str:
        """The columns as Spark DDL, without nullability."""
        return ", ".join(f"`{column.name}` {column.type}" for column in self.columns)

    def struct(self) -> StructType:
        """The columns as a Spark schema, every column nullable (the gates enforce what may be missing)."""
        from pyspark.sql import types as T

        types: dict[str, T.DataType] = {
            "string": T.StringType(),
            "date": T.DateType(),
            "int": T.IntegerType(),
            "bigint": T.LongType(),
            "double": T.DoubleType(),
            "boolean": T.BooleanType(),
            "array<string>": T.ArrayType(T.StringType()),
        }
        return T.StructType([T.StructField(column.name, types[column.type]) for column in self.columns])

    def arrow(self) -> pyarrow.Schema:
        """The columns as an Arrow schema, as Spark exchanges them with Python."""
        import pyarrow as pa

        types = {
            "string": pa.string(),
            "date": pa.date32(),
            "int": pa.int32(),
            "bigint": pa.int64(),
            "double": pa.float64(),
            "boolean": pa.bool_(),
            "array<string>": pa.list_(pa.string()),
        }
        return pa.schema([pa.field(column.name, types[column.type]) for column in self.columns])


PERSON_ID = Column(
    "person_id",
    "string",
    "pseudonym: first half of HMAC-SHA-256 of the raw identifier, 32 hexadecimal digits",
    nullable=False,
    identifies=True,
)

LINEAGE = (
    Column("source_file", "string", "name of the raw file, with folders where files have one name", nullable=False),
    Column("source_row", "bigint", "row of that file, 1 is the first after the header", nullable=False),
    Column("delivery", "string", "delivery date, YYYY-MM-DD", nullable=False),
)

PRECISION = ("day", "month", "year")


def precision_of(name: str) -> Column:
    """The companion of a date that may be known only to the month or the year."""
    return Column(f"{name}_precision", "string", f"how exactly {name} is known", codes=PRECISION)
