"""Dumps that a hypervisor writes: everything that it has given the machine, RAM or not."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.builders.dead_machines import Phdr, pack_elf, pack_note, prstatus_note, vmcoreinfo_note
from tests.builders.kernels import LOW, MIB, X86, DeadKernel, cpu_note
from tests.builders.pages import FILE, LRU, SECTION, PageArray, with_page_array
from tests.conftest import Opener
from vmcorefs import Capture, LayoutError
from vmcorefs.core.findings import Sureness
from vmcorefs.save.command import make_order, save_image
from vmcorefs.save.saver import Console

PAGE = 4096
END = 512 * MIB
RAM = (LOW, (MIB, END))
VIDEO, SCREEN = (0xA0000, 0xC0000), (0xFD000000, 0xFD400000)
GIVEN = ((0, 0xA0000), VIDEO, (0xC0000, MIB), (MIB, END), SCREEN)
"""What a PC of QEMU's has: RAM, video memory, firmware, and the memory of its graphics card."""

QEMU_NOTES = prstatus_note(7, 0x1000, 0x2000) + pack_note(b"QEMU", 0, bytes(432))
IOMEM = """\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
0009fc00-0009ffff : Reserved
000a0000-000bffff : PCI Bus 0000:00
000f0000-000fffff : Reserved
00100000-1fffffff : System RAM
fd000000-fdffffff : 0000:00:01.0
"""


def machine() -> DeadKernel:
    pages = PageArray("6.1", 4 * SECTION)
    for pfn in range(100, 120):
        pages.put(pfn, flags=LRU["6.1"], mapping=FILE)
    kernel = with_page_array(pages, RAM)
    kernel.put(100 * PAGE, b"\x55" * (20 * PAGE))
    # what is no RAM is not zeros either
    kernel.put(0xA0000, b"\x66" * (MIB - 0xA0000))
    kernel.put(0, b"\x77" * PAGE)
    return kernel


def elf(kernel: DeadKernel, path: Path, notes: bytes = QEMU_NOTES) -> Path:
    """As dump-guest-memory writes it: a PT_LOAD for each piece, without virtual addresses."""
    offset, phdrs = 0x10000, [Phdr(4, 0x1000, len(notes), p_paddr=0)]
    places = []
    for start, end in GIVEN:
        phdrs.append(Phdr(1, offset, end - start, p_paddr=start))
        places.append((start, offset, end - start))
        offset += end - start
    kernel.put(SCREEN[0], b"\x88" * (SCREEN[1] - SCREEN[0]))
    kernel.save(path, places)
    with path.open("rb+") as file:
        file.write(pack_elf(phdrs))
        file.seek(0x1000)
        file.write(notes)
    return path


def loads(capture: Capture) -> list[tuple[int, int, int]]:
    rows = capture.image.plan.elfcorehdr.loads
    return [(int(row["p_paddr"]), int(row["p_memsz"]), int(row["p_vaddr"])) for row in rows]


def kept(capture: Capture, output: Path) -> tuple[list[int], int]:
    order = make_order(str(output), (31,), "kdump", None)
    report = save_image(capture.image, order, 1, Console(bar=False, say=None, warn=lambda _: None))
    return report.kept.tolist(), sum(report.left_out.tolist())


@pytest.fixture
def raw(tmp_path: Path, open_capture: Opener) -> Capture:
    """The same machine's raw image."""
    return open_capture(machine().save(tmp_path / "ram"))


def test_the_kernels_own_map_tells_ram_from_video_memory(
    tmp_path: Path, open_capture: Opener, raw: Capture
) -> None:
    dump = open_capture(elf(machine(), tmp_path / "dump"))
    assert dump.image.memory_map.dialect == "iomem_resource"
    assert loads(dump) == loads(raw)
    assert kept(dump, tmp_path / "of-dump") == kept(raw, tmp_path / "of-raw")
    assert dump.image.warnings == ()
    for paddr in (0, VIDEO[0], MIB - 4, MIB):
        assert dump["oldmem"].pread(4, paddr) == raw["oldmem"].pread(4, paddr)


def test_the_true_iomem_is_accepted_and_narrows(
    tmp_path: Path, open_capture: Opener, raw: Capture
) -> None:
    (tmp_path / "iomem").write_text(IOMEM)
    dump = open_capture(elf(machine(), tmp_path / "dump"), memory_map=tmp_path / "iomem")
    assert loads(dump) == loads(raw)
    assert dump.image.memory_map.ram.tolist() == [list(span) for span in RAM]
    (found,) = (one for one in dump.image.findings if one.what == "memory map")
    assert (found.sure, found.against) == (Sureness.GIVEN, ())


