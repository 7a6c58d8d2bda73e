"""The Spark session: Delta by package coordinates, small-table settings by default, the rest by configuration."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.errors import InputError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DELTA = "io.delta:delta-spark_4.2_2.13:4.4.0"

# Delta's dependency tree names an older Hadoop client and Parquet than Spark carries.
EXCLUDED = (
    "org.apache.hadoop:hadoop-client-api,org.apache.hadoop:hadoop-client-runtime,org.apache.parquet:parquet-hadoop"
)

ENGINE_LOG = "TREATMENT_LINES_ENGINE_LOG"

REQUIRED = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "false",
    # Codes of a site file stand in SQL as they are: ${...} in one is no variable, a backslash is one sign.
    "spark.sql.variable.substitute": "false",
    "spark.sql.parser.escapedStringLiterals": "false",
    # A stage that writes no rows twice still commits, for its fingerprint stands in the commit.
    "spark.databricks.delta.skipRecordingEmptyCommits": "false",
    # Else Delta refuses a version as old as the retention though its files are there, as where deliveries come once a
    # year: one that fails its gate could not be put back. Files are kept from the day on which others took their place.
    "spark.databricks.delta.vacuum.enforceTimeTravelWithinDeletedFileRetentionDuration": "false",
    # Beside each commit Delta would list all files of the table, and start a job to find them.
    "spark.databricks.delta.allFilesInCrc.enabled": "false",
    # With a limit in bytes the engine adds up a batch's size after each row of it, which takes a third of its time;
    # batches to Python are bounded by their rows, which are narrow.
    "spark.sql.execution.arrow.maxBytesPerBatch": str(2**31 - 1),
    # Java never compiles a method of more than 8000 bytes; the engine's own limit is eight times that, and lets the
    # conditions on the rows of a register run interpreted, three times as slow.
    "spark.sql.codegen.hugeMethodLimit": "8000",
    # It asks the engine three more things for each column expression, to say in its errors, which nobody is shown,
    # where in the program the expression stands.
    "spark.python.sql.dataFrameDebugging.enabled": "false",
    # Columns of so many values that Parquet would begin a dictionary of them in each file and throw it away.
    **{f"parquet.enable.dictionary#{column}": "false" for column in ("contact_id", "source_row")},
}

# Whatever a site sets: where files are missing or damaged nobody may go on with the rows of the others.
ALWAYS = {f"spark.sql.files.ignore{kind}Files": "false" for kind in ("Missing", "Corrupt")}

LOCAL = {
    "spark.master": "local[2]",
    "spark.jars.packages": DELTA,
    "spark.jars.excludes": EXCLUDED,
    "spark.driver.memory": "3g",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.default.parallelism": "2",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.adaptive.coalescePartitions.parallelismFirst": "false",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "4",
    "spark.databricks.delta.snapshotPartitions": "1",
    # An ingest has several hundred pieces of generated code; each that is forgotten is generated and compiled again.
    "spark.sql.codegen.cache.maxEntries": "2000",
    # Held rows stay for minutes: coding them costs more than the room that it saves.
    "spark.sql.inMemoryColumnarStorage.compressed": "false",
    # A small table that is broadcast takes a whole page of memory, which would be up to 64 MB.
    "spark.buffer.pageSize": "4m",
}


# Java's best compiler takes a method after it ran so often: four times the defaults, or compiling takes longer than
# running the many short steps. And it copies less of what a method calls into it: of the 235 CPU seconds of 4,000,000
# hospital rows and as many dispensings in a fresh process it was busy for 82; with this, of 206 for 54.
COMPILER = (
    "-XX:Tier4InvocationThreshold=20000 -XX:Tier4MinInvocationThreshold=2400 -XX:Tier4CompileThreshold=60000 "
    "-XX:Tier4BackEdgeThreshold=160000 -XX:FreqInlineSize=120 -XX:InlineSmallCode=1000 "
    "-XX:ReservedCodeCacheSize=512m"
)


@contextmanager
def _engine_log() -> Iterator[None]:
    """Give the engine that is started inside its own standard output and error: a file if asked for, else nowhere. It
    would mix package resolution, what Delta tells and stack traces, which may hold cells, into what the user reads."""
    sys.stdout.flush()
    kept = [os.dup(stream) for stream in (1, 2)]
    target = os.open(os.environ.get(ENGINE_LOG, os.devnull), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for stream in (1, 2):
            os.dup2(target, stream)
        yield
    finally:
        sys.stdout.flush()
        for stream, own in enumerate(kept, 1):
            os.dup2(own, stream)
            os.close(own)
        os.close(target)


def _log_configuration() -> str:
    return Path(__file__).with_name("log4j2.properties").as_uri()


def _local() -> dict[str, str]:
    """LOCAL, and where the engine's own catalog would lie, which stays empty: it makes that folder, by default in the
    current one, unless it is there."""
    return {**LOCAL, "spark.sql.warehouse.dir": Path(tempfile.gettempdir()).resolve().as_uri()}


def _submitted() -> dict[str, str]:
    """What spark-submit was told; nothing where Python starts the engine. Only the engine knows, so connect first."""
    from pyspark import SparkConf, SparkContext

    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        return {}
    SparkContext._ensure_initialized()
    return dict(SparkConf().getAll())


def start_session(properties: Mapping[str, str], name: str = "treatment-lines") -> SparkSession:
    """The running session, or a new one with `properties` over the defaults.

    Under spark-submit the submitted properties win over the local defaults; on a machine without Java: InputError.
    """
    from pyspark.errors import PySparkRuntimeError
    from pyspark.logger import PySparkLogger
    from pyspark.sql import SparkSession

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    logging.getLogger("py4j").setLevel(logging.ERROR)
    # They write what a failed expression says, which may hold a cell, to standard error even where it is caught.
    for told in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
        PySparkLogger.getLogger(told).disabled = True

    submitted = _submitted()
    local = "spark.master" not in submitted
    if local:
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    merged = {**(_local() if local else {}), **REQUIRED, **properties, **ALWAYS}
    builder = SparkSession.builder.appName(name)
    for key, value in merged.items():
        if key not in properties and key not in (*REQUIRED, *ALWAYS) and key in submitted:
            continue
        builder = builder.config(key, value)
    if local:
        builder = builder.config(
            "spark.driver.extraJavaOptions",
            f"-Dlog4j2.configurationFile={_log_configuration()} -Xss4m -XX:+UseParallelGC {COMPILER}",
        )
    try:
        with _engine_log() if local else nullcontext():
            return builder.getOrCreate()
    except (PySparkRuntimeError, FileNotFoundError, RuntimeError):
        raise InputError(
            f"Spark did not start; see that `java -version` says 17, or set {ENGINE_LOG} to a file and read it"
        ) from None
