"""The mounted tree: names, attributes, reads."""

from __future__ import annotations

import errno
import io
import json
import mmap
import os
import random
import stat
import subprocess
import tarfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.mount.machine import LOW_END, LOW_START, RAM_END, Machine, read, through_api
from vmcorefs.api import open_capture
from vmcorefs.config import make_config
from vmcorefs.reports.report.files import report_files

pytestmark = pytest.mark.mount


def test_the_tree_is_listed_with_exact_sizes_for_its_owner_alone(machine: Machine) -> None:
    with machine.mounted() as mnt:
        assert sorted(os.listdir(mnt)) == [
            "crash_notes",
            "iomem",
            "layout.json",
            "oldmem",
            "report.json",
            "report.txt",
            "vmcore",
        ]
        for path in mnt.iterdir():
            status = path.stat()
            assert stat.S_IMODE(status.st_mode) == 0o400
            assert (status.st_uid, status.st_gid) == (os.getuid(), os.getgid())
            assert status.st_mtime == 1_700_000_000
            size = len(path.read_bytes())
            assert status.st_size == (0 if path.name.startswith("report.") else size)
            assert path.stat().st_size == size
            status = path.stat()
            assert status.st_blocks * 512 >= status.st_size
        assert stat.S_IMODE(mnt.stat().st_mode) == 0o500
        assert (mnt / "oldmem").stat().st_size == RAM_END


def test_a_listing_makes_no_report_and_whoever_reads_one_gets_all_of_it(machine: Machine) -> None:
    with machine.mounted() as mnt:
        paths = [mnt / "report.txt", mnt / "report.json"]
        subprocess.run(["ls", "-l", mnt], check=True, stdout=subprocess.DEVNULL)
        assert [path.stat().st_size for path in paths] == [0, 0]
        expected = [_report(machine, path.name) for path in paths]
        # each reads in its own way: until the end, as many bytes as fstat says, by mmap
        assert subprocess.check_output(["cat", paths[0]]) == expected[0]
        packed = subprocess.check_output(["tar", "-cf", "-", "-C", mnt, "report.json"])
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            member = archive.extractfile("report.json")
            assert member is not None
            assert member.read() == expected[1]
        assert [path.stat().st_size for path in paths] == [len(text) for text in expected]
        with paths[1].open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
            assert view[:] == expected[1]


def _report(machine: Machine, name: str) -> bytes:
    at = machine.directory
    config = make_config([at / "ram"], memory_map=at / "iomem", backup=at / "lowmem")
    with open_capture(config, add=report_files) as capture:
        return capture[name].pread(1 << 20, 0)


def test_allow_other_opens_the_tree_to_everybody(machine: Machine) -> None:
    with machine.mounted("--allow-other") as mnt:
        assert stat.S_IMODE((mnt / "vmcore").stat().st_mode) == 0o444
        assert stat.S_IMODE(mnt.stat().st_mode) == 0o555


@pytest.mark.parametrize("path", ["vmcore", "oldmem", "iomem", "crash_notes"])
def test_every_file_reads_as_it_does_with_no_mount(machine: Machine, path: str) -> None:
    with machine.mounted() as mnt:
        assert (mnt / path).read_bytes() == through_api(machine, path)


def test_reads_at_odd_offsets_are_whole_up_to_the_end_of_the_file(machine: Machine) -> None:
    expected = through_api(machine, "vmcore")
    picks = random.Random(1)  # noqa: S311  # a test's offsets are no secret
    with machine.mounted() as mnt:
        descriptor = os.open(mnt / "vmcore", os.O_RDONLY)
        for _ in range(300):
            offset = picks.randrange(len(expected))
            size = picks.choice([1, 7, 511, 4097, 70_000, 1 << 20, 3 << 20])
            assert os.pread(descriptor, size, offset) == expected[offset : offset + size]
        assert os.pread(descriptor, 100, len(expected)) == b""
        assert os.pread(descriptor, 100, len(expected) + 12345) == b""
        os.close(descriptor)


def test_oldmem_has_the_backup_zeros_for_the_crash_kernel_and_zeros_for_holes(
    machine: Machine,
) -> None:
    low = (machine.directory / "lowmem").read_bytes()
    with machine.mounted() as mnt:
        assert read(mnt / "oldmem", LOW_START, len(low)) == low
        assert read(mnt / "oldmem", LOW_START - 8, 16) == bytes(8) + low[:8]
        assert read(mnt / "oldmem", LOW_END - 8, 16) == low[-8:] + bytes(8)
        assert read(mnt / "oldmem", 0x400000, 0x100000) == bytes(0x100000)
        assert read(mnt / "oldmem", 0x800000, 0x400000) == bytes(0x400000)
        assert read(mnt / "oldmem", 0x3FFFF8, 8) == (0x3FFFF8).to_bytes(8, "little")
        assert read(mnt / "oldmem", RAM_END - 8, 100) == (RAM_END - 8).to_bytes(8, "little")


def test_raw_reserved_shows_the_crash_kernels_range(machine: Machine) -> None:
    with machine.mounted("--raw-reserved") as mnt:
        assert read(mnt / "oldmem", 0x400000, 8) == (0x400000).to_bytes(8, "little")


