"""Real input: the clinical tables of TCGA-BRCA through every stage, and the adapter's rules on invented rows."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.cli import main
from jobs.codes import code_frame
from jobs.config import RawInput, Site, conf_folder, load_drugs, load_site
from jobs.contents import with_contents
from jobs.extracts import find_extracts
from jobs.identity import MINIMUM_KEY_BYTES
from jobs.ingest import IngestedTables, ingested_tables
from jobs.sources.tcga_brca import ADAPTER, drug_names
from schemas import CONFORMED
from tests.conformed import conformed_of

KEY = "k" * MINIMUM_KEY_BYTES
SITE = Path(str(conf_folder())) / "sites" / "tcga_brca.yaml"
STUDY = Path(str(conf_folder())) / "studies" / "tcga_brca.yaml"

CELLS = {
    "Tamoxifen": ["tamoxifen"],
    "taxol+adriamycin+cyclophosphamide+herceptin": ["taxol", "adriamycin", "cyclophosphamide", "herceptin"],
    "doxorubicin+ cyclophosphamide": ["doxorubicin", "cyclophosphamide"],
    "Adriamycin, cytoxan, avastin": ["adriamycin", "cytoxan", "avastin"],
    "Cytoxan and Taxotere": ["cytoxan", "taxotere"],
    "Taxotere/Cytoxan": ["taxotere", "cytoxan"],
    "ANASTROZOLE (ARIMIDEX)": ["anastrozole"],
    "LEUPROLIDE ACETATE (LUPRON)": ["leuprolide"],
    "doxorubicin HCL": ["doxorubicin"],
    "tamoxifen citrate": ["tamoxifen"],
    "Zoledronic  Acid": ["zoledronic acid"],
    "taxol + Taxol": ["taxol"],
    "Chemo, NOS": ["chemo, nos"],
    "Bevacizumab or Placebo": ["bevacizumab or placebo"],
    "BEVACIZUMAB (AVASTIN)/PLACEBO PROVIDED BY STUDY": ["bevacizumab (avastin)/placebo provided by study"],
    "(study drug)": ["(study drug)"],
}


def test_cells_become_names(spark: SparkSession) -> None:
    cells = spark.createDataFrame([(cell,) for cell in CELLS], "cell string")
    assert {row.cell: row.names for row in cells.withColumn("names", drug_names(F.col("cell"))).collect()} == CELLS


def test_every_name_of_the_drug_list_can_be_reached(spark: SparkSession) -> None:
    drugs = load_drugs()
    names = [name for entry in (*drugs.substances.values(), *drugs.products.values()) for name in entry.names]
    cells = spark.createDataFrame([(name,) for name in names], "cell string")
    changed = cells.where(drug_names(F.col("cell")) != F.array("cell"))
    assert [row.cell for row in changed.collect()] == []


NA = "[Not Available]"
PATIENT = {
    "bcr_patient_barcode": "p1",
    "vital_status": "Alive",
    "last_contact_days_to": "100",
    "death_days_to": "[Not Applicable]",
    "form_completion_date": "2012-3-4",
    "birth_days_to": "-20000",
    "gender": "FEMALE",
    "initial_pathologic_dx_year": "2010",
    "age_at_diagnosis": "54",
    "ajcc_nodes_pathologic_pn": "N0 (i-)",
    "ajcc_metastasis_pathologic_pm": "M0",
    "ajcc_pathologic_tumor_stage": "Stage IIA",
    "er_status_by_ihc": "Positive",
    "pr_status_by_ihc": "Indeterminate",
    "her2_status_by_ihc": "Negative",
    "her2_fish_status": "[Not Evaluated]",
    "icd_10": "C50.9",
    "icd_o_3_histology": "8500/3",
}
# What differs from PATIENT, and for accepted rows what comes of it: (birth, death, last day), (stage, her2).
DIAGNOSED = date(2010, 7, 1)
BORN = date(1955, 9, 28)
LAST = date(2010, 10, 9)
PEOPLE: list[tuple[dict[str, str], tuple[object, ...], tuple[object, ...]]] = [
    ({}, (BORN, None, LAST), ("localised", "negative")),
    (
        {"vital_status": "Dead", "death_days_to": "31", "last_contact_days_to": NA, "her2_fish_status": "Positive"},
        (BORN, date(2010, 8, 1), None),
        ("localised", "positive"),
    ),
    (
        {"birth_days_to": NA, "her2_status_by_ihc": "Positive", "her2_fish_status": "Negative"},
        (date(1956, 7, 1), None, date(2010, 12, 8)),  # a follow-up on day 160
        ("localised", "positive"),
    ),
    (
        {"ajcc_nodes_pathologic_pn": "N1a", "her2_status_by_ihc": "Equivocal"},
        (BORN, date(2011, 7, 1), None),  # a follow-up says dead on day 365
        ("regional", "equivocal"),
    ),
    (
        {"ajcc_metastasis_pathologic_pm": "M1", "her2_status_by_ihc": "Equivocal", "her2_fish_status": "Negative"},
        (BORN, None, date(2011, 4, 27)),  # a new tumour on day 300 is later than any contact
        ("distant", "negative"),
    ),
    (
        {"ajcc_nodes_pathologic_pn": "NX", "her2_status_by_ihc": "Indeterminate", "last_contact_days_to": "-7"},
        (BORN, None, DIAGNOSED),
        (None, None),
    ),
]
REFUSED = [
    ({"gender": "X"}, ["unknown_code:gender"]),
    ({"gender": NA, "vital_status": "Well"}, ["missing:gender", "unknown_code:vital_status"]),
    ({"birth_days_to": NA, "age_at_diagnosis": NA}, ["missing_date:birth_days_to"]),
    ({"birth_days_to": "x"}, ["impossible_date:birth_days_to"]),
    ({"vital_status": "Dead", "last_contact_days_to": NA}, ["missing_date:death_days_to"]),
    ({"vital_status": "Dead", "death_days_to": "-20001"}, ["death_before_birth"]),
    ({"last_contact_days_to": NA}, ["missing_date:last_contact_days_to"]),
]
DRUGS = """bcr_patient_barcode|bcr_drug_barcode|pharmaceutical_therapy_drug_name|pharmaceutical_tx_started_days_to|\
pharmaceutical_tx_ongoing_indicator|pharmaceutical_tx_ended_days_to|route_of_administration
p0|d1|Taxol+Herceptin|10|NO|20|IV
p0|d2|Arimidex|30|YES|[Not Available]|PO
p0|d3|Zometa|40|NO|[Not Available]|IV|PO
p0|d4|Cytoxan|[Not Available]|NO|50|IV
p0|d5|[Unknown]|10|NO|20|IV
p0|d6|Cytoxan|20|NO|10|IV
p1|d7|Megace|20|YES|[Not Available]|[Not Available]"""
FOLLOW_UPS = """bcr_patient_barcode|bcr_followup_barcode|vital_status|last_contact_days_to|death_days_to|\
new_tumor_event_type|new_tumor_event_site|new_tumor_event_site_other|new_tumor_event_dx_days_to
p2|f1|Alive|150|[Not Applicable]|Distant Metastasis|Bone|[Not Available]|120
p2|f2|Alive|160|[Not Applicable]|Distant Metastasis|Bone|[Not Available]|120
p3|f3|Dead|[Not Available]|365|Locoregional Disease|Other, specify|Chest Wall|200
p3|f4|[Not Available]|[Not Available]|[Not Applicable]|[Not Available]|[Not Available]|[Not Available]|[Not Available]
p4|f5|Alive|90|[Not Applicable]|New Primary Tumor|Other, specify|colon|300"""


def _table(header: list[str], rows: list[list[str]]) -> str:
    return "\n".join("\t".join(line) for line in (header, [f"x_{name}" for name in header], header, *rows)) + "\n"


def _piped(text: str) -> str:
    header, *rows = text.split("\n")
    names = header.split("|")
    return _table(
        names, [[*row.split("|")[: len(names) - 1], "|".join(row.split("|")[len(names) - 1 :])] for row in rows]
    )


@contextmanager
def _ingested(spark: SparkSession, folder: Path, texts: Mapping[str, str]) -> Iterator[IngestedTables]:
    inputs = {}
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text)
        inputs[name] = RawInput(path=str(folder / f"{name}.txt"))
    site = Site(country="tcga_brca", warehouse=str(folder / "warehouse"), inputs=inputs)
    extracts = with_contents(spark, find_extracts(lambda: spark, site, ADAPTER), None)
    with ingested_tables(spark, site, ADAPTER, extracts, "2016-01-01", KEY.encode()) as done:
        yield done


def test_invented_rows(spark: SparkSession, tmp_path: Path) -> None:
    changes = [person[0] for person in PEOPLE] + [refused[0] for refused in REFUSED]
    patients = [{**PATIENT, **change, "bcr_patient_barcode": f"p{number}"} for number, change in enumerate(changes)]
    texts = {
        "patient": _table(list(PATIENT), [list(patient.values()) for patient in patients]),
        "drug": _piped(DRUGS),
        "follow_up_v2_1": _piped(FOLLOW_UPS),
    }
    with _ingested(spark, tmp_path, texts) as done:
        conformed = conformed_of(done)
        for name, table in conformed.items():
            assert dict(table.dtypes) == {column.name: column.type for column in CONFORMED[name].columns}
        people = conformed["person"].orderBy("source_row").collect()
        all_tumours = done.conformed["tumour"].collect()
        recurrences = done.conformed["recurrence"].collect()
        drugs = done.conformed["hospital_drug"].orderBy("source_row", "code").collect()
        reasons = {
            name: {row.source_row: row.reasons for row in frame.collect()} for name, frame in done.quarantined.items()
        }
    assert reasons["patient"] == {len(PEOPLE) + n: refused[1] for n, refused in enumerate(REFUSED, start=1)}
    assert [(row.birth_date, row.death_date, row.emigration_date) for row in people] == [person[1] for person in PEOPLE]
    number = {row.person_id: row.source_row - 1 for row in people}
    tumours = {number[row.person_id]: row for row in all_tumours if row.source_file == "patient.txt"}
    assert [(tumours[n].stage, tumours[n].her2) for n in range(len(PEOPLE))] == [person[2] for person in PEOPLE]
    assert {(row.diagnosis_date, row.icd10, row.er, row.pr) for row in tumours.values()} == {
        (DIAGNOSED, "C509", "positive", None)
    }
    primaries = [row for row in all_tumours if row.source_file != "patient.txt"]
    assert [(number[row.person_id], row.icd10, row.diagnosis_date) for row in primaries] == [
        (4, "C18", date(2011, 4, 27))
    ]
    assert sorted((number[row.person_id], row.kind, row.event_date) for row in recurrences) == [
        (2, "distant", date(2010, 10, 29)),
        (3, "local", date(2011, 1, 17)),
    ]
    assert [(number[row.person_id], row.code, row.start_date, row.end_date, row.route) for row in drugs] == [
        (0, "herceptin", date(2010, 7, 11), date(2010, 7, 21), "iv"),
        (0, "taxol", date(2010, 7, 11), date(2010, 7, 21), "iv"),
        (0, "arimidex", date(2010, 7, 31), LAST, "oral"),
        (0, "zometa", date(2010, 8, 10), None, "unspecified"),
        (1, "megace", date(2010, 7, 21), date(2010, 8, 1), None),
    ]
    assert {row.code_system for row in drugs} == {"name"}
    assert reasons["drug"] == {
        4: ["missing_date:pharmaceutical_tx_started_days_to"],
        5: ["missing:pharmaceutical_therapy_drug_name"],
        6: ["end_before_start"],
    }
    assert reasons["follow_up_v2_1"] == {4: ["missing_date:last_contact_days_to"]}


def test_a_year_that_is_missing_is_the_latest_possible(spark: SparkSession, tmp_path: Path) -> None:
    years = {**PATIENT, "initial_pathologic_dx_year": NA, "last_contact_days_to": "1000"}
    with _ingested(spark, tmp_path, {"patient": _table(list(years), [list(years.values())])}) as done:
        row = done.conformed["tumour"].collect()[0]
    assert (row.diagnosis_date, row.diagnosis_date_precision) == (date(2009, 7, 1), "year")


Read = Callable[[str], DataFrame]


@pytest.fixture(scope="module")
def out(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole run on the real tables: `results/`, `report.html` and `warehouse/`."""
    folder = Path(load_site(SITE).inputs["patient"].path).parent
    if not folder.is_dir():
        pytest.skip("the TCGA-BRCA tables are not here; see conf/sites/tcga_brca.yaml for their place")
    out = tmp_path_factory.mktemp("tcga_brca")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TREATMENT_LINES_KEY", KEY)
        arguments = ["run", "--study", str(STUDY), "--site", str(SITE), "--out", str(out)]
        assert main([*arguments, "--set", f"site.warehouse={out / 'warehouse'}"]) == 0
    return out


