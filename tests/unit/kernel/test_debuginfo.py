"""Finding an installed vmlinux: the build id decides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vmcorefs.core.debuginfo.vmlinux import make_vmlinux
from vmcorefs.core.elf.elf import EM_X86_64
from vmcorefs.core.elf.vmcoreinfo import parse_vmcoreinfo
from vmcorefs.core.structures.kallsyms import SymbolTable
from vmcorefs.kernel import debuginfo

BUILD_ID = "3b43fad5034874490492495d552c0af6a5fab235"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    symbols = SymbolTable(np.array([0xFFFFFFFF81000000], dtype=np.uint64), "T", ("_text",), 8)
    path = tmp_path / "vmlinux-6.1.0"
    path.write_bytes(
        make_vmlinux(symbols, machine=EM_X86_64, byte_order="<", build_id=bytes.fromhex(BUILD_ID))
    )
    monkeypatch.setattr(debuginfo, "_PLACES", (f"{tmp_path}/vmlinux-{{release}}",))
    return path


def find(release: str, build_id: str) -> str | None:
    text = f"OSRELEASE={release}\nBUILD-ID={build_id}\n"
    return debuginfo.find_vmlinux(parse_vmcoreinfo(text.encode()))


def test_a_vmlinux_of_the_same_build_is_found(installed: Path) -> None:
    assert find("6.1.0", BUILD_ID) == str(installed)


@pytest.mark.parametrize(
    ("release", "build_id"),
    [("6.1.0", "00" * 20), ("6.1.1", BUILD_ID), ("../vmlinux-6.1.0", BUILD_ID), ("6\0", BUILD_ID)],
)
@pytest.mark.usefixtures("installed")
def test_another_build_or_release_is_not_taken(release: str, build_id: str) -> None:
    assert find(release, build_id) is None


def test_a_file_that_is_no_elf_is_passed_over(installed: Path) -> None:
    installed.write_bytes(b"\x7fELF and no more")
    assert find("6.1.0", BUILD_ID) is None
