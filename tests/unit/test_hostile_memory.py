"""Memory that lies to those who look for a kernel in it: several notes, wild tables, wild lists."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builders.dead_machines import vmcoreinfo_note
from tests.builders.kernels import (
    GIB,
    IMAGE_SIZE,
    LOW,
    MIB,
    NOTE_AT,
    TABLES_AT,
    X86,
    X86_RAM,
    DeadKernel,
    Span,
    make_kernel,
    split,
)
from tests.conftest import Opener
from tests.found import against, release, values
from tests.matching import exactly
from vmcorefs import ConfigError, TruncatedError, VmcorefsError

CRASH: Span = (32 * MIB, 40 * MIB)


# --- page tables -----------------------------------------------------------------------------


def all_entries(value: int) -> Callable[[DeadKernel], None]:
    def spoil(kernel: DeadKernel) -> None:
        tables = len(kernel.tables.memory)
        kernel.put(kernel.base + TABLES_AT, struct.pack("<Q", value) * (tables // 8))

    return spoil


def put_entries(*indices: int, value: int) -> Callable[[DeadKernel], None]:
    """Entries of the root."""

    def spoil(kernel: DeadKernel) -> None:
        for index in indices:
            kernel.put(kernel.base + TABLES_AT + 8 * index, struct.pack("<Q", value))

    return spoil


ROOT = 16 * MIB + TABLES_AT
LOST = {
    "all zeros": all_entries(0),
    "all ones": all_entries(2**64 - 1),
    "each names itself as a large page": all_entries(ROOT | 0xE7),
    "each out of range": all_entries(0xF_FFFF_FFFF_F067),
    "each behind the image": all_entries(64 * MIB | 0x67),
    "the image's root entry is torn": put_entries(511, value=0x12345678),
}


@pytest.mark.parametrize("spoil", LOST.values(), ids=LOST.keys())
def test_tables_that_lead_nowhere_end_in_a_report(
    tmp_path: Path, open_capture: Opener, spoil: Callable[[DeadKernel], None]
) -> None:
    kernel = make_kernel()
    spoil(kernel)
    ram = kernel.save(tmp_path / "ram")
    with pytest.raises(VmcorefsError, match=r"ram: no memory map is given, and ") as caught:
        open_capture(ram)
    assert "pass --map" in str(caught.value)


SPOILT = {
    # the kernel's image is at its place, and can be read without them
    "each names the root": all_entries(ROOT | 0x67),
    "loops": put_entries(*range(256, 273), *range(300, 511), value=ROOT | 0x67),
    "out of range": put_entries(*range(300, 511), value=0xF_FFFF_FFFF_F067),
    "all ones": put_entries(*range(300, 511), value=2**64 - 1),
    "behind the image": put_entries(300, value=64 * MIB | 0x67),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT.keys())
def test_tables_that_are_partly_wrong_are_objections(
    tmp_path: Path, open_capture: Opener, spoil: Callable[[DeadKernel], None]
) -> None:
    kernel = make_kernel()
    spoil(kernel)
    image = open_capture(kernel.save(tmp_path / "ram")).image
    assert image.memory_map.ram.tolist() == [list(span) for span in X86_RAM]
    assert against(image, "placement") != ()


@pytest.mark.parametrize("pieces", [False, True])
def test_a_root_that_is_not_aligned_does_not_end_the_mount(
    tmp_path: Path, open_capture: Opener, pieces: bool
) -> None:
    """It maps itself all the same: the entry for it stands 8 bytes further, in the next table."""
    liar = make_kernel()
    told = f"SYMBOL(swapper_pg_dir)={X86.text + TABLES_AT:x}\n".encode()
    assert told in liar.text
    lie = liar.text.replace(told, told.replace(b"0\n", b"8\n"))
    liar.put(ROOT + 4096, struct.pack("<Q", ROOT + 4096 | 0x67))
    liar.put(liar.base + NOTE_AT, vmcoreinfo_note(lie))
    kernel = make_kernel(base=40 * MIB, release="6.1.0-true")
    kernel.chunks = liar.chunks + kernel.chunks
    ram = kernel.save(tmp_path / "ram")
    image = open_capture([f"{ram}@0"] if pieces else ram).image
    assert release(image) == "6.1.0-true"
    (other,) = against(image, "VMCOREINFO")
    assert "0x1100008" in other


# --- what the kernel keeps of its memory -----------------------------------------------------


def node(start: int, last: int, name: int, sibling: int = 0, child: int = 0) -> bytes:
    return struct.pack("<8Q", start, last, name, 0, 0, 0, sibling, child)


def spoil_tree(kernel: DeadKernel, *nodes: bytes) -> None:
    """Other nodes below iomem_resource, in free memory behind the kernel, and two names."""
    kernel.put(FREE, b"".join(nodes))
    kernel.put(FREE + 0x1000, b"System RAM\0".ljust(64, b"\0") + b"\x1b[31mRAM\0")
    kernel.patch("iomem_resource", struct.pack("<Q", FIRST), 56)


FREE = 20 * MIB
FIRST = X86.direct + FREE
RAM_NAME, BAD_NAME = FIRST + 0x1000, FIRST + 0x1040
WILD = 0xDEADBEEF00000000

TREES: dict[str, tuple[list[bytes], str]] = {
    "a loop of siblings": ([node(MIB, 2 * MIB - 1, RAM_NAME, FIRST)], "iomem_resource: not a tree"),
    "a loop of children": (
        [node(MIB, 2 * MIB - 1, RAM_NAME, 0, FIRST)],
        "iomem_resource: not a tree",
    ),
    "a wild sibling": ([node(MIB, 2 * MIB - 1, RAM_NAME, WILD)], "page tables do not map"),
    "a wild name": ([node(MIB, 2 * MIB - 1, WILD)], "page tables do not map"),
    "a pointer to the end of 64 bits": (
        [node(MIB, 2 * MIB - 1, RAM_NAME, 2**64 - 8)],
        "no address space holds",
    ),
    "an unprintable name": ([node(MIB, 2 * MIB - 1, BAD_NAME)], "a name is b'\\x1b[31mRAM'"),
    "siblings that overlap": (
        [node(MIB, 4 * MIB - 1, RAM_NAME, FIRST + 64), node(2 * MIB, 5 * MIB, RAM_NAME)],
        "overlaps System RAM",
    ),
    "no RAM": ([node(MIB, 2 * MIB - 1, 0)], "none of which is System RAM"),
    "all of 64 bits": ([node(0, 2**64 - 1, RAM_NAME)], "ends beyond"),
    "nothing": ([node(0, 0, 0)], "every address is 0"),
}


@pytest.mark.parametrize("tree", TREES)
def test_a_wild_tree_is_refused_with_a_reason_and_the_next_map_is_taken(
    tmp_path: Path, open_capture: Opener, tree: str
) -> None:
    nodes, reason = TREES[tree]
    kernel = make_kernel(crash_kernel=CRASH)
    spoil_tree(kernel, *nodes)
    image = open_capture(kernel.save(tmp_path / "ram")).image
    assert image.memory_map.dialect == "e820_table"
    assert image.memory_map.ram.tolist() == [list(span) for span in X86_RAM]
    assert image.memory_map.crash_kernel.tolist() == [list(CRASH)]
    (refused,) = against(image, "memory map")
    assert reason in refused


@pytest.mark.parametrize("count", [0, 3201, 2**32 - 1])
def test_an_absurd_count_of_e820_entries(tmp_path: Path, open_capture: Opener, count: int) -> None:
    kernel = make_kernel(lacks=["iomem_resource", "PCI mem", "memblock"])
    kernel.put(FREE, struct.pack("<I", count))
    kernel.patch("e820_table", struct.pack("<Q", FIRST))
    kernel.patch("boot_params", b"\xff", 0x1E8)
    image = open_capture(kernel.save(tmp_path / "ram")).image
    assert against(image, "memory map") == (
        "no iomem_resource in the kernel's image",
        f"e820_table: {count} entries, expected 1 to 3200",
        "boot_params: 255 e820 entries, expected 1 to 128",
        "kallsyms: no memblock",
        "VMCOREINFO: SIZE(mem_section) is None, expected a number",
    )
    assert image.memory_map.ram.tolist() == [[0x1000, 0x9F000], [MIB, 64 * MIB]]


@pytest.mark.parametrize(
    "span", [(0, 2**64 - 1), (2**63, 2**63 + 4096), (2**62, 2**63), (1 << 50, 1 << 51)]
)
def test_an_absurd_crash_kernel(tmp_path: Path, open_capture: Opener, span: Span) -> None:
    kernel = make_kernel(lacks=["iomem_resource", "PCI mem"])
    kernel.patch("crashk_res", struct.pack("<QQ", *span))
    image = open_capture(kernel.save(tmp_path / "ram")).image
    assert len(image.memory_map.crash_kernel) == 0


@pytest.mark.parametrize(
    "moved",
    [
        {"_end": 2**64 - 1},
        {"_end": X86.text + 512 * MIB},
        {"_end": X86.text},
        {"_text": X86.text + IMAGE_SIZE},
        {"_text": X86.text, "_end": X86.text - 1 & ~1},
    ],
    ids=["the end of 64 bits", "behind RAM", "nothing", "nothing at its end", "less than nothing"],
)
def test_an_image_of_the_kernel_that_cannot_be(
    tmp_path: Path, open_capture: Opener, moved: dict[str, int]
) -> None:
    image = open_capture(make_kernel(moved=moved).save(tmp_path / "ram")).image
    assert image.memory_map.ram.tolist() == [list(span) for span in X86_RAM]
    assert (image.plan.elfcorehdr.loads["p_vaddr"] < X86.text).all()


def test_an_image_of_the_kernel_without_symbols_is_what_is_mapped(
    tmp_path: Path, open_capture: Opener
) -> None:
    image = open_capture(make_kernel(lacks=["_end"]).save(tmp_path / "ram")).image
    load = image.plan.elfcorehdr.loads[0]
    assert (load["p_vaddr"], load["p_paddr"], load["p_memsz"]) == (X86.text, 16 * MIB, IMAGE_SIZE)


@pytest.mark.parametrize(
    ("symbol", "data", "reason"),
    [
        ("nr_cpu_ids", b"\xff" * 4, "nr_cpu_ids is 4294967295, expected 1 to 8192"),
        ("__cpu_possible_mask", bytes(8), "__cpu_possible_mask is empty"),
        ("crash_notes", bytes(8), "crash_notes is NULL"),
        ("crash_notes", b"\x11" * 8, "crash_notes is at addresses that are not mapped"),
        ("__per_cpu_offset", b"\x11" * 8, "crash_notes is at addresses that are not mapped"),
    ],
)
def test_wild_crash_notes_are_left_out_with_a_reason(
    tmp_path: Path, open_capture: Opener, symbol: str, data: bytes, reason: str
) -> None:
    kernel = make_kernel()
    kernel.patch(symbol, data)
    image = open_capture(kernel.save(tmp_path / "ram")).image
    assert image.warnings == (f"no CPU's crash notes: {reason}",)
    assert release(image) == "6.1.0-test"


@pytest.mark.parametrize("filling", [b"\xff", b"\x01", b"System RAM\0 "])
@pytest.mark.parametrize("at", range(0, IMAGE_SIZE, 0x40000))
def test_an_image_that_is_overwritten(
    tmp_path: Path, open_capture: Opener, filling: bytes, at: int
) -> None:
    kernel = make_kernel()
    kernel.put(kernel.base + at, filling * (0x40000 // len(filling)))
    ram = kernel.save(tmp_path / "ram")
    if at == TABLES_AT:
        with pytest.raises(ConfigError, match=r"ram: no memory map is given, and the kernel 6\.1"):
            open_capture(ram)
        return
    assert open_capture(ram).image.memory_map.ram.tolist()[-1] == [MIB, 64 * MIB]


# --- RAM is missing --------------------------------------------------------------------------


def cut(path: Path, size: int) -> Path:
    with path.open("rb+") as file:
        file.truncate(size)
    return path


@pytest.mark.parametrize("size", [63 * MIB, 64 * MIB - 4096, 40 * MIB + 5])
def test_an_image_that_ends_early_names_what_is_missing(
    tmp_path: Path, open_capture: Opener, size: int
) -> None:
    ram = cut(make_kernel().save(tmp_path / "ram"), size)
    with pytest.raises(TruncatedError, match=rf"of RAM are in no input, first \[{size:#x}, 0x4000"):
        open_capture(ram)
    image = open_capture(ram, truncated=True).image
    assert image.missing.tolist() == [[size, 64 * MIB]]
    assert values(image)["placement"] == "flat: offset is physical address"
    assert any("of the kernel's RAM are not in the image" in s for s in against(image, "placement"))


def test_a_split_image_that_ends_early_names_what_is_missing(
    tmp_path: Path, open_capture: Opener
) -> None:
    kernel = make_kernel(ram=[LOW, (MIB, 2 * GIB), (4 * GIB, 5 * GIB)])
    ram = cut(kernel.save(tmp_path / "ram", split(2 * GIB, 5 * GIB)), 5 * GIB // 2)
    with pytest.raises(
        TruncatedError,
        match=exactly(
            f"{ram}: 2684354560 bytes, but the memory map ends at 0x140000000 (5368709120 bytes);"
            " 512 MiB of RAM are in no input, first [0x120000000, 0x140000000); pass --truncated to"
            " serve the rest, with EIO for what is missing"
        ),
    ):
        open_capture(ram)
    image = open_capture(ram, truncated=True).image
    assert image.captured.start.tolist() == [0, 4 * GIB]
    assert image.captured.offset.tolist() == [0, 2 * GIB]


def test_an_image_that_ends_within_the_kernel(tmp_path: Path, open_capture: Opener) -> None:
    kernel = make_kernel()
    ram = cut(kernel.save(tmp_path / "ram"), kernel.base + TABLES_AT + 4096)
    with pytest.raises(ConfigError, match="no VMCOREINFO note and no elfcorehdr was found in it"):
        open_capture(ram)


def test_a_map_that_is_given_counts_and_the_placement_is_found_all_the_same(
    tmp_path: Path, open_capture: Opener
) -> None:
    kernel = make_kernel()
    ram = kernel.save(tmp_path / "ram", kernel.concatenated())
    iomem = tmp_path / "iomem"
    iomem.write_text("00001000-0009fbff : System RAM\n00100000-03ffffff : System RAM\n")
    image = open_capture(ram, memory_map=iomem).image
    assert image.captured.start.tolist() == [0x1000, MIB]
    assert release(image) == "6.1.0-test"
