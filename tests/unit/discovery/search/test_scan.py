"""What one pass over the captured bytes finds, and where it is."""

from __future__ import annotations

import errno

import pytest

from tests.builders.dead_machines import pack_note, vmcoreinfo_note, vmcoreinfo_text
from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.space.extents import Extents, Kind, make_extents, merge
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.discovery.search import scan as module
from vmcorefs.discovery.search.candidates import read_candidates, read_note
from vmcorefs.discovery.search.scan import (
    Hits,
    Place,
    iter_chunks,
    locate,
    locate_all,
    place_of,
    scan,
)
from vmcorefs.errors import SourceIOError
from vmcorefs.sources.base import BytesSource

MIB = 1 << 20
ELF = b"\x7fELF\x02\x01"
NOTE = vmcoreinfo_note(vmcoreinfo_text())


class Sparse(BytesSource):
    """Bytes that know where their holes are, and count what is read."""

    def __init__(self, size: int, pieces: dict[int, bytes]) -> None:
        data = bytearray(size)
        for offset, piece in pieces.items():
            data[offset : offset + len(piece)] = piece
        super().__init__("sparse", bytes(data))
        self.reads: list[tuple[int, int]] = []

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        self.reads.append((offset, len(buffer)))
        super().pread_into(offset, buffer)

    def next_data(self, offset: int, end: int) -> int:
        left = bytes(self._data[offset:end]).lstrip(b"\0")
        return end - len(left)


def held(*pieces: tuple[int, int, int, int]) -> Extents:
    """``(paddr, size, source, offset)``."""
    return merge(
        *(
            make_extents(
                make_ranges([(paddr, paddr + size)]), kind=Kind.DATA, source=source, offset=offset
            )
            for paddr, size, source, offset in pieces
        )
    )


def look(size: int, pieces: dict[int, bytes], offset: int = 0) -> Hits:
    return scan([Sparse(size, pieces)], held((0, size - offset, 0, offset)))


def test_both_are_found_on_each_kib() -> None:
    pieces = {0: ELF, 1024: NOTE, 3 * MIB - 1024: ELF, MIB: NOTE, MIB - 2048: ELF}
    assert look(3 * MIB, pieces) == Hits(
        (Place(0, 0), Place(0, MIB - 2048), Place(0, 3 * MIB - 1024)),
        (Place(0, 1024), Place(0, MIB)),
    )


@pytest.mark.parametrize("offset", [1, 4, 512, 1023])
def test_what_is_off_the_grid_is_not_looked_at(offset: int) -> None:
    assert look(MIB, {4096 + offset: NOTE}) == Hits((), ())


@pytest.mark.parametrize("offset", [1, 32, 1000, 4096, MIB + 8])
def test_the_grid_counts_from_where_the_memory_starts_in_its_file(offset: int) -> None:
    found = look(3 * MIB, {offset + 8192: NOTE, offset - 1: b"\x7fELF"}, offset)
    assert found == Hits((), (Place(0, offset + 8192),))


@pytest.mark.parametrize("size", [1, 3, 15, 16, 1023, 1024, 1025, MIB + 1, MIB + 1023])
def test_any_size(size: int) -> None:
    found = look(size, {0: ELF[: min(size, 6)]})
    assert found.elf == ((Place(0, 0),) if size >= 1024 else ())


def test_each_piece_is_looked_through_once_in_the_order_of_the_files() -> None:
    sources = [Sparse(MIB, {2048: NOTE}), Sparse(MIB, {0: NOTE, 4096: NOTE})]
    table = held((0, 4096, 1, 4096), (8192, 4096, 0, 0), (1 << 40, 4096, 1, 0))
    assert scan(sources, table).vmcoreinfo == (Place(0, 2048), Place(1, 0), Place(1, 4096))


def test_a_hole_is_not_read() -> None:
    source = Sparse(64 * MIB, {40 * MIB: NOTE})
    assert scan([source], held((0, 64 * MIB, 0, 0))).vmcoreinfo == (Place(0, 40 * MIB),)
    assert source.reads == [(40 * MIB, MIB)]