def test_a_map_narrows_without_a_kernel_too(tmp_path: Path, open_capture: Opener) -> None:
    (tmp_path / "iomem").write_text(IOMEM)
    kernel = DeadKernel(X86, RAM, 0)
    image = open_capture(elf(kernel, tmp_path / "dump"), memory_map=tmp_path / "iomem").image
    assert image.kernel is None
    assert image.plan.elfcorehdr.ram.tolist() == [list(span) for span in RAM]
    assert open_capture(tmp_path / "dump").image.plan.elfcorehdr.ram.tolist() == [
        [0, END], list(SCREEN)
    ]  # fmt: skip


def test_a_map_that_the_kernel_contradicts_is_doubted(tmp_path: Path, open_capture: Opener) -> None:
    (tmp_path / "iomem").write_text("00100000-0fffffff : System RAM\n")
    image = open_capture(elf(machine(), tmp_path / "dump"), memory_map=tmp_path / "iomem").image
    assert image.plan.elfcorehdr.ram.tolist() == [[MIB, 256 * MIB]]
    (doubt,) = (line for line in image.warnings if line.startswith("memory map"))
    assert "the kernel's own iomem_resource adds 256.6 MiB" in doubt


def test_a_map_of_another_machine_is_refused(tmp_path: Path, open_capture: Opener) -> None:
    (tmp_path / "iomem").write_text("100000000-1ffffffff : System RAM\n")
    with pytest.raises(LayoutError, match="nothing in it is RAM by the memory map"):
        open_capture(elf(machine(), tmp_path / "dump"), memory_map=tmp_path / "iomem")


def test_qemu_with_a_vmcoreinfo_device_is_a_hypervisor_too(
    tmp_path: Path, open_capture: Opener, raw: Capture
) -> None:
    """VMCOREINFO is among its notes then, as in a kernel's own vmcore."""
    kernel = machine()
    notes = QEMU_NOTES + vmcoreinfo_note(kernel.text)
    (tmp_path / "iomem").write_text(IOMEM)
    dump = elf(kernel, tmp_path / "dump", notes)
    assert loads(open_capture(dump)) == loads(raw)
    assert loads(open_capture(dump, memory_map=tmp_path / "iomem")) == loads(raw)


def test_a_kdump_file_of_a_hypervisors_dump(
    tmp_path: Path, open_capture: Opener, raw: Capture
) -> None:
    """What QEMU compresses is everything as well: here it is said by a map that is wide."""
    (tmp_path / "wide").write_text(
        "00000000-1fffffff : System RAM\nfd000000-fd3fffff : System RAM\n"
    )
    wide = open_capture(elf(machine(), tmp_path / "dump"), memory_map=tmp_path / "wide")
    order = make_order(str(tmp_path / "kdump"), (0,), "kdump", None)
    save_image(wide.image, order, 1, Console(bar=False, say=None, warn=lambda _: None))
    (tmp_path / "iomem").write_text(IOMEM)
    assert wide.image.plan.elfcorehdr.ram.tolist() == [[0, END], list(SCREEN)]
    narrow = open_capture(tmp_path / "kdump")
    assert [row[:2] for row in loads(narrow)] == [row[:2] for row in loads(raw)]


def test_registers_that_lie_in_memory_are_used_where_the_dump_has_none(
    tmp_path: Path, open_capture: Opener, raw: Capture
) -> None:
    notes = pack_note(b"QEMU", 0, bytes(432))
    dump = open_capture(elf(machine(), tmp_path / "dump", notes))
    saved = cpu_note(X86, 0) + cpu_note(X86, 2)
    assert [bool(slot.notes) for slot in dump.image.notes.cpu_slots] == [True, False, True]
    whole = dump["crash_notes"]
    assert whole.pread(whole.size, 0).startswith(saved)
    assert whole.pread(whole.size, 0) == raw["crash_notes"].pread(raw["crash_notes"].size, 0)
    (found,) = (one for one in dump.image.findings if one.what == "crash notes")
    assert found.value == "2 of 3 CPUs saved their registers"
    vmcore = dump["vmcore"]
    note_at, _, size = struct.unpack_from("<QQQ", vmcore.pread(56, 64), 8)
    assert size == 0
    assert vmcore.pread(len(saved), note_at) == saved


def test_a_dumps_own_registers_come_first(tmp_path: Path, open_capture: Opener) -> None:
    image = open_capture(elf(machine(), tmp_path / "dump")).image
    header = image.plan.elfcorehdr.header
    states = [slot.state(header) for slot in image.notes.cpu_slots]
    assert [state.pid for state in states if state is not None] == [7]
