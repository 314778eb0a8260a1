"""A real kernel's page tables: its own elfcorehdr, drgn and libaddrxlat translate as we do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

import vmcorefs
from tests.oracles.addrxlat import kernel_tables
from tests.real.marks import REAL, only
from tests.real.truth import by_address, vmcoreinfo
from vmcorefs.core.paging.mappings import Mappings, UInt64Array
from vmcorefs.kernel.page_tables import find_page_tables
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


def _sample(mappings: Mappings) -> UInt64Array:
    """Random mapped addresses: half by page, and half by run, or few would be in vmalloc space."""
    random = np.random.default_rng(0)
    ends = np.cumsum(mappings.size // _PAGE)
    by_page = np.searchsorted(ends, random.integers(0, ends[-1], _SAMPLES), side="right")
    row = np.concatenate((by_page, random.integers(0, len(mappings), _SAMPLES)))
    within = random.integers(0, mappings.size[row])
    vaddrs: UInt64Array = (mappings.vaddr[row] + within).view(np.uint64)
    assert (mappings.translate_many(vaddrs) >= 0).all()
    return vaddrs


def _ends(mappings: Mappings) -> UInt64Array:
    """The address behind each run: most of these are mapped to nothing."""
    behind = mappings.vaddr + mappings.size
    return behind[behind < 0].view(np.uint64)


def test_libaddrxlat_translates_alike_and_kcore_shows_what_is_there(
    capture: Capture, mappings: Mappings, tree: Path
) -> None:
    compared = 0
    with (
        by_address(capture.vmcore, "p_paddr") as memory,
        by_address(tree / "kcore", "p_vaddr") as kcore,
    ):
        note = vmcoreinfo(capture.vmcore)
        oracle = kernel_tables(62, note, lambda paddr: memory(paddr, _PAGE))
        sample, ends = _sample(mappings), _ends(mappings)
        paddrs = [oracle.translate(vaddr) for vaddr in sample.tolist()]
        assert mappings.translate_many(sample).tolist() == paddrs
        assert -1 not in paddrs
        behind = [oracle.translate(vaddr) for vaddr in ends.tolist()]
        assert mappings.translate_many(ends).tolist() == behind
        assert -1 in behind
        for vaddr, paddr in zip(sample.tolist(), paddrs, strict=True):
            truth = memory(paddr & ~7, 8)
            if truth is not None:  # not a device's, nor the crash kernel's
                assert kcore(vaddr & ~7, 8) == truth, hex(vaddr)
                compared += 1
    assert len(paddrs) == 10_000
    assert compared > 7_000


@only("kexec", "file")
def test_drgn_translates_alike(capture: Capture, mappings: Mappings, vmlinux: Path) -> None:
    import drgn  # noqa: PLC0415  # ... only where there are captures
    from drgn.helpers.linux.mm import follow_phys  # noqa: PLC0415

    vaddrs = np.concatenate((_sample(mappings), _ends(mappings)))
    assert (mappings.translate_many(_ends(mappings)) < 0).any()

    program = drgn.Program()
    program.set_core_dump(capture.vmcore)
    program.load_debug_info([vmlinux])
    init_mm = program["init_mm"].address_of_()

    def follow(vaddr: int) -> int:
        try:
            return int(follow_phys(init_mm, vaddr).value_())
        except drgn.FaultError:
            return -1

    wanted = [follow(vaddr) for vaddr in vaddrs.tolist()]
    assert mappings.translate_many(vaddrs).tolist() == wanted
