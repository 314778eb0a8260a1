"""Small kernels in memory: page tables, VMCOREINFO, kallsyms and what the kernel keeps of its RAM.

They are put together with ``struct`` and the builders beside this one, as the kernel's sources say,
and saved as capture tools save memory. Files are sparse: gigabytes of RAM cost nothing.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from tests.builders.btf import INT, Writer
from tests.builders.dead_machines import CRASH_TIME, pack_note, vmcoreinfo_note
from tests.builders.kallsyms import write_kernel
from tests.builders.maps import RAM, RESERVED
from tests.builders.page_tables import Machine, Tables, W, X, arm, riscv, x86
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.errors import FaultError

MIB, GIB = 1 << 20, 1 << 30
IMAGE_SIZE = 2 * MIB
TABLES_AT, KALLSYMS_AT, VARIABLES_AT = 0x100000, 0x80000, 0x1000
NOTE_AT, CPUS_AT = IMAGE_SIZE + 0x10000, IMAGE_SIZE + 0x20000
PERCPU = 0x8000
TRAMPOLINE = 0x9B000
CRASH_KERNEL = "Crash kernel"

Span = tuple[int, int]
Row = tuple[int, int, str, int]
"""start, end (half-open), name, depth."""
Placed = tuple[int, int, int]
"""physical address, offset in the file, size."""


@dataclass(frozen=True)
class Arch:
    """How one architecture's kernel lays itself out.

    Attributes:
        number: ``e_machine``.
        machine: Its page tables.
        text: Virtual address of its image.
        direct: Virtual address at which the direct map shows the start of RAM.
        prstatus: Bytes in ``struct elf_prstatus``.
    """

    number: int
    machine: Machine
    text: int
    direct: int
    prstatus: int


X86 = Arch(62, x86(48), 0xFFFFFFFF8A000000, 0xFFFF9C8000000000, 336)
X86_5 = Arch(62, x86(57), 0xFFFFFFFF8A000000, 0xFF11000000000000, 336)
ARM = Arch(183, arm(4, 48), 0xFFFF800008000000, 0xFFFF000000000000, 392)
RISCV = Arch(243, riscv(48), 0xFFFFFFFF80000000, 0xFFFFAF8000000000, 376)

LOW: Span = (0x1000, 0x9FC00)
X86_RAM: tuple[Span, ...] = (LOW, (MIB, 64 * MIB))


@dataclass
class DeadKernel:
    """A kernel's memory, and where everything in it is.

    Attributes:
        arch: Its architecture.
        ram: System RAM.
        base: Physical address of its image.
        text: Of VMCOREINFO.
        chunks: Physical address to bytes; all else is zeros, and later ones lie over earlier ones.
        symbols: Name to virtual address.
        tables: Its page tables, already among the chunks.
    """

    arch: Arch
    ram: tuple[Span, ...]
    base: int
    text: bytes = b""
    chunks: list[tuple[int, bytes]] = field(default_factory=list)
    symbols: dict[str, int] = field(default_factory=dict)
    tables: Tables = field(default_factory=lambda: Tables(X86.machine))

    @property
    def distance(self) -> int:
        """Virtual less physical address in the direct map."""
        first = 0 if self.arch.number == X86.number else self.ram[0][0]
        return self.arch.direct - first

    def put(self, paddr: int, data: bytes) -> None:
        self.chunks.append((paddr, data))

    def patch(self, symbol: str, data: bytes, inside: int = 0) -> None:
        """Write over a variable."""
        self.put(self.symbols[symbol] - self.arch.text + self.base + inside, data)

    def save(self, path: Path, placed: Sequence[Placed] | None = None, skip: int = 0) -> Path:
        """Write the memory to a sparse file; by default an offset is a physical address."""
        rows = [(0, 0, self.ram[-1][1])] if placed is None else placed
        with path.open("wb") as file:
            os.truncate(file.fileno(), skip + max(offset + size for _, offset, size in rows))
            for paddr, data in self.chunks:
                for start, offset, size in rows:
                    first, last = max(start, paddr), min(start + size, paddr + len(data))
                    if first < last:
                        file.seek(skip + offset + first - start)
                        file.write(data[first - paddr : last - paddr])
        return path

    def concatenated(self) -> list[Placed]:
        """System RAM, one range behind the other."""
        placed, offset = [], 0
        for start, end in self.ram:
            placed.append((start, offset, end - start))
            offset += end - start
        return placed


def split(low: int, end: int) -> list[Placed]:
    """What QEMU's memory file holds: RAM below the PCI hole, and behind it what is above 4 GiB."""
    return [(0, 0, low), (1 << 32, low, end - (1 << 32))]


