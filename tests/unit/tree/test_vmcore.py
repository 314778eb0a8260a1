"""``vmcore`` and the notes: against the reference writer, pyelftools, and by hand."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment

from tests.builders import dead_machines
from tests.builders.dead_machines import (
    BACKUP,
    CPU_NOTES,
    CPU_SLOT_SIZE,
    CPU_SLOT_STEP,
    CRASH_KERNEL,
    ELFCOREHDR,
    HIGH,
    LOW,
    Flavour,
    Machine,
    Phdr,
    bare_machine,
    dead_machine,
    kernel_phdrs,
    kexec_tools_phdrs,
    load_phdr,
    note_phdr,
    pack_elf,
    stamped,
    vmcoreinfo_text,
)
from tests.conftest import Opener
from tests.matching import exactly, same_bytes
from tests.oracles.vmcore import write_vmcore
from vmcorefs import Capture, FaultError, TreeFile

NOTES = dead_machines.cpu_note_phdrs(3)
SMALL = [load_phdr(HIGH[0], HIGH[0] + (n + 1) * 0x1000) for n in range(80)]

MACHINES = {
    "kexec-tools": dead_machine(),
    "the kernel": dead_machine(kernel_phdrs()),
    "ELF32": dead_machine(
        [p._replace(p_vaddr=p.p_vaddr & 0xFFFFFFFF) for p in kexec_tools_phdrs()],
        Flavour(32, "<", dead_machines.EM_386),
    ),
    "big endian": dead_machine(kexec_tools_phdrs(), Flavour(64, ">", dead_machines.EM_PPC64)),
    "ELF32, big endian": dead_machine(
        [*NOTES, load_phdr(*LOW, offset=BACKUP)], Flavour(32, ">", 8)
    ),
    "headers that take two pages": dead_machine([*NOTES, *SMALL]),
    "segments that share a page": dead_machine(
        [*NOTES, load_phdr(HIGH[0], HIGH[0] + 0x800), load_phdr(HIGH[0] + 0x800, HIGH[0] + 0x1801)]
    ),
    "empty segments": dead_machine(
        [*NOTES, load_phdr(HIGH[0], HIGH[0]), load_phdr(HIGH[0] + 5, HIGH[0] + 5), *SMALL[:1]]
    ),
    "no notes at all": dead_machine([*NOTES, *SMALL[:1]], cpu_slots=[b"", b"", b""]),
    "a segment beside the crash kernel": dead_machine(
        [*NOTES, load_phdr(HIGH[0], CRASH_KERNEL[0] - 0x10), load_phdr(0x2C0010, HIGH[1])]
    ),
    "segments out of order": dead_machine([*NOTES, *reversed(SMALL)]),
}


def opened(open_capture: Opener, directory: Path, machine: Machine) -> Capture:
    saved = machine.save(directory)
    return open_capture(saved.ram, memory_map=saved.iomem)


def whole(file: TreeFile) -> bytes:
    return file.pread(file.size, 0)


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES.keys())
def test_the_vmcore_is_the_one_that_the_kernel_would_have_written(
    tmp_path: Path, open_capture: Opener, machine: Machine
) -> None:
    capture = opened(open_capture, tmp_path, machine)
    assert capture.image.plan.paddr == ELFCOREHDR
    release = capture.image.notes.vmcoreinfo
    reference = write_vmcore(machine.memory, machine.elfcorehdr, note_align=0 if release else 4)
    same_bytes(whole(capture["vmcore"]), reference)


@pytest.mark.parametrize(
    ("release", "align"), [("6.4.16", 0), ("6.5.0", 4), ("2.6.39", 0), ("6.10.0", 4), ("x", 4)]
)
def test_the_note_segments_alignment_is_that_of_the_release(
    tmp_path: Path, open_capture: Opener, release: str, align: int
) -> None:
    machine = dead_machine(text=vmcoreinfo_text(release))
    vmcore = whole(opened(open_capture, tmp_path, machine)["vmcore"])
    assert ELFFile(io.BytesIO(vmcore)).get_segment(0)["p_align"] == align
    same_bytes(vmcore, write_vmcore(machine.memory, machine.elfcorehdr, note_align=align))


def test_pages_are_as_large_as_vmcoreinfo_says(tmp_path: Path, open_capture: Opener) -> None:
    machine = dead_machine(text=vmcoreinfo_text("6.10.0", page_size=65536))
    vmcore = whole(opened(open_capture, tmp_path, machine)["vmcore"])
    same_bytes(vmcore, write_vmcore(machine.memory, machine.elfcorehdr, page_size=65536))
    assert ELFFile(io.BytesIO(vmcore)).get_segment(0)["p_offset"] == 0x10000


def test_pyelftools_finds_every_note_and_every_segments_own_bytes(
    tmp_path: Path, open_capture: Opener
) -> None:
    vmcore = whole(opened(open_capture, tmp_path, dead_machine())["vmcore"])
    notes, *loads = ELFFile(io.BytesIO(vmcore)).iter_segments()
    # the second CPU of three saved nothing
    assert isinstance(notes, NoteSegment)
    assert [n["n_name"] for n in notes.iter_notes()] == ["CORE", "CORE", "VMCOREINFO"]
    assert {s["p_paddr"]: s.data() for s in loads if s["p_vaddr"] != dead_machines.TEXT_VADDR} == {
        LOW[0]: stamped(*LOW),
        HIGH[0]: bytes(dead_machine().memory[HIGH[0] : CRASH_KERNEL[0]]),
        CRASH_KERNEL[1]: stamped(CRASH_KERNEL[1], HIGH[1]),
    }


def test_headers_can_be_built_from_the_map_and_unknown_virtual_addresses_are_0(
    tmp_path: Path, open_capture: Opener
) -> None:
    machine = bare_machine()
    saved = machine.save(tmp_path)
    vmcore = whole(open_capture(saved.ram, memory_map=saved.iomem, backup=saved.lowmem)["vmcore"])
    machine.put(LOW[0], machine.lowmem)
    plan = [
        load_phdr(*LOW),
        load_phdr(HIGH[0], CRASH_KERNEL[0]),
        load_phdr(CRASH_KERNEL[1], HIGH[1]),
    ]
    same_bytes(vmcore, write_vmcore(machine.memory, pack_elf(plan)))


def test_an_elfcorehdr_in_the_image_can_be_ignored(tmp_path: Path, open_capture: Opener) -> None:
    saved = dead_machine().save(tmp_path)
    capture = open_capture(
        saved.ram, memory_map=saved.iomem, use_elfcorehdr=False, use_vmcoreinfo=False
    )
    assert capture["crash_notes"].size == 0
    assert capture["vmcore"].size == 0x1000 + 0x9F000 + 0x100000 + 0x40000
    assert "vmcoreinfo" not in capture.files


def test_low_memorys_first_page_begins_with_what_lies_in_front_of_the_backup(
    tmp_path: Path, open_capture: Opener
) -> None:
    # |200000 ... 200400: the crash kernel's|200400: the backup ...
    machine = dead_machine([*NOTES, load_phdr(*LOW, offset=BACKUP)])
    vmcore = opened(open_capture, tmp_path, machine)["vmcore"]
    before = vmcore.pread(0x400, 0x2000)
    assert before == stamped(BACKUP - 0x400, BACKUP)
    same_bytes(vmcore.pread(LOW[1] - LOW[0], 0x2400), stamped(*LOW))


def test_pages_beside_a_segment_that_no_input_holds_are_holes(
    tmp_path: Path, open_capture: Opener
) -> None:
    machine = dead_machine([*NOTES, load_phdr(0x2FF000, 0x2FF801)])
    machine.memory = machine.memory[:0x2FF801]
    machine.iomem = "00001000-0009fbff : System RAM\n00100000-002ff800 : System RAM\n"
    saved = machine.save(tmp_path)
    vmcore = open_capture(saved.ram, memory_map=saved.iomem)["vmcore"]
    assert vmcore.pread(0x1000, vmcore.size - 0x1000) == stamped(0x2FF000, 0x2FF801).ljust(
        0x1000, b"\0"
    )
    strict = open_capture(saved.ram, memory_map=saved.iomem, holes="error")["vmcore"]
    assert strict.pread(0x801, strict.size - 0x1000) == stamped(0x2FF000, 0x2FF801)
    at = strict.size - 0x7FF
    with pytest.raises(
        FaultError,
        match=exactly(f"vmcore: no input holds [{at:#x}, {strict.size:#x}) (hole, 2047 bytes)"),
    ):
        strict.pread(4096, at)


def test_crash_notes_are_exactly_the_note_segments_bytes(
    tmp_path: Path, open_capture: Opener
) -> None:
    capture = opened(open_capture, tmp_path, dead_machine())
    segment = ELFFile(io.BytesIO(whole(capture["vmcore"]))).get_segment(0)
    assert whole(capture["crash_notes"]) == segment.data()


def test_each_cpus_slot_is_shown_whole_and_an_empty_one_as_zeros(
    tmp_path: Path, open_capture: Opener
) -> None:
    machine = dead_machine()
    capture = opened(open_capture, tmp_path, machine)
    for cpu in range(3):
        start = CPU_NOTES + cpu * CPU_SLOT_STEP
        slot = whole(capture[f"crash_notes.d/cpu{cpu}"])
        assert slot == machine.memory[start : start + CPU_SLOT_SIZE]
        assert any(slot) == (cpu != 1)
    assert "crash_notes.d/cpu3" not in capture.files


def test_notes_in_low_memory_are_read_from_the_backup(tmp_path: Path, open_capture: Opener) -> None:
    machine = dead_machine([note_phdr(0x2000, 368), *kexec_tools_phdrs()])
    lowmem = bytearray(machine.lowmem)
    note = dead_machines.prstatus_note(77, 1, 2).ljust(368, b"\0")
    lowmem[0x1000 : 0x1000 + 368] = note
    machine.put(BACKUP, bytes(lowmem))
    capture = opened(open_capture, tmp_path, machine)
    assert whole(capture["crash_notes.d/cpu0"]) == note


def test_every_note_and_load_of_1000_cpus_finds_its_place(
    tmp_path: Path, open_capture: Opener
) -> None:
    slot = dead_machines.prstatus_note(1, 2, 3).ljust(CPU_SLOT_SIZE, b"\0")
    phdrs = [note_phdr(0x160000 + n * 0x200, CPU_SLOT_SIZE) for n in range(1000)]
    machine = dead_machine([*phdrs, *(Phdr(1, HIGH[0], 0x1000) for _ in range(100))])
    for n in range(0, 1000, 3):
        machine.put(0x160000 + n * 0x200, slot)
    for n in set(range(1000)) - set(range(0, 1000, 3)):
        machine.put(0x160000 + n * 0x200, bytes(CPU_SLOT_SIZE))
    capture = opened(open_capture, tmp_path, machine)
    assert capture["crash_notes"].size == 334 * 356
    same_bytes(whole(capture["vmcore"]), write_vmcore(machine.memory, machine.elfcorehdr))
