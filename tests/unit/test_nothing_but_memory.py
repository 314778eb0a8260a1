"""``vmcorefs.open("ram")`` and nothing else: what people mount, however the memory was saved."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

import vmcorefs.api
import vmcorefs.config
from tests.builders.dead_machines import (
    CRASH_TIME,
    Flavour,
    load_phdr,
    note_phdr,
    pack_elf,
    vmcoreinfo_note,
    vmcoreinfo_text,
)
from tests.builders.kernels import (
    ARM,
    CPUS_AT,
    GIB,
    IMAGE_SIZE,
    LOW,
    MIB,
    NOTE_AT,
    RISCV,
    X86,
    X86_5,
    X86_RAM,
    Arch,
    DeadKernel,
    Placed,
    Span,
    cpu_note,
    fake_text,
    make_kernel,
    split,
    start_cpus,
)
from tests.conftest import Opener
from vmcorefs import Capture, CaptureConfig, ConfigError, LayoutError, Piece
from vmcorefs.sources.file import FileSource

SPLIT_RAM: tuple[Span, ...] = (LOW, (MIB, 2 * GIB), (4 * GIB, 5 * GIB))
CRASH: Span = (32 * MIB, 40 * MIB)


def loads(capture: Capture) -> list[tuple[int, int, int, int]]:
    """p_paddr, p_memsz, p_vaddr, p_offset of the vmcore's PT_LOADs, unpacked by hand."""
    vmcore = capture["vmcore"]
    count = struct.unpack_from("<H", vmcore.pread(64, 0), 56)[0]
    rows = [struct.unpack("<IIQQQQQQ", vmcore.pread(56, 64 + 56 * n)) for n in range(count)]
    assert rows[0][0] == 4
    return [(row[4], row[6], row[3], row[2]) for row in rows[1:]]


def word_at(capture: Capture, paddr: int) -> int:
    for start, size, _, offset in reversed(loads(capture)):
        if start <= paddr < start + size:
            return int.from_bytes(capture["vmcore"].pread(8, offset + paddr - start), "little")
    raise AssertionError(hex(paddr))


def check(capture: Capture, kernel: DeadKernel) -> None:
    """The vmcore is that of the kernel: RAM, its edges, addresses, the image and the notes."""
    image = capture.image
    assert image.memory_map.ram.tolist() == [list(span) for span in kernel.ram]
    assert image.warnings == ()
    arch = kernel.arch
    text, *ram = loads(capture)
    assert text[:3] == (kernel.base, IMAGE_SIZE, arch.text)
    assert [row[:3] for row in ram] == [
        (start, end - start, (kernel.distance + start) % (1 << 64)) for start, end in kernel.ram
    ]
    for start, end in kernel.ram:
        assert word_at(capture, start) == start
        assert word_at(capture, end - 8) == end - 8
    notes = cpu_note(arch, 0) + cpu_note(arch, 2) + vmcoreinfo_note(kernel.text)
    assert capture["crash_notes"].pread(len(notes), 0) == notes
    assert capture["crash_notes"].size == len(notes)
    assert [slot.start for slot in image.notes.slots] == [
        kernel.base + at for at in (CPUS_AT, CPUS_AT + 512, CPUS_AT + 1024, NOTE_AT)
    ]
    assert image.time == CRASH_TIME
    assert image.plan.elfcorehdr.header.e_machine == arch.number


