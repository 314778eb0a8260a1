"""Dumps by LKCD."""

from __future__ import annotations

import zlib
from array import array

import numpy as np

from vmcorefs.core.elf.machines import machine_number
from vmcorefs.core.formats.lkcd import GZIP, Header, Pages, decompress_rle, read_header
from vmcorefs.core.formats.window import Window
from vmcorefs.core.space.extents import Extents, Kind, coalesce
from vmcorefs.errors import FormatError, UnsupportedError
from vmcorefs.sources.base import read_at
from vmcorefs.sources.dumps.page_codecs import Decompress, checked
from vmcorefs.sources.dumps.placed.memory import PlacedMemory
from vmcorefs.sources.dumps.placed.units import StoredUnits, Units
from vmcorefs.sources.input import File

_FORMAT = "a dump by LKCD"


def open_lkcd(file: File) -> PlacedMemory:
    """Go through all pages.

    Args:
        file: Closed when the sources of the returned memory are closed.

    Raises:
        FormatError: if its header cannot be true, or it has no page.
        UnsupportedError: if it is of a version that is not known.
        SourceIOError: if it cannot be read.
    """
    window, pages = Window(read_at(file), file.size), Pages()
    try:
        header = read_header(window)
        pages.follow(window, header)
    except FormatError as error:
        raise FormatError(f"{file.name}: {error}") from error
    except UnsupportedError as error:
        raise UnsupportedError(f"{file.name}: {_FORMAT}, but of {error}") from error
    held = _table(pages, header.page_size)
    lost = f"{file.name}: {pages.why}: the pages that followed are lost" if pages.why else ""
    size = array("q", [header.page_size]) * len(pages.paddr)
    units = Units(pages.offset, pages.length, size, header.page_size, pages.plain)
    source = StoredUnits(file, "pages of a dump", units, _decompressor(header))
    return PlacedMemory(
        name=file.name,
        format=_FORMAT,
        sources=(source,),
        held=held,
        ram=held.ranges,
        lost=lost,
        machine=machine_number(header.machine),
    )


def _decompressor(header: Header) -> Decompress:
    if header.compression != GZIP:
        return decompress_rle
    inflate = zlib.decompressobj
    return checked(lambda data, size: inflate().decompress(data, size + 1), zlib.error)


def _table(pages: Pages, size: int) -> Extents:
    """Where each page belongs; of one that is there twice, the first counts."""
    paddr, first = np.unique(np.frombuffer(pages.paddr, dtype=np.int64), return_index=True)
    table = Extents(
        start=paddr,
        size=np.full(len(paddr), size, dtype=np.int64),
        offset=first.astype(np.int64) * size,
        source=np.zeros(len(paddr), dtype=np.int32),
        kind=np.full(len(paddr), Kind.DATA, dtype=np.int8),
    )
    return coalesce(table)
