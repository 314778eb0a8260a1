"""Machine code and Python write the same bytes, whatever the pages are."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from msgspec.structs import replace

from tests.builders.dumps import PAGE, MemoryOutput, Watch, small_dump
from tests.oracles.kdump_reader import KdumpFile
from vmcorefs.core.pages.dump_level import PageKind
from vmcorefs.core.space.extents import Kind, make_extents
from vmcorefs.native import pages as native
from vmcorefs.reader import Reader
from vmcorefs.save.codecs import Codec, find_codec, python_codec
from vmcorefs.save.dump import Dump
from vmcorefs.save.formats.kdump import KdumpFormat
from vmcorefs.save.packing import Packer
from vmcorefs.save.pages import PageReader, are_zero, batches
from vmcorefs.save.survey import Survey
from vmcorefs.sources.file import FileSource

CODECS = ("none", "lzo", "zlib", "snappy", "zstd")
SAME_LIBRARY = ("none", "lzo")
"""Each Python package brings the others in a version of its own, which may write other bytes."""


def page(seed: int) -> bytes:
    """A page of zeros, of noise, of text, or of something between."""
    make = random.Random(seed)  # noqa: S311
    if seed % 5 == 0:
        return bytes(PAGE)
    if seed % 5 == 1:
        return make.randbytes(PAGE)
    edge = bytearray(PAGE)
    edge[make.randrange(PAGE)] = make.randrange(1, 256)
    if seed % 5 == 2:
        return bytes(edge)
    half = make.randrange(PAGE)
    words = make.randbytes(make.randrange(1, 64))
    return (make.randbytes(half) + words * PAGE)[:PAGE]


memories = st.lists(st.integers(0, 60).map(page), min_size=1, max_size=80)


@contextmanager
def from_file(memory: list[bytes], kinds: list[int], level: int) -> Iterator[Dump]:
    """A dump of a file of these pages."""
    dump = small_dump([(0, len(memory) * PAGE)], kinds=kinds, level=level)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "ram"
        path.write_bytes(b"".join(memory))
        source = FileSource(str(path), role="image")
        table = make_extents(dump.ram, kind=Kind.DATA, source=0)
        yield replace(dump, memory=Reader("memory", table, [source]))
        source.close()


def written(dump: Dump, codec: Codec) -> bytes:
    output = MemoryOutput()
    KdumpFormat(codec, 1)(dump, [output], Watch())
    return bytes(output.data)


@contextmanager
def without_native() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "is_built", lambda: False)
        yield


def test_machine_code_was_built_and_has_every_codec() -> None:
    assert native.is_built()
    assert all(native.has_codec(int(python_codec(name).flag)) for name in CODECS[1:])
    assert not native.has_codec(0x40)


@settings(max_examples=60, deadline=None)
@given(memory=memories)
def test_the_same_pages_are_zeros(memory: list[bytes]) -> None:
    data = np.frombuffer(b"".join(memory), dtype=np.uint8).reshape(-1, PAGE)

    expected = [one == bytes(PAGE) for one in memory]

    assert native.find_zeros(data).tolist() == expected
    assert are_zero(data).tolist() == expected


@settings(max_examples=60, deadline=None)
@given(
    memory=memories,
    kinds=st.lists(st.sampled_from([PageKind.KERNEL, PageKind.FREE]), max_size=80),
    level=st.sampled_from([0, 31]),
    codec=st.sampled_from(CODECS),
)
def test_a_dump_of_a_file_is_the_same(
    memory: list[bytes], kinds: list[int], level: int, codec: str
) -> None:
    with from_file(memory, kinds, level) as dump:
        ours = written(dump, find_codec(codec))
        with without_native():
            theirs = written(dump, python_codec(codec))
    if codec in SAME_LIBRARY:
        assert ours == theirs
    one, other = KdumpFile(ours), KdumpFile(theirs)
    assert one.pages == other.pages
    free = {pfn for pfn, kind in enumerate(kinds) if level and kind == PageKind.FREE}
    assert one.pages == {pfn: data for pfn, data in enumerate(memory) if pfn not in free}


@settings(max_examples=30, deadline=None)
@given(memory=memories, codec=st.sampled_from(CODECS))
def test_pages_that_were_read_otherwise_are_packed_the_same(
    memory: list[bytes], codec: str
) -> None:
    """A file is read in machine code; what another source gives is packed from memory."""
    with from_file(memory, [], 0) as dump:
        survey = Survey(dump, 1)
        batch = next(batches(survey, len(memory)))
        packer = Packer(PageReader(dump), find_codec(codec))
        direct = packer._pack_file(batch)
        survey.close()
        read = packer._pack_read(PageReader(dump).read(batch))
        assert direct is not None
        assert b"".join(direct.pieces) == b"".join(read.pieces)
        assert direct.sizes.tolist() == read.sizes.tolist()
        assert direct.zero.tolist() == read.zero.tolist()


def test_a_page_that_is_gone_is_lost_and_the_others_are_not() -> None:
    """The file has become shorter since it was opened: that is no end of it, and no zeros."""
    memory = [page(number * 5 + 3) for number in range(40)]
    watch, output = Watch(), MemoryOutput()
    with from_file(memory, [], 0) as dump:
        source = dump.memory.sources[0]
        assert isinstance(source, FileSource)
        with open(source.name, "r+b") as file:
            file.truncate(30 * PAGE)
        KdumpFormat(find_codec("lzo"), 1)(dump, [output], watch)
    file_ = KdumpFile(bytes(output.data))
    assert [(paddr, size) for paddr, size, _ in watch.losses] == [(30 * PAGE, 10 * PAGE)]
    assert [file_.pages[pfn] for pfn in range(30)] == memory[:30]
    assert all(file_.pages[pfn] is None for pfn in range(30, 40))
