"""Dead machines, built with ``struct`` alone: what vmcorefs packs wrongly is not wrong here too.

Each 8 bytes of memory hold their own physical address, so a byte in the wrong place says where it
came from. The top byte marks what overwrote it: ``OVERWRITTEN`` for what the capture kernel left.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.builders.maps import RAM, RESERVED, iomem_text

PT_LOAD, PT_NOTE = 1, 4
EM_386, EM_X86_64, EM_PPC64 = 3, 62, 21

LOW = (0x1000, 0x9FC00)
"""Low memory as most PCs have it: the last page is not whole."""
HIGH = (0x100000, 0x300000)
CRASH_KERNEL = (0x200000, 0x2C0000)
BACKUP = 0x200400
"""On kexec's 1 KiB grid, but not congruent to ``LOW`` modulo a page."""
ELFCOREHDR = 0x2BC000
KERNEL_TEXT = (0x140000, 0x161000)
CPU_NOTES = 0x110000
CPU_SLOT_SIZE, CPU_SLOT_STEP = 368, 512
VMCOREINFO = 0x120000

DIRECT_MAP = 0xFFFF888000000000
TEXT_VADDR = 0xFFFFFFFF81000000
CRASH_TIME = 1_700_000_000

OVERWRITTEN = 0xCC << 56


@cache
def stamped(start: int, end: int, mark: int = 0) -> bytes:
    """The bytes of ``[start, end)`` where each 8 aligned ones hold their own address and mark."""
    first = start & ~7
    words = [address | mark for address in range(first, end, 8)]
    return struct.pack(f"<{len(words)}Q", *words)[start - first : end - first]


# --- notes ---------------------------------------------------------------------------------------


def pack_note(name: bytes, note_type: int, desc: bytes, order: str = "<") -> bytes:
    def pad(data: bytes) -> bytes:
        return data + bytes(-len(data) % 4)

    terminated = name + b"\0"
    header = struct.pack(f"{order}3I", len(terminated), len(desc), note_type)
    return header + pad(terminated) + pad(desc)


def prstatus_note(pid: int, ip: int, sp: int, order: str = "<") -> bytes:
    """An NT_PRSTATUS note as x86-64 writes it: pid at 32, rip at 240, rsp at 264."""
    desc = bytearray(336)
    struct.pack_into(f"{order}i", desc, 32, pid)
    struct.pack_into(f"{order}Q", desc, 240, ip)
    struct.pack_into(f"{order}Q", desc, 264, sp)
    return pack_note(b"CORE", 1, bytes(desc), order)


def vmcoreinfo_text(release: str = "6.1.0-test", *, page_size: int = 4096) -> bytes:
    return (
        f"OSRELEASE={release}\nBUILD-ID=00112233445566778899aabbccddeeff00112233\n"
        f"PAGESIZE={page_size}\nSYMBOL(_stext)=ffffffff81000000\nCRASHTIME={CRASH_TIME}\n"
    ).encode()


def vmcoreinfo_note(text: bytes, order: str = "<") -> bytes:
    return pack_note(b"VMCOREINFO", 0, text, order)


# --- ELF -----------------------------------------------------------------------------------------


class Phdr(NamedTuple):
    """A program header; ``p_paddr`` is ``p_offset`` and ``p_filesz`` is ``p_memsz`` unless told."""

    p_type: int
    p_offset: int
    p_memsz: int
    p_paddr: int | None = None
    p_vaddr: int = 0
    p_flags: int = 7
    p_align: int = 0
    p_filesz: int | None = None


def note_phdr(paddr: int, size: int) -> Phdr:
    return Phdr(PT_NOTE, paddr, size, p_flags=0)


def load_phdr(start: int, end: int, *, offset: int | None = None, vaddr: int = 0) -> Phdr:
    return Phdr(
        PT_LOAD, start if offset is None else offset, end - start, p_paddr=start, p_vaddr=vaddr
    )


@dataclass(frozen=True)
class Flavour:
    """Which ELF a machine's kernel writes."""

    bits: int = 64
    order: str = "<"
    machine: int = EM_X86_64


X86_64 = Flavour()


