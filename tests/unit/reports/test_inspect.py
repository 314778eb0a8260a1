"""What ``vmcorefs inspect`` tells."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from tests.builders.dead_machines import (
    BACKUP,
    CRASH_KERNEL,
    CRASH_TIME,
    ELFCOREHDR,
    HIGH,
    LOW,
    bare_machine,
    dead_machine,
    load_phdr,
    pack_note,
)
from tests.builders.elf_dumps import pack_dump, save_dump
from tests.builders.kdumps import KEPT, PAGE, RAM, Kdump
from tests.conftest import Opener
from vmcorefs import Capture
from vmcorefs.reports.inspect import format_report, make_report


@pytest.fixture
def capture(tmp_path: Path, open_capture: Opener) -> Capture:
    saved = dead_machine().save(tmp_path)
    return open_capture(saved.ram, memory_map=saved.iomem)


def lines(capture: Capture, label: str) -> list[str]:
    """The text of every line of the report with this label."""
    report = format_report(make_report(capture))
    return [line[14:] for line in report if line.startswith(f"{label}:")]


def test_a_space_is_between_each_label_and_its_text(capture: Capture) -> None:
    for line in format_report(make_report(capture)):
        assert re.match(r"[\w ]+: +\S", line), line
    assert "crash kernel: [0x200000" in "".join(format_report(make_report(capture)))


def test_the_report_for_machines_is_json(capture: Capture) -> None:
    report = make_report(capture)
    assert json.loads(json.dumps(report)) == report
    assert report["memory_map"] == {
        "dialect": "/proc/iomem",
        "regions": 5,
        "ram": [list(LOW), list(HIGH)],
        "crash_kernel": [list(CRASH_KERNEL)],
        "end": HIGH[1],
    }
    assert report["headers"]["origin"] == "the elfcorehdr found at 0x2bc000"
    assert report["headers"]["paddr"] == ELFCOREHDR
    assert (report["headers"]["class"], report["headers"]["byte_order"]) == (64, "little")
    assert report["headers"]["machine"] == "x86_64"
    assert [s["type"] for s in report["headers"]["segments"]] == ["PT_NOTE"] * 4 + ["PT_LOAD"] * 4
    assert report["backup"] == {
        "start": LOW[0],
        "end": LOW[1],
        "origin": f"the backup region at [{BACKUP:#x}, 0x29f000)",
    }
    assert report["cpus"][0] == {
        "paddr": 0x110000,
        "notes": 1,
        "pid": 100,
        "ip": 0x1000,
        "sp": 0x2000,
    }
    assert report["vmcoreinfo"]["release"] == "6.1.0-test"
    assert report["vmcoreinfo"]["crash_time"] == CRASH_TIME
    assert report["files"] == {path: file.size for path, file in capture.files.items()}
    assert (report["missing"], report["warnings"]) == ([], [])


def test_the_report_for_people_names_what_was_understood(capture: Capture, tmp_path: Path) -> None:
    assert lines(capture, "map") == ["/proc/iomem: 2.62 MiB of RAM in 2 ranges, up to 0x300000"]
    assert lines(capture, "crash kernel") == ["[0x200000, 0x2c0000)  768 KiB"]
    assert lines(capture, "headers") == [
        "the elfcorehdr found at 0x2bc000: ELF64, little endian, x86_64"
    ]
    assert lines(capture, "segment")[1] == (
        "[0x1000, 0x9fc00)  at vaddr 0xffff888000001000, read at 0x200400"
    )
    assert lines(capture, "low memory") == [
        "[0x1000, 0x9fc00) from the backup region at [0x200400, 0x29f000)"
    ]
    assert lines(capture, "kernel") == [
        "Linux 6.1.0-test, build id 00112233445566778899aabbccddeeff00112233"
    ]
    assert lines(capture, "crashed") == ["2023-11-14 22:13:20 UTC"]
    assert lines(capture, "image") == [f"{tmp_path}/ram  file of 3 MiB, at [0x0, 0x300000)"]


def test_each_cpu_has_a_line_also_one_that_saved_nothing(capture: Capture) -> None:
    report = format_report(make_report(capture))
    assert [line[14:] for line in report if line.startswith("cpu ")] == [
        "pid 100, ip 0x1000, sp 0x2000",
        "note slot at 0x110200 is empty: it never saved its registers",
        "pid 102, ip 0x1002, sp 0x2002",
    ]


def test_notes_that_are_no_registers_are_counted(tmp_path: Path, open_capture: Opener) -> None:
    slot = pack_note(b"LINUX", 1, b"x") + pack_note(b"LINUX", 2, b"y")
    saved = dead_machine(cpu_slots=[slot]).save(tmp_path)
    assert lines(open_capture(saved.ram, memory_map=saved.iomem), "cpu 0") == [
        "2 notes at 0x110000"
    ]


def test_a_dump_whose_registers_are_unknown_is_reported_all_the_same(
    tmp_path: Path, open_capture: Opener
) -> None:
    # found by damaging dumps: a dump does not say where in memory a CPU's notes were
    dump = pack_dump(notes=pack_note(b"CORE", 1, b"\xff" * 100))
    report = make_report(open_capture(save_dump(tmp_path, dump)))
    assert report["cpus"][0] | {"paddr": None, "notes": 1, "pid": None} == report["cpus"][0]
    assert "cpu 0:        1 note" in format_report(report)


def test_nothing_is_invented_where_nothing_is_known(tmp_path: Path, open_capture: Opener) -> None:
    saved = bare_machine().save(tmp_path)
    capture = open_capture(saved.ram, memory_map=saved.iomem)
    assert lines(capture, "headers") == [
        "built from the memory map, for x86-64 (assumed; --machine): ELF64, little endian, x86_64"
    ]
    assert lines(capture, "kernel") == ["unknown: there is no VMCOREINFO note"]
    assert lines(capture, "segment")[0] == "[0x1000, 0x9fc00)  vaddr unknown"
    assert lines(capture, "crashed") == lines(capture, "low memory") == []


def test_an_image_that_was_not_taken_after_a_panic_says_so(
    tmp_path: Path, open_capture: Opener
) -> None:
    saved = dead_machine(text=b"OSRELEASE=6.1.0\n").save(tmp_path)
    capture = open_capture(saved.ram, memory_map=saved.iomem)
    assert lines(capture, "kernel") == ["Linux 6.1.0"]
    assert lines(capture, "crashed") == ["not yet: VMCOREINFO has no CRASHTIME"]


def test_what_is_missing_has_its_lines(tmp_path: Path, open_capture: Opener) -> None:
    machine = bare_machine()
    machine.memory = machine.memory[:0x180000]
    saved = machine.save(tmp_path)
    capture = open_capture(saved.ram, memory_map=saved.iomem, truncated=True)
    assert lines(capture, "missing") == [
        "[0x180000, 0x200000): reads fail",
        "[0x2c0000, 0x300000): reads fail",
    ]


def test_a_long_list_of_segments_is_cut(tmp_path: Path, open_capture: Opener) -> None:
    phdrs = [load_phdr(HIGH[0] + n * 0x1000, HIGH[0] + (n + 1) * 0x1000) for n in range(20)]
    saved = bare_machine().save(tmp_path)
    saved.iomem.write_text(
        "".join(f"{p.p_offset:08x}-{p.p_offset + 0x7FF:08x} : System RAM\n" for p in phdrs)
    )
    segments = lines(open_capture(saved.ram, memory_map=saved.iomem), "segment")
    assert len(segments) == 17
    assert segments[-1] == "and 4 more"


def test_a_user_is_told_why_the_kernel_would_not_serve_a_file(
    capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    planes = make_report(capture)["planes"]
    assert planes["vmcore"]["name"] == "mapped"
    assert planes["vmcore"]["why_not"][0].startswith("kernel: ")
    (row, *_) = lines(capture, "plane")
    assert row.startswith("vmcore  mapped: one mapping of the inputs; kernel: ")


def test_each_part_of_a_split_dump_has_its_own_ranges(tmp_path: Path, open_capture: Opener) -> None:
    spans = [(0, 50), (50, 210), (210, 600)]
    paths = [
        save_dump(tmp_path, Kdump(KEPT, RAM, split=span).pack(), f"part{n}")
        for n, span in enumerate(spans)
    ]
    capture = open_capture([paths[2], paths[0], paths[1]])
    expected = {
        str(paths[0]): [[PAGE, 50 * PAGE]],
        str(paths[1]): [[50 * PAGE, 100 * PAGE], [200 * PAGE, 210 * PAGE]],
        str(paths[2]): [
            [210 * PAGE, 230 * PAGE],
            [300 * PAGE, 301 * PAGE],
            [599 * PAGE, 600 * PAGE],
        ],
    }
    assert _ranges(capture) == expected
    # whatever the order of the sources is
    image = capture.image
    memory = image.memory
    last = len(image.sources) - 1
    turned = replace(memory, source=np.where(memory.source < 0, -1, last - memory.source))
    capture.image = replace(image, sources=image.sources[::-1], memory=turned)
    assert _ranges(capture) == expected


def _ranges(capture: Capture) -> dict[str, list[list[int]]]:
    return {entry["path"]: entry["ranges"] for entry in make_report(capture)["inputs"]}
