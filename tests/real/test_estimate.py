"""The estimated size of a dump against the dump."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.oracles.newer import newer_makedumpfile
from tests.real import tools
from tests.real.marks import REAL, only
from tests.real.trees import vmcorefs

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.capture import Capture

pytestmark = REAL


@only("kexec", "kexec-newer")
def test_the_size_is_within_twice_its_margin(capture: Capture, scratch: Path) -> None:
    report = json.loads(vmcorefs("estimate", "--json", capture.vmcore))
    for level in ("1", "31"):
        dump = scratch / f"level{level}"
        vmcorefs("save", "--quiet", "-d", level, "-o", dump, capture.vmcore)
        told = report["levels"][level]["sizes"]["zlib"]
        assert abs(told["size"] - dump.stat().st_size) <= 2 * told["margin"]
        assert told["margin"] < told["size"] // 8


@only("kexec")
@pytest.mark.parametrize("option", ["-c", "-l"])
def test_makedumpfiles_dump_is_as_large(capture: Capture, scratch: Path, option: str) -> None:
    report = json.loads(vmcorefs("estimate", "--json", capture.config))
    told = report["levels"]["31"]["sizes"]["zlib" if option == "-c" else "lzo"]
    dump = scratch / "dump"
    # Debian's may be too old to know the kernel's free pages
    tools.run([*newer_makedumpfile(), option, "-d", "31", capture.vmcore, dump], dump)
    # makedumpfile compresses with zlib itself, and rounds its buffers up
    assert abs(told["size"] - dump.stat().st_size) <= 2 * told["margin"] + (1 << 20)