def pack_elf(phdrs: Sequence[Phdr], flavour: Flavour = X86_64, **fields: int) -> bytes:
    """An ELF core header with its program headers; ``fields`` overwrite those of the ELF header."""
    ehdr_size, phdr_size = (64, 56) if flavour.bits == 64 else (52, 32)
    values = {
        "ei_version": 1,
        "e_type": 4,
        "e_machine": flavour.machine,
        "e_version": 1,
        "e_entry": 0,
        "e_phoff": ehdr_size,
        "e_shoff": 0,
        "e_flags": 0,
        "e_ehsize": ehdr_size,
        "e_phentsize": phdr_size,
        "e_phnum": len(phdrs),
        "e_shentsize": 0,
        "e_shnum": 0,
        "e_shstrndx": 0,
    } | fields
    encoding = 1 if flavour.order == "<" else 2
    ident = bytes((0x7F, *b"ELF", flavour.bits // 32, encoding, values.pop("ei_version"), *[0] * 9))
    layout = "HHI3QI6H" if flavour.bits == 64 else "HHI3II6H"
    packed = ident + struct.pack(flavour.order + layout, *values.values())
    return packed + b"".join(_pack_phdr(phdr, flavour) for phdr in phdrs)


def _pack_phdr(phdr: Phdr, flavour: Flavour) -> bytes:
    paddr = phdr.p_offset if phdr.p_paddr is None else phdr.p_paddr
    filesz = phdr.p_memsz if phdr.p_filesz is None else phdr.p_filesz
    where = (phdr.p_offset, phdr.p_vaddr, paddr, filesz, phdr.p_memsz)
    if flavour.bits == 64:
        fields = (phdr.p_type, phdr.p_flags, *where, phdr.p_align)
        return struct.pack(flavour.order + "II6Q", *fields)
    return struct.pack(flavour.order + "8I", phdr.p_type, *where, phdr.p_flags, phdr.p_align)


# --- machines ------------------------------------------------------------------------------------


def cpu_note_phdrs(count: int) -> list[Phdr]:
    return [note_phdr(CPU_NOTES + cpu * CPU_SLOT_STEP, CPU_SLOT_SIZE) for cpu in range(count)]


def kexec_tools_phdrs(cpus: int = 3) -> list[Phdr]:
    """kexec_load: kernel text, low memory through the backup, RAM around the crash kernel."""
    return [
        *cpu_note_phdrs(cpus),
        note_phdr(VMCOREINFO, 4096 + 36),
        load_phdr(*KERNEL_TEXT, vaddr=TEXT_VADDR),
        load_phdr(*LOW, offset=BACKUP, vaddr=DIRECT_MAP + LOW[0]),
        load_phdr(HIGH[0], CRASH_KERNEL[0], vaddr=DIRECT_MAP + HIGH[0]),
        load_phdr(CRASH_KERNEL[1], HIGH[1], vaddr=DIRECT_MAP + CRASH_KERNEL[1]),
    ]


def kernel_phdrs(cpus: int = 3) -> list[Phdr]:
    """kexec_file_load since 5.5: no low memory at all, so no backup."""
    return [phdr for phdr in kexec_tools_phdrs(cpus) if phdr.p_offset != BACKUP]


@dataclass
class Machine:
    """A machine that died, as a capture tool finds it.

    Attributes:
        memory: Its memory, offset by physical address, after the capture kernel has booted.
        elfcorehdr: What was loaded with the crash kernel; ``memory`` holds it too.
        lowmem: Its low memory as it was when it died.
        iomem: Its /proc/iomem.
    """

    memory: bytearray
    elfcorehdr: bytes = b""
    lowmem: bytes = field(default_factory=lambda: stamped(*LOW))
    iomem: str = ""

    def put(self, paddr: int, data: bytes) -> None:
        self.memory[paddr : paddr + len(data)] = data

    def save(self, directory: Path) -> Saved:
        saved = Saved(directory / "ram", directory / "iomem", directory / "lowmem")
        saved.ram.write_bytes(self.memory)
        saved.iomem.write_text(self.iomem)
        saved.lowmem.write_bytes(self.lowmem)
        return saved


class Saved(NamedTuple):
    """The files of a capture."""

    ram: Path
    iomem: Path
    lowmem: Path


def bare_machine() -> Machine:
    """A machine of 3 MiB with a crash kernel but neither notes nor an elfcorehdr."""
    memory = bytearray(stamped(0, HIGH[1]))
    memory[LOW[0] : LOW[1]] = stamped(*LOW, OVERWRITTEN)
    rows = [
        (0, LOW[0], RESERVED),
        (*LOW, RAM),
        (LOW[1], HIGH[0], RESERVED),
        (*HIGH, RAM),
    ]
    return Machine(memory, iomem=iomem_text(rows, [CRASH_KERNEL]))


def dead_machine(
    phdrs: Iterable[Phdr] | None = None,
    flavour: Flavour = X86_64,
    *,
    text: bytes | None = None,
    cpu_slots: Sequence[bytes] | None = None,
) -> Machine:
    """A machine that crashed with a crash kernel loaded by kexec-tools, unless ``phdrs`` differ.

    Args:
        phdrs: Of its elfcorehdr.
        flavour: Of its elfcorehdr and notes.
        text: Of VMCOREINFO.
        cpu_slots: The CPUs' note buffers; by default the second of three CPUs saved nothing.
    """
    machine = bare_machine()
    if cpu_slots is None:
        busy = [
            prstatus_note(100 + cpu, 0x1000 + cpu, 0x2000 + cpu, flavour.order) for cpu in (0, 2)
        ]
        cpu_slots = [busy[0], b"", busy[1]]
    for cpu, slot in enumerate(cpu_slots):
        machine.put(CPU_NOTES + cpu * CPU_SLOT_STEP, slot.ljust(CPU_SLOT_SIZE, b"\0"))
    note = vmcoreinfo_note(vmcoreinfo_text() if text is None else text, flavour.order)
    machine.put(VMCOREINFO, note.ljust(4096 + 36, b"\0"))
    machine.put(BACKUP, machine.lowmem)
    chosen = kexec_tools_phdrs(len(cpu_slots)) if phdrs is None else list(phdrs)
    machine.elfcorehdr = pack_elf(chosen, flavour)
    machine.put(ELFCOREHDR, machine.elfcorehdr)
    return machine
