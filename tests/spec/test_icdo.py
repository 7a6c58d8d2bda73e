"""ICD-10 codes of tumours registered by topography and morphology."""

from __future__ import annotations

from pyspark.sql import SparkSession

from jobs.sources.icdo import icd10_of

CASES = {
    ("C509", "8500/3"): "C509",  # carcinoma of the breast
    ("C445", "8720/3"): "C435",  # melanoma of the skin
    ("C445", "8090/3"): "C445",  # basal cell carcinoma
    ("C445", "8720/2"): "C445",  # melanoma in situ
    ("C693", "8720/3"): "C693",  # melanoma of the eye
    ("C773", "9680/3"): "C85",  # lymphoma in lymph nodes
    ("C509", "9680/3"): "C85",  # lymphoma of the breast is none of its cancers
    ("C779", "9650/3"): "C81",
    ("C421", "9732/3"): "C90",
    ("C421", "9861/3"): "C95",
    ("C384", "9050/3"): "C45",
    ("C778", "8500/6"): "C778",  # a metastasis
    ("C509", None): "C509",
}


def test_kinds_with_codes_of_their_own(spark: SparkSession) -> None:
    rows = [(topography, morphology, expected) for (topography, morphology), expected in CASES.items()]
    frame = spark.createDataFrame(rows, "topography string, morphology string, expected string")
    found = frame.withColumn("code", icd10_of(frame.topography, frame.morphology)).collect()
    assert [tuple(row) for row in found if row.code != row.expected] == []
