"""A dump that makedumpfile has split is one row."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.fleet.test_triage import rows, run
from tests.fleet.variants import TITLE
from tests.lab.capture import cached_capture
from tests.real.conftest import RECIPES
from tests.real.marks import REAL

pytestmark = REAL


def test_a_split_dump_is_one_row(tmp_path: Path) -> None:
    dumps, out = tmp_path / "dumps", tmp_path / "out"
    dumps.mkdir()
    vmcore = cached_capture(RECIPES["kexec"]).vmcore
    parts = [dumps / f"vmcore.{number}" for number in range(3)]
    subprocess.run(["makedumpfile", "-l", "-d", "31", "--split", vmcore, *parts], check=True)
    said, log = run(dumps, out)
    (row,) = rows(out).values()

    assert "1 dumps, 1 opened now, 0 of them not" in said
    assert log == ""
    assert row["dump"] == str(parts[0])
    assert (row["outcome"], row["crash_title"]) == ("ok", f"kernel panic: {TITLE.decode()}")
    assert row["size"] == sum(part.stat().st_size for part in parts)
