"""A real capture that was cut short: the virtual addresses of its headers, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.real.marks import REAL, only
from vmcorefs.api import open_capture
from vmcorefs.config import CaptureConfig, Piece
from vmcorefs.core.elf.dump_headers import read_dump_headers
from vmcorefs.core.findings import Sureness

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.capture import Capture

pytestmark = [*REAL, only("kexec", "kexec-newer")]


def _addresses(vmcore: Path) -> dict[int, int]:
    """Physical to virtual addresses of the PT_LOADs that the dead kernel's own vmcore has."""
    with vmcore.open("rb") as file:

        def pread(size: int, offset: int) -> bytes:
            file.seek(offset)
            return file.read(size)

        loads = read_dump_headers(pread, vmcore.stat().st_size).loads
    return {int(load["p_paddr"]): int(load["p_vaddr"]) for load in loads}


@pytest.mark.parametrize("elfcorehdr", [True, False], ids=["elfcorehdr", "none"])
@pytest.mark.parametrize("kept", [0.6, 0.95, 1 - 2**-10])
def test_virtual_addresses_are_right_or_none(
    capture: Capture, kept: float, elfcorehdr: bool
) -> None:
    size = int(capture.ram.stat().st_size * kept) & -4096
    config = CaptureConfig(
        (Piece(str(capture.ram), paddr=0, size=size),),
        truncated=True,
        use_elfcorehdr=elfcorehdr,
    )
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
