"""The same stages, submitted to a cluster and run in one process, write the same bytes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.conftest import CHECKOUT, Cluster

pytestmark = pytest.mark.cluster

PERSONS = 3_000
STUDY = str(CHECKOUT / "conf" / "studies" / "her2_mbc.yaml")
PSEUDONYM = re.compile(r"\b[0-9a-f]{32}\b")


def _local(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jobs", *arguments], cwd=CHECKOUT, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _results(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "results").glob("*.csv"))}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> str:
    registers = tmp_path_factory.mktemp("registers")
    _local("synthesize", "--country", "no", "--persons", str(PERSONS), "--seed", "7", "--out", str(registers))
    return str(registers / "site.yaml")


def test_a_cluster_and_one_process_write_the_same_results(cluster: Cluster, site: str, tmp_path: Path) -> None:
    here, there = tmp_path / "local", tmp_path / "cluster"
    _local("run", "--study", STUDY, "--site", site, "--out", str(here), "--set", f"site.warehouse={here}/warehouse")

    warehouse = ("--set", f"site.warehouse={there}/warehouse")
    ingested = cluster.submit("ingest", "--site", site, *warehouse)
    assert ingested.returncode == 0, ingested.stdout + ingested.stderr
    ran = cluster.submit("run", "--study", STUDY, "--site", site, "--out", str(there), *warehouse)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"^\[1/\d\] ingest .*unchanged$", ran.stdout, re.MULTILINE), ran.stdout

    state = cluster.state()
    finished = [app for app in state["completedapps"] if app["state"] == "FINISHED"]
    assert len(finished) == 2, "the runs did not use the cluster"
    used = {path.parts[len(cluster.folder.parts)] for path in cluster.folder.glob("worker-*/app-*/*/stderr")}
    assert used == {"worker-0", "worker-1"}

    expected, found = _results(here), _results(there)
    assert {"attrition.csv", "line_starts.csv", "survival.csv"} <= set(expected)
    assert list(found) == list(expected)
    assert [name for name in expected if found[name] != expected[name]] == []

    logs = [ingested.stdout, ingested.stderr, ran.stdout, ran.stderr]
    logs += [path.read_text() for path in (*cluster.folder.glob("*.log"), *cluster.folder.rglob("std*"))]
    assert len(logs) >= 11
    assert sum(len(PSEUDONYM.findall(log)) for log in logs) == 0


def test_exit_codes_pass_through_spark_submit(cluster: Cluster, site: str, tmp_path: Path) -> None:
    wrong = ("--set", "site.warehuse=x")
    configuration = cluster.submit("run", "--study", STUDY, "--site", site, *wrong)
    assert configuration.returncode == 10
    # spark-submit puts both streams of the program on its standard output.
    said = [line for line in configuration.stdout.splitlines() if line.startswith("treatment-lines run: ")]
    assert len(said) == 1
    assert "did you mean warehouse?" in said[0]
    nothing_yet = cluster.submit("lines", "--study", STUDY, "--site", site, "--set", f"site.warehouse={tmp_path}/none")
    assert nothing_yet.returncode == 11
    assert cluster.submit("no-such-stage").returncode == 2
