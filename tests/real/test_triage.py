"""A triage dump: the report of it is that of the image, and tools open it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from drgn import Object
from drgn.helpers.linux.rbtree import rbtree_inorder_for_each_entry

import vmcorefs
from tests.real import tools
from tests.real.marks import REAL, only, stopped
from vmcorefs.capture.run.saver import save as save_in_capture_kernel
from vmcorefs.capture.settings import DumpSettings, KeepSettings, Settings, TargetSettings
from vmcorefs.core.pages.dump_level import PageKind
from vmcorefs.core.space.extents import Kind
from vmcorefs.core.space.ranges import intersect, make_ranges, round_out, subtract, total_size
from vmcorefs.errors import FaultError
from vmcorefs.reports.report.gather import make_report
from vmcorefs.reports.report.walk.program import open_program
from vmcorefs.reports.triage.find import find_triage
from vmcorefs.save.command import TRIAGE_LEVELS, make_order, save_image
from vmcorefs.save.report import Report
from vmcorefs.save.saver import Console

if TYPE_CHECKING:
    from tests.lab.capture import Capture, Snapshot

pytestmark = REAL

_QUIET = Console(bar=False, say=None, warn=lambda _line: None)
_FORBIDDEN = (
    *(PageKind.USER, PageKind.CACHE, PageKind.CACHE_PRIVATE, PageKind.FREE),
    *(PageKind.HWPOISON, PageKind.OFFLINE),
)
_LEVEL_31 = 16 << 20
"""What a dump of level 31 of one of these machines takes at least, in bytes."""


def _save(snapshot: Snapshot, out: Path, form: str = "kdump") -> Report:
    """Save as a capture kernel does, which has no drgn."""
    with vmcorefs.open(snapshot.config) as opened:
        triage = find_triage(opened.image, with_drgn=False)
        order = make_order(str(out), TRIAGE_LEVELS, form, None)
        return save_image(opened.image, order, 2, _QUIET, triage=triage)


def _report(path: Path | str) -> bytes:
    """The report's JSON, as drgn has helped to make it."""
    with vmcorefs.open(path) as opened:
        report = make_report(opened.image)
    assert report.cpus
    assert report.memory is not None
    assert report.memory.processes
    return msgspec.json.encode(report)


