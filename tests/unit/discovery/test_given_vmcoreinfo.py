"""VMCOREINFO that the user gives, in each form; and what is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.builders.dead_machines import pack_note, prstatus_note, vmcoreinfo_note, vmcoreinfo_text
from tests.builders.memory import reader_of
from tests.matching import exactly
from vmcorefs.config import CaptureConfig
from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo
from vmcorefs.core.space.extents import EMPTY
from vmcorefs.discovery.explore import Explorer
from vmcorefs.discovery.vmcoreinfo import given_vmcoreinfo, vmcoreinfo_in_use
from vmcorefs.errors import ConfigError, FormatError, VmcorefsError
from vmcorefs.piece import Piece

TEXT = vmcoreinfo_text()


def given(tmp_path: Path, data: bytes) -> Vmcoreinfo | int:
    path = tmp_path / "vmcoreinfo"
    path.write_bytes(data)
    return given_vmcoreinfo(str(path))


@pytest.mark.parametrize(
    "data",
    [
        TEXT,
        TEXT + bytes(3000),
        vmcoreinfo_note(TEXT),
        vmcoreinfo_note(TEXT) + bytes(3000),
        vmcoreinfo_note(TEXT, ">"),
        prstatus_note(1, 2, 3) + vmcoreinfo_note(TEXT),
    ],
    ids=["text", "a page of text", "note", "a page of a note", "big-endian note", "all notes"],
)
def test_its_text_and_its_note(tmp_path: Path, data: bytes) -> None:
    read = given(tmp_path, data)
    assert isinstance(read, Vmcoreinfo)
    assert read.text == TEXT
    assert read.release == "6.1.0-test"


@pytest.mark.parametrize(
    ("data", "paddr"),
    [
        (b"0x000000003ffd0000 1024\n", 0x3FFD0000),
        (b"3ffd0000 1024\n", 0x3FFD0000),
        (b"0x10000000a0 1024", 0x10000000A0),
    ],
)
def test_a_copy_of_sys_kernel_vmcoreinfo(tmp_path: Path, data: bytes, paddr: int) -> None:
    assert given(tmp_path, data) == paddr
    assert given_vmcoreinfo(paddr) == paddr


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"0x3ffd0000",
        b"0x3ffd0000 1024 1\n",
        b"PAGESIZE=4096\n",
        bytes(5000),
        b"\x7fELF\x02\x01\x01" + bytes(100) + vmcoreinfo_note(TEXT),  # a whole vmcore
        pack_note(b"VMCOREINFO", 0, b"\x1b[2JOSRELEASE=6.1\n"),
        TEXT[:20] + b"\x1b[2J" + TEXT[20:],
        vmcoreinfo_note(b"PAGESIZE=4096\n"),
    ],
)
def test_what_is_none_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(FormatError, match=r"expected the text of VMCOREINFO, its note, or a copy"):
        given(tmp_path, data)


def test_a_file_that_cannot_be_read() -> None:
    with pytest.raises(
        ConfigError,
        match=exactly("/nowhere: cannot read VMCOREINFO: No such file or directory"),
    ):
        given_vmcoreinfo("/nowhere")
    with pytest.raises(ConfigError, match="/: a directory, expected a file with VMCOREINFO"):
        given_vmcoreinfo("/")
    with pytest.raises(ConfigError, match="embedded null"):
        given_vmcoreinfo("a\0b")


class TestInUse:
    memory = reader_of((0x1000, vmcoreinfo_note(TEXT).ljust(4096, b"\0")), (0x9000, bytes(4096)))

    def test_one_in_memory_is_read_where_it_is(self) -> None:
        assert vmcoreinfo_in_use(None, self.memory) is None
        read = vmcoreinfo_in_use(0x1000, self.memory)
        assert read is not None
        assert read.text == TEXT

    @pytest.mark.parametrize(
        "paddr", [0, 0x1004, 0x5000, 0x9000, 0x9FFC, 1 << 62, 2**63 - 1, 2**64, -4096]
    )
    def test_one_that_is_not_there(self, paddr: int) -> None:
        with pytest.raises(VmcorefsError, match=exactly(f"no VMCOREINFO note at {paddr:#x}")):
            vmcoreinfo_in_use(paddr, self.memory)


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    """``--vmcoreinfo <(ssh host cat /sys/kernel/vmcoreinfo)`` cannot be read again."""
    read_end, write_end = os.pipe()
    try:
        os.write(write_end, vmcoreinfo_note(TEXT))
        os.close(write_end)
        config = CaptureConfig((Piece("ram", 0),), vmcoreinfo=f"/dev/fd/{read_end}")
        explorer = Explorer(config, (), EMPTY)
        (found,) = explorer.ranking
        read = vmcoreinfo_in_use(explorer.given, reader_of((0, bytes(16))))
    finally:
        os.close(read_end)
    assert read is found.candidate.vmcoreinfo
    assert read.text == TEXT
