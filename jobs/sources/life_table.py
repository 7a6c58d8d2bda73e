"""Life tables in the layouts in which they are published, for every country:

- `life_table`: probabilities of dying within one year, as national statistics offices give them;
- `life_table_hmd`: death rates of the Human Mortality Database (Mx_1x1.txt). A rate m is no probability:
  q = 1 - exp(-m);
- `life_table_nordcan`: probabilities of surviving one year, as in the NORDCAN programs.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.config import Site
from jobs.errors import ConfigurationError
from jobs.sources.adapter import RawTable
from jobs.sources.parse import MALFORMED, NUMBER, decoded, joined_reasons, reason, unknown_code
from schemas import TABLES
from schemas.conformed import OLDEST
from schemas.contract import LINEAGE

NAMES = ("life_table", "life_table_hmd", "life_table_nordcan")
SEXES = {"1": "male", "2": "female", "male": "male", "female": "female"}
LINEAGE_NAMES = tuple(column.name for column in LINEAGE)


def _number(text: Column) -> Column:
    point = F.regexp_replace(text, ",", ".")
    return F.when(point.rlike(NUMBER), point.try_cast("double"))


def _whole(text: Column) -> Column:
    return F.when(text.rlike(r"^\d{1,4}$"), text.try_cast("int"))


def _year_and_age(year: Column, age: Column) -> dict[str, Column]:
    """Typed; the open last age, `110+`, is its first year."""
    return {
        "typed_year": _whole(year),
        "typed_age": _whole(F.regexp_replace(age, r"\+$", "")),
    }


def _wrong_numbers() -> list[Column]:
    return [
        reason(F.col("typed_year").isNull(), "impossible_number:year"),
        reason(F.col("typed_age").isNull() | (F.col("typed_age") > OLDEST), "impossible_number:age"),
    ]


def _annotate_probabilities(frame: DataFrame, _: Site) -> DataFrame:
    typed = frame.withColumns(
        {**_year_and_age(F.col("year"), F.col("age")), "typed_probability": _number(F.col("probability_of_death"))}
    )
    outside = F.coalesce(~F.col("typed_probability").between(0, 1), F.lit(True))
    return typed.withColumn(
        "reasons",
        joined_reasons(
            *_wrong_numbers(),
            reason(outside, "impossible_number:probability_of_death"),
            unknown_code("sex", {"female": "", "male": ""}),
        ),
    )


def _annotate_hmd(frame: DataFrame, _: Site) -> DataFrame:
    """A line has year, age, and the rates of women, men and both; `.` where there was nobody."""
    cells = F.split(F.trim("line"), r"\s+")

    def rate(place: int) -> Column:
        return F.when(F.get(cells, F.lit(place)) != ".", _number(F.get(cells, F.lit(place))))

    def wrong(place: int, name: str) -> Column:
        said = F.get(cells, F.lit(place))
        return reason((said != ".") & F.coalesce(rate(place) < 0, rate(place).isNull()), f"impossible_number:{name}")

    typed = frame.withColumns(
        {
            **_year_and_age(F.get(cells, F.lit(0)), F.get(cells, F.lit(1))),
            "female": 1 - F.exp(-rate(2)),
            "male": 1 - F.exp(-rate(3)),
        }
    )
    few = reason(F.size(cells) < 4, MALFORMED)
    return typed.withColumn("reasons", joined_reasons(few, *_wrong_numbers(), wrong(2, "female"), wrong(3, "male")))


def _annotate_nordcan(frame: DataFrame, _: Site) -> DataFrame:
    survive = _number(F.col("prob"))
    typed = frame.withColumns({**_year_and_age(F.col("year"), F.col("age")), "typed_probability": 1 - survive})
    outside = F.coalesce(~survive.between(0, 1), F.lit(True))
    return typed.withColumn(
        "reasons",
        joined_reasons(*_wrong_numbers(), reason(outside, "impossible_number:prob"), unknown_code("sex", SEXES)),
    )


RAW_TABLES = (
    RawTable(
        name="life_table",
        annotate=_annotate_probabilities,
        columns=("country", "sex", "year", "age", "probability_of_death"),
        optional=("region",),
        id_column=None,
        required=False,
    ),
    RawTable(
        name="life_table_hmd",
        annotate=_annotate_hmd,
        columns=("line",),
        id_column=None,
        required=False,
        options={"sep": "\x01"},
        header_lines=2,  # a title and the names; the empty line between them is no row
        names_columns=False,
    ),
    RawTable(
        name="life_table_nordcan",
        annotate=_annotate_nordcan,
        columns=("sex", "year", "age", "prob"),
        optional=("region",),
        id_column=None,
        required=False,
        options={"sep": ";"},
    ),
)

PUBLISHED = RAW_TABLES[1:]  # what is not in the shape of the conformed table


def conform_life_table(accepted: Mapping[str, DataFrame], site: Site) -> dict[str, DataFrame]:
    """The conformed life table of whichever layouts are delivered, or nothing. ConfigurationError where a layout does
    not name the country and the site file does not either."""
    parts = [_CONFORM[name](accepted[name], site) for name in NAMES if name in accepted]
    return {"life_table": reduce(DataFrame.unionByName, parts)} if parts else {}


def _country(site: Site) -> Column:
    if site.life_table_country is None:
        raise ConfigurationError("life_table_country: this life table does not name its country; give its two letters")
    return F.lit(site.life_table_country)


def _conformed(frame: DataFrame, country: Column, sex: Column, probability: Column) -> DataFrame:
    region = F.col("region") if "region" in frame.columns else F.lit(None).cast("string")
    values = {
        "country": country,
        "region": region,
        "sex": sex,
        "year": F.col("typed_year"),
        "age": F.col("typed_age"),
        "probability_of_death": probability,
    }
    names = TABLES["life_table"].column_names
    lineage = {name: F.col(name) for name in LINEAGE_NAMES}
    return frame.select(*(({**values, **lineage})[name].alias(name) for name in names))


def _of_probabilities(frame: DataFrame, _: Site) -> DataFrame:
    return _conformed(frame, F.col("country"), F.col("sex"), F.col("typed_probability"))


def _of_hmd(frame: DataFrame, site: Site) -> DataFrame:
    parts = [
        _conformed(frame.where(F.col(sex).isNotNull()), _country(site), F.lit(sex), F.col(sex))
        for sex in ("female", "male")
    ]
    return parts[0].unionByName(parts[1])


def _of_nordcan(frame: DataFrame, site: Site) -> DataFrame:
    return _conformed(frame, _country(site), decoded("sex", SEXES), F.col("typed_probability"))


_CONFORM = {"life_table": _of_probabilities, "life_table_hmd": _of_hmd, "life_table_nordcan": _of_nordcan}
