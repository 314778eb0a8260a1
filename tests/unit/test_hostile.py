"""Elfcorehdrs that lie, together with all that is worked out from them.

Each is tried in the three ways in which one comes in: found in the crash kernel's memory, given by
its address, and given as the map. What it asks for is never allocated.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders import dead_machines
from tests.builders.dead_machines import (
    CRASH_KERNEL,
    ELFCOREHDR,
    HIGH,
    Phdr,
    bare_machine,
    dead_machine,
    load_phdr,
    note_phdr,
    pack_elf,
)
from tests.conftest import Opener
from tests.matching import exactly
from vmcorefs import FormatError, VmcorefsError

NOTE = note_phdr(dead_machines.CPU_NOTES, dead_machines.CPU_SLOT_SIZE)
LOAD = load_phdr(HIGH[0], CRASH_KERNEL[0])
HUGE = 1 << 61

LIES = {
    "a load of 2 EiB": pack_elf([NOTE, load_phdr(CRASH_KERNEL[1], HUGE)]),
    "a load that wraps around": pack_elf([NOTE, Phdr(1, HIGH[0], 2**64 - HIGH[0] + 16)]),
    "a load at the end of 64 bits": pack_elf([NOTE, Phdr(1, 2**64 - 4096, 4096)]),
    "a load far behind RAM": pack_elf([NOTE, LOAD, load_phdr(1 << 50, (1 << 50) + 4096)]),
    "low memory read far behind RAM": pack_elf(
        [NOTE, load_phdr(*dead_machines.LOW, offset=1 << 50), LOAD]
    ),
    "a backup of 2 EiB": pack_elf([NOTE, load_phdr(CRASH_KERNEL[1], HUGE, offset=4096), LOAD]),
    "high memory read through a backup": pack_elf(
        [NOTE, load_phdr(CRASH_KERNEL[1], 1 << 44, offset=0x200000)]
    ),
    "two backups": pack_elf(
        [NOTE, load_phdr(0x1000, 0x2000, offset=0x200000), load_phdr(0x2000, 0x3000, offset=0x9000)]
    ),
    "a note slot of 8 EiB": pack_elf([note_phdr(dead_machines.CPU_NOTES, 2**63), LOAD]),
    "a note slot far behind RAM": pack_elf([note_phdr(1 << 50, 368), LOAD]),
    "4 GiB of note slots": pack_elf([note_phdr(HIGH[0], 1 << 20)] * 4096 + [LOAD]),
    "a filesz that is not its memsz": pack_elf([NOTE, LOAD._replace(p_filesz=1)]),
    "a program header of unknown type": pack_elf([NOTE, LOAD, Phdr(0x6474E551, 0, 0)]),
    "65534 program headers": pack_elf([NOTE, LOAD], e_phnum=65534),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_one_that_is_found_is_refused_and_the_message_tells_the_way_around_it(
    tmp_path: Path, open_capture: Opener, lie: bytes
) -> None:
    machine = bare_machine()
    machine.put(CRASH_KERNEL[0], lie)
    saved = machine.save(tmp_path)
    with pytest.raises(
        FormatError,
        match=r"^the elfcorehdr at 0x200000 is not valid: .+; pass --elfcorehdr none to build the"
        r" headers from the memory map$",
    ):
        open_capture(saved.ram, memory_map=saved.iomem)
    capture = open_capture(saved.ram, memory_map=saved.iomem, use_elfcorehdr=False)
    assert capture.image.plan.origin.startswith("built from the memory map")


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_one_that_is_given_by_its_address_is_refused(
    tmp_path: Path, open_capture: Opener, lie: bytes
) -> None:
    machine = bare_machine()
    machine.put(CRASH_KERNEL[0], lie)
    saved = machine.save(tmp_path)
    with pytest.raises(VmcorefsError):
        open_capture(saved.ram, memory_map=saved.iomem, elfcorehdr=CRASH_KERNEL[0])


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_one_that_is_given_as_the_map_is_refused(
    tmp_path: Path, open_capture: Opener, lie: bytes
) -> None:
    saved = bare_machine().save(tmp_path)
    saved.iomem.write_bytes(lie)
    with pytest.raises(VmcorefsError):
        open_capture(saved.ram, memory_map=saved.iomem)


@pytest.mark.parametrize("number", [0, 65535])
def test_a_number_of_program_headers_that_the_kernel_does_not_take_is_refused(
    tmp_path: Path, open_capture: Opener, number: int
) -> None:
    machine = bare_machine()
    lie = pack_elf([NOTE, LOAD], e_phnum=number)
    machine.put(CRASH_KERNEL[0], lie)
    saved = machine.save(tmp_path)
    reason = f"e_phnum is {number}: the kernel accepts 1 to 65534"
    with pytest.raises(FormatError, match=exactly(f"no elfcorehdr at 0x200000: {reason}")):
        open_capture(saved.ram, memory_map=saved.iomem, elfcorehdr=CRASH_KERNEL[0])
    (tmp_path / "core").write_bytes(lie)
    with pytest.raises(FormatError, match=exactly(f"{tmp_path}/core: {reason}")):
        open_capture(saved.ram, memory_map=tmp_path / "core")


def test_an_address_that_the_image_does_not_hold_is_refused(
    tmp_path: Path, open_capture: Opener
) -> None:
    saved = bare_machine().save(tmp_path)
    with pytest.raises(
        FormatError,
        match=exactly(
            "no elfcorehdr at 0x40000000: memory: no input holds [0x40000000, 0x40000040) (not in"
            " the table, 64 bytes)"
        ),
    ):
        open_capture(saved.ram, memory_map=saved.iomem, elfcorehdr=1 << 30)


@pytest.mark.parametrize(
    "truth",
    ["a load far behind RAM", "a load of 2 EiB", "low memory read far behind RAM"],
)
def test_with_truncated_what_a_lie_asks_for_is_missing_and_costs_nothing(
    tmp_path: Path, open_capture: Opener, truth: str
) -> None:
    saved = dead_machine().save(tmp_path)
    saved.iomem.write_bytes(LIES[truth])
    capture = open_capture(saved.ram, memory_map=saved.iomem, truncated=True)
    assert len(capture.image.missing) >= 1
    assert capture["vmcore"].pread(4, 0) == b"\x7fELF"


def test_two_different_elfcorehdrs_are_refused_with_both_addresses(
    tmp_path: Path, open_capture: Opener
) -> None:
    machine = dead_machine()
    machine.put(CRASH_KERNEL[0], pack_elf(dead_machines.kernel_phdrs()))
    saved = machine.save(tmp_path)
    with pytest.raises(
        FormatError,
        match=exactly(
            "2 different elfcorehdrs, at 0x200000, 0x2bc000: a crash kernel was loaded more than"
            " once; pass --elfcorehdr with the address in the capture kernel's command line"
        ),
    ):
        open_capture(saved.ram, memory_map=saved.iomem)
    for paddr in (CRASH_KERNEL[0], ELFCOREHDR):
        plan = open_capture(saved.ram, memory_map=saved.iomem, elfcorehdr=paddr).image.plan
        assert plan.origin == f"the elfcorehdr given at {paddr:#x}"
        assert (plan.elfcorehdr.backup is None) == (paddr == CRASH_KERNEL[0])


def test_two_copies_of_the_same_elfcorehdr_are_one(tmp_path: Path, open_capture: Opener) -> None:
    machine = dead_machine()
    machine.put(ELFCOREHDR + 0x2000, machine.elfcorehdr)
    saved = machine.save(tmp_path)
    assert open_capture(saved.ram, memory_map=saved.iomem).image.plan.paddr == ELFCOREHDR


def test_the_capture_kernels_own_vmcore_header_is_not_taken_for_an_elfcorehdr(
    tmp_path: Path, open_capture: Opener
) -> None:
    # the page cache of the capture kernel holds the first page of the vmcore that it copied
    machine = dead_machine()
    saved = machine.save(tmp_path)
    header = open_capture(saved.ram, memory_map=saved.iomem)["vmcore"].pread(4096, 0)
    machine.put(0x2A0000, header)
    saved = machine.save(tmp_path)
    image = open_capture(saved.ram, memory_map=saved.iomem).image
    assert image.plan.paddr == ELFCOREHDR
    assert image.warnings == ()


def test_only_the_crash_kernels_memory_is_looked_through_where_the_map_names_it(
    tmp_path: Path, open_capture: Opener
) -> None:
    machine = dead_machine()
    machine.put(0x180000, pack_elf([NOTE, load_phdr(HIGH[0], 0x120000)]))
    saved = machine.save(tmp_path)
    assert open_capture(saved.ram, memory_map=saved.iomem).image.plan.paddr == ELFCOREHDR


def test_one_bad_elfcorehdr_beside_a_good_one_is_a_warning(
    tmp_path: Path, open_capture: Opener
) -> None:
    machine = dead_machine()
    machine.put(0x2A0000, pack_elf([NOTE]))
    saved = machine.save(tmp_path)
    image = open_capture(saved.ram, memory_map=saved.iomem).image
    assert image.plan.paddr == ELFCOREHDR
    assert image.warnings == ("elfcorehdr at 0x2a0000 refused: no PT_LOAD",)


def test_a_torn_note_is_refused_unless_it_may_be_dropped(
    tmp_path: Path, open_capture: Opener
) -> None:
    whole = dead_machines.prstatus_note(1, 2, 3)
    torn = bytearray(whole)
    torn[4:8] = b"\xff\xff\xff\xff"
    saved = dead_machine(cpu_slots=[whole, bytes(torn)]).save(tmp_path)
    message = (
        "note slot at 0x110200: note 0 at offset 0x0: n_namesz 5 and n_descsz 4294967295 end at"
        " 0x100000014, but the buffer has 368 bytes"
    )
    with pytest.raises(
        FormatError,
        match=exactly(f"{message}; pass --drop-torn-notes to leave it out, as the kernel does"),
    ):
        open_capture(saved.ram, memory_map=saved.iomem)
    capture = open_capture(saved.ram, memory_map=saved.iomem, drop_torn_notes=True)
    assert capture.image.warnings == (message,)
    assert capture["crash_notes"].pread(356, 0) == whole


def test_a_given_machine_that_the_elfcorehdr_contradicts_is_refused(
    tmp_path: Path, open_capture: Opener
) -> None:
    saved = dead_machine().save(tmp_path)
    with pytest.raises(
        VmcorefsError,
        match=r"^the machine is given as .*, but the elfcorehdr found at 0x2bc000 says .*$",
    ):
        open_capture(saved.ram, memory_map=saved.iomem, machine="aarch64")
