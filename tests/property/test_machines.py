"""Random machines: the vmcore equals what the reference writer makes of the same memory."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

import vmcorefs
from tests.builders import dead_machines
from tests.builders.dead_machines import (
    Flavour,
    Phdr,
    load_phdr,
    note_phdr,
    pack_elf,
    pack_note,
    stamped,
)
from tests.matching import same_bytes
from tests.oracles.vmcore import trim_notes, write_vmcore

# low memory | notes | RAM ... | crash kernel: elfcorehdr, backup | RAM
#     1000      20000   30000    100000                     180000   1c0000
LOW_LIMIT = 0x20000
NOTES = (0x20000, 0x30000)
FREE = (0x30000, 0x100000)
CRASH_KERNEL = (0x100000, 0x180000)
END = 0x1C0000
SLOT = 512
SAVED = 0xBA << 56


class _Bytes(bytes):
    """Bytes that hypothesis does not print by the megabyte."""

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"


@dataclass(frozen=True)
class Drawn:
    """A machine, and the oracle's view of it."""

    memory: _Bytes
    elfcorehdr: _Bytes
    phdrs: list[Phdr]
    flavour: Flavour
    page_size: int
    note_align: int


FLAVOURS = st.builds(
    Flavour, st.sampled_from([64, 32]), st.sampled_from(["<", ">"]), st.sampled_from([62, 3, 22])
)
NOTE = st.tuples(
    st.sampled_from([b"CORE", b"LINUX", b"X"]), st.integers(0, 9), st.binary(max_size=60)
)


@st.composite
def _slots(draw: st.DrawFn, order: str) -> list[bytes]:
    """CPUs' note slots: empty, with one or several notes, with garbage behind their end."""
    slots = []
    for notes in draw(st.lists(st.lists(NOTE, max_size=3), max_size=6)):
        packed = b"".join(pack_note(*note, order) for note in notes)
        behind = draw(st.sampled_from([b"", b"garbage"])) if notes else b""
        slots.append((packed + bytes(12) + behind).ljust(SLOT, b"\0"))
    return slots


@st.composite
def _loads(draw: st.DrawFn) -> list[Phdr]:
    """RAM in any order, unaligned, overlapping (as the kernel's text does), some of it empty."""
    spans = st.tuples(
        st.integers(FREE[0], FREE[1]) | st.integers(CRASH_KERNEL[1], END - 1),
        st.sampled_from([0, 1, 0x800, 0x1000]) | st.integers(0, 0x8000),
    )
    loads = []
    for start, size in draw(st.lists(spans, min_size=1, max_size=9)):
        limit = FREE[1] if start <= FREE[1] else END
        loads.append(
            load_phdr(start, min(start + size, limit), vaddr=draw(st.integers(0, 2**32 - 1)))
        )
    if not any(load.p_memsz for load in loads):
        loads.append(load_phdr(FREE[0], FREE[0] + 1))
    return loads


@st.composite
def machines(draw: st.DrawFn) -> Drawn:
    flavour = draw(FLAVOURS)
    memory = bytearray(stamped(0, END))
    slots = draw(_slots(flavour.order))
    page_size = draw(st.sampled_from([4096, 4096, 16384, 65536]))
    release, note_align = draw(st.sampled_from([("6.4.0", 0), ("6.5.1", 4)]))
    text = dead_machines.vmcoreinfo_text(release, page_size=page_size)
    slots.append(dead_machines.vmcoreinfo_note(text, flavour.order).ljust(SLOT, b"\0"))
    for number, slot in enumerate(slots):
        at = NOTES[0] + number * SLOT
        memory[at : at + SLOT] = slot

    notes = [note_phdr(NOTES[0] + number * SLOT, SLOT) for number in range(len(slots))]
    loads = draw(_loads())
    if draw(st.booleans()):
        # with 16 bytes one whole mark is in it: a backup of zeros counts as never filled
        size = draw(st.integers(16, LOW_LIMIT))
        start = draw(st.integers(0, LOW_LIMIT - size))
        low = (start, start + size)
        backup = CRASH_KERNEL[0] + 0x8000 + 1024 * draw(st.integers(0, 16))
        memory[backup : backup + size] = stamped(*low, SAVED)
        memory[low[0] : low[1]] = stamped(*low, dead_machines.OVERWRITTEN)
        loads.insert(0, load_phdr(*low, offset=backup))
    phdrs = [*notes, *loads]
    elfcorehdr = pack_elf(phdrs, flavour)
    at = CRASH_KERNEL[0] + 1024 * draw(st.integers(0, 7))
    memory[at : at + len(elfcorehdr)] = elfcorehdr
    return Drawn(_Bytes(memory), _Bytes(elfcorehdr), phdrs, flavour, page_size, note_align)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("machines")
    (made / "iomem").write_text(
        f"00000000-{END - 1:08x} : System RAM\n"
        f"  {CRASH_KERNEL[0]:08x}-{CRASH_KERNEL[1] - 1:08x} : Crash kernel\n"
    )
    return made


@given(machine=machines())
def test_the_vmcore_is_byte_for_byte_the_reference_writers(directory: Path, machine: Drawn) -> None:
    (directory / "ram").write_bytes(machine.memory)
    reference = write_vmcore(
        machine.memory,
        machine.elfcorehdr,
        page_size=machine.page_size,
        note_align=machine.note_align,
    )
    with vmcorefs.open(directory / "ram", memory_map=directory / "iomem") as capture:
        vmcore = capture["vmcore"]
        assert vmcore.size == len(reference)
        same_bytes(vmcore.pread(vmcore.size, 0), reference)


@given(machine=machines(), torn=st.integers(0, 5), descsz=st.integers(SLOT, 2**32 - 1))
def test_a_torn_note_is_dropped_as_the_reference_writer_drops_it(
    directory: Path, machine: Drawn, torn: int, descsz: int
) -> None:
    memory = bytearray(machine.memory)
    at = NOTES[0] + torn * SLOT
    kept = len(trim_notes(bytes(memory[at : at + SLOT]), machine.flavour.order))
    header = struct.pack(f"{machine.flavour.order}3I", 5, descsz, 1)
    memory[at + kept : at + kept + 12] = header
    (directory / "ram").write_bytes(memory)
    with vmcorefs.open(
        directory / "ram", memory_map=directory / "iomem", drop_torn_notes=True
    ) as capture:
        vmcore = capture["vmcore"]
        reference = write_vmcore(
            memory,
            machine.elfcorehdr,
            page_size=machine.page_size,
            note_align=machine.note_align,
        )
        same_bytes(vmcore.pread(vmcore.size, 0), reference)
