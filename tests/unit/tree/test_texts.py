"""The texts: ``iomem``, ``vmcoreinfo``, and ``layout.json``, which accounts for every byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.builders.dead_machines import (
    CRASH_KERNEL,
    DIRECT_MAP,
    HIGH,
    LOW,
    bare_machine,
    dead_machine,
    vmcoreinfo_text,
)
from tests.conftest import Opener
from vmcorefs import Capture, FaultError, FormatError
from vmcorefs.tree.file import text_file
from vmcorefs.tree.layout import layout_file

FILES = [
    "vmcore",
    "oldmem",
    "crash_notes",
    "crash_notes.d/cpu0",
    "crash_notes.d/cpu1",
    "crash_notes.d/cpu2",
    "cpu/0/registers",
    "cpu/2/registers",
    "iomem",
    "vmcoreinfo",
    "layout.json",
]


def layout_of(capture: Capture) -> dict[str, Any]:
    file = capture["layout.json"]
    layout = json.loads(file.pread(file.size, 0))
    assert isinstance(layout, dict)
    return layout


@pytest.fixture
def capture(tmp_path: Path, open_capture: Opener) -> Capture:
    saved = dead_machine().save(tmp_path)
    return open_capture(saved.ram, memory_map=saved.iomem, backup=saved.lowmem)


def test_the_tree_has_these_files(capture: Capture) -> None:
    assert list(capture.files) == FILES


def test_iomem_is_the_map_in_use(capture: Capture) -> None:
    assert capture["iomem"].pread(4096, 0).decode() == dead_machine().iomem


def test_each_cpu_that_saved_its_registers_has_them_as_text(capture: Capture) -> None:
    text = capture["cpu/2/registers"].pread(4096, 0).decode().splitlines()
    assert text[0] == "pid 102"
    assert {"rip 0x0000000000001002", "rsp 0x0000000000002002"} <= set(text)


def test_vmcoreinfo_is_the_text_of_the_note(capture: Capture) -> None:
    assert capture["vmcoreinfo"].pread(4096, 0) == vmcoreinfo_text()


@pytest.mark.parametrize("broken_symbols", [False, True])
def test_version_is_init_uts_ns_where_there_are_no_symbols(
    tmp_path: Path, open_capture: Opener, broken_symbols: bool
) -> None:
    text = vmcoreinfo_text() + (
        f"SYMBOL(init_uts_ns)={DIRECT_MAP + 0x130000:x}\nOFFSET(uts_namespace.name)=4\n".encode()
    )
    machine = dead_machine(text=text + b"SYMBOL(kallsyms_names)=1\n" * broken_symbols)
    names = (b"Linux", b"dead", b"5.15.0-test", b"#1 SMP Mon")
    machine.put(0x130004, b"".join(name.ljust(65, b"\0") for name in names))
    saved = machine.save(tmp_path)
    capture = open_capture(saved.ram, memory_map=saved.iomem, backup=saved.lowmem)
    assert capture["version"].pread(4096, 0) == b"Linux version 5.15.0-test #1 SMP Mon\n"
    assert ("kallsyms" in capture.files) == broken_symbols


def test_without_the_note_there_is_no_vmcoreinfo(tmp_path: Path, open_capture: Opener) -> None:
    saved = bare_machine().save(tmp_path)
    assert "vmcoreinfo" not in open_capture(saved.ram, memory_map=saved.iomem).files


def test_layout_json_names_every_file_but_itself_with_its_size(capture: Capture) -> None:
    layout = layout_of(capture)
    assert layout["version"] == 1
    assert {path: entry["size"] for path, entry in layout["files"].items()} == {
        path: capture[path].size for path in FILES[:-1]
    }


def test_the_extents_of_each_file_follow_each_other_from_0_to_its_size(capture: Capture) -> None:
    for entry in layout_of(capture)["files"].values():
        at = 0
        for extent in entry["extents"]:
            assert extent["offset"] == at
            assert extent["size"] > 0
            at += extent["size"]
        assert at == entry["size"]


def _read_by_layout(extent: dict[str, Any]) -> bytes:
    """What the inputs hold where ``layout.json`` says that the bytes of an extent are."""
    if extent["kind"] in ("zero", "hole"):
        return bytes(extent["size"])
    with Path(extent["source"]).open("rb") as file:
        file.seek(extent["source_offset"])
        return file.read(extent["size"])


def test_every_extents_source_holds_the_files_own_bytes_at_its_offset(capture: Capture) -> None:
    origins = set()
    for path, entry in layout_of(capture)["files"].items():
        for extent in entry["extents"]:
            origins.add(extent.get("from", extent["kind"]))
            if extent.get("from") != "made":
                found = capture[path].pread(extent["size"], extent["offset"])
                assert found == _read_by_layout(extent), (path, extent)
    assert origins == {"image", "backup", "made", "zero", "hole"}


def test_sources_are_named_by_absolute_paths(capture: Capture, tmp_path: Path) -> None:
    (low,) = [
        e for e in layout_of(capture)["files"]["oldmem"]["extents"] if e.get("from") == "backup"
    ]
    assert low == {
        "offset": LOW[0],
        "size": LOW[1] - LOW[0],
        "kind": "data",
        "from": "backup",
        "source": f"{tmp_path}/lowmem",
        "source_offset": 0,
    }


def test_the_crash_kernels_memory_is_known_zeros_and_what_is_no_ram_is_a_hole(
    capture: Capture,
) -> None:
    extents = layout_of(capture)["files"]["oldmem"]["extents"]
    assert [(e["offset"], e["kind"]) for e in extents] == [
        (0, "hole"),
        (LOW[0], "data"),
        (LOW[1], "hole"),
        (HIGH[0], "data"),
        (CRASH_KERNEL[0], "zero"),
        (CRASH_KERNEL[1], "data"),
    ]


def test_the_padding_behind_headers_and_notes_is_not_a_hole(capture: Capture) -> None:
    extents = layout_of(capture)["files"]["vmcore"]["extents"]
    kinds = {e["offset"]: e["kind"] for e in extents}
    notes_end = 0x1000 + capture["crash_notes"].size
    assert (kinds[0], kinds[notes_end], kinds[0x2000]) == ("data", "zero", "data")


def test_what_a_truncated_image_lacks_is_missing(tmp_path: Path, open_capture: Opener) -> None:
    machine = bare_machine()
    machine.memory = machine.memory[: HIGH[1] - 0x1234]
    saved = machine.save(tmp_path)
    capture = open_capture(saved.ram, memory_map=saved.iomem, truncated=True)
    for path in ("oldmem", "vmcore"):
        last = layout_of(capture)["files"][path]["extents"][-1]
        assert (last["kind"], last["size"]) == ("missing", 0x1234)
        with pytest.raises(FaultError):
            capture[path].pread(1, last["offset"])


def test_a_file_that_cannot_be_made_is_told_apart_and_the_others_are_there() -> None:
    def fail() -> bytes:
        raise FormatError("kallsyms_num_syms is 0")

    files = {"iomem": text_file("iomem", lambda: b"map"), "kallsyms": text_file("kallsyms", fail)}
    file = layout_file(files)
    layout = json.loads(file.pread(file.size, 0))["files"]
    assert layout["kallsyms"] == {"size": None, "error": "kallsyms_num_syms is 0"}
    assert layout["iomem"]["size"] == 3
    assert len(layout["iomem"]["extents"]) == 1
