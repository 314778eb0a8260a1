"""A directory with a phone's RAM as an image."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders.encodings import ENCODINGS, machine
from tests.conftest import Opener
from tests.matching import exactly, same_bytes
from vmcorefs import ConfigError, FormatError, TruncatedError
from vmcorefs.config import make_config
from vmcorefs.sources.evidence import gather

RAM = bytes(machine().memory)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name, data in ENCODINGS["ramdump"](machine()).items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "iomem").write_text(machine().iomem)
    return tmp_path


def test_a_file_that_is_absent_is_named(directory: Path, open_capture: Opener) -> None:
    (directory / "DDRCS0_1.BIN").unlink()
    iomem = directory / "iomem"
    expected = f"{directory}/DDRCS0_1.BIN: [0x200000, 0x300000) is not there; pass --truncated to"
    with pytest.raises(TruncatedError, match=expected.replace("[", r"\[").replace(")", r"\)")):
        open_capture(directory, memory_map=iomem)
    capture = open_capture(directory, memory_map=iomem, truncated=True)
    assert capture.image.missing.tolist() == [[0x200000, 0x300000]]
    same_bytes(capture["oldmem"].pread(0x100000, 0x100000), RAM[0x100000:0x200000])


def test_a_table_alone_is_no_memory(directory: Path, open_capture: Opener) -> None:
    for name in ("DDRCS0_0.BIN", "DDRCS0_1.BIN"):
        (directory / name).unlink()
    expected = f"{directory}: none of the files with RAM is there"
    with pytest.raises(FormatError, match=exactly(expected)):
        open_capture(directory)


def test_its_files_are_evidence(directory: Path) -> None:
    evidence = gather(make_config([str(directory)]))
    with pytest.raises(ConfigError, match="which is never written to"):
        evidence.refuse(str(directory / "DDRCS0_1.BIN"))
