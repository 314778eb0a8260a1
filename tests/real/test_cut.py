"""A real capture that was cut short: the virtual addresses of its headers, or none."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from tests.real.marks import REAL, only
from vmcorefs.api import open_capture
from vmcorefs.config import CaptureConfig
from vmcorefs.core.elf.dump_headers import read_dump_headers
from vmcorefs.core.findings import Sureness
from vmcorefs.errors import ConfigError
from vmcorefs.piece import Piece

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.capture import Capture

_PAGE_SIZE: Final = 4096

pytestmark = [*REAL, only("kexec", "kexec-newer")]


def _addresses(vmcore: Path) -> dict[int, int]:
    """Physical to virtual addresses of the PT_LOADs that the dead kernel's own vmcore has."""
    with vmcore.open("rb") as file:

        def pread(size: int, offset: int) -> bytes:
            file.seek(offset)
            return file.read(size)

        loads = read_dump_headers(pread, vmcore.stat().st_size).loads
    return {int(load["p_paddr"]): int(load["p_vaddr"]) for load in loads}


def _end_of_what_tells(capture: Capture) -> int:
    """The end of the kernel's image and of its VMCOREINFO note.

    Both lie where the kernel put them, which differs from boot to boot.
    """
    note = int(capture.text("vmcoreinfo").split()[0], 16)
    image = [int(last, 16) for last in re.findall(r"-([0-9a-f]+) : Kernel ", capture.text("iomem"))]
    return (max(note, *image) & -_PAGE_SIZE) + _PAGE_SIZE


def _cut(capture: Capture, size: int, elfcorehdr: bool) -> CaptureConfig:
    return CaptureConfig(
        (Piece(str(capture.ram), paddr=0, size=size),),
        truncated=True,
        use_elfcorehdr=elfcorehdr,
    )


@pytest.mark.parametrize("elfcorehdr", [True, False], ids=["elfcorehdr", "none"])
@pytest.mark.parametrize("kept", [0, 0.5, 1 - 2**-10])
def test_virtual_addresses_are_right_or_none(
    capture: Capture, kept: float, elfcorehdr: bool
) -> None:
    """Of what lies above the kernel's image and its note, a share is kept."""
    least = _end_of_what_tells(capture)
    size = least + int((capture.ram.stat().st_size - least) * kept) & -_PAGE_SIZE
    config = _cut(capture, size, elfcorehdr)
    true = _addresses(capture.vmcore)
    with open_capture(config, thorough=True) as cut:
        loads = cut.image.plan.elfcorehdr.loads
        (direct,) = (finding for finding in cut.image.findings if finding.what == "direct map")
    found = {int(load["p_paddr"]): int(load["p_vaddr"]) for load in loads}
    assert all(found[paddr] in (0, true[paddr]) for paddr in found.keys() & true.keys())
    assert len(found.keys() & true.keys()) > 2
    # by its symbol it is known whatever was cut off
    assert direct.sure is Sureness.SURE
    assert 0 not in found.values()


@pytest.mark.parametrize("elfcorehdr", [True, False], ids=["elfcorehdr", "none"])
def test_a_cut_below_all_that_tells_is_refused(capture: Capture, elfcorehdr: bool) -> None:
    """What is missing is named, and what would do in its place."""
    config = _cut(capture, 16 << 20, elfcorehdr)
    with pytest.raises(ConfigError, match=r"no VMCOREINFO note.* was found in it.* pass --map"):
        open_capture(config, thorough=True)
