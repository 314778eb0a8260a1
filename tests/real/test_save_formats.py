"""Dumps in every format and codec: what tools say of them is what they say of the kernel's own."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pytest
from msgspec.structs import replace

from tests.dump_builder import Watch, dump_of, kinds_by_makedumpfile
from tests.real import tools
from tests.real.marks import REAL, only
from tests.real.trees import differences
from vmcorefs.discovery.page_kinds import find_kernel_pages
from vmcorefs.save.codecs import CODEC_NAMES, find_codec
from vmcorefs.save.elf import ElfFormat
from vmcorefs.save.flattened import FlattenedFormat
from vmcorefs.save.kdump import KdumpFormat

if TYPE_CHECKING:
    from tests.lab.capture import Capture

pytestmark = REAL

LEVEL: Final = 31
PAGE: Final = 4096
ZEROS: Final = hashlib.sha256(bytes(PAGE)).hexdigest()
CODECS: Final = {"zlib": ["-c"], "lzo": ["-l"], "none": []}
"""Those that Debian's makedumpfile was built with, and its options."""
FORMATS: Final = (*CODEC_NAMES, "elf", "flattened")


Writer = KdumpFormat | ElfFormat | FlattenedFormat


class File:
    """An output that is a file."""

    def __init__(self, descriptor: int) -> None:
        self._fd = descriptor

    def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        assert os.pwrite(self._fd, data, offset) == len(data)


@contextmanager
def files(*paths: Path) -> Iterator[list[File]]:
    opened = [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600) for path in paths]
    try:
        yield [File(each) for each in opened]
    finally:
        for each in opened:
            os.close(each)


def write(capture: Capture, truth: Path, how: str, *paths: Path) -> Path:
    """Write the pages that makedumpfile kept in ``truth``."""
    writers: dict[str, Writer] = {
        "elf": ElfFormat(2),
        "flattened": FlattenedFormat(KdumpFormat(find_codec("lzo"), 2, once=True)),
        "flattened-elf": FlattenedFormat(ElfFormat(2, once=True)),
    }
    writer = writers.get(how) or KdumpFormat(find_codec(how), 2)
    kinds = kinds_by_makedumpfile(truth)
    with dump_of(capture.vmcore, kinds, LEVEL) as dump, files(*paths) as outputs:
        writer(dump, outputs, Watch())
    return paths[0]