@pytest.fixture(scope="module")
def read(spark: SparkSession, out: Path) -> Read:
    def table(name: str) -> DataFrame:
        site_table = name in CONFORMED or name == "ledger" or name.startswith("quarantine_")
        schema = "conformed" if site_table else "tcga_brca"
        return spark.read.format("delta").load(str(out / "warehouse" / schema / name))

    return table


@pytest.fixture(scope="module")
def her2_positive(read: Read) -> DataFrame:
    return read("tumour").where(F.col("her2") == "positive").select("person_id").distinct()


def test_every_raw_row_is_accounted_for(read: Read) -> None:
    ledger = {row.raw_table: tuple(row)[2:] for row in read("ledger").collect()}
    assert ledger == {  # rows in, accepted, quarantined, duplicate, suppressed
        "patient": (1097, 1097, 0, 0, 0),
        "drug": (2406, 2278, 128, 0, 0),
        "follow_up_v1_5": (114, 114, 0, 0, 0),
        "follow_up_v2_1": (523, 521, 2, 0, 0),
        "follow_up_v4_0": (716, 706, 10, 0, 0),
        "new_tumour": (119, 15, 104, 0, 0),
        "follow_up_new_tumour": (82, 68, 12, 2, 0),
    }


def test_people_and_deaths(read: Read) -> None:
    """152 deaths after the merge: 151 with a day, one reported without its day."""
    people = read("person")
    deaths = people.where(F.col("death_date").isNotNull())
    assert people.count() == people.select("person_id").distinct().count() == 1097
    assert deaths.count() == 151
    undated = read("quarantine_follow_up_v2_1").where(F.array_contains("reasons", "missing_date:death_days_to"))
    died = deaths.select("person_id").union(undated.select("person_id")).distinct()
    assert died.count() == 152
    assert people.where(F.col("death_date").isNull() & F.col("emigration_date").isNull()).count() == 0


