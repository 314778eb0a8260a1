"""The small files of the tree against what the guest said of itself."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import vmcorefs
from tests.real import tools
from tests.real.marks import REAL
from tests.real.trees import compare, is_zero, read
from tests.real.truth import in_memory, segments, vmcoreinfo
from vmcorefs.core.structures.version import read_uts
from vmcorefs.kernel.virtual import through_loads
from vmcorefs.reader import Reader

if TYPE_CHECKING:
    from tests.lab.capture import Capture

pytestmark = REAL

_SAMPLE = 1 << 20


def test_crash_notes_are_the_kernels_merged_notes(capture: Capture, tree: Path) -> None:
    assert (tree / "crash_notes").read_bytes() == segments(capture.vmcore).note


def test_each_cpu_has_its_slot(capture: Capture, tree: Path) -> None:
    said = [line.split() for line in capture.text("crash_notes").splitlines()]
    assert len(said) == capture.recipe.cpus
    for name, paddr, size in said:
        slot = (tree / "crash_notes.d" / name).read_bytes()
        assert slot == in_memory(capture, int(paddr, 16), int(size)), name
    assert len(list((tree / "crash_notes.d").iterdir())) == len(said)


def test_the_registers_of_every_cpu_are_those_that_elfutils_shows(
    capture: Capture, tree: Path
) -> None:
    said = tools.run(["eu-readelf", "--notes", capture.vmcore], capture.vmcore)
    expected = [_elfutils_registers(note) for note in said.split("PRSTATUS\n")[1:]]
    texts = [path.read_text() for path in sorted(tree.glob("cpu/*/registers"))]
    assert len(texts) == segments(capture.vmcore).cpus
    found = [dict(line.split() for line in text.splitlines()) for text in texts]
    assert [{name: int(value, 0) for name, value in cpu.items()} for cpu in found] == expected
    assert [len(cpu) for cpu in found] == [28] * len(texts)


def _elfutils_registers(note: str) -> dict[str, int]:
    """Some are printed as addresses, some as signed numbers, some under another name."""
    other = {"rflags": "eflags", "fs.base": "fs_base", "gs.base": "gs_base"}
    note = note.partition("VMCOREINFO")[0]
    pid, registers = note.partition("pid: ")[2].partition("orig_rax:")[::2]
    words = re.findall(r"([a-z0-9_.]+): +(-?[0-9a-fx]+)", "orig_rax:" + registers)
    values = {other.get(name, name): int(value, 0) % (1 << 64) for name, value in words}
    values.pop("fpvalid")
    return {"pid": int(pid.partition(",")[0]), **values}


def test_the_registers_of_the_cpu_that_panicked_are_those_that_gdb_shows(
    capture: Capture, tree: Path
) -> None:
    """Of CPUs that were idle gdb shows another's: it goes by the process id, which is 0."""
    said = tools.gdb(capture.vmcore, "thread apply all info registers")
    threads = re.split(r"^Thread \d+ \(", said, flags=re.MULTILINE)[1:]
    (shown,) = [thread for thread in threads if thread.startswith("LWP 1)")]
    (ours,) = [
        text
        for text in (path.read_text() for path in tree.glob("cpu/*/registers"))
        if text.startswith("pid 1\n")
    ]
    registers = dict(re.findall(r"^(\w+) +(0x[0-9a-f]+)", shown, re.MULTILINE))
    for name in ("rip", "rsp", "rbp", "rax", "rdi", "r14", "eflags", "cs", "ss"):
        assert f"\n{name} {int(registers[name], 16):#018x}\n" in ours


def test_vmcoreinfo_is_the_notes_text(capture: Capture, tree: Path) -> None:
    text = (tree / "vmcoreinfo").read_bytes()
    assert text == vmcoreinfo(capture.vmcore)
    release = capture.text("uname").split()[2]
    assert text.startswith(f"OSRELEASE={release}\n".encode())
    assert release == capture.kernel.name


