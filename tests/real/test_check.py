"""``vmcorefs check`` says of each tool what the tool then does."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.real import tools
from tests.real.marks import REAL, only
from tests.real.trees import mounted, vmcorefs
from tests.real.truth import crashed_ram, segments, vmcoreinfo
from tests.real.versions import crash_knows, makedumpfile_loses_pages

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.lab.capture import Capture

pytestmark = REAL

VARIANTS: Final = {
    "kernel": (),
    "universal": ("--layout", "universal"),
    # headers from the map, without VMCOREINFO: crash, drgn and makedumpfile are lost
    "none": ("--elfcorehdr", "none", "--vmcoreinfo", "none"),
}

YES, BUT, NO = "yes", "yes, but", "no"


def _crash(capture: Capture, vmlinux: Path, dump: Path) -> str:
    done = tools.attempt(["crash", "-s", vmlinux, dump], stdin="sys\nquit\n")
    return YES if done.returncode == 0 and f"RELEASE: {capture.kernel.name}" in done.stdout else NO


def _gdb(capture: Capture, vmlinux: Path, dump: Path) -> str:
    offset = vmcoreinfo(capture.vmcore).decode().partition("KERNELOFFSET=")[2].split()[0]
    done = tools.attempt(
        [
            *("gdb", "--nx", "--quiet", "--batch", "--core", dump),
            *("-ex", "info files", "-ex", f"symbol-file {vmlinux} -o 0x{offset}"),
            *("-ex", "thread apply all bt"),
        ]
    )
    if "file type elf64-x86-64" not in done.stdout:
        return NO
    return YES if "vfs_write" in done.stdout else BUT


def _drgn(capture: Capture, vmlinux: Path, dump: Path) -> str:
    try:
        return YES if capture.kernel.name in tools.drgn(vmlinux, dump) else NO
    except AssertionError:  # it failed
        return NO


def _makedumpfile(capture: Capture, vmlinux: Path, dump: Path) -> str:
    del capture, vmlinux  # it has no use for them
    out = dump.parents[1] / "out"  # beside the mount
    done = tools.attempt(["makedumpfile", "-c", "-d", "31", dump, out])
    out.unlink(missing_ok=True)
    return YES if done.returncode == 0 else NO


def _libkdumpfile(capture: Capture, vmlinux: Path, dump: Path) -> str:
    del vmlinux
    paddr = crashed_ram(capture)[-1][0]
    said = tools.physical("libkdumpfile", dump, [paddr])
    if not said["opened"] or not said["pages"][str(paddr)]:
        return NO
    return YES if said.get("reads_kernel") else BUT


def _volatility3(capture: Capture, vmlinux: Path, dump: Path) -> str:
    del vmlinux
    root, vaddr = _page_tables(capture)
    said = tools.physical("volatility3", dump, [], f"walk={root},{vaddr}")
    if not said["opened"]:
        return NO
    # from a dump without VMCOREINFO nobody can tell how many levels there are
    told = b"SYMBOL(swapper_pg_dir)" in segments(dump).note
    if told and said["walked"] != root:
        return BUT
    ram = [span for span in crashed_ram(capture) if capture.lowmem or span[0] >= 1 << 20]
    whole = said["minimum"] <= ram[0][0] and said["maximum"] >= ram[-1][1] - 1
    return YES if whole else BUT


def _page_tables(capture: Capture) -> tuple[int, int]:
    """Where the root of the kernel's page tables is in memory, and where they map it."""
    told = vmcoreinfo(capture.vmcore).decode()
    vaddr = int(told.partition("SYMBOL(swapper_pg_dir)=")[2].split()[0], 16)
    base = int(told.partition("NUMBER(phys_base)=")[2].split()[0])
    return vaddr - 0xFFFFFFFF80000000 + base, vaddr


def _memprocfs(capture: Capture, vmlinux: Path, dump: Path) -> str:
    del capture, vmlinux
    # opened, it is still no tool for Linux
    return BUT if tools.physical("leechcore", dump, [])["opened"] else NO


PROBES: Final[dict[str, Callable[[Capture, Path, Path], str]]] = {
    "crash": _crash,
    "gdb": _gdb,
    "drgn": _drgn,
    "makedumpfile": _makedumpfile,
    "libkdumpfile": _libkdumpfile,
    "volatility3": _volatility3,
    "MemProcFS": _memprocfs,
}


def _check(*arguments: str | Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(vmcorefs("check", "--json", *arguments))
    return report


def _verdict(tool: dict[str, Any], capture: Capture) -> str:
    """What is said of a tool, were it not for older versions than this machine's."""
    others = [each for each in tool["objections"] if not _is_of_versions(each)]
    if tool["tool"] == "crash":
        assert crash_knows(capture.kernel)
    said: str = tool["opens"] if others else YES
    return said


def _is_of_versions(objection: dict[str, Any]) -> bool:
    return bool(re.search(r"Linux [0-9]+\.[0-9]+", objection["rule"]))


@only("kexec", "file")
@pytest.mark.parametrize("variant", VARIANTS)
def test_verdicts_are_what_the_tools_do(
    capture: Capture, tmp_path: Path, vmlinux: Path, variant: str
) -> None:
    options = VARIANTS[variant]
    verdicts = {
        tool["tool"]: _verdict(tool, capture) for tool in _check(*options, capture.config)["tools"]
    }
    with mounted(tmp_path, *options, capture.config) as tree:
        found = {tool: probe(capture, vmlinux, tree / "vmcore") for tool, probe in PROBES.items()}
    assert verdicts == found
    # ... and they are not all of one kind
    assert (YES in found.values(), NO in found.values()) == (True, variant != "universal")


@only("kexec", "file")
def test_what_helps_crash_without_vmcoreinfo_does_help(
    capture: Capture, tmp_path: Path, vmlinux: Path
) -> None:
    options = VARIANTS["none"]
    (said,) = (t for t in _check(*options, capture.config)["tools"] if t["tool"] == "crash")
    assert said["objections"][0]["remedy"].endswith("crash --kaslr=OFFSET -m phys_base=ADDRESS")
    lines = dict(
        line.split("=", 1) for line in vmcoreinfo(capture.vmcore).decode().splitlines() if line
    )
    with mounted(tmp_path, *options, capture.config) as tree:
        moved = f"--kaslr=0x{lines['KERNELOFFSET']}"
        base = f"phys_base={int(lines['NUMBER(phys_base)']):#x}"
        done = tools.attempt(
            ["crash", "-s", moved, "-m", base, vmlinux, tree / "vmcore"], stdin="sys\nquit\n"
        )
    assert done.returncode == 0, done
    assert f"RELEASE: {capture.kernel.name}" in done.stdout


@only("kexec-newer")
def test_debians_tools_do_not_know_a_newer_kernel(
    capture: Capture, vmlinux: Path, scratch: Path
) -> None:
    assert not crash_knows(capture.kernel)
    assert makedumpfile_loses_pages(capture.kernel)
    verdicts = _check(capture.config)["tools"]
    warned = {tool["tool"] for tool in verdicts if any(map(_is_of_versions, tool["objections"]))}
    assert warned == {"crash", "makedumpfile"}
    # and that on the kernel's own vmcore
    done = tools.attempt(["crash", "-s", vmlinux, capture.vmcore], stdin="quit\n")
    assert done.returncode == 1, done
    with pytest.raises(AssertionError, match="Excluded page"):
        tools.drgn(vmlinux, tools.makedumpfile(capture.vmcore, scratch / "out", "-c", "-d", "8"))
