"""iomem_resource by its content, where kallsyms has no data symbols."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.builders.kernels import ARM, GIB, MIB, RISCV, X86, Arch, DeadKernel, make_kernel
from tests.conftest import Opener
from vmcorefs.image import MemoryImage

LACKS = ["iomem_resource", "e820_table", "boot_params", "memblock"]


def read(kernel: DeadKernel, path: Path, open_capture: Opener) -> MemoryImage:
    start = 0 if kernel.arch is X86 else kernel.ram[0][0]
    return open_capture(kernel.save(path, [(start, 0, kernel.ram[-1][1] - start)])).image


def root_of(kernel: DeadKernel) -> bytes:
    """The node, as it lies in the image."""
    at = kernel.symbols["iomem_resource"] - kernel.arch.text + kernel.base
    (found,) = (
        data[at - paddr : at - paddr + 64]
        for paddr, data in kernel.chunks
        if paddr <= at < paddr + len(data)
    )
    return found


@pytest.mark.parametrize("lacks", [LACKS, [*LACKS, "_text", "_end"]], ids=["symbols", "no _end"])
@pytest.mark.parametrize(
    ("arch", "start"), [(X86, 0), (ARM, GIB), (RISCV, 2 * GIB)], ids=["x86-64", "arm64", "riscv64"]
)
def test_it_is_found_without_its_symbol(
    tmp_path: Path, open_capture: Opener, arch: Arch, start: int, lacks: list[str]
) -> None:
    kernel = make_kernel(
        arch, [(start + MIB, start + 64 * MIB)], base=start + 16 * MIB, lacks=lacks
    )
    image = read(kernel, tmp_path / "ram", open_capture)
    assert image.memory_map.dialect == "iomem_resource"
    assert image.memory_map.ram.tolist() == [[start + MIB, start + 64 * MIB]]


@pytest.mark.parametrize("at", [0x800, 0xFFFC0, 0x180000, 0x1FFFC0])
def test_it_is_found_wherever_it_is_in_the_image(
    tmp_path: Path, open_capture: Opener, at: int
) -> None:
    kernel = make_kernel(lacks=LACKS, base=16 * MIB)
    node = root_of(kernel)
    kernel.patch("iomem_resource", bytes(64))
    kernel.put(kernel.base + at, node)
    assert read(kernel, tmp_path / "ram", open_capture).memory_map.dialect == "iomem_resource"


@pytest.mark.parametrize("field", ["start", "name", "flags", "parent", "sibling", "child"])
def test_what_only_looks_like_it_is_passed_over(
    tmp_path: Path, open_capture: Opener, field: str
) -> None:
    kernel = make_kernel(lacks=LACKS)
    number = ("start", "end", "name", "flags", "desc", "parent", "sibling", "child").index(field)
    fake = list(struct.unpack("<8Q", root_of(kernel)))
    fake[number] = 0 if field == "child" else fake[number] + 1
    kernel.put(kernel.base + 0x800, struct.pack("<8Q", *fake))
    image = read(kernel, tmp_path / "ram", open_capture)
    assert image.memory_map.dialect == "iomem_resource"


@pytest.mark.parametrize("name", [None, 0x40], ids=["another name", "no name"])
def test_an_image_full_of_them_ends(tmp_path: Path, open_capture: Opener, name: int | None) -> None:
    kernel = make_kernel(lacks=[*LACKS, "PCI mem"])
    fake = list(struct.unpack("<8Q", root_of(kernel)))
    if name is not None:
        fake[2] = kernel.arch.text + name
    kernel.put(kernel.base + 0x180000, struct.pack("<8Q", *fake) * 0x1F00)
    image = read(kernel, tmp_path / "ram", open_capture)
    assert image.memory_map.dialect == "the direct map of the page tables"
    (found,) = (finding for finding in image.findings if finding.what == "memory map")
    assert found.against[0] == "no iomem_resource among 1024 candidates"
