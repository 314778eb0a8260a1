"""Captures that are good, and where in their files something is read that the image says."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import vmcorefs
from tests.builders.dead_machines import ELFCOREHDR, VMCOREINFO, dead_machine
from tests.builders.kernels import (
    ARM,
    GIB,
    KALLSYMS_AT,
    LOW,
    MIB,
    NOTE_AT,
    RISCV,
    TABLES_AT,
    X86,
    X86_5,
    DeadKernel,
    Placed,
    make_kernel,
    split,
)

IMAGE: Final = "ram"
DESCRIPTION: Final = "capture.toml"


@dataclass(frozen=True)
class Spot:
    """A place in a file of a capture that some parser reads.

    Attributes:
        what: For people: ``VMCOREINFO``, ``page tables`` ...
        file: The file's name in the capture's directory.
        offset: Where it starts, in bytes.
        size: Bytes; 0 for a text file as a whole.
    """

    what: str
    file: str
    offset: int = 0
    size: int = 0


@dataclass(frozen=True)
class Base:
    """A capture in a directory of its own, to be changed and restored.

    Attributes:
        name: For people.
        directory: Holds ``ram``, ``capture.toml``, and what that names.
        spots: What is worth changing.
        is_packed: Whether the image holds its memory compressed or in pieces: what it should give
            cannot be read from it at an offset.
    """

    name: str
    directory: Path
    spots: tuple[Spot, ...]
    is_packed: bool = False

    @property
    def description(self) -> Path:
        return self.directory / DESCRIPTION


def make_bases(directory: Path) -> Iterator[Base]:
    """Write every capture that is made by hand; each is sparse and small."""
    crash = (32 * MIB, 40 * MIB)
    arm_ram = [(GIB, GIB + 64 * MIB)]
    riscv_ram = [(2 * GIB, 2 * GIB + 64 * MIB)]
    far = [LOW, (MIB, 2 * GIB), (4 * GIB, 5 * GIB)]
    firmware = ["iomem_resource", "PCI mem"]
    tables = [*firmware, "e820_table", "boot_params"]
    yield _kernel_base(directory / "x86", make_kernel(crash_kernel=crash))
    yield _kernel_base(directory / "x86-57", make_kernel(X86_5))
    yield _kernel_base(directory / "e820", make_kernel(lacks=firmware))
    yield _kernel_base(directory / "memblock", make_kernel(X86, lacks=tables))
    yield _kernel_base(directory / "split", make_kernel(ram=far), split(2 * GIB, 5 * GIB))
    arm = make_kernel(ARM, arm_ram, base=GIB + 16 * MIB)
    yield _kernel_base(directory / "arm64", arm, arm.concatenated())
    riscv = make_kernel(RISCV, riscv_ram, base=2 * GIB + 16 * MIB)
    yield _kernel_base(directory / "riscv64", riscv, riscv.concatenated())
    kexec = _kexec_base(directory / "kexec")
    yield kexec
    yield _dump_base(directory / "elf-dump", kexec)
    yield save_base(directory / "kdump", kexec, "kdump")
    yield save_base(directory / "flattened", kexec, "flattened")


def _kernel_base(directory: Path, kernel: DeadKernel, placed: Sequence[Placed] = ()) -> Base:
    directory.mkdir()
    kernel.save(directory / IMAGE, placed or None)
    (directory / DESCRIPTION).write_text(f'[[image]]\npath = "{IMAGE}"\n')
    rows = placed or [(0, 0, kernel.ram[-1][1])]

    def spot(what: str, paddr: int, size: int) -> Spot:
        start, offset, _ = next(row for row in rows if row[0] <= paddr < row[0] + row[2])
        return Spot(what, IMAGE, offset + paddr - start, size)

    base = kernel.base
    tables = len(kernel.tables.memory)
    found = [
        spot("VMCOREINFO", base + NOTE_AT, len(kernel.text) + 24),
        spot("page table root", base + TABLES_AT, 4096),
        spot("page tables", base + TABLES_AT, tables),
        spot("kallsyms", base + KALLSYMS_AT, 4096),
        *(
            spot(name, base + vaddr - kernel.arch.text, 128)
            for name, vaddr in kernel.symbols.items()
            if base <= base + vaddr - kernel.arch.text < base + 2 * MIB
        ),
        *(spot("crash notes", paddr, 400) for paddr, _ in kernel.chunks[5:] if paddr > base),
    ]
    return Base(directory.name, directory, (*found, Spot("description", DESCRIPTION)))


def _kexec_base(directory: Path) -> Base:
    """A crash kernel loaded by kexec-tools: an elfcorehdr, a backup, a map that is given."""
    directory.mkdir()
    machine = dead_machine()
    machine.save(directory)
    (directory / DESCRIPTION).write_text(
        f'map = "iomem"\n[[image]]\npath = "{IMAGE}"\n[backup]\npath = "lowmem"\npaddr = 0x1000\n'
    )
    spots = (
        Spot("elfcorehdr", IMAGE, ELFCOREHDR, len(machine.elfcorehdr)),
        Spot("elfcorehdr", IMAGE, ELFCOREHDR, 64),
        Spot("CPU notes", IMAGE, 0x110000, 3 * 512),
        Spot("VMCOREINFO", IMAGE, VMCOREINFO, 200),
        Spot("memory map", "iomem"),
        Spot("memory map", "iomem"),
        Spot("description", DESCRIPTION),
    )
    return Base(directory.name, directory, spots)


def _dump_base(directory: Path, capture: Base) -> Base:
    """The vmcore of another capture as an image of its own: headers and notes, then memory."""
    directory.mkdir()
    with vmcorefs.open(capture.description) as opened:
        vmcore = opened["vmcore"]
        (directory / IMAGE).write_bytes(vmcore.pread(vmcore.size, 0))
        notes = opened["crash_notes"].size
    (directory / DESCRIPTION).write_text(f'[[image]]\npath = "{IMAGE}"\n')
    spots = (
        Spot("ELF header", IMAGE, 0, 64),
        Spot("program headers", IMAGE, 64, 56 * 6),
        Spot("program headers", IMAGE, 64, 56 * 6),
        Spot("notes", IMAGE, 4096, notes),
        Spot("description", DESCRIPTION),
    )
    return Base(directory.name, directory, spots)


def save_base(directory: Path, capture: Base, form: str) -> Base:
    """What ``vmcorefs save`` makes of another capture: headers, bitmaps, descriptors, pages."""
    directory.mkdir()
    image = directory / IMAGE
    subprocess.run(
        [sys.executable, "-m", "vmcorefs", "save", "-d", "0", "--threads", "1",
         "--format", form, "-o", str(image), str(capture.description)],
        check=True, capture_output=True,
    )  # fmt: skip
    (directory / DESCRIPTION).write_text(f'[[image]]\npath = "{IMAGE}"\n')
    with image.open("rb") as file:
        head = file.read(1 << 20)
    start = head.index(b"KDUMP   ")
    # struct disk_dump_header of 64 bits: block_size, sub_hdr_size, bitmap_blocks at 428
    block, sub, bitmaps = struct.unpack_from("<iiI", head, start + 428)
    descriptors = (1 + sub + bitmaps) * block
    spots = [
        Spot("kdump header", IMAGE, start, 464),
        Spot("kdump header", IMAGE, start + 404, 60),
    ]
    if form == "kdump":
        spots += [
            Spot("kdump sub header", IMAGE, block, 104),
            Spot("kdump notes", IMAGE, block + 104, 1024),
            Spot("kdump bitmaps", IMAGE, (1 + sub) * block, bitmaps * block),
            Spot("kdump descriptors", IMAGE, descriptors, 24 * 600),
            Spot("kdump pages", IMAGE, descriptors + 24 * 800, 1 << 16),
        ]
    else:
        spots += [Spot("records", IMAGE, 4096, 16), Spot("records", IMAGE, 4096, 1 << 16)]
    return Base(directory.name, directory, tuple(spots), is_packed=True)


def copy_base(directory: Path, capture: Path) -> Base:
    """Copy a real capture, and find in it what is read of it, by vmcorefs itself.

    Args:
        directory: To be made.
        capture: As ``tests.lab.capture`` leaves it.
    """
    from tests.mutants.aim import iter_spots  # noqa: PLC0415  # only where there are real ones

    directory.mkdir()
    for name in (IMAGE, DESCRIPTION, "iomem", "lowmem"):
        if (capture / name).exists():
            subprocess.run(
                ["cp", "--sparse=always", "--", str(capture / name), str(directory / name)],
                check=True,
            )
    texts = [Spot("description", DESCRIPTION), Spot("memory map", "iomem")]
    spots = (*texts, *iter_spots(directory / DESCRIPTION))
    name = "-".join(capture.name.split("-")[:-1])
    return Base(name, directory, spots)


def drop_map(base: Base, directory: Path) -> Base:
    """The same capture with nothing given: no map, so that all is found in the memory."""
    directory.mkdir()
    for name in (IMAGE, "lowmem"):
        if (base.directory / name).exists():
            (directory / name).hardlink_to(base.directory / name)
    text = base.description.read_text().replace('map = "iomem"\n', "")
    (directory / DESCRIPTION).write_text(text)
    spots = tuple(spot for spot in base.spots if spot.file != "iomem")
    return Base(f"{base.name}, no map", directory, spots)


def remove(directory: Path) -> None:
    """Remove what was made here."""
    shutil.rmtree(directory, ignore_errors=True)


def read_words(data: bytes) -> tuple[int, ...]:
    """Little-endian words of 8 bytes."""
    count = len(data) // 8
    return struct.unpack(f"<{count}Q", data[: 8 * count])
