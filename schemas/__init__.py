"""The table contracts. `TABLES` has them all by name; `quarantine` is the shape of each `quarantine_<raw table>`."""

from schemas.conformed import CONFORMED
from schemas.contract import Column, Table
from schemas.derived import DERIVED
from schemas.frames import FRAMES
from schemas.site import SITE, quarantine

TABLES: dict[str, Table] = {**CONFORMED, **DERIVED, **FRAMES, **SITE}

__all__ = ["CONFORMED", "DERIVED", "FRAMES", "SITE", "TABLES", "Column", "Table", "quarantine"]