@pytest.fixture(scope="module")
def triage(capture: Capture, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("triage") / "dump"
    saved = _save(capture, path)
    assert saved.is_complete
    assert saved.size < _LEVEL_31 // 2
    return path


def test_the_report_of_it_is_that_of_the_image(capture: Capture, triage: Path) -> None:
    assert _report(triage) == _report(capture.config)


@stopped("none", "arm64-52-bit")
def test_so_it_is_of_a_machine_that_was_stopped(snapshot: Snapshot, tmp_path: Path) -> None:
    _save(snapshot, tmp_path / "dump")

    assert _report(tmp_path / "dump") == _report(snapshot.config)


@pytest.mark.parametrize("form", ["elf", "flattened"])
@only("kexec")
def test_so_it_is_in_every_format(capture: Capture, tmp_path: Path, form: str) -> None:
    _save(capture, tmp_path / "dump", form)

    assert _report(tmp_path / "dump") == _report(capture.config)


def test_nothing_that_programs_or_files_had_is_in_it(capture: Capture, triage: Path) -> None:
    with vmcorefs.open(capture.config) as whole, vmcorefs.open(triage) as dump:
        page = whole.image.page_size
        held = dump.image.memory.only(Kind.DATA).ranges // page
        pages = np.concatenate([np.arange(*row) for row in held.tolist()])
        kinds = whole.image.pages.of_each(pages)
        one_by_one = [int(whole.image.pages.of(pfn, 1)[0]) for pfn in pages[::50].tolist()]

    assert len(pages) > 1000
    assert not np.isin(kinds, _FORBIDDEN).any()
    assert kinds[::50].tolist() == one_by_one


@only("kexec")
def test_no_key_is_in_it(capture: Capture, triage: Path) -> None:
    with vmcorefs.open(capture.config) as whole, vmcorefs.open(triage) as dump:
        kernel = whole.image.kernel
        assert kernel is not None
        program = open_program(kernel)
        # every key is in it (security/keys/key.c)
        serials = Object(program, "struct rb_root", address=kernel.symbol("key_serial_tree"))
        keys = rbtree_inorder_for_each_entry("struct key", serials, "serial_node")
        places = [int(key) for key in keys]
        pages = kernel.mappings.translate_many(np.array(places, dtype=np.uint64)) // 4096 * 4096
        held = dump.image.memory.only(Kind.DATA).ranges

    assert len(places) > 5
    assert not intersect(held, make_ranges((at, at + 4096) for at in pages.tolist())).size


@pytest.mark.parametrize("form", ["kdump", "elf"])
@only("kexec")
def test_what_is_not_in_it_is_an_error_and_never_zeros(
    capture: Capture, tmp_path: Path, form: str
) -> None:
    _save(capture, tmp_path / "dump", form)
    with vmcorefs.open(capture.config) as whole, vmcorefs.open(tmp_path / "dump") as dump:
        image = dump.image
        assert image.kernel is not None
        ram = whole.image.plan.elfcorehdr.ram
        others = subtract(round_out(ram, 4096), image.memory.only(Kind.DATA).ranges)
        assert total_size(others) > 500 << 20
        for start in others[:: max(len(others) // 50, 1), 0].tolist():
            with pytest.raises(FaultError):
                image.kernel.memory.pread(8, start)
        pages = others[:4, 0].tolist()

    # in an ELF file p_filesz is less than p_memsz there, which libkdumpfile 0.5.4 takes for zeros
    if form == "kdump":
        said = tools.physical("libkdumpfile", tmp_path / "dump", pages)
        assert set(said["pages"].values()) == {None}


@only("kexec")
def test_crash_says_what_it_says_of_the_truth(
    capture: Capture, triage: Path, vmlinux: Path
) -> None:
    commands = ("sys", "bt -a", "ps", "log", "mod", "foreach UN bt", "runq")
    said = tools.crash(vmlinux, triage, *commands)

    truth = tools.crash(vmlinux, capture.vmcore, *commands)
    assert "sysrq_handle_crash" in said
    # it says so of modules, whose code, which is not in it, it reads together with their symbols
    lines = [line for line in said.splitlines() if "cannot access module kallsyms" not in line]
    told = "\n".join(lines).replace("  [PARTIAL DUMP]", "")
    # crash 8.0.2 does not know of these symbols then
    without = "  [CONFIG_KALLSYMS]"
    assert told.replace(without, "") == truth.replace(without, "").rstrip("\n")


@only("kexec")
def test_drgn_says_what_it_says_of_the_truth(capture: Capture, triage: Path, vmlinux: Path) -> None:
    assert tools.drgn(vmlinux, triage) == tools.drgn(vmlinux, capture.vmcore)


@only("kexec")
def test_gdb_reads_what_is_in_it_and_no_more(capture: Capture, tmp_path: Path) -> None:
    _save(capture, tmp_path / "dump", "elf")
    with vmcorefs.open(capture.config) as whole, vmcorefs.open(tmp_path / "dump") as dump:
        kernel = whole.image.kernel
        assert kernel is not None
        banner = kernel.symbol("linux_banner")
        code = np.arange(kernel.symbol("_stext"), kernel.symbol("_etext"), 4096, dtype=np.uint64)
        pages = kernel.mappings.translate_many(code) // 4096
        held = [np.arange(*row) for row in (dump.image.memory.only(Kind.DATA).ranges // 4096)]
        text = int(code[~np.isin(pages, np.concatenate(held))][0])
    commands = ["-ex", f"x/s {banner:#x}", "-ex", f"x/gx {text:#x}"]
    gdb: list[str | Path] = ["gdb", "--nx", "--quiet", "--batch", "--core", tmp_path / "dump"]
    said = tools.attempt([*gdb, *commands]).stdout

    assert capture.text("version").split("(")[0].strip() in said
    assert "Cannot access memory at address" in said


@only("kexec")
def test_the_command_says_what_it_has_saved(capture: Capture, tmp_path: Path) -> None:
    program, out = [sys.executable, "-m", "vmcorefs"], tmp_path / "dump"
    made = tools.run(
        [*program, "save", "--triage", capture.config, "-o", out, "--json", "--quiet"], out
    )
    saved = json.loads(made)
    inspected = tools.run([*program, "inspect", out], out)
    checked = " ".join(tools.run([*program, "check", out], out).split())

    assert saved["complete"] is True
    assert saved["dump_level"] == TRIAGE_LEVELS[0]
    assert saved["triage"]["stacks"] > 0
    assert sum(saved["triage"].values()) == sum(one["kept"] for one in saved["pages"].values())
    assert _report(out) == _report(capture.config)
    for words in (inspected, checked):
        assert re.search(r"triage dump: +holds [0-9.]+ MiB of [0-9.]+ MiB of RAM", words)


@only("kexec")
def test_a_capture_kernel_saves_the_small_one_first(capture: Capture, tmp_path: Path) -> None:
    said: list[str] = []
    settings = Settings(
        target=TargetSettings(directory=str(tmp_path / "crash")),
        dump=DumpSettings(level="triage,31"),
        keep=KeepSettings(free="1M"),
    )
    saved = save_in_capture_kernel(settings, str(capture.vmcore), said.append)
    directory = Path(saved.path)
    summary = json.loads((directory / "summary.json").read_text())

    names = ["dmesg", "layout.json", "summary.json", "vmcore", "vmcore.triage"]
    assert sorted(path.name for path in directory.iterdir() if "report" not in path.name) == names
    assert summary["complete"] is True
    assert summary["triage_dump"]["complete"] is True
    assert summary["triage_dump"]["files"][0]["name"] == str(directory / "vmcore.triage")
    small, large = (line for line in said if "of memory in" in line)
    assert "vmcore.triage: " in small
    assert "dump level 31" in large
    assert _report(directory / "vmcore.triage") == _report(capture.vmcore)
