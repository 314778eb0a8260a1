"""A vmcore as the image: the tree is the one of the memory that it was made from."""

from __future__ import annotations

import errno
import hashlib
import json
import random
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.lab.capture import debug_vmlinux
from tests.real import tools
from tests.real.guest_dump import dump_guest_memory
from tests.real.marks import REAL, only, stopped
from tests.real.trees import compare, differences, mounted, read
from tests.real.truth import by_address, in_memory, segments, vmcoreinfo
from vmcorefs import open as open_capture

if TYPE_CHECKING:
    from tests.lab.capture import Capture, Snapshot

pytestmark = REAL

_TEXTS: Final = ("crash_notes", "dmesg", "kallsyms", "version", "vmcoreinfo", "cpu/1/registers")
_PAGE: Final = 4096
_PAGES: Final = Path(__file__).with_name("kdumpfile_pages.py")
_COMPARED: Final = 128 << 20


def test_the_tree_of_the_kernels_own_vmcore(capture: Capture, tree: Path, tmp_path: Path) -> None:
    with mounted(tmp_path, capture.vmcore) as ours:
        assert differences(ours / "vmcore", capture.vmcore) == (0, None)
        for text in _TEXTS:
            assert (ours / text).read_bytes() == (tree / text).read_bytes(), text
        for load in segments(capture.vmcore).loads:
            length = min(load["p_memsz"], _COMPARED)
            for step in (0, load["p_memsz"] - length):
                here, there = load["p_paddr"] + step, load["p_offset"] + step
                assert compare(ours / "oldmem", here, capture.vmcore, there, length) == (0, None)
        # whatever is mapped is in the vmcore, but for what the crash kernel had
        assert (ours / "kcore").stat().st_size == (tree / "kcore").stat().st_size


@only("kexec")
def test_a_mounted_tree_is_an_image(capture: Capture, tree: Path, tmp_path: Path) -> None:
    with mounted(tmp_path, tree) as again:
        assert differences(again / "vmcore", capture.vmcore) == (0, None)
        assert (again / "dmesg").read_bytes() == (tree / "dmesg").read_bytes()


@only("kexec")
def test_a_filtered_elf_dump(capture: Capture, tree: Path, scratch: Path) -> None:
    dump = tools.makedumpfile(capture.vmcore, scratch / "filtered", "-E", "-d", "31")
    loads = segments(dump).loads
    held = {
        page
        for load in loads
        for page in range(load["p_paddr"], load["p_paddr"] + load["p_filesz"], _PAGE)
    }
    left_out = 0
    with mounted(scratch, dump) as ours:
        assert differences(ours / "vmcore", dump) == (0, None)
        assert (ours / "dmesg").read_bytes() == (tree / "dmesg").read_bytes()
        for load in loads:
            start, size = load["p_paddr"], load["p_filesz"]
            assert compare(ours / "oldmem", start, tree / "oldmem", start, size) == (0, None)
            # the kernel's image may have a page that the RAM around it lacks
            if size < load["p_memsz"] and start + size not in held:
                left_out += load["p_memsz"] - size
                with pytest.raises(OSError, match="Input/output error"):
                    read(ours / "oldmem", start + size, 1)
    assert len(held) > 5000
    assert left_out > 500 << 20


_KDUMPS: Final = {
    "zlib": ("-c", "-d", "31"),
    "lzo": ("-l", "-d", "31"),
    "none": ("-d", "31"),
}


@only("kexec")
@pytest.mark.parametrize("options", _KDUMPS)
def test_a_kdump_compressed_dump(capture: Capture, tree: Path, scratch: Path, options: str) -> None:
    dump = tools.makedumpfile(capture.vmcore, scratch / "dump", *_KDUMPS[options])
    _compare_with_libkdumpfile(dump, tree, scratch)


@only("kexec")
def test_a_flattened_dump(capture: Capture, tree: Path, scratch: Path) -> None:
    flat, dump = scratch / "flat", scratch / "dump"
    with flat.open("wb") as file:
        _makedumpfile("-F", "-c", "-d", "31", capture.vmcore, stdout=file)
    with flat.open("rb") as file:
        _makedumpfile("-R", dump, stdin=file)  # libkdumpfile 0.5.1 does not open a stream
    _compare_with_libkdumpfile(dump, tree, scratch, flat)


