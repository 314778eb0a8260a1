"""vmcorefs and all that it needs as wheels: the guests have no network and no compiler."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Final

from tests.boot.store import digest, files_below, kept
from tests.lab.host import LabError, run

TREE: Final = Path(__file__).parents[2]
_PYTHON: Final = "/usr/bin/python3"
"""Debian's, here as in the guest; wheels that are compiled are for one series."""

_NOT_INSTALLED: Final = shutil.ignore_patterns(
    *(".*", "tests", "bench", "docs", "build", "*.egg-info", "__pycache__")
)


def make_product_wheel(directory: Path) -> tuple[Path, str]:
    """Build the wheel of vmcorefs as it is in the tree now.

    Out of a copy: a build leaves directories in the tree, and takes up what an earlier one left.

    Returns:
        The wheel, and a name for what went into it.
    """
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "vmcorefs"
        shutil.copytree(TREE, copy, ignore=_NOT_INSTALLED)
        key = digest(files_below(copy))
        _pip_wheel(directory, "--no-deps", str(copy))
    return next(directory.glob("vmcorefs-*.whl")), key


def dependency_wheels() -> Path:
    """Return a directory with the wheels of all that vmcorefs depends on, pyfuse3's compiled here.

    They are of the versions that are installed here.

    Raises:
        LabError: if the Python that runs the tests is not of the guest's series.
    """
    ours = "{}.{}".format(*sys.version_info)
    theirs = run([_PYTHON, "-c", "import sys; print('{}.{}'.format(*sys.version_info))"])
    if theirs.decode().strip() != ours:
        raise LabError(
            f"this is Python {ours}, but {_PYTHON} is {theirs.decode().strip()}: "
            "a wheel that is compiled here would not work in the guest"
        )
    with (TREE / "pyproject.toml").open("rb") as file:
        needed: list[str] = tomllib.load(file)["project"]["dependencies"]
    key = digest(line.encode() for line in (*needed, _locked_versions(), sys.version))
    return kept("wheels", key, lambda directory: _pip_wheel(directory, *needed))


def _pip_wheel(directory: Path, *what: str) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write(_locked_versions())
        constraints.flush()
        # in the environment, as what wheels are built with is then held to them as well
        pip = ["env", f"PIP_CONSTRAINT={constraints.name}", sys.executable, "-m", "pip"]
        run([*pip, "wheel", "-q", "--wheel-dir", directory, *what])


def _locked_versions() -> str:
    """requirements.lock without its hashes: with these, pip takes no range and no directory."""
    return re.sub(r" \\\n +--hash=\S+", "", (TREE / "requirements.lock").read_text())
