"""Real images, compressed by each format's own program: nothing else changes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.real.marks import REAL, only
from tests.real.trees import differences, mounted, vmcorefs

if TYPE_CHECKING:
    from tests.lab.capture import Capture

pytestmark = REAL


@only("kexec")
@pytest.mark.parametrize("program", ["gzip", "zstd"])
def test_a_compressed_image_is_the_image(
    capture: Capture, scratch: Path, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(scratch / "cache"))
    packed = scratch / "image"
    with capture.ram.open("rb") as plain, packed.open("wb") as file:
        subprocess.run((program, "-1"), stdin=plain, stdout=file, check=True)
    with mounted(scratch, packed) as tree:
        assert differences(tree / "vmcore", capture.vmcore) == (0, None)
    before = {path: os.stat(path).st_ino for path in scratch.glob("cache/*/*/*")}
    vmcorefs("save", packed, "-o", scratch / "packed", "--dump-level", "31")
    vmcorefs("save", capture.ram, "-o", scratch / "plain", "--dump-level", "31")
    assert differences(scratch / "packed", scratch / "plain") == (0, None)
    assert {path: os.stat(path).st_ino for path in scratch.glob("cache/*/*/*")} == before