def test_what_is_no_data_is_not_read() -> None:
    table = merge(held((0, MIB, 0, 0)), make_extents(make_ranges([(MIB, 1 << 50)]), kind=Kind.HOLE))
    assert scan([Sparse(MIB, {0: NOTE})], table).vmcoreinfo == (Place(0, 0),)


def test_what_a_file_has_lost_since_it_was_opened_does_not_hide_the_rest() -> None:
    ram = BytesSource("ram", NOTE.ljust(MIB, b"\0"))
    assert scan([ram], held((0, 2 * MIB, 0, 0))).vmcoreinfo == (Place(0, 0),)


class BadBlocks(BytesSource):
    """A disk with blocks that cannot be read."""

    def __init__(self, data: bytes, bad: range) -> None:
        super().__init__("ram", data)
        self._bad = bad

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        if offset < self._bad.stop and self._bad.start < offset + len(buffer):
            error = OSError(errno.EIO, "Input/output error")
            raise SourceIOError(self.name, offset, len(buffer), "Input/output error") from error
        super().pread_into(offset, buffer)


def test_what_cannot_be_read_does_not_hide_the_rest() -> None:
    data = bytearray(4 * MIB)
    places = (0, MIB + 1024, 2 * MIB, 3 * MIB)
    for place in places:
        data[place : place + len(NOTE)] = NOTE
    disk = BadBlocks(bytes(data), range(MIB + 0x1000, 2 * MIB + 512))
    found = scan([disk], held((0, 4 * MIB, 0, 0))).vmcoreinfo
    assert found == (Place(0, 0), Place(0, MIB + 1024), Place(0, 3 * MIB))


def test_a_disk_of_which_nothing_can_be_read_is_an_error() -> None:
    with pytest.raises(SourceIOError, match="Input/output error"):
        scan([BadBlocks(bytes(2 * MIB), range(2 * MIB))], held((0, 2 * MIB, 0, 0)))


def test_there_are_no_more_hits_than_are_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_HITS", 3)
    found = look(3 * MIB, {1024 * n: ELF for n in range(3)} | {MIB: NOTE})
    assert found.complete
    assert len(found.elf) == 3
    found = look(3 * MIB, {1024 * n: ELF for n in (0, 1, 1500, 2000)} | {MIB: NOTE})
    assert not found.complete
    assert [place.offset for place in found.elf] == [0, 1024, 1500 * 1024]
    assert len(found.vmcoreinfo) == 1


def test_a_chunk_is_a_row_of_words_for_each_kib() -> None:
    source = Sparse(2048 + 512, {0: bytes(range(16)), 1024: b"\xff" * 1024})
    ((number, offset, words),) = iter_chunks([source], held((0, 2560, 0, 0)))
    assert (number, offset, words.shape) == (0, 0, (2, 256))
    assert words[0, :4].tolist() == [0x03020100, 0x07060504, 0x0B0A0908, 0x0F0E0D0C]
    assert (words[1] == 0xFFFFFFFF).all()


def test_pages_that_are_neighbours_in_their_file_are_read_together() -> None:
    pages = [(2 * n * 4096, 4096, 0, n * 4096) for n in range(1024)]
    source = Sparse(1024 * 4096, {n * 4096: ELF for n in range(1024)})
    found = scan([source], held(*pages))
    assert [place.offset for place in found.elf] == [n * 4096 for n in range(1024)]
    assert source.reads == [(n * MIB, MIB) for n in range(4)]


def test_rows_that_would_move_the_grid_or_are_of_different_files_are_not_joined() -> None:
    sources = [Sparse(4096, {1536: ELF}), Sparse(4096, {0: ELF})]
    table = held((0, 1536, 0, 0), (0x5000, 1024, 0, 1536), (0x9000, 1024, 1, 0))
    assert scan(sources, table).elf == (Place(0, 1536), Place(1, 0))
    assert scan(sources, table.rows(slice(0, 0))).elf == ()


def test_where_a_place_is() -> None:
    table = held((0x1000, 0x1000, 0, 32), (0x9000, 0x1000, 1, 0), (0x5000, 0x1000, 0, 0x2000))
    assert locate(table, Place(0, 31)) is None
    assert locate(table, Place(0, 32)) == 0x1000
    assert locate(table, Place(0, 0x101F)) == 0x1FFF
    assert locate(table, Place(0, 0x1020)) is None
    assert locate(table, Place(0, 0x2004)) == 0x5004
    assert locate(table, Place(1, 0x10)) == 0x9010
    assert locate(table, Place(2, 0x10)) is None


