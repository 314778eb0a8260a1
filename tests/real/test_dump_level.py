"""Dump levels: page for page what makedumpfile leaves out, and what the guest says of its pages."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pytest

import vmcorefs
from tests.oracles.kdump_bitmaps import Pages, read_bitmaps
from tests.oracles.newer import newer_makedumpfile
from tests.real import tools
from tests.real.marks import REAL, only, stopped
from tests.real.trees import mounted
from tests.real.truth import by_address, segments, vmcoreinfo
from tests.real.versions import crash_knows, makedumpfile_knows_free_pages, version
from vmcorefs.core.pages.dump_level import PageKind, left_out

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.capture import Capture, Snapshot

pytestmark = REAL

LEVELS: Final = (0, 1, 2, 4, 8, 16, 31)
_PAGE: Final = 4096

# what the guest's workload calls its pages (tests/lab/workload.c), and what they are
_WORKLOAD: Final = {
    "anon": PageKind.USER,
    "mlocked": PageKind.USER,
    "thp": PageKind.USER,
    "hugetlb": PageKind.USER,
    "hugetlbfs": PageKind.USER,
    "shmem": PageKind.CACHE,
    "tmpfs": PageKind.CACHE,
    "read": PageKind.CACHE,
    "written": PageKind.CACHE_PRIVATE,
    "poisoned": PageKind.HWPOISON,
}

Kinds = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def kinds(capture: Capture) -> Kinds:
    """What vmcorefs takes each page for, by page frame number."""
    with vmcorefs.open(capture.config) as opened:
        pages = opened.image.pages
        assert pages.unknown == ()
        found: Kinds = pages.of(0, opened.image.memory_map.end // _PAGE)
        return found


@pytest.fixture(scope="module")
def filtered(capture: Capture, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A mount at level 31."""
    where = tmp_path_factory.mktemp("filtered")
    with mounted(where, "--dump-level", "31", capture.config) as tree:
        yield tree / "vmcore"


def _bitmaps(
    makedumpfile: list[str | Path], dump: Path, scratch: Path, level: int
) -> tuple[Pages, Pages]:
    out = scratch / f"level-{level}"
    done = tools.attempt([*makedumpfile, "-l", "-d", str(level), dump, out])
    assert done.returncode == 0, done.stdout[-2000:]
    found = read_bitmaps(out)
    out.unlink()
    return found


@only("kexec", "kexec-newer")
def test_every_page_is_what_makedumpfile_takes_it_for(
    capture: Capture, kinds: Kinds, scratch: Path
) -> None:
    """But for tails in 7.x: 1.7.8 looks for page.compound_head, which is compound_info now.

    It says itself that it does not support that kernel, and takes tails of slabs for user pages;
    without them drgn fails.
    """
    knows_tails = b"OFFSET(page.compound_head)" in vmcoreinfo(capture.vmcore)
    for level in LEVELS:
        ram, theirs = _bitmaps(newer_makedumpfile(), capture.vmcore, scratch, level)
        ours = ram & ~left_out(level)[kinds[: len(ram)]]
        different = np.flatnonzero(ours != theirs)
        if knows_tails:
            assert different.tolist() == [], (level, [PageKind(kinds[n]).name for n in different])
        else:
            assert not theirs[different].any()
            assert (len(different) > 0) == bool(level & 8)
            assert len(different) < 1000
        assert theirs.sum() < ram.sum() or level in (0, 1)


@only("kexec")
def test_debians_makedumpfile_takes_pages_for_the_same(
    capture: Capture, kinds: Kinds, scratch: Path
) -> None:
    """But for what it is known to be wrong about: 1.7.2 drops the last page of low memory.

    3 KiB of that page are RAM.
    """
    ram, theirs = _bitmaps(["makedumpfile"], capture.vmcore, scratch, 31)
    ours = ram & ~left_out(31)[kinds[: len(ram)]]
    dropped = [0x9F] if version("makedumpfile") == (1, 7, 2) else []
    assert np.flatnonzero(ours & ~theirs).tolist() == dropped
    free = ram & (kinds[: len(ram)] == PageKind.FREE)
    assert free.sum() > 10_000
    kept = np.zeros_like(free) if makedumpfile_knows_free_pages(capture.kernel) else free
    assert (theirs & ~ours == kept).all()


@only("kexec", "file", "kexec-newer")
def test_pages_are_what_the_guest_made_them(capture: Capture, kinds: Kinds) -> None:
    lines = [line.split() for line in capture.text("workload").splitlines()]
    # as Debian's cloud kernel 6.1 cannot poison a page
    without = {words[1].rstrip(":") for words in lines if words[0] == "without"}
    can_poison = "CONFIG_MEMORY_FAILURE=y" in capture.kernel.config
    assert without == (set() if can_poison else {"poisoned"})
    found: Counter[tuple[str, PageKind]] = Counter()
    for name, *where in lines:
        if name in _WORKLOAD.keys() - without:
            first, count = int(where[0], 16), int(where[1])
            found.update((name, PageKind(kind)) for kind in kinds[first : first + count].tolist())
    assert found.keys() == {(name, kind) for name, kind in _WORKLOAD.items() if name not in without}
    assert found["thp", PageKind.USER] == found["anon", PageKind.USER] == 2048


