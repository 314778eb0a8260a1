"""The universal layout: tools answer as on the kernel's own vmcore, and all of them open it."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING, Final

import pytest

from tests.real import tools
from tests.real.marks import REAL, only
from tests.real.trees import mounted
from tests.real.truth import Span, backup, crashed_ram, in_memory, segments, spans
from tests.real.versions import makedumpfile_loses_pages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.capture import Capture

pytestmark = REAL

_PAGE: Final = 4096
_SAMPLES: Final = 300
_CRASH_COMMANDS: Final = ("sys", "bt", "bt -a", "log", "ps", "rd linux_banner 16", "kmem -i", "mod")


@pytest.fixture(scope="session")
def vmcore(capture: Capture, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    where = tmp_path_factory.mktemp("universal")
    with mounted(where, "--layout", "universal", capture.config) as tree:
        yield tree / "vmcore"


def _pages(capture: Capture) -> list[Span]:
    """RAM, rounded outward to pages."""
    return [
        (start & -_PAGE, (end + _PAGE - 1) & -_PAGE)
        for start, end in crashed_ram(capture)
        if capture.lowmem is not None or start >= 1 << 20  # kexec_file_load leaves low memory out
    ]


def _sample(capture: Capture) -> dict[int, str]:
    """Pages of RAM, the first and last of each range among them, and their true SHA-256."""
    chosen = random.Random(0)  # noqa: S311  # the same pages in every run
    ranges = _pages(capture)
    paddrs = {edge for start, end in ranges for edge in (start, end - _PAGE)}
    paddrs |= {chosen.randrange(*span, _PAGE) for span in ranges for _ in range(_SAMPLES)}
    return {paddr: hashlib.sha256(_page(capture, paddr)).hexdigest() for paddr in sorted(paddrs)}


def _page(capture: Capture, paddr: int) -> bytes:
    page = bytearray(in_memory(capture, paddr, _PAGE))
    saved = backup(capture)
    if saved is not None and capture.lowmem is not None and saved[0] <= paddr < saved[1]:
        lowmem = capture.lowmem.read_bytes()[paddr - saved[0] :][:_PAGE]
        page[: len(lowmem)] = lowmem
    return bytes(page)


def test_segments_are_ram_in_whole_pages_and_text(capture: Capture, vmcore: Path) -> None:
    *ram, text = segments(vmcore).loads
    assert [(load["p_paddr"], load["p_paddr"] + load["p_filesz"]) for load in ram] == _pages(
        capture
    )
    (kernels,) = [s for s in segments(capture.vmcore).loads if s["p_vaddr"] >= 0xFFFFFFFF80000000]
    assert (text["p_vaddr"], text["p_filesz"]) == (kernels["p_vaddr"], kernels["p_filesz"])
    assert (text["p_paddr"], text["p_memsz"]) == (2**64 - 1, text["p_filesz"] + 1)
    assert segments(vmcore).note == segments(capture.vmcore).note
    # and nothing twice
    assert vmcore.stat().st_size < capture.vmcore.stat().st_size


def test_crash_and_vmcore_dmesg_say_the_same(capture: Capture, vmcore: Path) -> None:
    assert tools.crash_osrelease(vmcore) == f"{capture.kernel.name}\n"
    assert tools.vmcore_dmesg(vmcore) == tools.vmcore_dmesg(capture.vmcore)


@only("kexec", "file")  # Debian's crash does not know a newer kernel (test_check.py)
def test_crash_with_symbols_says_the_same(capture: Capture, vmcore: Path, vmlinux: Path) -> None:
    said = tools.crash(vmlinux, vmcore, *_CRASH_COMMANDS)
    assert said == tools.crash(vmlinux, capture.vmcore, *_CRASH_COMMANDS)
    tools.assert_in_order(said, ["NODENAME: vmcorefs-lab", "__crash_kexec at ", "about to panic"])


def test_gdb_reads_text_and_direct_map_alike(capture: Capture, vmcore: Path) -> None:
    commands = ["info threads", "thread apply all info registers"]
    for load in segments(capture.vmcore).loads:
        start, size = load["p_vaddr"], load["p_memsz"]
        commands += [f"x/8gx {start + at:#x}" for at in (0, size // 2 & -8, size - 64)]
    said = tools.gdb(vmcore, *commands)
    assert said == tools.gdb(capture.vmcore, *commands)
    assert "Cannot access memory" not in said


def test_drgn_says_the_same(capture: Capture, vmcore: Path, vmlinux: Path) -> None:
    said = tools.drgn(vmlinux, vmcore)
    assert said == tools.drgn(vmlinux, capture.vmcore)
    assert "__crash_kexec" in said


def test_makedumpfile_makes_a_dump_that_says_the_same(
    capture: Capture, vmcore: Path, vmlinux: Path, scratch: Path
) -> None:
    log = tools.makedumpfile(vmcore, scratch / "log", "--dump-dmesg")
    theirs = tools.makedumpfile(capture.vmcore, scratch / "their-log", "--dump-dmesg")
    assert log.read_bytes() == theirs.read_bytes()
    # Debian's leaves out pages of a newer kernel that drgn needs (test_check.py)
    level = "1" if makedumpfile_loses_pages(capture.kernel) else "31"
    out = tools.makedumpfile(vmcore, scratch / "out", "-c", "-d", level)
    assert out.stat().st_size > 1 << 20
    assert tools.drgn(vmlinux, out) == tools.drgn(vmlinux, capture.vmcore)


@pytest.mark.parametrize("tool", ["libkdumpfile", "volatility3", "leechcore"])
def test_every_page_is_the_right_one(capture: Capture, vmcore: Path, tool: str) -> None:
    wanted = _sample(capture)
    hole = spans(capture, "Crash kernel")[0][0]
    said = tools.physical(tool, vmcore, [*wanted, hole])
    assert said["opened"]
    assert {int(paddr): page for paddr, page in said["pages"].items()} == {**wanted, hole: None}


def test_libkdumpfile_follows_page_tables(capture: Capture, vmcore: Path) -> None:
    said = tools.physical("libkdumpfile", vmcore, [])
    assert (said["release"], said["reads_kernel"]) == (capture.kernel.name, True)


def test_volatility3_sees_all_of_memory(capture: Capture, vmcore: Path) -> None:
    said = tools.physical("volatility3", vmcore, [])
    ranges = _pages(capture)
    assert (said["minimum"], said["maximum"]) == (ranges[0][0], ranges[-1][1] - 1)


@only("kexec", "kexec-newer")  # 5 GiB take it minutes
def test_volatility3_finds_banner_and_vmcoreinfo(capture: Capture, vmcore: Path) -> None:
    said = tools.physical("volatility3", vmcore, [], "scan")
    assert any(f"Linux version {capture.kernel.name} " in banner for banner in said["banners"])
    assert capture.kernel.name in said["releases"]


def test_leechcore_sees_all_of_memory(capture: Capture, vmcore: Path) -> None:
    said = tools.physical("leechcore", vmcore, [])
    assert [tuple(span) for span in said["ranges"]] == _pages(capture)