def test_places_that_are_not_memory_are_left_out_of_many() -> None:
    table = held((0x1000, 0x1000, 0, 32), (0x9000, 0x1000, 1, 0), (0x5000, 0x1000, 0, 0x2000))
    places = [Place(1, 0x10), Place(0, 31), Place(0, 0x2004), Place(7, 0), Place(0, 32)]
    assert locate_all(table, places) == [0x9010, 0x5004, 0x1000]
    assert locate_all(table, []) == []
    assert locate_all(table.rows(slice(0, 0)), places) == []


def test_the_place_of_an_address() -> None:
    table = held((0x1000, 0x1000, 0, 32), (0x9000, 0x1000, 1, 0))
    assert place_of(table, 0xFFF) is None
    assert place_of(table, 0x1000) == Place(0, 32)
    assert place_of(table, 0x1FFF) == Place(0, 0x101F)
    assert place_of(table, 0x2000) is None
    assert place_of(table, 0x9010) == Place(1, 0x10)
    assert place_of(table, 1 << 70) is None


# --- notes -----------------------------------------------------------------------------------


def note_in(data: bytes, offset: int = 0) -> bytes | None:
    note = read_note(
        lambda at, size: data[at : at + size] if at + size <= len(data) else None, offset
    )
    return note[0] if note is not None else None


def test_a_note_is_read() -> None:
    assert note_in(NOTE) == vmcoreinfo_text()
    assert note_in(b"12345678" + NOTE + bytes(4096), 8) == vmcoreinfo_text()


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_notes_byte_order_is_told(order: ByteOrder) -> None:
    source = BytesSource("ram", vmcoreinfo_note(vmcoreinfo_text(), order))
    (found,) = read_candidates([source], [Place(0, 0)])
    assert (found.vmcoreinfo.text, found.byte_order) == (vmcoreinfo_text(), order)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        NOTE[:23],
        NOTE[:-5],  # the last three are padding
        pack_note(b"VMCOREINF0", 0, vmcoreinfo_text()),
        pack_note(b"VMCOREINFO", 1, vmcoreinfo_text()),
        pack_note(b"VMCOREINFO\0", 0, vmcoreinfo_text()),
        pack_note(b"VMCOREINFO", 0, b""),
        pack_note(b"VMCOREINFO", 0, b"OSRELEASE=6.1"),
        pack_note(b"VMCOREINFO", 0, b"OSRELEASE=6.1\nPAGESI"),
        NOTE[:64] + bytes(len(NOTE) - 64),  # its second half was lost
        pack_note(b"VMCOREINFO", 0, b"OSRELEASE=\n"),
        pack_note(b"VMCOREINFO", 0, b"PAGESIZE=4096\nOSRELEASE=6.1\n"),
        pack_note(b"VMCOREINFO", 0, b"OSRELEASE=6.1\nA=\x1b[31m\n"),
        pack_note(b"VMCOREINFO", 0, b"OSRELEASE=6.1\n\0A=1\n"),
        pack_note(b"VMCOREINFO", 0, b"OSRELEASE=6.1\n".ljust((1 << 16) + 1, b"x")),
    ],
)
def test_what_is_no_note_of_a_kernel_is_passed_over(data: bytes) -> None:
    assert note_in(data) is None


def test_copies_are_one_candidate() -> None:
    other = vmcoreinfo_note(vmcoreinfo_text("5.10.0"))
    source = Sparse(
        MIB, {0: NOTE, 4096: other, 8192: NOTE, 12288: NOTE[:100], MIB - 100: NOTE[:100]}
    )
    places = [Place(0, n) for n in (0, 4096, 8192, 12288, MIB - 100)]
    first, second = read_candidates([source], places)
    assert (first.vmcoreinfo.release, second.vmcoreinfo.release) == ("6.1.0-test", "5.10.0")
    assert first.places == (Place(0, 0), Place(0, 8192))
    assert first.copies == (Place(0, 8192),)
    assert second.places == (Place(0, 4096),)
    assert first.note_size == len(NOTE)