def test_deaths_before_the_merge(spark: SparkSession, tmp_path: Path) -> None:
    declared = load_site(SITE).inputs["patient"].path
    if not Path(declared).exists():
        pytest.skip("the TCGA-BRCA tables are not here; see conf/sites/tcga_brca.yaml for their place")
    with _ingested(spark, tmp_path, {"patient": Path(declared).read_text()}) as done:
        assert conformed_of(done)["person"].where(F.col("death_date").isNotNull()).count() == 104


def test_her2_positive_people_with_an_anti_her2_drug(read: Read, her2_positive: DataFrame) -> None:
    """197 are positive by either method, 67 of them have an anti-HER2 drug: 65 on a known day, two on none."""
    assert her2_positive.count() == 197
    exposed = read("exposures").where(F.col("class") == "anti_her2")
    dated = exposed.join(her2_positive, on="person_id", how="left_semi").select("person_id").distinct()
    assert dated.count() == 65

    drugs = load_drugs()
    anti_her2 = [name for name, substance in drugs.substances.items() if substance.class_ == "anti_her2"]
    undated = read("quarantine_drug").where(
        F.array_contains("reasons", "missing_date:pharmaceutical_tx_started_days_to")
    )
    names = undated.select(
        "person_id", F.explode(drug_names(F.get_json_object("row", "$.pharmaceutical_therapy_drug_name"))).alias("code")
    )
    codes = code_frame(exposed.sparkSession, drugs, None).where(
        (F.col("code_system") == "name") & F.col("substance").isin(anti_her2)
    )
    without_day = names.join(codes, on="code", how="left_semi").select("person_id")
    ever = exposed.select("person_id").union(without_day).join(her2_positive, on="person_id", how="left_semi")
    assert ever.distinct().count() == 67


def test_what_no_substance_is_known_for_is_listed(read: Read) -> None:
    unresolved = {row.code: row.n for row in read("unresolved_codes").collect()}
    assert unresolved == {
        "chemo, nos": 3,
        "hormone, nos": 1,
        "poly e": 1,
        "bevacizumab or placebo": 1,
        "bevacizumab (avastin)/placebo provided by study": 1,
    }


def test_results(out: Path, read: Read) -> None:
    with (out / "results" / "attrition.csv").open(newline="") as stream:
        steps = list(csv.DictReader(stream))
    assert int(steps[0]["persons"]) == 1097
    assert int(steps[-1]["persons"]) == read("cohort").count() == 1097
    manifest = json.loads((out / "results" / "manifest.json").read_text())
    assert manifest["counts"]["person"] == 1097
    assert (out / "report.html").stat().st_size > 10_000
    lines = read("treatment_lines").where(F.col("rule_set") == "primary")
    assert lines.count() > 500
