"""The walk of a real kernel's page tables: its own elfcorehdr and drgn translate alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

import vmcorefs
from tests.real.marks import REAL, only
from vmcorefs.core.paging_mappings import Mappings
from vmcorefs.discovery.page_tables import find_page_tables
from vmcorefs.reader import Reader

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.capture import Capture

pytestmark = REAL

_PAGE = 4096
_SAMPLES = 5000


@pytest.fixture
def mappings(capture: Capture) -> Iterator[Mappings]:
    with vmcorefs.open(capture.config) as opened:
        image = opened.image
        assert image.notes.vmcoreinfo is not None
        memory = Reader("memory", image.memory, image.sources)
        machine = image.plan.elfcorehdr.header.e_machine
        yield find_page_tables(memory, machine, image.notes.vmcoreinfo)


def test_every_page_of_the_vmcore_is_where_its_headers_say(
    capture: Capture, mappings: Mappings
) -> None:
    assert mappings.problems == ()
    pages = 0
    with capture.vmcore.open("rb") as file:
        for load in ELFFile(file).iter_segments("PT_LOAD"):
            offset = np.arange(0, load["p_memsz"], _PAGE, dtype=np.int64)
            vaddr = offset.astype(np.uint64) + np.uint64(load["p_vaddr"])
            assert load["p_vaddr"] != 0
            assert np.array_equal(mappings.translate_many(vaddr), load["p_paddr"] + offset)
            pages += len(offset)
    assert pages > 100_000


@only("kexec", "file")
def test_drgn_translates_alike(capture: Capture, mappings: Mappings, vmlinux: Path) -> None:
    import drgn  # noqa: PLC0415  # ... only where there are captures
    from drgn.helpers.linux.mm import follow_phys  # noqa: PLC0415

    random = np.random.default_rng(0)
    # half by page, and half by run, or all but a few would be in the direct map
    ends = np.cumsum(mappings.size // _PAGE)
    by_page = np.searchsorted(ends, random.integers(0, ends[-1], _SAMPLES), side="right")
    row = np.concatenate((by_page, random.integers(0, len(mappings), _SAMPLES)))
    mapped = mappings.vaddr[row] + random.integers(0, mappings.size[row])
    behind = mappings.vaddr + mappings.size  # most of these are mapped to nothing
    vaddrs = np.concatenate((mapped, behind[behind < 0]))
    assert (mappings.translate_many(mapped) >= 0).all()
    assert (mappings.translate_many(behind) < 0).any()

    program = drgn.Program()
    program.set_core_dump(capture.vmcore)
    program.load_debug_info([vmlinux])
    init_mm = program["init_mm"].address_of_()

    def follow(vaddr: int) -> int:
        try:
            return int(follow_phys(init_mm, vaddr).value_())
        except drgn.FaultError:
            return -1

    wanted = [follow(vaddr) for vaddr in vaddrs.view(np.uint64).tolist()]
    assert mappings.translate_many(vaddrs).tolist() == wanted
