"""What a run was made of: fingerprints of code, configuration and inputs, and the manifest that records them."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.resources
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from typing import Any

PACKAGES = (
    "pyspark",
    "delta-spark",
    "pandas",
    "pyarrow",
    "numpy",
    "numba",
    "lifelines",
    "great-expectations",
    "pydantic",
)
PARTS = (".py", ".yaml", ".j2", ".css")


def _files_of(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for entry in sorted(folder.iterdir(), key=lambda e: e.name):
        if entry.is_dir():
            if entry.name != "__pycache__":
                yield from _files_of(entry, f"{prefix}/{entry.name}")
        elif entry.name.endswith(PARTS):
            yield f"{prefix}/{entry.name}", entry.read_bytes()


@functools.cache
def code_version() -> str:
    """SHA-256 over the program's own files, the same from a checkout, a wheel and a zip."""
    total = hashlib.sha256()
    for package in ("expectations", "jobs", "schemas"):
        for name, content in _files_of(importlib.resources.files(package), package):
            if not name.startswith("jobs/conf/"):
                total.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
    return total.hexdigest()


def fingerprint(parts: Any) -> str:
    """SHA-256 of anything that JSON can say, with sorted keys."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def package_versions() -> dict[str, str]:
    """The versions of what the numbers depend on."""
    versions = {"python": ".".join(str(part) for part in sys.version_info[:3])}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed as a package"
    return versions


@dataclass(frozen=True)
class StageRecord:
    """One stage of a run: its fingerprint, whether it had to run, the versions and rows of its tables, and the
    SHA-256 of the files it wrote."""

    stage: str
    fingerprint: str
    outcome: str
    versions: Mapping[str, int]
    rows: int
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Manifest:
    """What `results/manifest.json` says about a run. No time of day: the same run gives the same file."""

    study: str
    country: str
    delivery: str
    synthetic: bool
    configuration: Mapping[str, Any]
    configuration_hash: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    stages: list[StageRecord] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def run(self) -> str:
        """The fingerprint of the whole run."""
        return fingerprint([record.fingerprint for record in self.stages])

    def as_dict(self) -> dict[str, Any]:
        """The manifest as JSON says it."""
        return {
            "clearance": "internal, not cleared for release",
            "run": self.run(),
            "study": self.study,
            "country": self.country,
            "delivery": self.delivery,
            "synthetic": self.synthetic,
            "code_version": code_version(),
            "packages": package_versions(),
            "configuration": self.configuration,
            "configuration_hash": self.configuration_hash,
            "inputs": dict(sorted(self.inputs.items())),
            "stages": {
                record.stage: {
                    "fingerprint": record.fingerprint,
                    "tables": dict(sorted(record.versions.items())),
                    "files": dict(sorted(record.files.items())),
                }
                for record in self.stages
            },
            "counts": dict(sorted(self.counts.items())),
            "warnings": list(self.warnings),
        }