def _makedumpfile(*words: str | Path, **streams: Any) -> None:
    path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    command = ["makedumpfile", *map(str, words)]
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | streams
    subprocess.run(command, env=path, check=True, timeout=1200, **streams)


@stopped("none")
def test_qemus_compressed_dump_of_a_guest(snapshot: Snapshot, scratch: Path) -> None:
    dump = dump_guest_memory(snapshot, scratch / "dump", "kdump-zlib")  # flattened
    with mounted(scratch, dump) as ours:
        assert (
            tools.crash_osrelease(ours / "vmcore").strip() in vmcoreinfo(ours / "vmcore").decode()
        )
        for load in segments(ours / "vmcore").loads:
            start, size = load["p_paddr"], load["p_memsz"]
            assert compare(ours / "oldmem", start, snapshot.ram, start, size) == (0, None)


def _compare_with_libkdumpfile(
    dump: Path, tree: Path, scratch: Path, image: Path | None = None
) -> None:
    """Every page that libkdumpfile finds in a dump is ours and the true one; we have no others.

    Args:
        dump: what libkdumpfile opens.
        tree: the mount of the memory that it is of.
        scratch: an empty directory, but for the dump.
        image: what we open, if not ``dump``.
    """
    said = tools.run(["/usr/bin/python3", _PAGES, dump, tree / "oldmem"], dump)
    report: dict[str, Any] = json.loads(said.splitlines()[-1])
    assert report["different"] == 0
    assert report["pages"] > 10_000
    with mounted(scratch, dump if image is None else image) as ours:
        layout = json.loads((ours / "layout.json").read_text())["files"]["oldmem"]["extents"]
        held = [row for row in layout if row["kind"] == "data"]
        assert sum(row["size"] for row in held) == report["pages"] * _PAGE
        digest = hashlib.sha256()
        for row in held:
            for at in range(row["offset"], row["offset"] + row["size"], _COMPARED):
                end = min(at + _COMPARED, row["offset"] + row["size"])
                digest.update(read(ours / "oldmem", at, end - at))
        assert digest.hexdigest() == report["sha256"]
        excluded = [row["offset"] for row in layout if row["kind"] == "excluded"]
        assert all(_is_an_error(ours / "oldmem", at) for at in excluded[:50])
        for text in _TEXTS:
            assert (ours / text).read_bytes() == (tree / text).read_bytes(), text
        assert tools.crash_osrelease(ours / "vmcore") == tools.crash_osrelease(dump)


def _is_an_error(path: Path, offset: int) -> bool:
    try:
        read(path, offset, 1)
    except OSError as error:
        return error.errno == errno.EIO
    return False


@stopped("none")
def test_qemus_dump_of_a_guest_becomes_a_vmcore(snapshot: Snapshot, scratch: Path) -> None:
    dump = dump_guest_memory(snapshot, scratch / "dump")
    with mounted(scratch, dump) as ours:
        vmcore = ours / "vmcore"
        assert vmcoreinfo(vmcore) in in_memory(snapshot, 0, snapshot.recipe.memory_size)
        assert tools.crash_osrelease(vmcore).strip() in vmcoreinfo(vmcore).decode()
        assert (ours / "dmesg").read_text().startswith("[    0.000000] Linux version ")
        chosen = random.Random(0)  # noqa: S311  # the same pages in every run
        last = segments(vmcore).loads[-2]  # up to the crash kernel's memory
        end = last["p_paddr"] + last["p_memsz"]
        pages = [chosen.randrange(1 << 20, end, _PAGE) for _ in range(200)]
        with by_address(vmcore, "p_paddr") as by_paddr:
            for paddr in pages:
                assert by_paddr(paddr, _PAGE) == in_memory(snapshot, paddr, _PAGE), hex(paddr)
        assert tools.drgn(debug_vmlinux(snapshot.recipe.kernel), vmcore, "running")
    # video memory and firmware are no RAM: it is that of the memory file, to the byte
    with open_capture(dump) as of_qemu, open_capture(snapshot.ram) as raw:
        here, there = (one.image.plan.elfcorehdr.loads for one in (of_qemu, raw))
        for column in ("p_paddr", "p_memsz", "p_vaddr"):
            assert here[column].tolist() == there[column].tolist()
