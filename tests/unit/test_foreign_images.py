"""Something else than memory as an image: refused by name on every way in, whatever is given."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from tests.builders.dead_machines import bare_machine, dead_machine
from tests.builders.elf_dumps import pack_dump
from tests.builders.kdumps import flatten
from tests.conftest import Opener
from tests.matching import exactly, same_bytes
from vmcorefs import ConfigError, Piece, SourceIOError, UnsupportedError
from vmcorefs.sources.file import FileSource
from vmcorefs.sources.foreign import refuse_foreign
from vmcorefs.sources.unreadable import LookedAt

NOISE = random.Random(1).randbytes(1 << 16)  # noqa: S311


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """64 KiB of noise by lzip, as its magic says, and beside it a map that its size fits."""
    (tmp_path / "iomem").write_text("00000000-0000ffff : System RAM\n")
    path = tmp_path / "ram.lz"
    path.write_bytes(b"LZIP\x01" + NOISE)
    return path


def message(path: Path) -> str:
    return (
        f"{path}: not plain memory, but data compressed by lzip; decompress it first: lzip"
        f" -d <{path} >NEW"
    )


def test_a_map_does_not_make_it_memory(packed: Path, open_capture: Opener) -> None:
    iomem = packed.with_name("iomem")
    for given in ({}, {"memory_map": iomem}, {"memory_map": iomem, "truncated": True}):
        with pytest.raises(UnsupportedError, match=exactly(message(packed))):
            open_capture(packed, **given)


def test_an_address_alone_does(packed: Path, open_capture: Opener) -> None:
    iomem = packed.with_name("iomem")
    capture = open_capture([Piece(str(packed), 0)], memory_map=iomem, truncated=True)
    same_bytes(capture["oldmem"].pread(1024, 0), packed.read_bytes()[:1024])


def test_neither_a_size_nor_an_offset_is_an_address(packed: Path, open_capture: Opener) -> None:
    for piece in (Piece(str(packed), size=4096), Piece(str(packed), offset=4096)):
        with pytest.raises(UnsupportedError, match=exactly(message(packed))):
            open_capture([piece])


def test_a_part_of_a_dump_without_an_address_is_refused(
    tmp_path: Path, open_capture: Opener
) -> None:
    (tmp_path / "dump").write_bytes(pack_dump())
    with pytest.raises(ConfigError, match=r"dump: a dump knows where its memory belongs"):
        open_capture([Piece(str(tmp_path / "dump"), size=4096)])


def test_it_is_named_among_other_images(packed: Path, open_capture: Opener) -> None:
    ram = packed.with_name("ram")
    ram.write_bytes(bytes(8192))
    with pytest.raises(UnsupportedError, match=exactly(message(packed))):
        open_capture([Piece(str(ram), 0), packed])
    (packed.with_name("dump")).write_bytes(pack_dump())
    with pytest.raises(UnsupportedError, match=exactly(message(packed))):
        open_capture([packed.with_name("dump"), packed])


def test_it_is_named_as_low_memory(tmp_path: Path, open_capture: Opener) -> None:
    saved = dead_machine().save(tmp_path)
    path = tmp_path / "lowmem.lz"
    path.write_bytes(b"LZIP\x01" + bytes(4096))
    with pytest.raises(UnsupportedError, match=exactly(message(path))):
        open_capture(saved.ram, memory_map=saved.iomem, backup=path)


def test_what_cannot_be_read_does_not_hide_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "ram.gz"
    path.write_bytes(gzip.compress(NOISE, mtime=0))

    class Bad(FileSource):
        """A file whose pages from the second on cannot be read."""

        def pread_into(self, offset: int, buffer: memoryview) -> None:
            if offset + len(buffer) > 4096:
                raise SourceIOError(self.name, offset, len(buffer), "Input/output error")
            super().pread_into(offset, buffer)

    file = Bad(str(path), role="image")
    with pytest.raises(UnsupportedError, match="compressed by gzip"):
        refuse_foreign(file, LookedAt(file))
    file.close()


def test_what_looks_encrypted_everywhere_is_doubted(tmp_path: Path, open_capture: Opener) -> None:
    ram = tmp_path / "ram"
    (tmp_path / "iomem").write_text("00000000-0007ffff : System RAM\n")
    noise = random.Random(2).randbytes(1 << 19)  # noqa: S311
    expected = (
        f"{ram}: its start, its middle and its end look compressed or encrypted, which plain memory"
        " hardly ever is: is it memory?"
    )
    for data, given, warnings in (
        (noise, ram, (expected,)),
        (noise, f"{ram}@0", ()),  # whoever gives an address knows
        (bytes(4096) + noise[4096:], ram, ()),
        (noise[: 1 << 18] + bytes(1 << 18), ram, ()),
    ):
        ram.write_bytes(data)
        image = open_capture(given, memory_map=tmp_path / "iomem").image
        assert tuple(each for each in image.warnings if "encrypted" in each) == warnings


def test_less_than_a_page_is_no_machine(tmp_path: Path, open_capture: Opener) -> None:
    (tmp_path / "ram").write_bytes(b"\0\1" * 50)
    expected = f"{tmp_path}/ram: 100 bytes, less than a page, expected a machine's memory"
    with pytest.raises(UnsupportedError, match=exactly(expected)):
        open_capture(tmp_path / "ram")


def test_memory_that_is_plain_opens_as_before(tmp_path: Path, open_capture: Opener) -> None:
    saved = bare_machine().save(tmp_path)
    assert open_capture(saved.ram, memory_map=saved.iomem).image.warnings == ()


def test_a_stream_of_something_else_is_no_dump(tmp_path: Path, open_capture: Opener) -> None:
    (tmp_path / "dump").write_bytes(flatten([(0, gzip.compress(bytes(99)))]))
    with pytest.raises(UnsupportedError, match="a flattened stream of an unknown dump format"):
        open_capture(tmp_path / "dump")
