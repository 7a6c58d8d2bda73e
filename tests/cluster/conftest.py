"""The zip as `make dist` makes it, and a Spark standalone cluster on this machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyspark
import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
SPARK_HOME = Path(pyspark.__file__).parent
ADDRESS = "127.0.0.1"
WORKERS = 2
START_SECONDS = 60


@dataclass(frozen=True)
class Cluster:
    """A running standalone cluster and how to submit to it."""

    port: int
    ui_port: int
    folder: Path
    zip: Path
    environment: dict[str, str]

    def state(self) -> dict[str, Any]:
        """What the master says about itself."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{ADDRESS}:{self.ui_port}/json/", timeout=5) as answer:
            state: dict[str, Any] = json.load(answer)
        return state

    def submit(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """spark-submit of one stage, from a folder that is not the checkout."""
        log4j2 = (self.folder / "conf" / "log4j2.properties").as_uri()
        command = [
            str(SPARK_HOME / "bin" / "spark-submit"),
            *("--master", f"spark://{ADDRESS}:{self.port}"),
            *("--properties-file", str(CHECKOUT / "conf" / "spark" / "small.conf")),
            *("--driver-memory", "2g"),
            *("--driver-java-options", f"-Xss4m -Dlog4j2.configurationFile={log4j2}"),
            *("--conf", f"spark.driver.host={ADDRESS}"),
            *("--conf", f"spark.driver.bindAddress={ADDRESS}"),
            *("--conf", "spark.ui.enabled=false"),
            *("--py-files", str(self.zip)),
            str(CHECKOUT / "jobs" / "submit.py"),
            *arguments,
        ]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=900
        )


@pytest.fixture(scope="session")
def program_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "setup.py", "--quiet", "zip", "--dist-dir", str(folder)], cwd=CHECKOUT, check=True, timeout=100
    )
    return folder / "treatment_lines.zip"


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for opened in sockets:
            opened.bind((ADDRESS, 0))
        return [opened.getsockname()[1] for opened in sockets]


@contextmanager
def _daemon(log: Path, environment: dict[str, str], *arguments: str) -> Iterator[None]:
    """One Spark daemon in a process group of its own, ended with all that it started."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(SPARK_HOME / "bin" / "spark-class"), *arguments],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield
    finally:
        for way, seconds in ((signal.SIGTERM, 20), (signal.SIGKILL, 20)):
            try:
                os.killpg(process.pid, way)
                process.wait(seconds)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, program_zip: Path) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "conf").mkdir()
    shutil.copy(CHECKOUT / "jobs" / "log4j2.properties", folder / "conf")
    inherited = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "SPARK_CONF_DIR")}
    environment = inherited | {
        "SPARK_HOME": str(SPARK_HOME),
        "SPARK_CONF_DIR": str(folder / "conf"),
        "SPARK_LOCAL_IP": ADDRESS,
        "SPARK_DAEMON_MEMORY": "512m",
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
    }
    port, ui_port = _free_ports(2)
    made = Cluster(port, ui_port, folder, program_zip, environment)
    deploy = "org.apache.spark.deploy"
    master = ("--host", ADDRESS, "--port", str(port), "--webui-port", str(ui_port))
    worker = ("--host", ADDRESS, "--webui-port", "0", "--cores", "1", "--memory", "1g")
    with ExitStack() as stack:
        stack.enter_context(_daemon(folder / "master.log", environment, f"{deploy}.master.Master", *master))
        for number in range(WORKERS):
            work = str(folder / f"worker-{number}")
            last = ("--work-dir", work, f"spark://{ADDRESS}:{port}")
            log = folder / f"worker-{number}.log"
            stack.enter_context(_daemon(log, environment, f"{deploy}.worker.Worker", *worker, *last))
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                if made.state()["aliveworkers"] == WORKERS:
                    break
            except OSError:
                pass
            if time.monotonic() > deadline:
                logs = "\n".join(path.read_text() for path in sorted(folder.glob("*.log")))
                pytest.fail(f"the cluster did not start in {START_SECONDS} s\n{logs}")
            time.sleep(0.5)
        yield made
