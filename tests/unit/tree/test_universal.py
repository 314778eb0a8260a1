"""``vmcore`` in the universal layout: the bytes behind its headers."""

from __future__ import annotations

import io
import json
from itertools import pairwise
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment

from tests.builders.dead_machines import (
    CRASH_KERNEL,
    HIGH,
    KERNEL_TEXT,
    LOW,
    TEXT_VADDR,
    bare_machine,
    dead_machine,
    load_phdr,
    stamped,
    vmcoreinfo_text,
)
from tests.conftest import Opener
from tests.matching import exactly
from vmcorefs import FaultError, TreeFile, UnsupportedError

TEXT = vmcoreinfo_text() + b"NUMBER(phys_base)=0\n"


@pytest.fixture
def vmcore(tmp_path: Path, open_capture: Opener) -> TreeFile:
    saved = dead_machine(text=TEXT).save(tmp_path)
    return open_capture(saved.ram, memory_map=saved.iomem, layout="universal")["vmcore"]


def elf(file: TreeFile) -> ELFFile:
    return ELFFile(io.BytesIO(file.pread(file.size, 0)))


def test_each_segment_holds_its_memory_and_low_memory_is_the_backup(vmcore: TreeFile) -> None:
    memory = bytes(dead_machine(text=TEXT).memory)
    notes, low, below, above, text = elf(vmcore).iter_segments()
    assert isinstance(notes, NoteSegment)
    assert [n["n_name"] for n in notes.iter_notes()] == ["CORE", "CORE", "VMCOREINFO"]
    assert low.data()[: LOW[1] - LOW[0]] == stamped(*LOW)
    assert below.data() == memory[HIGH[0] : CRASH_KERNEL[0]]
    assert above.data() == memory[CRASH_KERNEL[1] : HIGH[1]]
    assert text["p_vaddr"] == TEXT_VADDR
    assert text.data() == memory[slice(*KERNEL_TEXT)]


def test_what_rounds_low_memory_up_to_a_page_is_read_from_the_image(vmcore: TreeFile) -> None:
    _, low, *_ = elf(vmcore).iter_segments()
    assert low["p_memsz"] == 0x9F000
    assert low.data()[LOW[1] - LOW[0] :] == stamped(LOW[1], 0xA0000)


def test_no_memory_stands_in_the_file_twice(vmcore: TreeFile) -> None:
    table = vmcore.reader.table
    rows = zip(table.source.tolist(), table.offset.tolist(), table.size.tolist(), strict=True)
    # the notes are in RAM, and in front of it; all else is once there
    spans = sorted(row for row in rows if row[2] > 0x1000)
    for (one, offset, size), (two, following, _) in pairwise(spans):
        assert one != two or offset + size <= following


def test_layout_json_tells_where_it_is_from(tmp_path: Path, open_capture: Opener) -> None:
    saved = dead_machine(text=TEXT).save(tmp_path)
    capture = open_capture(saved.ram, memory_map=saved.iomem, layout="universal")
    text = capture["layout.json"].pread(capture["layout.json"].size, 0)
    extents = json.loads(text)["files"]["vmcore"]["extents"]
    (below,) = (e for e in extents if e["size"] == 0x100000)
    assert (below["offset"], below["source_offset"]) == (0xA1000, HIGH[0])
    assert extents[-1]["offset"] + extents[-1]["size"] == capture["vmcore"].size


def test_ram_that_no_input_holds_is_missing_and_not_a_hole(
    tmp_path: Path, open_capture: Opener
) -> None:
    machine = bare_machine()
    machine.memory = machine.memory[:0x180000]
    saved = machine.save(tmp_path)
    vmcore = open_capture(saved.ram, memory_map=saved.iomem, truncated=True, layout="universal")[
        "vmcore"
    ]
    at = 0x1000 + 0x9F000 + 0x80000
    assert vmcore.pread(8, at - 8) == stamped(0x17FFF8, 0x180000)
    message = f"vmcore: no input holds [{at:#x}, {at + 8:#x}) (missing, 8 bytes)"
    with pytest.raises(FaultError, match=exactly(message)):
        vmcore.pread(8, at)


def test_what_is_beside_ram_and_in_no_input_is_a_hole(tmp_path: Path, open_capture: Opener) -> None:
    machine = dead_machine([load_phdr(0x2FF000, 0x2FF801)], text=TEXT)
    machine.memory = machine.memory[:0x2FF801]
    machine.iomem = "00001000-0009fbff : System RAM\n00100000-002ff800 : System RAM\n"
    saved = machine.save(tmp_path)
    vmcore = open_capture(saved.ram, memory_map=saved.iomem, layout="universal")["vmcore"]
    end = vmcore.pread(0x1000, vmcore.size - 0x1000)
    assert end == stamped(0x2FF000, 0x2FF801).ljust(0x1000, b"\0")


def test_an_old_kernels_text_has_no_place_in_it(tmp_path: Path, open_capture: Opener) -> None:
    saved = dead_machine().save(tmp_path)
    with pytest.raises(UnsupportedError, match=r"VMCOREINFO has no NUMBER\(phys_base\)"):
        open_capture(saved.ram, memory_map=saved.iomem, layout="universal")
