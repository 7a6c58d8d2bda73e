"""What spark-submit starts, with the arguments of the command line: submit.py <stage> ..."""

from __future__ import annotations

import sys
from pathlib import Path

# Python puts a script's own folder first on its path, where the program's modules would stand as top-level ones.
sys.path[:] = [entry for entry in sys.path if not entry or Path(entry).resolve() != Path(__file__).resolve().parent]

if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main())