def test_holes_error_fails_with_eio_on_holes_only(machine: Machine) -> None:
    machine.expected_log = ["no input holds"]
    with machine.mounted("--holes", "error") as mnt:
        with pytest.raises(OSError, match="Input/output error") as error:
            read(mnt / "oldmem", 0x800000, 4096)
        assert error.value.errno == errno.EIO
        assert read(mnt / "oldmem", 0x7FFFF8, 8) == (0x7FFFF8).to_bytes(8, "little")
        assert read(mnt / "oldmem", 0xC00000, 8) == (0xC00000).to_bytes(8, "little")
    assert machine.log.read_text().count("no input holds") == 1


@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_WRONLY, os.O_RDWR | os.O_TRUNC])
def test_opening_for_writing_says_that_it_is_read_only(machine: Machine, flags: int) -> None:
    with machine.mounted() as mnt, pytest.raises(OSError, match="Read-only") as error:
        os.open(mnt / "vmcore", flags)
    assert error.value.errno == errno.EROFS


def test_nothing_can_be_made_or_removed(machine: Machine) -> None:
    with machine.mounted() as mnt:
        new, old = str(mnt / "new"), str(mnt / "vmcore")
        attempts: list[Callable[[], object]] = [
            partial(os.unlink, old),
            partial(os.mkdir, new),
            partial(os.open, new, os.O_CREAT | os.O_WRONLY),
            partial(os.chmod, old, 0o777),
            partial(os.rename, old, new),
        ]
        for attempt in attempts:
            with pytest.raises(OSError, match="Read-only"):
                attempt()
        with pytest.raises(FileNotFoundError):
            (mnt / "nothing").stat()
        with pytest.raises(NotADirectoryError):
            (mnt / "vmcore" / "x").stat()


@pytest.mark.parametrize("flags", [mmap.MAP_PRIVATE, mmap.MAP_SHARED])
def test_a_mapped_file_has_the_bytes_that_reading_gives(machine: Machine, flags: int) -> None:
    # in another process: a daemon must never be waited for by a fault, and nor should a test
    script = (
        "import mmap, os, sys; fd = os.open(sys.argv[1], os.O_RDONLY);"
        "view = mmap.mmap(fd, 0, int(sys.argv[2]), mmap.PROT_READ);"
        "sys.stdout.buffer.write(view)"
    )
    with machine.mounted() as mnt:
        command = [machine.command()[0], "-c", script, str(mnt / "vmcore"), str(flags)]
        mapped = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    assert mapped == through_api(machine, "vmcore")


def test_parallel_readers_each_get_their_own_bytes(machine: Machine) -> None:
    expected = through_api(machine, "vmcore")
    wrong: list[int] = []

    def reader(seed: int, path: Path) -> None:
        picks = random.Random(seed)  # noqa: S311  # a test's offsets are no secret
        descriptor = os.open(path, os.O_RDONLY)
        for _ in range(150):
            offset = picks.randrange(len(expected))
            size = picks.randrange(1, 300_000)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            if os.pread(descriptor, size, offset) != expected[offset : offset + size]:
                wrong.append(offset)
        os.close(descriptor)

    with machine.mounted() as mnt:
        threads = [threading.Thread(target=reader, args=(n, mnt / "vmcore")) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_copies_by_ordinary_tools_are_the_file(machine: Machine, tmp_path: Path) -> None:
    expected = through_api(machine, "vmcore")
    with machine.mounted() as mnt:
        source = str(mnt / "vmcore")
        for name, command in {
            "cp": ["cp", "--sparse=always", source, str(tmp_path / "cp")],
            "dd": ["dd", f"if={source}", f"of={tmp_path / 'dd'}", "bs=12345"],
            "direct": ["dd", f"if={source}", f"of={tmp_path / 'direct'}", "bs=1M", "iflag=direct"],
        }.items():
            subprocess.run(command, check=True, capture_output=True, timeout=60)
            assert (tmp_path / name).read_bytes() == expected, name
        subprocess.run(
            ["tar", "--sparse", "-cf", str(tmp_path / "tar"), "-C", str(mnt), "vmcore"], check=True
        )
    subprocess.run(["tar", "-xf", str(tmp_path / "tar"), "-C", str(tmp_path)], check=True)
    assert (tmp_path / "vmcore").read_bytes() == expected


def test_layout_json_accounts_for_every_byte_through_its_own_sources(machine: Machine) -> None:
    with machine.mounted() as mnt:
        layout = json.loads((mnt / "layout.json").read_text())
        for path, file in layout["files"].items():
            content = (mnt / path).read_bytes()
            assert file["size"] == len(content)
            position = 0
            for extent in file["extents"]:
                assert extent["offset"] == position
                found = content[position : position + extent["size"]]
                if extent["kind"] != "data":
                    assert found == bytes(extent["size"])
                elif extent["from"] != "made":
                    assert found == read(
                        Path(extent["source"]), extent["source_offset"], extent["size"]
                    )
                position += extent["size"]
            assert position == len(content)