@only("kexec", "kexec-newer")
def test_the_mount_has_the_pages_that_are_kept_and_no_others(
    capture: Capture, kinds: Kinds, filtered: Path
) -> None:
    stored: dict[int, bytes] = {}
    with by_address(capture.vmcore, "p_paddr") as truth, filtered.open("rb") as file:
        for load in segments(filtered).loads:
            for at in range(0, load["p_filesz"] // _PAGE * _PAGE, _PAGE):
                paddr = load["p_paddr"] + at
                file.seek(load["p_offset"] + at)
                data = file.read(_PAGE)
                if left_out(31)[kinds[paddr // _PAGE]]:
                    assert not any(data), hex(paddr)
                else:
                    assert data == truth(paddr, _PAGE), hex(paddr)
                stored[paddr] = data
    whole = {
        page
        for load in segments(capture.vmcore).loads
        for page in range(load["p_paddr"], (load["p_paddr"] + load["p_memsz"]) & -_PAGE, _PAGE)
    }
    assert stored.keys() <= whole
    assert all(left_out(31)[kinds[page // _PAGE]] for page in whole - stored.keys())
    assert len(stored) < len(whole) // 4


@only("kexec", "kexec-newer")
def test_a_sparse_copy_has_only_what_is_kept(
    kinds: Kinds, filtered: Path, scratch: Path, capture: Capture
) -> None:
    out = scratch / "copy"
    tools.run(["cp", "--sparse=always", filtered, out], filtered)
    ram = sum(load["p_memsz"] for load in segments(capture.vmcore).loads)
    assert out.stat().st_size == filtered.stat().st_size < ram // 4
    text = segments(capture.vmcore).loads[0]["p_memsz"]  # it stands in the file twice
    kept = int((~left_out(31)[kinds]).sum()) * _PAGE
    assert out.stat().st_blocks * 512 < kept + text + (1 << 20)


@only("kexec", "kexec-newer")
def test_the_mounted_kdump_file_has_the_pages_that_are_kept(
    capture: Capture, kinds: Kinds, filtered: Path, scratch: Path
) -> None:
    dump = filtered.with_name("vmcore.kdump")
    ram, kept = read_bitmaps(dump)
    assert (kept == (ram & ~left_out(31)[kinds[: len(ram)]])).all()
    asked = [int(pfn) * _PAGE for pfn in np.flatnonzero(kept)[::97]]
    truth = tools.physical("libkdumpfile", capture.vmcore, asked)
    assert tools.physical("libkdumpfile", dump, asked)["pages"] == truth["pages"]
    log = tools.makedumpfile(dump, scratch / "log", "--dump-dmesg").read_text()
    assert log == tools.makedumpfile(capture.vmcore, scratch / "want", "--dump-dmesg").read_text()
    assert tools.crash_osrelease(dump) == f"{capture.kernel.name}\n"


@only("kexec", "kexec-newer")
def test_tools_say_the_same_of_what_is_left(
    capture: Capture, filtered: Path, vmlinux: Path, scratch: Path
) -> None:
    assert tools.crash_osrelease(filtered) == f"{capture.kernel.name}\n"
    assert tools.vmcore_dmesg(filtered) == tools.vmcore_dmesg(capture.vmcore)
    assert tools.drgn(vmlinux, filtered) == tools.drgn(vmlinux, capture.vmcore)
    if crash_knows(capture.kernel):
        commands = ("sys", "bt", "ps", "rd linux_banner 16")
        said = tools.crash(vmlinux, filtered, *commands)
        assert said == tools.crash(vmlinux, capture.vmcore, *commands)
        assert "__crash_kexec at " in said
    # filtered again, it has the pages that the whole one has
    newer = newer_makedumpfile()
    _, theirs = _bitmaps(newer, capture.vmcore, scratch, 31)
    _, again = _bitmaps(newer, filtered, scratch, 31)
    assert (again == theirs).all()


@only("kexec")
@pytest.mark.parametrize("layout", ["kernel", "universal"])
def test_tools_for_physical_memory_see_what_is_left(
    capture: Capture, kinds: Kinds, tmp_path: Path, layout: str
) -> None:
    kept = np.flatnonzero(kinds[256:] == PageKind.KERNEL)[::997] + 256
    with ExitStack() as stack:
        truth = stack.enter_context(by_address(capture.vmcore, "p_paddr"))
        wanted = {}
        for paddr in (kept * _PAGE).tolist():
            page = truth(paddr, _PAGE)
            if page is not None:  # the crash kernel's is in no vmcore
                wanted[paddr] = hashlib.sha256(page).hexdigest()
        assert len(wanted) > 20
        options = ("--layout", layout, "--dump-level", "31")
        tree = stack.enter_context(mounted(tmp_path, *options, capture.config))
        names = ["libkdumpfile", "volatility3", "leechcore"]
        for tool in names if layout == "universal" else names[:1]:
            said = tools.physical(tool, tree / "vmcore", list(wanted))
            assert {int(paddr): page for paddr, page in said["pages"].items()} == wanted, tool


@stopped("arm64", "arm64-52-bit", "arm64-16k")
def test_a_machine_that_was_stopped_has_about_the_free_memory_that_it_booted_with(
    snapshot: Snapshot,
) -> None:
    """Other page sizes and page tables; no makedumpfile of this machine's reads arm64's."""
    # not what it calls available: a kernel may give out most of its memory later (deferred pages)
    line = re.search(r"Memory: \d+K/(\d+)K .* (\d+)K reserved", snapshot.text("dmesg"))
    assert line is not None
    booted = 1024 * (int(line[1]) - int(line[2]))
    with vmcorefs.open(snapshot.config, dump_level=16) as opened:
        assert opened.filtered is not None
        pages = opened.image.pages
        free = opened.filtered.counts[PageKind.FREE] * pages.page_size
        kernel = opened.image.notes.vmcoreinfo
        assert kernel is not None
        assert pages.page_size == int(kernel.values["PAGESIZE"])
    assert opened.filtered.warnings == ()
    assert 0.8 * booted < free < 1.1 * booted
