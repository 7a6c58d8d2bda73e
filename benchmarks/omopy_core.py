"""The kernel on Arrow against omopy's treatment-pattern core on polars: python -m benchmarks.omopy_core --omopy DIR

omopy 0.1.0 wants Python 3.14; DIR is where its wheel is unpacked (pip download --ignore-requires-python --no-deps).
Only the module of the core is loaded, and what it imports from the rest stands empty. Both sides start from frames in
memory that hold the same rows.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.exposures import SUBSTANCES, write_exposures
from benchmarks.lines import _study
from jobs.lines.table import lines_of

ROWS = 199_620


def _core(folder: Path) -> Any:
    parent = types.ModuleType("omopy")
    generics: Any = types.ModuleType("omopy.generics")
    generics.CdmReference = generics.CohortTable = object
    sys.modules.update({"omopy": parent, "omopy.generics": generics})
    spec = importlib.util.spec_from_file_location("omopy_core", folder / "omopy" / "treatment" / "_pathway.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _history(exposures: pa.Table) -> pl.DataFrame:
    """The rows as omopy has them after matching events to targets."""
    person = pc.index_in(exposures["person_id"], value_set=pc.unique(exposures["person_id"]))
    substance = pc.index_in(exposures["substance"], value_set=pa.array(SUBSTANCES))
    start, end = exposures["given_from"], exposures["covered_until"]
    frame = pl.DataFrame(
        {
            "person_id": pl.Series(person.to_numpy(), dtype=pl.Int64),
            "event_cohort_id": pl.Series(pc.cast(substance, pa.string()).to_pylist(), dtype=pl.Utf8),
            "event_start_date": pl.Series(start.to_pylist(), dtype=pl.Date),
            "event_end_date": pl.Series(end.to_pylist(), dtype=pl.Date),
        }
    )
    return frame.with_columns(
        index_year=pl.lit(2015, dtype=pl.Int32),
        duration_era=(pl.col("event_end_date") - pl.col("event_start_date")).dt.total_days(),
        age=pl.lit(60, dtype=pl.Int64),
        sex=pl.lit("Female"),
        target_cohort_id=pl.lit(1, dtype=pl.Int64),
        n_target=pl.lit(1, dtype=pl.Int32),
        type=pl.lit("event"),
        target_cohort_name=pl.lit("cancer"),
    )


def _seconds(side: Callable[[], object], repeats: int) -> float:
    side()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        side()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--omopy", type=Path, required=True, help="where its wheel is unpacked")
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    core = _core(chosen.omopy)
    with tempfile.TemporaryDirectory() as folder:
        cohort_path, exposure_path, _ = write_exposures(Path(folder), 5_000)
        cohort, exposures = pq.read_table(cohort_path), pq.read_table(exposure_path).slice(0, ROWS)
    history = _history(exposures)

    def omopy() -> object:
        eras = core._era_collapse(history, 90)
        return core._filter_treatments(core._combination_window(eras, 28, 28, "truncate"), "changes")

    study = _study(1)
    other = _seconds(omopy, chosen.repeats)
    own = _seconds(lambda: lines_of(cohort, exposures, study), chosen.repeats)
    print(f"{exposures.num_rows:,} exposures, medians of {chosen.repeats}")
    print(f"omopy's core: {other:.3f} s; this program's kernel: {own:.3f} s, {other / own:.0f} times as fast")


if __name__ == "__main__":
    main()