def test_version_is_the_banner_of_the_log_and_of_the_debug_symbols(
    capture: Capture, tree: Path, vmlinux: Path
) -> None:
    version = (tree / "version").read_text()
    (logged,) = [line for line in capture.text("dmesg").splitlines() if "] Linux version " in line]
    assert version == logged.partition("] ")[2] + "\n"
    assert version == capture.text("version")
    assert version.encode() in vmlinux.read_bytes()
    # uname -a: sysname, node, release, version ..., machine
    sysname, _, release, rest = capture.text("uname").strip().split(" ", 3)
    assert version.startswith(f"{sysname} version {release} (")
    assert version.endswith(f" {rest.partition(' x86_64')[0]}\n")


def test_without_symbols_version_is_what_uname_told(capture: Capture) -> None:
    with vmcorefs.open(capture.config) as opened:
        image = opened.image
        info = image.notes.vmcoreinfo
        assert info is not None
        memory = Reader("memory", image.memory, image.sources)
        said = read_uts(info, through_loads(memory, image.plan.elfcorehdr))
    sysname, _, release, rest = capture.text("uname").strip().split(" ", 3)
    assert said.decode() == f"{sysname} version {release} {rest.partition(' x86_64')[0]}\n"


def test_dmesg_is_what_vmcore_dmesg_prints(capture: Capture, tree: Path) -> None:
    said = (tree / "dmesg").read_text()
    assert said == tools.vmcore_dmesg(capture.vmcore)
    assert said.count("\n") > 300


def test_the_report_is_what_the_command_prints(capture: Capture, tree: Path) -> None:
    command: list[str | Path] = [sys.executable, "-m", "vmcorefs", "report", capture.config]
    assert (tree / "report.txt").read_text() == tools.run(command, capture.ram)
    report = json.loads((tree / "report.json").read_text())
    assert report["died"]["release"] == capture.text("uname").split()[2]
    assert report["unknown"] == []
    assert (tree / "report.json").stat().st_size == len((tree / "report.json").read_bytes())


def test_iomem_is_the_guests(capture: Capture, tree: Path) -> None:
    assert (tree / "iomem").read_text() == capture.text("iomem")


def test_everything_is_as_old_as_the_crash(capture: Capture, tree: Path) -> None:
    lines = vmcoreinfo(capture.vmcore).decode().split()
    (seconds,) = (line.partition("=")[2] for line in lines if line.startswith("CRASHTIME="))
    for path in (tree, *tree.rglob("*")):
        assert path.stat().st_mtime == int(seconds), path


def test_layout_accounts_for_every_byte(tree: Path) -> None:
    files = json.loads((tree / "layout.json").read_text())["files"]
    listed = {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}
    left_out = {"layout.json", "report.txt", "report.json"}
    left_out |= {path for path in listed if path.startswith("modules/")}
    assert set(files) == listed - left_out
    for name, entry in files.items():
        path, end = tree / name, 0
        assert entry["size"] == path.stat().st_size
        for extent in entry["extents"]:
            assert extent["offset"] == end, name
            end += extent["size"]
            _check_extent(path, extent)
        assert end == entry["size"], name


def _check_extent(path: Path, extent: dict[str, Any]) -> None:
    """Check the first and the last bytes of an extent against what it is said to come from."""
    offset, size = extent["offset"], extent["size"]
    assert size > 0
    length = min(size, _SAMPLE)
    for skip in (0, size - length):
        if extent["kind"] == "hole" and path.name == "kcore":
            with pytest.raises(OSError, match="Input/output error"):
                read(path, offset + skip, length)
        elif extent["kind"] in ("zero", "hole"):
            assert is_zero(path, offset + skip, length), extent
        elif extent["from"] != "made":
            source, there = Path(extent["source"]), extent["source_offset"] + skip
            assert compare(path, offset + skip, source, there, length) == (0, None), extent
    if extent["kind"] == "data" and extent["from"] == "made" and path.name == "vmcore":
        assert read(path, offset, 4) == b"\x7fELF"
