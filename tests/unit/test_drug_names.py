"""Free-text names of drugs as registers write them, resolved by conf/drugs.yaml."""

from __future__ import annotations

import pytest

from jobs.codes import code_rows
from jobs.config import load_drugs

WRITTEN = {
    "trastuzumab": "trastuzumab, herceptin, trustuzumab",
    "lapatinib": "lapatinib",
    "bevacizumab": "bevacizumab, avastin",
    "rituximab": "rituximab",
    "everolimus": "everolimus",
    "paclitaxel": "paclitaxel, paclitaxelum, taxol, abraxane, albumin-bound paclitaxel",
    "docetaxel": "docetaxel, taxotere, doxetaxel",
    "doxorubicin": "doxorubicin, doxorubicine, doxorubicinum, doxorubicin liposome, doxil, adriamycin, adriamyicin, "
    "adrimycin, adriamicin, adrimicin",
    "epirubicin": "epirubicin, epirubicoin",
    "cyclophosphamide": "cyclophosphamide, cytoxan, cyclophosphane, cyclophosphamid, cyclophospamide, "
    "cyclophasphamide, cyotxan, cytoxen, cuclophosphamide, cyclophosphamidum",
    "fluorouracil": "fluorouracil, 5-fluorouracil, 5-flourouracil, 5-fu, flourouracil, 5 fluorouracil, fluorouracillum",
    "methotrexate": "methotrexate, metotreksat, methotrexatum",
    "capecitabine": "capecitabine, capecetabine, xeloda",
    "gemcitabine": "gemcitabine, gemzar",
    "vinorelbine": "vinorelbine, navelbine",
    "etoposide": "vp-16",
    "trabectedin": "yondelis",
    "tamoxifen": "tamoxifen, tamoxiphene, tamoxiphen, nolvadex",
    "anastrozole": "anastrozole, anastrazole, anastrozolum, anastrazolum, arimidex",
    "letrozole": "letrozole, letrozol, letrozolum, femara",
    "exemestane": "exemestane, aromasin, aromatase exemestane",
    "fulvestrant": "fulvestrant, faslodex",
    "toremifene": "fareston",
    "megestrol": "megace",
    "goserelin": "goserelin, gosereline, zoladex",
    "leuprorelin": "leuprorelin, leuprolide, leuporeline, lupron",
    "triptorelin": "triptorelin",
    "zoledronic_acid": "zoledronic acid, zometa",
    "pamidronic_acid": "pamidronic acid, pamidronate",
    "clodronic_acid": "clodronic acid, clodronate",
    "ibandronic_acid": "ibandronate",
    "denosumab": "denosumab, xgeva",
    "pegfilgrastim": "neulasta",
    "palonosetron": "aloxi",
    "mesna": "mesna-1, mesna-2",
    "nelipepimut_s": "e-75",
    "ae37": "ae-37",
}
SEVERAL = {
    "ac": {"doxorubicin", "cyclophosphamide"},
    "tc": {"docetaxel", "cyclophosphamide"},
    "tch": {"docetaxel", "carboplatin", "trastuzumab"},
    "doxorubicine cyclophosphamide tamoxifen": {"doxorubicin", "cyclophosphamide", "tamoxifen"},
    "phesgo": {"pertuzumab", "trastuzumab"},
}
# A class, a trial arm or a name nobody knows: not a substance.
UNRESOLVED = ["chemo, nos", "hormone, nos", "poly e", "taxane", "not otherwise specified", "bevacizumab or placebo"]


@pytest.fixture(scope="module")
def substances() -> dict[str, set[str]]:
    meaning: dict[str, set[str]] = {}
    for system, code, _, _, substance in code_rows(load_drugs(), None):
        if system == "name":
            meaning.setdefault(code, set()).add(substance)
    return meaning


@pytest.mark.parametrize("substance", WRITTEN)
def test_spellings_of_one_substance(substance: str, substances: dict[str, set[str]]) -> None:
    for name in WRITTEN[substance].split(", "):
        assert substances.get(name) == {substance}, name


def test_names_of_several_substances(substances: dict[str, set[str]]) -> None:
    assert {name: substances.get(name) for name in SEVERAL} == SEVERAL


def test_what_names_no_substance_stays_unresolved(substances: dict[str, set[str]]) -> None:
    assert [name for name in UNRESOLVED if name in substances] == []


def test_names_are_written_as_sources_are_read(substances: dict[str, set[str]]) -> None:
    assert [name for name in substances if name != " ".join(name.lower().split())] == []


def test_every_substance_has_a_name() -> None:
    drugs = load_drugs()
    assert [name for name, substance in drugs.substances.items() if not substance.names] == []