def make_kernel(
    arch: Arch = X86,
    ram: Sequence[Span] = X86_RAM,
    *,
    base: int = 16 * MIB,
    release: str = "6.1.0-test",
    crash_kernel: Span | None = None,
    resources: Sequence[Row] | None = None,
    crashed: bool = True,
    captures: bool = False,
    cpus: int = 3,
    command_line: str = "",
    loaded: Sequence[int] | None = None,
    lacks: Sequence[str] = (),
    moved: dict[str, int] | None = None,
    told: dict[str, str] | None = None,
) -> DeadKernel:
    """A kernel that died.

    Args:
        arch: Which.
        ram: System RAM, in order.
        base: Physical address of its image, in RAM.
        release: OSRELEASE.
        crash_kernel: Where it has reserved memory for a crash kernel.
        resources: What iomem_resource has; by default System RAM, what lies between, the image and
            the crash kernel.
        crashed: Whether VMCOREINFO has CRASHTIME, and the CPUs but the second saved registers.
        captures: Whether it was booted to save another kernel's memory.
        cpus: How many.
        command_line: What it was booted with, if it has kept that.
        loaded: Physical addresses of the segments that it has loaded a crash kernel in; none if
            none is loaded. Without it, it has no variable that tells.
        lacks: Symbols that kallsyms does not have, and ``PCI mem``, by which iomem_resource is
            found without one.
        moved: Symbols that it has elsewhere.
        told: Keys of VMCOREINFO that are another; an empty value takes one away.
    """
    kernel = DeadKernel(arch, tuple(ram), base, tables=Tables(arch.machine, base + TABLES_AT))
    _map(kernel)
    image = _Image(arch.text + VARIABLES_AT)
    rows = _resources(kernel, crash_kernel) if resources is None else resources
    root_name = b"PCI bus" if "PCI mem" in lacks else b"PCI mem"
    image.name("iomem_resource", _put_tree(image, rows, root_name))
    image.name("crashk_res", image.put(_node(*(crash_kernel or (0, 1)))))
    _put_e820(image, kernel.ram)
    _put_memblock(image, kernel.ram)
    _put_cpus(image, kernel, cpus, saved=crashed)
    image.name("vmcoreinfo_note", image.put(_words(kernel.distance + base + NOTE_AT)))
    if arch.number == X86.number:
        image.name("page_offset_base", image.put(_words(arch.direct)))
    # ELFCORE_ADDR_MAX, or what vmcore_init leaves: ELFCORE_ADDR_ERR
    image.name("elfcorehdr_addr", image.put(_words(-2 if captures else -1)))
    if command_line:
        text = image.put(command_line.encode() + b"\0")
        image.name("saved_command_line", image.put(_words(text)))
    if loaded is not None:
        pointer = image.put(_kimage(loaded)) if loaded else 0
        image.name("kexec_crash_image", image.put(_words(pointer)))
    image.name("_text", arch.text)
    image.name("_stext", arch.text)
    image.name("_end", arch.text + IMAGE_SIZE)
    kernel.symbols = image.symbols | (moved or {})
    listed = [(at, "T", name) for name, at in kernel.symbols.items() if name not in lacks]
    kallsyms = write_kernel(listed, base=arch.text + KALLSYMS_AT)
    values = {"OSRELEASE": release, "PAGESIZE": "4096"} | kallsyms.vmcoreinfo.values
    values |= _told(kernel) | ({"CRASHTIME": str(CRASH_TIME)} if crashed else {}) | (told or {})
    kernel.text = "".join(f"{key}={value}\n" for key, value in values.items() if value).encode()
    kernel.chunks[:0] = [
        (base + VARIABLES_AT, bytes(image.data)),
        (base + KALLSYMS_AT, kallsyms.image),
        (base + TABLES_AT, bytes(kernel.tables.memory)),
        (base + NOTE_AT, vmcoreinfo_note(kernel.text)),
        *(stamp for start, end in ram for stamp in (_stamp(start), _stamp(end - 8))),
    ]
    return kernel


