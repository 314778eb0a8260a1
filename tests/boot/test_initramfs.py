"""The same with no root file system at all: what saves is in the initramfs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.boot.crashes import Outcome, saved_by_initramfs
from tests.boot.dumps import assert_dump_is_as_good_as
from tests.boot.marks import BOOT, looks_at
from tests.real import tools

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [*BOOT, looks_at(saved_by_initramfs)]


def test_the_initramfs_reboots_without_a_root_file_system(outcome: Outcome) -> None:
    assert outcome.end == "guest-reset"
    assert "vmcorefs: done; now: reboot" in outcome.panicked
    assert "EXT4-fs (vda)" not in outcome.panicked


def test_the_dump_is_on_the_target(outcome: Outcome, tmp_path: Path) -> None:
    (directory,) = (
        path for path in outcome.files_on("lab-crash").iterdir() if path.name != "lost+found"
    )
    assert json.loads((directory / "summary.json").read_text())["complete"] is True
    assert (directory / "dmesg").read_text() == tools.vmcore_dmesg(outcome.truth)
    assert_dump_is_as_good_as(outcome.truth, directory / "vmcore", tmp_path)
