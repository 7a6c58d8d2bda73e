"""What pyproject.toml cannot say: conf/ travels inside the package `jobs`, and `setup.py zip` makes a cluster's zip."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

from setuptools import Command, find_namespace_packages, setup

NAME = "treatment_lines.zip"
FIRST_DAY_OF_ZIP = (1980, 1, 1, 0, 0, 0)


class Zip(Command):
    """The packages and conf/ in one zip for `spark-submit --py-files`; the same content gives the same bytes."""

    description = "make treatment_lines.zip for spark-submit --py-files"
    user_options = [("dist-dir=", "d", "folder to write to (default: dist)")]

    def initialize_options(self) -> None:
        self.dist_dir = "dist"

    def finalize_options(self) -> None:
        pass

    def run(self) -> None:
        target = Path(self.dist_dir, NAME)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            build = self.reinitialize_command("build_py")
            build.build_lib, build.compile, build.optimize = folder, 0, 0
            self.run_command("build_py")
            root = Path(folder)
            with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
                for file in sorted(path for path in root.rglob("*") if path.is_file()):
                    entry = zipfile.ZipInfo(file.relative_to(root).as_posix(), FIRST_DAY_OF_ZIP)
                    entry.create_system, entry.external_attr = 3, 0o644 << 16
                    archive.writestr(entry, file.read_bytes())


packages = find_namespace_packages(
    include=["jobs", "jobs.*", "schemas", "schemas.*", "expectations", "expectations.*"], exclude=["*.__pycache__"]
)
configuration = ["jobs.conf", *(f"jobs.conf.{name}" for name in find_namespace_packages("conf"))]

setup(
    packages=[*packages, *configuration],
    package_dir={"jobs.conf": "conf"},
    package_data={"": ["*"]},
    cmdclass={"zip": Zip},
)