def start_cpus(kernel: DeadKernel, at: int = TRAMPOLINE) -> None:
    """Leave in low memory what its CPUs were started with: a root with the kernel's half.

    Its image then has two mebibytes of variables, with ``vmcoreinfo_note`` and its neighbours.
    """
    arch, tables = kernel.arch, kernel.tables
    tables.map(arch.text + 2 * IMAGE_SIZE, kernel.base + 2 * IMAGE_SIZE, IMAGE_SIZE, W)
    kernel.put(kernel.base + TABLES_AT, bytes(tables.memory))
    note = kernel.distance + kernel.base + NOTE_AT
    variables = _words(note, len(kernel.text), note + 0x2000, 0)
    kernel.put(kernel.base + 2 * IMAGE_SIZE + 0x42030, variables)
    root = tables.memory[tables.root - tables.base :][: tables.machine.page]
    kernel.put(at, bytes(2048) + root[2048:])


def fake_text(number: int, *, crashed: bool = True) -> bytes:
    """A VMCOREINFO that leads nowhere."""
    time = f"CRASHTIME={CRASH_TIME + number}\n" if crashed else ""
    return (
        f"OSRELEASE=5.10.{number}\nPAGESIZE=4096\nNUMBER(phys_base)={number << 21}\n"
        f"SYMBOL(swapper_pg_dir)=ffffffff82000000\nSYMBOL(_stext)=ffffffff81000000\n{time}"
    ).encode()


def _stamp(paddr: int) -> tuple[int, bytes]:
    return paddr, _words(paddr)


def _words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}Q", *(value % (1 << 64) for value in values))


class _Image:
    """The kernel's variables, one behind the other."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.data = bytearray()
        self.symbols: dict[str, int] = {}

    def put(self, data: bytes) -> int:
        self.data += bytes(-len(self.data) % 8)
        self.data += data
        return self.start + len(self.data) - len(data)

    def name(self, symbol: str, vaddr: int) -> None:
        self.symbols[symbol] = vaddr


def _map(kernel: DeadKernel) -> None:
    """Map the image, and whole pages of RAM in the largest pages that fit."""
    arch, tables = kernel.arch, kernel.tables
    _map_range(tables, arch.text, kernel.base, kernel.base + IMAGE_SIZE, X)
    for start, end in kernel.ram:
        first = start + -start % 4096
        _map_range(tables, kernel.distance + first, first, end - end % 4096, W)


def _map_range(tables: Tables, vaddr: int, start: int, end: int, access: int) -> None:
    sizes = sorted((size for size in tables.machine.sizes if size <= GIB), reverse=True)
    while start < end:
        size = next(s for s in sizes if not (start | vaddr) % s and start + s <= end)
        tables.map(vaddr, start, size, access)
        vaddr, start = vaddr + size, start + size


def _resources(kernel: DeadKernel, crash_kernel: Span | None) -> list[Row]:
    rows: list[Row] = [(start, end, RAM, 0) for start, end in kernel.ram]
    rows += [(a[1], b[0], RESERVED, 0) for a, b in pairwise(kernel.ram) if a[1] < b[0]]
    rows.append((kernel.base, kernel.base + IMAGE_SIZE, "Kernel code", 1))
    if crash_kernel:
        rows.append((*crash_kernel, CRASH_KERNEL, 1))
    return sorted(rows, key=lambda row: (row[0], row[3]))


def _node(start: int, end: int, name: int = 0, sibling: int = 0, child: int = 0) -> bytes:
    """A ``struct resource``; ``flags``, ``desc`` and ``parent`` are nobody's business."""
    return _words(start, end - 1, name, 0x200, 0, 0, sibling, child)


def _kimage(segments: Sequence[int]) -> bytes:
    """The beginning of a ``struct kimage``: of the segments, ``mem`` and ``memsz`` alone count."""
    words = [0, 0xFFFF888000001000, 0, segments[0] + 0x1234, 0, 0, 0, len(segments)]
    for mem in segments:
        words += [0x7FFF00001000, 0x500, mem, 0x1000]
    return _words(*words).ljust(1024, b"\0")


def _put_tree(image: _Image, rows: Sequence[Row], name_of_root: bytes) -> int:
    """The nodes below a root, and the root; the last ones first, so that pointers are known."""
    following: dict[int, int] = {}
    for start, end, name, depth in reversed(rows):
        text = image.put(name.encode("latin-1") + b"\0")
        child = following.pop(depth + 1, 0)
        at = image.put(_node(start, end, text, following.get(depth, 0), child))
        following[depth] = at
    root = image.put(name_of_root + b"\0")
    return image.put(_node(0, 1 << 64, root, 0, following.get(0, 0)))


