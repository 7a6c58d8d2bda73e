"""The page: what it says, that it is whole, loads nothing and escapes everything; and the flow's arithmetic."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest

from jobs.config import RuleSet, Study
from jobs.report.page import render_report
from jobs.report.printed import days
from jobs.report.sankey import flows
from jobs.report.summary import main_table
from jobs.survival.tables import csv_bytes, line_transitions, result_tables
from schemas import TABLES
from tests.unit.test_survival_rows import frame, net_day
from tests.unit.test_survival_tables import MADE, STUDY

MANIFEST: dict[str, Any] = {
    "clearance": "internal, not cleared for release",
    "run": "r" * 64,
    "study": "drawn",
    "country": "conformed",
    "delivery": "2023-01-01",
    "code_version": "c" * 64,
    "configuration_hash": "h" * 64,
    "packages": {"lifelines": "0.30.3"},
    "inputs": {"conformed.person": 0, "drawn.frame_lines": 2},
    "stages": {"ingest": {"fingerprint": "f" * 64, "tables": {"person": 0}, "files": {}}},
    "counts": {"person": 9},
    "warnings": ["tumour: <b>too early</b> (3 of 10 rows)"],
}


def table(name: str, *rows: tuple[Any, ...]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=TABLES[name].column_names)


SMALL = {
    "ledger": table("ledger", ("cases", "2023-01-01", 1234, 1230, 3, 1, 0)),
    "unknown_codes": table("unknown_codes", ("cases", "stage", "<secret>", 4, "2023-01-01")),
    "unresolved_codes": table(
        "unresolved_codes",
        ("hospital_drug", "atc", "L01XX99", 40, 6),
        ("hospital_drug", "atc", "L01XX98", 41, 4),
        ("hospital_drug", "name", "given by dr secret", 42, 7),
        ("hospital_drug", "atc", "01017012345", 43, 8),
    ),
    "line_counts": table("line_counts", ("primary", "carry_in_removed", 17), ("gap_45", "carry_in_removed", 19)),
}


class Structure(HTMLParser):
    """Open tags, to see that every one is closed; attributes that could load something; text."""

    VOID = ("meta", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.loads: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loads += [f"{name}={value}" for name, value in attrs if name in ("src", "href", "xlink:href", "style")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(study: Study = STUDY, synthetic: bool = False, frames: dict[str, pd.DataFrame] = MADE) -> str:
    return render_report(frames, SMALL, MANIFEST, study, synthetic)


@pytest.fixture(scope="module")
def page() -> str:
    return page_of()


@pytest.fixture(scope="module")
def read(page: str) -> Structure:
    structure = Structure()
    structure.feed(page)
    assert structure.open == []
    return structure


def test_it_loads_nothing_and_runs_nothing(page: str, read: Structure) -> None:
    assert not read.tags & {"script", "link", "img", "iframe", "object", "style "}
    assert all(load.startswith("href=#") for load in read.loads)
    assert "url(" not in page
    assert "@import" not in page
    assert "://" not in page


def test_stamps() -> None:
    assert "SYNTHETIC" not in page_of()
    assert "SYNTHETIC DATA" in page_of(synthetic=True)
    assert "Internal, not cleared for release" in page_of()


def test_drawings_are_well_formed(page: str) -> None:
    drawings = re.findall(r"<svg.*?</svg>", page, re.S)
    assert len(drawings) > 5
    for drawing in drawings:
        root = ElementTree.fromstring(drawing)
        assert root.find("title") is not None
        numbers = " ".join(value for part in root.iter() for value in part.attrib.values())
        assert "nan" not in numbers
        assert "inf" not in numbers


def test_numbers_at_risk_are_those_of_the_curve(page: str) -> None:
    chart = next(part for part in re.findall(r"<svg.*?</svg>", page, re.S) if "<title>Still on line 1" in part)
    said = [element.text for element in ElementTree.fromstring(chart).iter("text")]
    assert said[said.index("everyone") + 1 :] == ["4", "2", "0"]


def test_what_it_says(read: Structure) -> None:
    text = " ".join(read.text.split())
    assert "7 with treatment information" in text.replace("7with", "7 with")
    assert "Line 1: 5 people, 71 % of those with treatment information" in text
    assert "1,234" in text
    assert "gap days 45" in text
    assert "17" in text


def test_gaps_are_also_said_from_infusion_to_infusion(page: str) -> None:
    cells = " ".join(re.sub("<[^>]+>", " ", page).split())
    assert "primary 90 111 " in cells
    assert "gap 45 gap days 45 45 66 " in cells
    covered = RuleSet(coverage_days={"trastuzumab": 28})
    longer = STUDY.model_copy(update={"rule_sets": {**STUDY.rule_sets, "primary": covered}})
    assert "primary 90 111 to 118 " in " ".join(re.sub("<[^>]+>", " ", page_of(longer)).split())


def test_one_is_not_several_and_what_is_not_told_is_a_dash(page: str) -> None:
    assert "1 expectation does not hold; it is not critical." in page
    assert '<td>drawn.frame_lines</td><td class="n">2</td><td class="n">–</td>' in page


@pytest.mark.parametrize(("value", "said"), [(192.5, "192.5"), (207.5, "207.5"), (1234.0, "1,234"), (0.0, "0")])
def test_a_median_in_the_middle_of_two_days_is_not_rounded(value: float, said: str) -> None:
    assert days(value) == said


def test_net_survival_says_who_is_left_out() -> None:
    study = STUDY.model_copy(update={"survival": STUDY.survival.model_copy(update={"net_strata": ()})})
    followed, left_out = [net_day(day, 9) for day in range(1, 400)], [net_day(0, 1), net_day(-1, 2)]
    several = {**MADE, "frame_net_survival": frame("frame_net_survival", *followed, *left_out)}
    says = "everyone: 1 observed for no day; 2 whom the life table does not cover.</p>"
    assert says in page_of(study, frames=several)
    several["frame_net_survival"] = frame("frame_net_survival", *followed)
    assert "Left out of" not in page_of(study, frames=several)


def test_everything_is_escaped(page: str) -> None:
    assert "&lt;b&gt;too early&lt;/b&gt;" in page
    evil = {**MADE, "frame_lines": MADE["frame_lines"].replace({"lapatinib": "<script>alert(1)</script>"})}
    study = STUDY.model_copy(update={"title": "<i>title</i>", "regimen_names": {"trastuzumab": "<u>T</u> & co"}})
    hostile = page_of(study, frames=evil)
    for tag in ("<script", "<i>", "<u>"):
        assert tag not in hostile
    assert "&lt;u&gt;T&lt;/u&gt; &amp; co" in hostile


def test_no_cell_is_shown_that_few_people_or_free_text_have(page: str) -> None:
    assert "L01XX99" in page
    for hidden in ("L01XX98", "secret", "01017012345"):
        assert hidden not in page
    assert "2 not shown" in page


def test_the_same_frames_give_the_same_page(page: str) -> None:
    shuffled = {name: made.sample(frac=1, random_state=2) for name, made in MADE.items()}
    assert page_of(frames=shuffled) == page


def test_nobody_treated(page: str) -> None:
    lines = MADE["frame_lines"]
    nobody = {name: made.iloc[:0] for name, made in MADE.items()}
    alone = {
        **nobody,
        "frame_attrition": MADE["frame_attrition"],
        "frame_lines": lines[lines["regimen"] == "untreated"],
    }
    assert "untreated" in page_of(frames=alone)
    assert "Who is in the study" in page_of(frames={**nobody, "frame_attrition": MADE["frame_attrition"]})


def test_flows_lose_nobody() -> None:
    """What enters a regimen leaves it; regimens beyond the most common stand together, a single one keeps its name."""
    links = flows(line_transitions(MADE["frame_lines"], STUDY), lines=2, most_regimens=0)
    assert set(links["source"]) == {("index", ""), ("regimen", "other regimens"), ("regimen", "lapatinib")}
    for column in (1, 2):
        kinds = links["target"].map(lambda target: target[0])
        arrived = links[(links["column"] == column - 1) & (kinds == "regimen")]["n"].sum()
        assert arrived == links[links["column"] == column]["n"].sum()
    assert links[links["column"] == 0]["n"].sum() == 7
    cut = flows(line_transitions(MADE["frame_lines"], STUDY), lines=1, most_regimens=4)
    assert cut[cut["target"] == ("further", "a further line")]["n"].to_list() == [1]


def test_main_table(tmp_path: Path) -> None:
    for name, made in result_tables(MADE, STUDY).items():
        (tmp_path / f"{name}.csv").write_bytes(csv_bytes(made))
    said = [line.split() for line in main_table(tmp_path).splitlines()]
    assert said[1] == ["1", "all", "regimens", "5", "120", "90"]
    assert said[3] == ["lapatinib", "1", "-", "10"]
    assert said[4][:4] == ["2", "all", "regimens", "1"]
