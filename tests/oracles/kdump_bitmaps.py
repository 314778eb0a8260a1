"""A kdump-compressed dump's two bitmaps, read by hand (makedumpfile, diskdump_mod.h)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from pathlib import Path

Pages = npt.NDArray[np.bool_]
"""One value for each page, by page frame number."""

# disk_dump_header: signature, version, six names of 65 bytes, a timeval; then these
_FIELDS_AT = 8 + 4 + 6 * 65 + 6 + 16


def read_bitmaps(path: Path) -> tuple[Pages, Pages]:
    """Which pages are RAM, and which of them the dump has."""
    with path.open("rb") as file:
        header = file.read(4096)
        assert header.startswith(b"KDUMP   ")
        _, block, sub, blocks, pages = struct.unpack_from("<iiiiI", header, _FIELDS_AT)
        file.seek((1 + sub) * block)
        bits = np.unpackbits(np.frombuffer(file.read(blocks * block), np.uint8), bitorder="little")
    ram, kept = bits.reshape(2, -1)[:, :pages].astype(np.bool_)
    return ram, kept
