"""C structures as another machine's compiler lays them out.

The layout depends on byte order, the size of a ``long``, and the alignment of a 64-bit member.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec
import numpy as np

from vmcorefs.core.elf.notes import ByteOrder

LONG: Final = "long"
"""The kind of a member that is an ``unsigned long``."""

Members = tuple[tuple[str, str], ...]
"""Names and kinds of members, in order: ``LONG``, or numpy's ``i4``, ``u4``, ``u8``, ``S8``."""


class Abi(msgspec.Struct, frozen=True):
    """How the machine that wrote a file lays out a C structure.

    Attributes:
        byte_order: ``<`` or ``>``.
        bits: Size of a ``long``.
        packed: A 64-bit member is aligned to 4 bytes, as on i386, and not to 8, as on ARM.
    """

    byte_order: ByteOrder
    bits: Literal[32, 64]
    packed: bool = False


def layout(members: Members, abi: Abi) -> np.dtype[np.void]:
    """Lay out a structure without padding at its end."""
    names, formats, offsets, end = [], [], [], 0
    for name, kind in members:
        written = f"u{abi.bits // 8}" if kind is LONG else kind
        size = np.dtype(written).itemsize
        alignment = 1 if written[0] == "S" else min(size, 4 if abi.packed else 8)
        offset = -(-end // alignment) * alignment
        names.append(name)
        formats.append(written if written[0] == "S" else abi.byte_order + written)
        offsets.append(offset)
        end = offset + size
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": end})


def pack_struct(members: Members, abi: Abi, values: Mapping[str, object]) -> bytes:
    """The bytes of a structure; ``values`` may have more keys than it has members.

    Raises:
        OverflowError: if a value does not fit.
    """
    row = np.zeros(1, dtype=layout(members, abi))
    for name, _kind in members:
        row[name] = values[name]
    return row.tobytes()


def unpack_struct(members: Members, abi: Abi, data: bytes) -> dict[str, int | bytes]:
    """The values of the structure that ``data`` begins with."""
    row = np.frombuffer(data, dtype=layout(members, abi), count=1)[0]
    return {name: row[name].item() for name, _kind in members}