WAYS: dict[str, tuple[DeadKernel, list[Placed] | None]] = {
    "flat": (make_kernel(), None),
    "flat, 5 levels": (make_kernel(X86_5), None),
    "5 GiB flat": (make_kernel(ram=SPLIT_RAM), None),
    "arm64 from 1 GiB": (make_kernel(ARM, [(GIB, 2 * GIB)], base=GIB + 4 * MIB), [(GIB, 0, GIB)]),
    "riscv64 from 2 GiB": (
        make_kernel(RISCV, [(2 * GIB, 3 * GIB)], base=2 * GIB + 2 * MIB),
        [(2 * GIB, 0, GIB)],
    ),
    "arm64 from an odd place": (
        make_kernel(ARM, [(7 * MIB, 71 * MIB)], base=8 * MIB),
        [(7 * MIB, 0, 64 * MIB)],
    ),
    "arm64, two banks concatenated": (
        make_kernel(ARM, [(GIB, GIB + 64 * MIB), (3 * GIB, 4 * GIB)], base=3 * GIB + 6 * MIB),
        [(GIB, 0, 64 * MIB), (3 * GIB, 64 * MIB, GIB)],
    ),
    "split": (make_kernel(ram=SPLIT_RAM), split(2 * GIB, 5 * GIB)),
    "split, kernel above 4 GiB": (
        make_kernel(ram=SPLIT_RAM, base=4 * GIB + 64 * MIB),
        split(2 * GIB, 5 * GIB),
    ),
    "split, kernel at 4 GiB": (
        make_kernel(ram=SPLIT_RAM, base=4 * GIB),
        split(2 * GIB, 5 * GIB),
    ),
    "an unusual split": (
        make_kernel(ram=(LOW, (MIB, 0xBFFDE000), (4 * GIB, 5 * GIB))),
        split(0xC0000000, 5 * GIB),
    ),
    "concatenated": (make_kernel(), make_kernel().concatenated()),
    "concatenated, odd edges": (
        make_kernel(
            ram=[LOW, (MIB, 20 * MIB + 0x5400), (21 * MIB, 64 * MIB + 0xC00), (5 * GIB, 6 * GIB)],
            base=30 * MIB,
        ),
        [
            (0x1000, 0, 0x9EC00),
            (MIB, 0x9EC00, 19 * MIB + 0x5400),
            (21 * MIB, 19 * MIB + 0xA4000, 43 * MIB + 0xC00),
            (5 * GIB, 62 * MIB + 0xA4C00, GIB),
        ],
    ),
    "concatenated, kernel above 4 GiB": (
        make_kernel(ram=SPLIT_RAM, base=4 * GIB + 2 * MIB),
        make_kernel(ram=SPLIT_RAM).concatenated(),
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_it_is_placed_by_what_it_holds(tmp_path: Path, open_capture: Opener, way: str) -> None:
    kernel, placed = WAYS[way]
    check(open_capture(kernel.save(tmp_path / "ram", placed)), kernel)


@pytest.mark.parametrize("skip", [32, 4096, 12345])
def test_a_file_with_a_header_in_front(tmp_path: Path, open_capture: Opener, skip: int) -> None:
    kernel = make_kernel()
    kernel.save(tmp_path / "ram", skip=skip)
    toml = tmp_path / "capture.toml"
    toml.write_text(f'[[image]]\npath = "ram"\noffset = {skip}\n')
    check(open_capture(toml), kernel)


def test_a_file_with_something_behind_the_memory_too(tmp_path: Path, open_capture: Opener) -> None:
    kernel = make_kernel()
    ram = kernel.save(tmp_path / "ram", kernel.concatenated(), skip=4096)
    size = ram.stat().st_size - 4096
    with ram.open("ab") as file:
        file.write(vmcoreinfo_note(fake_text(1)).ljust(1 << 20, b"\xff"))
    toml = tmp_path / "capture.toml"
    toml.write_text(f'[[image]]\npath = "ram"\noffset = 4096\nsize = {size}\n')
    check(open_capture(toml), kernel)


def test_pieces_in_their_places_are_left_there(tmp_path: Path, open_capture: Opener) -> None:
    kernel = make_kernel(ram=SPLIT_RAM)
    ram = kernel.save(tmp_path / "ram", split(2 * GIB, 5 * GIB))
    check(open_capture([f"{ram}@0+2G", f"{ram}@4G:2G"]), kernel)


MAPS: dict[str, tuple[Arch, list[str], str]] = {
    "iomem_resource": (X86, [], "iomem_resource"),
    "e820_table": (X86, ["iomem_resource", "PCI mem"], "e820_table"),
    "boot_params": (X86, ["iomem_resource", "PCI mem", "e820_table"], "boot_params' e820 table"),
    "memblock": (ARM, ["iomem_resource", "PCI mem", "e820_table", "boot_params"], "memblock"),
    "page tables": (
        ARM,
        ["iomem_resource", "PCI mem", "e820_table", "boot_params", "memblock"],
        "the direct map of the page tables",
    ),
}


@pytest.mark.parametrize("way", MAPS)
def test_the_map_is_the_best_that_the_kernel_keeps(
    tmp_path: Path, open_capture: Opener, way: str
) -> None:
    arch, lacks, dialect = MAPS[way]
    ram: list[Span] = [(MIB, 64 * MIB)]
    kernel = make_kernel(arch, ram, lacks=lacks, crash_kernel=CRASH)
    memory_map = open_capture(kernel.save(tmp_path / "ram")).image.memory_map
    assert memory_map.dialect == dialect
    assert memory_map.ram.tolist() == [list(span) for span in ram]
    known = [] if way == "page tables" else [list(CRASH)]
    assert memory_map.crash_kernel.tolist() == known


def test_the_crash_kernel_is_not_in_the_vmcore(tmp_path: Path, open_capture: Opener) -> None:
    kernel = make_kernel(crash_kernel=CRASH)
    capture = open_capture(kernel.save(tmp_path / "ram"))
    assert [row[:2] for row in loads(capture)[1:]] == [
        (0x1000, 0x9EC00),
        (MIB, 31 * MIB),
        (40 * MIB, 24 * MIB),
    ]


def test_an_image_taken_before_any_crash(tmp_path: Path, open_capture: Opener) -> None:
    kernel = make_kernel(crashed=False)
    capture = open_capture(kernel.save(tmp_path / "ram"))
    assert capture["crash_notes"].size == len(vmcoreinfo_note(kernel.text))
    assert capture.image.notes.vmcoreinfo is not None


def test_a_kernel_without_crash_notes_says_why_there_are_none(
    tmp_path: Path, open_capture: Opener
) -> None:
    kernel = make_kernel(lacks=["crash_notes"])
    image = open_capture(kernel.save(tmp_path / "ram")).image
    assert image.warnings == ("no CPU's crash notes: kallsyms: no crash_notes",)
    assert [slot.start for slot in image.notes.slots] == [kernel.base + NOTE_AT]


def test_a_loaded_crash_kernels_elfcorehdr_is_used(tmp_path: Path, open_capture: Opener) -> None:
    kernel = make_kernel(crash_kernel=CRASH)
    elfcorehdr = pack_elf(
        [
            note_phdr(kernel.base + CPUS_AT, 368),
            note_phdr(kernel.base + NOTE_AT, 4132),
            load_phdr(*LOW),
            load_phdr(MIB, CRASH[0]),
            load_phdr(CRASH[1], 64 * MIB),
        ]
    )
    kernel.put(CRASH[1] - MIB, elfcorehdr)
    image = open_capture(kernel.save(tmp_path / "ram")).image
    assert image.plan.paddr == CRASH[1] - MIB
    assert image.memory_map.dialect == "iomem_resource"
    assert len(image.notes.slots) == 2


def _plan(kernel: DeadKernel, notes: int) -> bytes:
    return pack_elf(
        [
            *(note_phdr(kernel.base + CPUS_AT, 368) for _ in range(notes)),
            load_phdr(*LOW),
            load_phdr(MIB, CRASH[0]),
            load_phdr(CRASH[1], 64 * MIB),
        ]
    )


@pytest.mark.parametrize("scans", [False, True], ids=["as it is mounted", "as it is checked"])
def test_of_several_elfcorehdrs_the_one_counts_that_the_kernel_has_loaded(
    tmp_path: Path, scans: bool
) -> None:
    loaded = CRASH[0] + 2 * MIB
    kernel = make_kernel(crash_kernel=CRASH, loaded=[CRASH[0], CRASH[0] + 0x5000, loaded])
    kernel.put(CRASH[1] - MIB, _plan(kernel, 1))
    kernel.put(loaded, _plan(kernel, 2))
    config = vmcorefs.config.make_config([kernel.save(tmp_path / "ram")])
    with vmcorefs.api.open_capture(config, thorough=scans) as capture:
        assert capture.image.plan.paddr == loaded
        assert capture.image.warnings == ()


@pytest.mark.parametrize(
    "segments",
    [None, [CRASH[0]], [CRASH[1], 16 * MIB]],
    ids=["not told", "another", "elsewhere"],
)
def test_an_elfcorehdr_that_the_kernel_does_not_lead_to_is_searched_for(
    tmp_path: Path, open_capture: Opener, segments: list[int] | None
) -> None:
    kernel = make_kernel(crash_kernel=CRASH, loaded=segments)
    kernel.put(CRASH[1], _plan(kernel, 1))  # outside of the crash kernel's memory
    kernel.put(CRASH[1] - MIB, _plan(kernel, 2))
    image = open_capture(kernel.save(tmp_path / "ram")).image
    assert image.plan.paddr == CRASH[1] - MIB


@pytest.mark.parametrize("crash_kernel", [None, CRASH], ids=["no room", "room"])
def test_where_the_kernel_has_loaded_none_nothing_is_searched_for(
    tmp_path: Path, open_capture: Opener, crash_kernel: Span | None
) -> None:
    kernel = make_kernel(crash_kernel=crash_kernel, loaded=[])
    start_cpus(kernel)
    kernel.put(CRASH[1] - MIB, _plan(kernel, 2))
    image = open_capture(kernel.save(tmp_path / "ram")).image
    assert image.plan.is_built
    assert len(image.notes.slots) == 4


def test_an_elfcorehdr_alone_is_a_map_too(tmp_path: Path, open_capture: Opener) -> None:
    kernel = DeadKernel(X86, X86_RAM, 16 * MIB)
    kernel.put(20 * MIB, vmcoreinfo_note(vmcoreinfo_text()))
    kernel.put(
        CRASH[0],
        pack_elf(
            [note_phdr(20 * MIB, 4132), load_phdr(MIB, CRASH[0]), load_phdr(CRASH[1], 64 * MIB)]
        ),
    )
    image = open_capture(kernel.save(tmp_path / "ram"), use_vmcoreinfo=False).image
    assert image.plan.paddr == CRASH[0]
    assert image.memory_map.dialect == "the elfcorehdr in the image"
    assert image.memory_map.ram.tolist() == [[MIB, 64 * MIB]]
    assert image.memory_map.crash_kernel.tolist() == [list(CRASH)]


@pytest.mark.parametrize("low", [2 * GIB, 3 * GIB, 7 * GIB // 2])
def test_an_elfcorehdr_alone_tells_a_split_too(
    tmp_path: Path, open_capture: Opener, low: int
) -> None:
    ram: tuple[Span, ...] = ((MIB, CRASH[0]), (CRASH[1], low), (4 * GIB, 5 * GIB))
    kernel = DeadKernel(X86, ram, 16 * MIB)
    note = 4 * GIB + MIB
    kernel.put(note, vmcoreinfo_note(vmcoreinfo_text()))
    phdrs = [note_phdr(note, 4132), *(load_phdr(*span) for span in ram)]
    kernel.put(CRASH[0], pack_elf(phdrs))
    ram_file = kernel.save(tmp_path / "ram", split(low, 5 * GIB))
    image = open_capture(ram_file, use_vmcoreinfo=False).image
    assert image.memory_map.ram.tolist() == [[MIB, low], [4 * GIB, 5 * GIB]]
    assert image.notes.vmcoreinfo is not None


def test_a_kernel_before_6_0_tells_no_symbols(tmp_path: Path, open_capture: Opener) -> None:
    kernel = make_kernel(told={"SYMBOL(kallsyms_names)": ""})
    image = open_capture(kernel.save(tmp_path / "ram")).image
    assert image.memory_map.dialect == "iomem_resource"
    assert image.memory_map.ram.tolist() == [list(span) for span in X86_RAM]
    assert [slot.start for slot in image.notes.slots] == [kernel.base + NOTE_AT]
    (warning,) = image.warnings
    assert warning.startswith("no CPU's crash notes: VMCOREINFO: SYMBOL(kallsyms_names) is None")


# --- what it costs ---------------------------------------------------------------------------


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of each read of an input."""
    counts: list[int] = []
    pread_into = FileSource.pread_into

    def counting(self: FileSource, offset: int, buffer: memoryview) -> None:
        counts.append(len(buffer))
        pread_into(self, offset, buffer)

    monkeypatch.setattr(FileSource, "pread_into", counting)
    return counts


def fill(kernel: DeadKernel) -> None:
    """All memory but the kernel's own, so that there are no holes."""
    kernel.chunks[:0] = [(0, b"\x55" * (16 * MIB)), (20 * MIB, b"\x55" * (44 * MIB))]


def test_memory_is_looked_through_once(
    tmp_path: Path, open_capture: Opener, reads: list[int]
) -> None:
    kernel = make_kernel()
    fill(kernel)
    kernel.put(MIB, vmcoreinfo_note(fake_text(1, crashed=False)))
    open_capture(kernel.save(tmp_path / "ram"))
    assert sum(reads) < 64 * MIB * 1.1


def test_memory_is_not_looked_through_where_a_map_and_an_elfcorehdr_tell_all(
    tmp_path: Path, open_capture: Opener, reads: list[int]
) -> None:
    kernel = make_kernel(crash_kernel=CRASH)
    fill(kernel)
    phdrs = [
        note_phdr(kernel.base + NOTE_AT, 4132),
        load_phdr(MIB, CRASH[0]),
        load_phdr(CRASH[1], 64 * MIB),
    ]
    kernel.put(CRASH[0], pack_elf(phdrs))
    iomem = tmp_path / "iomem"
    iomem.write_text("00100000-03ffffff : System RAM\n  02000000-027fffff : Crash kernel\n")
    capture = open_capture(kernel.save(tmp_path / "ram"), memory_map=iomem)
    assert capture.image.plan.paddr == CRASH[0]
    assert sum(reads) < (CRASH[1] - CRASH[0]) * 1.5


@pytest.mark.parametrize("machine", ["ppc64", "loongarch64"])
def test_a_machine_whose_page_tables_nobody_walks_keeps_its_vmcoreinfo(
    tmp_path: Path, open_capture: Opener, machine: str
) -> None:
    kernel = make_kernel()
    iomem = tmp_path / "iomem"
    iomem.write_text("00001000-0009fbff : System RAM\n00100000-03ffffff : System RAM\n")
    ram = kernel.save(tmp_path / "ram")
    image = open_capture(ram, memory_map=iomem, machine=machine).image
    assert image.notes.vmcoreinfo is not None
    assert image.notes.vmcoreinfo.text == kernel.text
    with pytest.raises(ConfigError, match="cannot walk its page tables"):
        open_capture(ram, machine=machine)


def test_a_map_under_which_the_page_tables_do_not_resolve_is_refused(
    tmp_path: Path, open_capture: Opener
) -> None:
    kernel = make_kernel(ARM, [(GIB, GIB + 64 * MIB)], base=GIB + 16 * MIB)
    ram = kernel.save(tmp_path / "ram", [(GIB, 0, 64 * MIB)])
    (tmp_path / "iomem").write_text("00000000-03ffffff : System RAM\n")
    with pytest.raises(LayoutError, match="resolve in another placement: one piece"):
        open_capture(ram, memory_map=tmp_path / "iomem")


def test_a_placement_and_a_map_that_the_kernel_contradicts_are_doubted(tmp_path: Path) -> None:
    kernel = make_kernel(ARM, [(GIB, GIB + 64 * MIB)], base=GIB + 16 * MIB)
    ram = kernel.save(tmp_path / "ram", [(GIB, 0, 64 * MIB)])
    plan = pack_elf([note_phdr(0x2000000, 256), load_phdr(0, 0x2000000)], Flavour(machine=183))
    (tmp_path / "elfcorehdr").write_bytes(plan)
    config = CaptureConfig(images=(Piece(str(ram)),), memory_map=str(tmp_path / "elfcorehdr"))
    with vmcorefs.api.open_capture(config, thorough=True) as capture:
        placement, memory_map, *_ = capture.image.findings
        warnings = capture.image.warnings
    assert placement.value == "flat: offset is physical address"
    assert placement.against == (
        "the kernel's page tables resolve in another: one piece from 0x40000000 on",
    )
    (difference,) = memory_map.against
    assert difference == (
        "the kernel's own iomem_resource lacks 32 MiB: [0x0, 0x2000000) and adds 64 MiB:"
        " [0x40000000, 0x44000000)"
    )
    assert sum(warning.startswith("placement: ") for warning in warnings) == 1
