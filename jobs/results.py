"""The results folder: files for the owner only, each replaced in one step, with their hashes in the manifest."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.errors import InputError

MANIFEST = "results/manifest.json"
STAMP = "results/NOT_CLEARED_FOR_RELEASE.txt"
STAMP_TEXT = """Internal, not cleared for release.

The files in this folder have not passed disclosure control. They may show small numbers of people
and must not leave the registry.
"""


def write_files(out: Path, files: Mapping[str, bytes]) -> dict[str, str]:
    """Write files below `out` (folders 0700, files 0600), each complete or not at all. Path -> SHA-256."""
    try:
        for name, content in files.items():
            path = out / name
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.parent.chmod(0o700)
            beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
            with os.fdopen(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as stream:
                stream.write(content)
            beside.replace(path)
    except OSError as error:
        raise _unwritable(out, error.errno) from None
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def ensure_writable(out: Path) -> None:
    """InputError where nothing could be written below `out`, which would else be said after hours."""
    nearest = next((path for path in (out, *out.parents) if os.path.lexists(path)), out)
    if not nearest.is_dir():
        raise _unwritable(out, errno.ENOTDIR)
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise _unwritable(out, errno.EACCES)


def _unwritable(out: Path, number: int | None) -> InputError:
    why = os.strerror(number or errno.EIO)
    return InputError(f"{out}: cannot write there ({why}); choose another folder with --out")


def read_manifest(out: Path) -> dict[str, Any]:
    """The manifest of the last run into `out`; empty where there is none that can be read."""
    try:
        content = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def still_there(out: Path, stage: str, fingerprint: str) -> bool:
    """Whether the files that `stage` wrote under this fingerprint are in `out`, unchanged."""
    recorded = read_manifest(out).get("stages", {}).get(stage, {})
    if recorded.get("fingerprint") != fingerprint:
        return False
    for name, wanted in recorded.get("files", {}).items():
        path = out / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != wanted:
            return False
    return True
