"""One row per person from what each source says of them, whatever the country and in whatever order it was delivered.

1. What a source says of a person replaces what the same source said in an earlier delivery.
2. Sex, birth, emigration and region are those of the first source, by `priority`, that knows them.
3. Of several dates of death the most exact one is believed, of equally exact ones that of the first source.
4. A death known to the month is its last day (in the month of the delivery that says so: that delivery's day), and not
   before the person's last contact in that month.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas import TABLES

FACTS = ("sex", "birth_date", "birth_date_precision", "death_date", "death_date_precision", "emigration_date", "region")
LINEAGE = ("source_file", "source_row", "delivery")


def _first(known: str, *columns: str, order: tuple[Column | str, ...]) -> Column:
    """The columns, as one struct, of the first row by `order` whose column `known` is not NULL."""
    ordered = F.struct(*(F.col(o).alias(f"__{i}") if isinstance(o, str) else o.alias(f"__{i}")
                         for i, o in enumerate(order)), *columns)  # fmt: skip
    return F.min(F.when(F.col(known).isNotNull(), ordered))


def _inexactness(precision: str) -> Column:
    return F.when(F.col(precision) == "day", 0).when(F.col(precision) == "month", 1).otherwise(2)


def build_persons(claims: DataFrame, partitions: int = 1) -> DataFrame:
    """The table `person` from rows of `person_claims`, in so many partitions; who has no sex or no birth in any of them
    is left out."""
    per_source = F.struct(
        *(_first(fact, fact, order=("source_file", "source_row"))[fact].alias(fact) for fact in FACTS),
        _first("source_file", *LINEAGE, order=("source_file", "source_row")).alias("lineage"),
    )
    said = (
        claims.repartition(partitions, "person_id")
        .groupBy("person_id", "priority", "delivery")
        .agg(per_source.alias("said"), F.max("last_contact").alias("last_contact"))
        .groupBy("person_id", "priority")
        .agg(F.max_by("said", "delivery").alias("said"), F.max("last_contact").alias("last_contact"))
        .select("person_id", "priority", "last_contact", "said.*")
    )
    born = _first("birth_date", "birth_date", "birth_date_precision", order=("priority",))
    died = _first(
        "death_date", "death_date", "death_date_precision", "lineage",
        order=(_inexactness("death_date_precision"), "priority"),
    )  # fmt: skip
    joined = said.groupBy("person_id").agg(
        _first("sex", "sex", order=("priority",))["sex"].alias("sex"),
        born.alias("born"),
        died.alias("died"),
        _first("emigration_date", "emigration_date", order=("priority",))["emigration_date"].alias("emigration_date"),
        _first("region", "region", order=("priority",))["region"].alias("region"),
        F.max("last_contact").alias("last_contact"),
        _first("birth_date", "lineage", order=("priority",))["lineage"].alias("lineage"),
    )
    death, known_to = F.col("died.death_date"), F.col("died.death_date_precision")
    month_end = F.least(F.last_day(death), F.to_date("died.lineage.delivery"))
    in_month = F.trunc("last_contact", "month") == F.trunc(death, "month")
    last_sure = F.when(in_month, F.greatest(month_end, "last_contact")).otherwise(month_end)
    return (
        joined.where(F.col("sex").isNotNull() & F.col("born").isNotNull())
        .withColumns(
            {
                "birth_date": F.col("born.birth_date"),
                "birth_date_precision": F.col("born.birth_date_precision"),
                "death_date": F.when(known_to == "month", last_sure).otherwise(death),
                "death_date_precision": known_to,
                **{name: F.col(f"lineage.{name}") for name in LINEAGE},
            }
        )
        .select(*TABLES["person"].column_names)
    )


def rebuild_persons(people: DataFrame, claims: DataFrame, added: DataFrame, partitions: int = 1) -> DataFrame:
    """The table `person` from `claims`, when `people` was made of all of them but `added`, which are few: who is in
    none of those stays the same."""
    spoken_of = F.broadcast(added.select("person_id").distinct())
    anew = build_persons(claims.join(spoken_of, "person_id", "left_semi"), partitions)
    return anew.unionByName(people.join(spoken_of, "person_id", "left_anti"))
