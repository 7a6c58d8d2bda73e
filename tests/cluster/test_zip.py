"""The zip alone is the whole program: every module imports from it, and the shipped configuration is read from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from jobs.manifest import code_version
from tests.cluster.conftest import CHECKOUT

SCRIPT = """
import importlib, json, pkgutil, sys
import expectations, jobs, schemas
places, imported = set(), 0
for package in (expectations, jobs, schemas):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            places.add(importlib.import_module(module.name).__file__)
            imported += 1
from jobs.config import conf_folder, load_drugs, load_study
from jobs.manifest import code_version
studies = sorted(entry.name for entry in (conf_folder() / "studies").iterdir())
for study in studies:
    load_study(conf_folder() / "studies" / study)
outside = sorted(place for place in places if not place.startswith(sys.argv[1]))
print(json.dumps([imported, outside, studies, len(load_drugs().substances), code_version()]))
"""


def _sources() -> set[str]:
    found = set()
    for folder in ("jobs", "schemas", "expectations", "conf"):
        for path in (CHECKOUT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                name = path.relative_to(CHECKOUT).as_posix()
                found.add(f"jobs/{name}" if folder == "conf" else name)
    return found


def test_the_zip_holds_every_file(program_zip: Path) -> None:
    with zipfile.ZipFile(program_zip) as archive:
        assert set(archive.namelist()) == _sources()


def test_the_zip_is_the_whole_program(program_zip: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(program_zip)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(program_zip)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    imported, outside, studies, substances, version = json.loads(done.stdout.splitlines()[-1])
    assert outside == []
    assert imported > 20
    assert "her2_mbc.yaml" in studies
    assert substances > 20
    assert version == code_version()


def test_the_same_content_gives_the_same_bytes(program_zip: Path, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "setup.py", "--quiet", "zip", "--dist-dir", str(tmp_path)],
        cwd=CHECKOUT,
        check=True,
        timeout=100,
    )
    assert (tmp_path / "treatment_lines.zip").read_bytes() == program_zip.read_bytes()