@pytest.fixture(scope="module")
def theirs(capture: Capture, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Makedumpfile's own dump."""
    path = tmp_path_factory.mktemp("theirs") / "dump"
    yield tools.makedumpfile(capture.vmcore, path, "-l", "-d", str(LEVEL))
    path.unlink()


@pytest.mark.parametrize("codec", ["lzo", "none"])
@only("kexec", "kexec-newer")
def test_a_kdump_file_is_the_one_that_makedumpfile_writes(
    capture: Capture, theirs: Path, scratch: Path, codec: str
) -> None:
    options = [*CODECS[codec], "-d", str(LEVEL)]
    wanted = tools.makedumpfile(capture.vmcore, scratch / "theirs", *options)

    ours = write(capture, theirs, codec, scratch / "ours")

    assert ours.stat().st_size > 10 << 20
    assert differences(ours, wanted) == (0, None)


@pytest.mark.parametrize("how", FORMATS)
@only("kexec")
def test_crash_and_drgn_say_what_they_say_of_the_truth(
    capture: Capture, vmlinux: Path, theirs: Path, scratch: Path, how: str
) -> None:
    ours = write(capture, theirs, how, scratch / "ours")

    assert _crash(vmlinux, ours) == _crash(vmlinux, capture.vmcore)
    assert _drgn(vmlinux, ours) == _drgn(vmlinux, capture.vmcore)


@cache
def _crash(vmlinux: Path, dump: Path) -> str:
    said = tools.crash(vmlinux, dump, "sys", "bt", "ps", "log", "mod")
    assert "sysrq_handle_crash" in said
    return said.replace("  [PARTIAL DUMP]", "")


@cache
def _drgn(vmlinux: Path, dump: Path) -> str:
    # newer libraries warn of a flattened file that it may be slow
    lines = tools.drgn(vmlinux, dump).splitlines()
    return "\n".join(line for line in lines if "flattened format" not in line)


@pytest.mark.parametrize("how", ["zlib", "snappy", "zstd", "elf"])
@only("kexec-newer")
def test_drgn_says_what_it_says_of_a_newer_kernel_s(
    capture: Capture, vmlinux: Path, scratch: Path, how: str
) -> None:
    """Debian's makedumpfile leaves out tasks of such a kernel: it is too old."""
    with dump_of(capture.vmcore, level=LEVEL) as dump, files(scratch / "ours") as outputs:
        assert dump.vmcoreinfo is not None
        kinds = find_kernel_pages(dump.memory, dump.vmcoreinfo, dump.elfcorehdr)
        writer: Writer = ElfFormat(2) if how == "elf" else KdumpFormat(find_codec(how), 2)
        writer(replace(dump, kinds=kinds), outputs, Watch())

    assert _drgn(vmlinux, scratch / "ours") == _drgn(vmlinux, capture.vmcore)


@pytest.mark.parametrize("how", [*CODEC_NAMES, "elf"])
@only("kexec", "kexec-newer")
def test_libkdumpfile_reads_every_page_that_is_kept(
    capture: Capture, theirs: Path, scratch: Path, how: str
) -> None:
    ours = write(capture, theirs, how, scratch / "ours")
    kept = np.flatnonzero(kinds_by_makedumpfile(theirs).kinds == 0)
    left_out = np.flatnonzero(kinds_by_makedumpfile(theirs).kinds)
    asked = [int(pfn) * PAGE for pfn in (*kept[::97], *left_out[::9973])]

    seen = tools.physical("libkdumpfile", ours, asked)
    truth = tools.physical("libkdumpfile", capture.vmcore, asked)

    assert seen["release"] == capture.kernel.name
    assert seen["reads_kernel"]
    for pfn in kept[::97].tolist():
        page = truth["pages"][str(pfn * PAGE)]
        found = seen["pages"][str(pfn * PAGE)]
        # an ELF file need not have pages of zeros
        assert found == page or (how, page, found) == ("elf", ZEROS, None)
    if how != "elf":  # there they are zeros
        assert {seen["pages"][str(int(pfn) * PAGE)] for pfn in left_out[::9973]} == {None}


@pytest.mark.parametrize("how", [*CODECS, "elf"])
@only("kexec")
def test_makedumpfile_reads_it(capture: Capture, theirs: Path, scratch: Path, how: str) -> None:
    ours = write(capture, theirs, how, scratch / "ours")

    log = tools.makedumpfile(ours, scratch / "log", "--dump-dmesg").read_text()
    assert log == tools.makedumpfile(capture.vmcore, scratch / "want", "--dump-dmesg").read_text()
    again = tools.makedumpfile(ours, scratch / "again", "-l", "-d", str(LEVEL))
    wanted = tools.makedumpfile(theirs, scratch / "wanted", "-l", "-d", str(LEVEL))
    assert again.stat().st_size > 10 << 20
    if how != "elf":
        assert differences(again, wanted) == (0, None)


@pytest.mark.parametrize(("how", "same"), [("flattened", "lzo"), ("flattened-elf", "elf")])
@only("kexec")
def test_makedumpfile_rearranges_a_stream(
    capture: Capture, theirs: Path, scratch: Path, how: str, same: str
) -> None:
    stream = write(capture, theirs, how, scratch / "stream")
    file = write(capture, theirs, same, scratch / "file")

    said = tools.attempt(["sh", "-c", f"makedumpfile -R {scratch}/dump <{stream}"])

    assert said.returncode == 0, said
    assert differences(scratch / "dump", file) == (0, None)


@only("kexec")
def test_parts_are_put_together_by_makedumpfile_and_read_by_crash(
    capture: Capture, vmlinux: Path, theirs: Path, scratch: Path
) -> None:
    parts = [scratch / f"part{number}" for number in range(3)]
    write(capture, theirs, "lzo", *parts)

    tools.run(["makedumpfile", "--reassemble", *parts, scratch / "whole"], scratch)

    commands = "sys\nbt\nlog\nquit\n"
    said = [
        tools.run(["crash", "-s", vmlinux, *dumps], scratch, stdin=commands)
        for dumps in ([capture.vmcore], [scratch / "whole"], parts)
    ]
    tails = [each[each.index("CPUS:") :] for each in said]
    assert "sysrq_handle_crash" in tails[0]
    assert tails[0] == tails[1] == tails[2]
