"""The demo: synthetic Norwegian registers with a drawn truth, which the whole run recovers person by person."""

from __future__ import annotations

import csv
import hashlib
import hmac
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession

from jobs.cli import main
from jobs.config import load_site
from jobs.store import CONFORMED_SCHEMA, Store
from jobs.synthetic.norway import write_registers
from jobs.synthetic.registers import KEY

PERSONS, SEED = 6_000, 7


def _pseudonym(identifier: str) -> str:
    return hmac.new(KEY.encode(), identifier.encode(), hashlib.sha256).hexdigest()[:32]


@pytest.fixture(scope="module")
def demo(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo")
    assert main(["demo", "--out", str(out), "--persons", str(PERSONS), "--seed", str(SEED)]) == 0
    return out


@pytest.fixture(scope="module")
def truth(demo: Path) -> Path:
    return demo / "registers" / "truth"


def _table(spark: SparkSession, demo: Path, schema: str, name: str) -> DataFrame:
    store = Store(spark, str(demo / "warehouse"))
    commit = store.newest(schema, name)
    assert commit is not None
    return store.read(schema, name, commit.version)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_the_truth_is_the_published_study(truth: Path) -> None:
    people, lines = _rows(truth / "persons.csv"), _rows(truth / "lines.csv")
    assert len(people) == 715
    assert Counter(p["has_treatment_information"] for p in people) == {"true": 661, "false": 54}
    assert Counter(p["index_kind"] for p in people)["relapse"] == 473
    assert Counter(p["receptor"] for p in people)["hormone_positive"] == 440
    assert Counter(line["line_number"] for line in lines) == {"1": 479, "2": 206, "3": 119, "4": 55}
    first = Counter(line["regimen"] for line in lines if line["line_number"] == "1")
    assert first.pop("pertuzumab + trastuzumab") == 261
    assert first.pop("trastuzumab") == 195
    assert sum(first.values()) == 23
    second = Counter(line["regimen"] for line in lines if line["line_number"] == "2")
    assert second["trastuzumab_emtansine"] == 84
    assert set(Counter(line["end_reason"] for line in lines)) == {
        "switch", "gap", "death", "emigration", "second_cancer", "information_end", "study_end",
    }  # fmt: skip


def test_the_cohort_is_the_truth_person_by_person(spark: SparkSession, demo: Path, truth: Path) -> None:
    columns = ["index_date", "index_kind", "receptor", "has_treatment_information", "follow_up_end"]
    columns.append("follow_up_end_reason")
    expected = {
        _pseudonym(p["identifier"]): tuple(p[column] for column in columns) for p in _rows(truth / "persons.csv")
    }
    found: dict[str, tuple[Any, ...]] = {}
    for row in _table(spark, demo, "her2_mbc", "cohort").collect():
        values = row.asDict()
        found[row.person_id] = tuple(
            str(values[column]).lower() if isinstance(values[column], bool) else str(values[column])
            for column in columns
        )
    assert found == expected


def test_the_lines_are_the_truth_person_by_person(spark: SparkSession, demo: Path, truth: Path) -> None:
    expected = {
        (_pseudonym(line["identifier"]), int(line["line_number"])): (
            line["regimen"], line["line_start"], line["line_end"], line["end_reason"], line["next_state"],
        )
        for line in _rows(truth / "lines.csv")
    }  # fmt: skip
    informed = {_pseudonym(p["identifier"]) for p in _rows(truth / "persons.csv") if p["lines"] != "0"}
    lines = _table(spark, demo, "her2_mbc", "treatment_lines").where("rule_set = 'primary'").collect()
    found = {
        (row.person_id, row.line_number): (
            " + ".join(row.regimen), str(row.line_start), str(row.line_end), row.end_reason, row.next_state,
        )
        for row in lines
    }  # fmt: skip
    assert {person for person, _ in found} == informed
    assert found == expected


def test_every_raw_row_is_accounted_for(spark: SparkSession, demo: Path, truth: Path) -> None:
    counts = ("rows_in", "rows_accepted", "rows_quarantined", "rows_duplicate")
    expected = {row["raw_table"]: tuple(int(row[count]) for count in counts) for row in _rows(truth / "ledger.csv")}
    ledger = _table(spark, demo, CONFORMED_SCHEMA, "ledger").collect()
    assert {row.raw_table: tuple(row[count] for count in counts) for row in ledger} == expected


def test_the_published_numbers_are_in_the_results(demo: Path) -> None:
    attrition = pd.read_csv(demo / "results" / "attrition.csv")
    assert attrition.persons.iloc[-1] == 715
    starts = pd.read_csv(demo / "results" / "line_starts.csv").query("rule_set == 'primary'")
    found = starts.set_index(["line_number", "regimen"]).n
    assert [found[number, "all"] for number in (1, 2, 3, 4)] == [479, 206, 119, 55]
    assert found[1, "pertuzumab + trastuzumab"] == 261
    assert found[1, "trastuzumab"] == 195
    assert found[2, "trastuzumab_emtansine"] == 84
    durations = pd.read_csv(demo / "results" / "line_durations.csv").query("rule_set == 'primary' and regimen == 'all'")
    months = durations.set_index("line_number").median_naive_days / 30.4375
    assert abs(months[1] - 7.2) < 1.5
    assert abs(months[2] - 7.0) < 1.5


def test_the_models_and_competing_events_are_in_the_results(demo: Path) -> None:
    survival = pd.read_csv(demo / "results" / "survival.csv", dtype={"level": str})
    everyone = survival[survival["stratum"] == "all"].set_index(["outcome", "time_days"]).sort_index()
    first = everyone.loc[("first_line", 365)].iloc[0]
    assert (first["n"], first["events"], round(first["estimate"], 3)) == (661, 479, 0.725)
    assert first["estimate"] < 1 - everyone.loc[("death_before_first_line", 365)].iloc[0]["estimate"]
    of_first = everyone[(everyone["rule_set"] == "primary") & (everyone["line_number"] == 1)]
    of_first = of_first[of_first["regimen"] == "all"]
    names = ("next_treatment", "death_before_next_treatment", "second_cancer_before_next_treatment",
             "no_next_treatment")  # fmt: skip
    for day in (183, 365, 731, 1826):
        assert sum(of_first.loc[(name, day), "estimate"].item() for name in names) == pytest.approx(1, abs=1e-9)
    times = pd.read_csv(demo / "results" / "survival_times.csv").query("stratum == 'all'")
    potential = times[times["outcome"] == "potential_follow_up"].iloc[0]
    died = times[times["outcome"] == "overall_survival"].iloc[0]
    assert (potential["n"], potential["events"]) == (715, 715 - died["events"])
    cox = pd.read_csv(demo / "results" / "cox.csv").query("statistic == 'hazard_ratio'")
    assert cox.groupby("covariate")["n"].sum().eq(715).all()
    assert cox.groupby("covariate")["reason"].agg(lambda reasons: (reasons == "reference").sum()).eq(1).all()
    undertreatment = pd.read_csv(demo / "results" / "undertreatment.csv").query("model == 'untreated'")
    odds = undertreatment[undertreatment["statistic"] == "odds_ratio"]
    people = odds.groupby("covariate")[["n", "events"]].sum()
    assert people.loc["age_group"].tolist() == [661, 182]
    # An age group of which everybody is treated says nothing of the rest, and every row says that it is left out.
    everyone = people["n"] == 661
    of_fewer = odds[~odds["covariate"].map(everyone) & odds["estimate"].notna()]
    assert of_fewer["reason"].str.contains("left out: age_group").all()
    assert people["n"].max() == 661


def test_the_report_says_that_nobody_exists(demo: Path) -> None:
    page = (demo / "report.html").read_text(encoding="utf-8")
    assert "SYNTHETIC DATA" in page
    assert "not cleared for release" in page
    assert "<script" not in page
    assert "://" not in page
    for person in _rows(demo / "registers" / "truth" / "persons.csv"):
        assert person["identifier"] not in page
        assert _pseudonym(person["identifier"]) not in page


def test_the_demos_site_file_is_that_of_its_warehouse(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = load_site(demo / "registers" / "site.yaml")
    assert (site.warehouse, site.out) == (str(demo / "warehouse"), str(demo))
    assert main(["status", "--site", str(demo / "registers" / "site.yaml")]) == 0
    said = capsys.readouterr().out
    assert "ingest: up to date" in said
    assert "her2_mbc lines: up to date" in said


def test_no_raw_identifier_is_in_the_warehouse(demo: Path) -> None:
    import pyarrow.parquet as pq

    identifiers = {person["identifier"] for person in _rows(demo / "registers" / "truth" / "persons.csv")}
    cells = 0
    for file in (demo / "warehouse").rglob("*.parquet"):
        if "_delta_log" in file.parts:
            continue
        for column in pq.read_table(file).to_pydict().values():
            texts = [str(cell) for cell in column if cell is not None]
            cells += len(texts)
            assert not identifiers.intersection(texts)
    assert cells > 10_000


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_registers(tmp_path / name, 4_000, 3)
    write_registers(tmp_path / "c", 4_000, 4)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) == 12
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)
    assert (tmp_path / "a/cancer.csv").read_bytes() != (tmp_path / "c/cancer.csv").read_bytes()
    assert (tmp_path / "a/key").stat().st_mode & 0o777 == 0o600


def test_too_few_people_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["synthesize", "--country", "no", "--persons", "10", "--seed", "1", "--out", str(tmp_path)]
    assert main(command) == 10
    assert "at least 3000" in capsys.readouterr().err
