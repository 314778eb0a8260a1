"""The groups and tags of VMware's saved states.

A header lists groups, and a group has tags: a number of 16 bits that says how long the name is, how
many indices follow, and how large the value is; a value may also be a block, with sizes of its own
(crash's vmware_vmss.c and vmware_vmss.h). All is little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

import msgspec

from vmcorefs.core.formats.window import Window
from vmcorefs.errors import FormatError, UnsupportedError

_GROUP: Final = struct.Struct("<64sQQ")
_SIZES: Final = struct.Struct("<QQH")
_HEAD: Final = 2
_BLOCK, _COMPRESSED = 0x3F, 0x3E
_MOST_TAGS: Final = 1 << 20
_DESCRIPTION: Final = "the description of its machine"


class Tag(msgspec.Struct, frozen=True):
    """A value in a group.

    Attributes:
        name: Its name.
        indices: Which of several of that name.
        value: A number; of a block, the bytes of what is in it.
        block: Where a block begins in the file; None of a number.
    """

    name: bytes
    indices: tuple[int, ...]
    value: int
    block: int | None = None


def tags_of(window: Window, count: int, group: bytes) -> Iterator[Tag]:
    """The tags of a group, of which there may be several of one name.

    Args:
        window: Reads the file.
        count: How many groups the header tells of.
        group: Its name.

    Raises:
        FormatError: if they cannot be true.
        UnsupportedError: if the memory is compressed.
    """
    for number in range(count):
        raw = take_all(window, 12 + number * _GROUP.size, _GROUP.size, "its list of groups")
        name, start, size = _GROUP.unpack(raw)
        if name.rstrip(b"\0") == group:
            if start + size > 1 << 62:
                raise FormatError(f"the {group.decode()} is described at {start:#x}")
            yield from _tags(window, start, start + size)


def _tags(window: Window, at: int, end: int) -> Iterator[Tag]:
    for _ in range(_MOST_TAGS):
        if at >= end:
            return
        head = int.from_bytes(take_all(window, at, _HEAD), "little")
        if not head:
            return
        at += _HEAD
        size, indices, length = head & 0x3F, head >> 6 & 3, head >> 8
        name = take_all(window, at, length)
        at += length
        numbers = take_all(window, at, 4 * indices)
        at += 4 * indices
        block = None
        if size in (_BLOCK, _COMPRESSED):
            stored, value, padding = _SIZES.unpack(take_all(window, at, _SIZES.size))
            block = at + _SIZES.size + padding
            if max(stored, value, block) > 1 << 62:
                raise FormatError(f"a block of {stored} bytes at {block:#x}")
            if size == _COMPRESSED and name == b"Memory":
                raise UnsupportedError("its memory is compressed in a way that is not read here")
            at = block + stored
        else:
            value = int.from_bytes(take_all(window, at, size)[:8], "little")
            at += size
        yield Tag(name, struct.unpack(f"<{indices}I", numbers), value, block)
        if name == b"Memory" and at > window.size:
            return  # it is cut within the memory, and what follows is not told
    raise FormatError(f"more than {_MOST_TAGS} tags")


def take_all(window: Window, at: int, size: int, what: str = _DESCRIPTION) -> bytes:
    """The bytes there, all of them: what is behind the end of the file is no zeros.

    Raises:
        FormatError: if the file ends before; ``what`` is what it is cut in.
    """
    data = window.take(at, size)
    if len(data) < size:
        raise FormatError(f"it is cut within {what}")
    return data