def _put_e820(image: _Image, ram: Sequence[Span]) -> None:
    firmware = [(0 if start == 0x1000 else start, end) for start, end in ram]
    params = bytearray(4096)
    params[0x1E8] = len(ram)
    for row, (start, end) in enumerate(firmware):
        struct.pack_into("<QQI", params, 0x2D0 + 20 * row, start, end - start, 1)
    image.name("boot_params", image.put(bytes(params)))
    entries = b"".join(struct.pack("<QQI", start, end - start, 1) for start, end in ram)
    table = image.put(struct.pack("<I", len(ram)) + entries)
    image.name("e820_table", image.put(_words(table)))


def _put_memblock(image: _Image, ram: Sequence[Span]) -> None:
    """``memblock``, laid out as the BTF beside it says."""
    btf = Writer()
    btf.add(INT, "long", 8, [64])
    btf.add_struct("memblock", 96, [("bottom_up", 1, 0), ("memory", 3, 128)])
    btf.add_struct("memblock_type", 40, [("cnt", 1, 0), ("max", 1, 64), ("regions", 1, 192)])
    btf.add_struct("memblock_region", 24, [("base", 1, 0), ("size", 1, 64), ("flags", 1, 128)])
    regions = image.put(b"".join(_words(start, end - start, 0) for start, end in ram))
    image.name("memblock", image.put(_words(0, 0, len(ram), 128, 0, regions).ljust(96, b"\0")))
    image.name("__start_BTF", image.put(btf.finish()))
    image.name("__stop_BTF", image.start + len(image.data))


def _put_cpus(image: _Image, kernel: DeadKernel, cpus: int, *, saved: bool) -> None:
    slots = [kernel.base + CPUS_AT + 512 * cpu for cpu in range(cpus)]
    offsets = [kernel.distance + slot - PERCPU for slot in slots]
    image.name("__per_cpu_offset", image.put(_words(*offsets)))
    image.name("crash_notes", image.put(_words(PERCPU)))
    image.name("nr_cpu_ids", image.put(struct.pack("<I", cpus)))
    image.name("__cpu_possible_mask", image.put(_words((1 << cpus) - 1)))
    for cpu, slot in enumerate(slots):
        if saved and cpu != 1:
            kernel.put(slot, cpu_note(kernel.arch, cpu))


def cpu_note(arch: Arch, cpu: int) -> bytes:
    """What a CPU saves, as far as the notes go."""
    desc = bytearray(arch.prstatus)
    struct.pack_into("<i", desc, 32, 100 + cpu)
    return pack_note(b"CORE", 1, bytes(desc))


def _told(kernel: DeadKernel) -> dict[str, str]:
    return dict(_iter_told(kernel))


def _iter_told(kernel: DeadKernel) -> Iterator[tuple[str, str]]:
    arch = kernel.arch
    yield "SYMBOL(swapper_pg_dir)", f"{arch.text + TABLES_AT:x}"
    if arch.number == X86.number:
        yield "NUMBER(pgtable_l5_enabled)", str(int(arch is X86_5))
        yield "NUMBER(phys_base)", str(kernel.base - (arch.text - 0xFFFFFFFF80000000))
        yield "KERNELOFFSET", f"{arch.text - 0xFFFFFFFF81000000:x}"
    if arch is ARM:
        yield "NUMBER(VA_BITS)", "48"
        yield "NUMBER(kimage_voffset)", f"0x{arch.text - kernel.base:x}"
        yield "NUMBER(PHYS_OFFSET)", f"0x{kernel.ram[0][0]:x}"
    if arch is RISCV:
        yield "NUMBER(VA_BITS)", "48"
        yield "NUMBER(va_kernel_pa_offset)", f"0x{arch.text - kernel.base:x}"
        yield "NUMBER(phys_ram_base)", f"0x{kernel.base:x}"


def virtual(blocks: dict[int, bytes | bytearray]) -> KernelMemory:
    """Virtual memory that has these bytes at these addresses, and nothing else."""

    def read(vaddr: int, size: int) -> bytes:
        for start, block in blocks.items():
            if start <= vaddr and vaddr + size <= start + len(block):
                return bytes(block[vaddr - start : vaddr - start + size])
        raise FaultError("memory", vaddr, size, "not mapped")

    return KernelMemory(read, "<", 8)
