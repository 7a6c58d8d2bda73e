"""ICD-O-3 to ICD-10: where a tumour sits is not enough, for some kinds have ICD-10 codes of their own."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

# First and last morphology (four digits), and the ICD-10 category, of malignant tumours that ICD-10 files by kind.
# Finer categories of lymphoma and leukaemia are not told apart: C85 and C95 are those of kind not specified.
BY_KIND = (
    (8720, 8799, "C43"),  # melanoma, of the skin only
    (9050, 9055, "C45"),
    (9140, 9140, "C46"),
    (9590, 9596, "C85"),
    (9650, 9667, "C81"),
    (9670, 9729, "C85"),
    (9731, 9734, "C90"),
    (9735, 9738, "C85"),
    (9740, 9769, "C96"),
    (9800, 9948, "C95"),
)
SKIN = "C44"


def icd10_of(topography: Column, morphology: Column) -> Column:
    """The ICD-10 code of a topography (C and digits) and a morphology (`8500/3`); benign ones keep their topography."""
    kind = F.regexp_extract(F.coalesce(morphology, F.lit("")), r"^(\d{4})/3", 1).try_cast("int")
    code = topography
    for first, last, category in BY_KIND:
        meant = F.concat(F.lit("C43"), F.substring(topography, 4, 1)) if category == "C43" else F.lit(category)
        applies = kind.between(first, last) & ((F.lit(category) != "C43") | topography.startswith(SKIN))
        code = F.when(applies, meant).otherwise(code)
    return code
