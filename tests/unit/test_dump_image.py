"""A dump as the image: what it says itself, and what is refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from tests.builders.dead_machines import (
    CRASH_KERNEL,
    CRASH_TIME,
    DIRECT_MAP,
    HIGH,
    LOW,
    Flavour,
    dead_machine,
    pack_elf,
    pack_note,
    prstatus_note,
    stamped,
    vmcoreinfo_note,
    vmcoreinfo_text,
)
from tests.builders.elf_dumps import NOTES, TEXT, Load, direct, pack_dump, save_dump
from tests.builders.kernels import X86_RAM, make_kernel
from tests.conftest import Opener
from tests.matching import exactly, same_bytes
from vmcorefs import ConfigError, FaultError, FormatError, LayoutError, TruncatedError
from vmcorefs.errors import UnsupportedError

MIB = 1 << 20


def test_the_vmcore_of_a_dump_is_the_file(tmp_path: Path, open_capture: Opener) -> None:
    dump = pack_dump()
    capture = open_capture(save_dump(tmp_path, dump))
    same_bytes(capture["vmcore"].pread(len(dump) + 1, 0), dump)
    table = capture["vmcore"].reader.table
    assert (len(table), int(table.offset[0]), capture["vmcore"].size) == (1, 0, len(dump))


def test_memory_is_where_the_program_headers_say(tmp_path: Path, open_capture: Opener) -> None:
    capture = open_capture(save_dump(tmp_path, pack_dump()))
    oldmem = capture["oldmem"]
    assert oldmem.size == HIGH[1]
    same_bytes(oldmem.pread(LOW[1] - LOW[0], LOW[0]), stamped(*LOW))
    same_bytes(oldmem.pread(0x100000, 0x100000), stamped(0x100000, 0x200000))
    same_bytes(oldmem.pread(16, CRASH_KERNEL[0]), bytes(16))
    assert capture["iomem"].pread(1000, 0).decode() == (
        "00001000-0009fbff : System RAM\n00100000-001fffff : System RAM\n"
        "002c0000-002fffff : System RAM\n"
    )


def test_the_notes_are_each_cpus_and_vmcoreinfo(tmp_path: Path, open_capture: Opener) -> None:
    capture = open_capture(save_dump(tmp_path, pack_dump()))
    assert capture.image.time == CRASH_TIME
    assert capture["vmcoreinfo"].pread(10000, 0) == vmcoreinfo_text()
    assert capture["crash_notes"].pread(10000, 0) == NOTES
    assert capture["crash_notes.d/cpu1"].pread(10000, 0) == prstatus_note(102, 0x1002, 0x2002)
    assert b"pid 102\n" in capture["cpu/1/registers"].pread(1000, 0)
    assert "crash_notes.d/cpu2" not in capture.files


def test_notes_that_are_no_cpus_are_not_taken_for_one(tmp_path: Path, open_capture: Opener) -> None:
    device = pack_note(b"LINUX", 0x700, b"cxgb4_0000")
    cpus = [prstatus_note(n, n, n) + pack_note(b"LINUX", 0x300, b"vector") for n in (7, 8)]
    qemu = pack_note(b"QEMU", 0, b"state") * 2
    notes = device + b"".join(cpus) + qemu + vmcoreinfo_note(vmcoreinfo_text())
    capture = open_capture(save_dump(tmp_path, pack_dump(notes=notes)))
    found = [path for path in capture.files if path.startswith("crash_notes.d/")]
    assert found == ["crash_notes.d/cpu0", "crash_notes.d/cpu1"]
    assert [capture[path].pread(10000, 0) for path in found] == cpus
    assert capture["crash_notes"].pread(10000, 0) == notes


@pytest.mark.parametrize(
    "flavour", [Flavour(), Flavour(64, ">", 21), Flavour(32, "<", 3), Flavour(32, ">", 20)]
)
def test_both_classes_and_byte_orders(
    tmp_path: Path, open_capture: Opener, flavour: Flavour
) -> None:
    loads = [Load(0x1000, 0x3000, 0xC0001000), Load(0x8000, 0x9000, 0xFFFFFFFF)]
    notes = vmcoreinfo_note(vmcoreinfo_text(), flavour.order)
    dump = pack_dump(loads, notes, flavour)
    capture = open_capture(save_dump(tmp_path, dump))
    same_bytes(capture["vmcore"].pread(len(dump), 0), dump)
    same_bytes(capture["oldmem"].pread(0x1000, 0x8000), stamped(0x8000, 0x9000))
    assert capture["vmcoreinfo"].pread(1000, 0) == vmcoreinfo_text()


def test_pages_that_were_left_out_are_an_error_and_not_zeros(
    tmp_path: Path, open_capture: Opener
) -> None:
    # makedumpfile -E cuts a PT_LOAD where it leaves pages out
    loads = [TEXT, direct(0x100000, 0x150000, held=0x45000), direct(0x150000, 0x200000)]
    capture = open_capture(save_dump(tmp_path, pack_dump(loads)))
    oldmem = capture["oldmem"]
    # the kernel's image shows some of those pages, so they are there
    same_bytes(oldmem.pread(0x1000, 0x145000), stamped(0x145000, 0x146000))
    gone = save_dump(tmp_path, pack_dump([direct(0x100000, 0x150000, held=0x45000), *loads[2:]]))
    oldmem = open_capture(gone)["oldmem"]
    same_bytes(oldmem.pread(0x1000, 0x144000), stamped(0x144000, 0x145000))
    same_bytes(oldmem.pread(0x1000, 0x150000), stamped(0x150000, 0x151000))
    with pytest.raises(FaultError, match="excluded") as caught:
        oldmem.pread(0x2000, 0x144000)
    assert (caught.value.offset, caught.value.size) == (0x145000, 0x1000)
    kinds = json.loads(open_capture(gone)["layout.json"].pread(1 << 20, 0))
    extents = kinds["files"]["oldmem"]["extents"]
    assert {"offset": 0x145000, "size": 0xB000, "kind": "excluded"} in extents


def test_pieces_of_a_cut_load_are_one_load_again(tmp_path: Path, open_capture: Opener) -> None:
    loads = [direct(0x100000, 0x150000, held=0x45000), direct(0x150000, 0x200000, held=0x1000)]
    plan = open_capture(save_dump(tmp_path, pack_dump(loads))).image.plan.elfcorehdr
    assert plan.ram.tolist() == [[0x100000, 0x200000]]
    assert plan.loads["p_vaddr"].tolist() == [DIRECT_MAP + 0x100000]
    assert plan.loads["p_memsz"].tolist() == [0x100000]


def test_an_alias_without_a_physical_address_is_where_its_bytes_are(
    tmp_path: Path, open_capture: Opener
) -> None:
    # the universal layout: the image last, with no p_paddr, one page longer than its bytes
    ram = direct(0x100000, 0x200000)
    first = pack_dump([ram, TEXT])
    offset = struct.unpack_from("<Q", first, 64 + 56 + 8)[0] + TEXT.start - ram.start
    size = TEXT.end - TEXT.start
    alias = Load(TEXT.start, TEXT.end + 0x1000, TEXT.vaddr, size, offset, (1 << 64) - 1)
    nowhere = Load(0, 0x1000, 0xFFFFC90000000000, 0, 0, (1 << 64) - 1)
    capture = open_capture(save_dump(tmp_path, pack_dump([ram, nowhere, alias])))
    loads = capture.image.plan.elfcorehdr.loads
    assert loads["p_paddr"].tolist() == [ram.start, TEXT.start]
    assert loads["p_memsz"].tolist() == [ram.end - ram.start, size]
    assert capture["oldmem"].size == ram.end


def test_seventy_thousand_loads_are_counted_by_section_0(
    tmp_path: Path, open_capture: Opener
) -> None:
    count = 70_000
    loads = [Load(n << 13, (n << 13) + 4096, DIRECT_MAP + (n << 13), held=0) for n in range(count)]
    dump = bytearray(pack_dump(loads, b"", e_phnum=0xFFFF, e_shnum=1))
    struct.pack_into("<Q", dump, 40, len(dump))
    capture = open_capture(
        save_dump(tmp_path, bytes(dump) + struct.pack("<IIQQQQIIQQ", *[0] * 7, count + 1, 0, 0))
    )
    assert len(capture.image.plan.elfcorehdr.loads) == count
    assert len(capture.image.memory) == count


@pytest.mark.parametrize("truncated", [False, True])
def test_a_dump_that_was_cut_short(
    tmp_path: Path, open_capture: Opener, *, truncated: bool
) -> None:
    whole = pack_dump()
    path = save_dump(tmp_path, whole[:-0x3F000])
    if not truncated:
        with pytest.raises(
            TruncatedError,
            match=exactly(
                f"{path}: {len(whole) - 0x3F000} bytes, but its PT_LOADs end at {len(whole)}:"
                " 252 KiB of RAM are cut off, first [0x2c1000, 0x300000); pass --truncated to"
                " serve the rest, and EIO for these"
            ),
        ):
            open_capture(path)
        return
    capture = open_capture(path, truncated=True)
    assert capture["vmcore"].size == len(whole)
    same_bytes(capture["vmcore"].pread(0x1000, len(whole) - 0x40000), whole[-0x40000:-0x3F000])
    with pytest.raises(FaultError, match="missing"):
        capture["vmcore"].pread(1, len(whole) - 0x3F000)
    with pytest.raises(FaultError, match="missing"):
        capture["oldmem"].pread(1, 0x2C1000)
    assert capture.image.missing.tolist() == [[0x2C1000, 0x300000]]


def test_a_dump_that_says_it_is_incomplete(tmp_path: Path, open_capture: Opener) -> None:
    path = save_dump(tmp_path, pack_dump(e_flags=1))
    warnings = open_capture(path).image.warnings
    assert f"{path}: it is marked as incomplete (e_flags)" in warnings


def test_a_mounted_tree_stands_for_its_vmcore(tmp_path: Path, open_capture: Opener) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    with pytest.raises(
        ConfigError,
        match=exactly(f"{tree}: this directory is not a mounted tree: it has no vmcore"),
    ):
        open_capture(tree)
    (tree / "vmcore").write_bytes(pack_dump())
    assert open_capture(tree)["oldmem"].size == HIGH[1]


def test_an_address_makes_it_raw_memory(tmp_path: Path, open_capture: Opener) -> None:
    saved = dead_machine().save(tmp_path)
    memory = bytearray(saved.ram.read_bytes())
    memory[:4096] = pack_dump()[:4096]
    saved.ram.write_bytes(memory)
    options = {"memory_map": saved.iomem, "backup": saved.lowmem}
    same_bytes(
        open_capture(f"{saved.ram}@0", **options)["oldmem"].pread(64, 0x1000),
        stamped(0x1000, 0x1040),
    )
    with pytest.raises(ConfigError, match="it is an ELF core"):
        open_capture(saved.ram, **options)


def test_a_given_map_may_tell_more(tmp_path: Path, open_capture: Opener) -> None:
    path = save_dump(tmp_path, pack_dump())
    iomem = tmp_path / "iomem"
    iomem.write_text(dead_machine().iomem)
    capture = open_capture(path, memory_map=iomem)
    assert capture["iomem"].pread(10000, 0).decode() == dead_machine().iomem
    assert capture.image.memory_map.crash_kernel.tolist() == [list(CRASH_KERNEL)]
    same_bytes(capture["oldmem"].pread(16, CRASH_KERNEL[0]), bytes(16))
    iomem.write_text("00100000-001fffff : System RAM\n")
    with pytest.raises(
        LayoutError,
        match=exactly(f"{path}: it has RAM at [0x1000, 0x9fc00), where the memory map has none"),
    ):
        open_capture(path, memory_map=iomem)


def test_the_crash_kernels_range_may_be_told(tmp_path: Path, open_capture: Opener) -> None:
    path = save_dump(tmp_path, pack_dump())
    capture = open_capture(path, crash_kernel=[CRASH_KERNEL])
    assert "00200000-002bffff : Crash kernel" in capture["iomem"].pread(1000, 0).decode()
    with pytest.raises(LayoutError, match="where the crash kernel is said to have been"):
        open_capture(path, crash_kernel=[(0x1FF000, 0x201000)])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"backup": "low"}, "low: {path} needs no backup: it is an ELF core"),
        ({"elfcorehdr": 4096}, "{path}: an ELF core, with headers of its own"),
        ({"use_elfcorehdr": False}, "{path}: an ELF core, with headers of its own"),
        ({"machine": "aarch64"}, "the machine is given as 183, but {path} says 62"),
    ],
)
def test_what_contradicts_a_dump_is_refused(
    tmp_path: Path, open_capture: Opener, options: dict[str, object], says: str
) -> None:
    path = save_dump(tmp_path, pack_dump())
    with pytest.raises(ConfigError) as caught:
        open_capture(path, **options)
    assert str(caught.value).startswith(says.format(path=path))


def test_a_dump_is_given_alone(tmp_path: Path, open_capture: Opener) -> None:
    path = save_dump(tmp_path, pack_dump())
    ram = tmp_path / "ram"
    ram.write_bytes(bytes(4096))
    with pytest.raises(ConfigError, match="a dump knows where its memory belongs"):
        open_capture([f"{ram}@0", path])


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        (
            pack_dump(e_type=1, e_phnum=0, e_phentsize=0),
            UnsupportedError,
            "an ELF object file, such as a module, expected a core (4)",
        ),
        (
            pack_dump(e_type=2),
            UnsupportedError,
            "an ELF program, such as vmlinux, expected a core (4): give the memory as IMAGE",
        ),
        (pack_dump(e_type=3), UnsupportedError, "an ELF program or shared object, expected a core"),
        (pack_dump(e_type=77), UnsupportedError, "an ELF file of e_type 77, expected a core"),
        (
            pack_elf([], e_phentsize=0, e_shnum=9, e_shentsize=64).ljust(4096, b"\0"),
            FormatError,
            "a core of sections alone that lacks .xen_pages",
        ),
        (pack_elf([]).ljust(4096, b"\0"), FormatError, "a core with no PT_LOAD"),
        (pack_dump(e_phnum=60_000), FormatError, "60000 program headers: "),
        (pack_dump(e_phentsize=32), FormatError, "e_phentsize is 32, expected 56"),
        (
            pack_dump([Load(0, 0x1000, 1), Load(0, 0x1000, 2)]),
            FormatError,
            "2 PT_LOADs, all at p_paddr 0: the core of a process, not of a machine",
        ),
        (
            pack_dump(
                [
                    Load(0, 0x1000, vaddr, held=0, paddr=0)
                    for vaddr in (0xFFFFFFFF81000000, 0xFFFFC90000000000, DIRECT_MAP + 0x1000)
                ]
            ),
            UnsupportedError,
            "3 PT_LOADs, all at addresses of a kernel and at p_paddr 0: a copy of /proc/kcore",
        ),
        (
            pack_dump(
                [Load(0, 0x1000, 0xC0000000), Load(0, 0x1000, 0xF8000000)],
                flavour=Flavour(32, "<", 3),
            ),
            UnsupportedError,
            "2 PT_LOADs, all at addresses of a kernel",
        ),
        (
            # with the vsyscall page, which lies among the kernel's addresses
            pack_dump([Load(0, 0x1000, 0x400000), Load(0, 0x1000, 0xFFFFFFFFFF600000)]),
            FormatError,
            "2 PT_LOADs, all at p_paddr 0: the core of a process, not of a machine",
        ),
        (
            pack_dump([Load(0x1000, 0x2000, held=0x1000, paddr=1 << 63)]),
            FormatError,
            "PT_LOAD 0: p_paddr 0x8000000000000000 with p_memsz 0x1000 ends beyond",
        ),
        (
            pack_dump([Load(0x1000, 0x2000, offset=(1 << 64) - 4096)]),
            FormatError,
            "PT_LOAD 0: p_offset 0xfffffffffffff000 with p_filesz 0x1000 ends beyond",
        ),
        (
            pack_dump([Load(0x1000, 0x2000, held=0x1001, offset=0x1000)]),
            FormatError,
            "PT_LOAD of [0x1000, 0x2000): p_filesz 0x1001 is more than p_memsz 0x1000",
        ),
        (pack_dump()[:4100], FormatError, "the PT_NOTE at [0x1000, 0x"),
    ],
)
def test_what_is_no_dump_of_a_machine(
    tmp_path: Path, open_capture: Opener, data: bytes, error: type[Exception], says: str
) -> None:
    path = save_dump(tmp_path, data)
    with pytest.raises(error) as caught:
        open_capture(path)
    assert str(caught.value).startswith(f"{path}: {says}")


def test_an_elfcorehdr_in_the_place_of_memory(tmp_path: Path, open_capture: Opener) -> None:
    path = save_dump(tmp_path, dead_machine().elfcorehdr)
    says = "an elfcorehdr, which holds no memory: give the memory as IMAGE, and this by --map"
    with pytest.raises(FormatError, match=exactly(f"{path}: {says}")):
        open_capture(path)


def test_torn_notes_are_refused_or_dropped(tmp_path: Path, open_capture: Opener) -> None:
    path = save_dump(tmp_path, pack_dump(notes=NOTES[:-8]))
    with pytest.raises(FormatError, match="--drop-torn-notes"):
        open_capture(path)
    capture = open_capture(path, drop_torn_notes=True)
    assert "crash_notes.d/cpu1" in capture.files
    assert "vmcoreinfo" not in capture.files


def test_a_given_vmcoreinfo_takes_the_place_of_the_dumps(
    tmp_path: Path, open_capture: Opener
) -> None:
    path = save_dump(tmp_path, pack_dump())
    other = tmp_path / "other"
    other.write_bytes(vmcoreinfo_text("6.9.9-other"))
    capture = open_capture(path, vmcoreinfo=other)
    assert capture["vmcoreinfo"].pread(1000, 0) == vmcoreinfo_text("6.9.9-other")
    vmcore = capture["vmcore"]
    assert vmcoreinfo_text("6.9.9-other") in vmcore.pread(vmcore.size, 0)
    assert vmcoreinfo_text() not in vmcore.pread(vmcore.size, 0)


def test_a_dump_that_knows_no_kernel_is_laid_out_by_the_one_in_its_memory(
    tmp_path: Path, open_capture: Opener
) -> None:
    # QEMU's dump-guest-memory: physical addresses alone, and the CPUs' registers
    kernel = make_kernel()
    memory = kernel.save(tmp_path / "ram").read_bytes()
    end = len(memory)
    dump = bytearray(
        pack_dump([Load(0, end)], prstatus_note(1, 2, 3) + pack_note(b"QEMU", 0, b"x"))
    )
    dump[-end:] = memory
    capture = open_capture(save_dump(tmp_path, bytes(dump)))
    assert capture.image.plan.is_built
    assert capture["vmcoreinfo"].pread(1 << 16, 0) == kernel.text
    loads = capture.image.plan.elfcorehdr.loads
    # and by its own map: low memory begins at a page, and ends with one
    assert loads["p_vaddr"].tolist() == [
        kernel.arch.text, *(kernel.distance + start for start, _ in X86_RAM)
    ]  # fmt: skip
    assert b"pid 1\n" in capture["cpu/0/registers"].pread(1000, 0)
    assert "crash_notes.d/cpu1" not in capture.files
    vmcore = capture["vmcore"]
    assert kernel.text in vmcore.pread(1 << 20, 0)


FLATTENED_NOTHING = (
    (b"makedumpfile\0\0\0\0" + struct.pack(">QQ", 1, 1)).ljust(4096, b"\0")
    + struct.pack(">qq", 0, 64)
    + bytes(64)
    + struct.pack(">qq", -1, -1)
)


def test_a_flattened_dump_of_nothing_that_is_known_is_refused(
    tmp_path: Path, open_capture: Opener
) -> None:
    # found by damaging flattened dumps: the first bytes of what is inside were changed
    path = save_dump(tmp_path, FLATTENED_NOTHING)
    says = r"dump: a flattened stream of an unknown dump format$"
    for given in (path, [path, path]):
        with pytest.raises(UnsupportedError, match=says):
            open_capture(given)
