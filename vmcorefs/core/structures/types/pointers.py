"""Where a structure has pointers, and what they lead to: its BTF says."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Final

import msgspec

from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.structures.types.btf import BtfTypes, check_btf
from vmcorefs.errors import FormatError

_INT, _PTR, _ARRAY, _STRUCT, _UNION = 1, 2, 3, 4, 5
_MAX_DEPTH: Final = 16
_MAX_MEMBERS: Final = 1 << 17
"""Of one structure, with all that is embedded in it. struct task_struct has some 1500; struct
pglist_data has more, with an element for each zone of each node that there could be."""
_MAX_TARGET: Final = 1 << 17
_TEXT: Final = 128
"""Bytes that are taken for what a ``char *`` leads to."""
_PER_CPU: Final = "percpu_counter"


class Pointer(msgspec.Struct, frozen=True):
    """A pointer in a structure.

    Attributes:
        at: Where it is, in bytes from the structure's start.
        to: The structure that it leads to; empty for text, and for a word.
        size: Bytes of that.
        is_per_cpu: Whether each CPU has that, at a distance of its own: ``counters`` of struct
            percpu_counter. Of other pointers, BTF made by gcc does not tell.
    """

    at: int
    to: str
    size: int
    is_per_cpu: bool = False


class Layout(msgspec.Struct, frozen=True):
    """A structure: its size in bytes, and all pointers in it to structures and to text."""

    size: int
    pointers: tuple[Pointer, ...]


def read_layouts(
    data: bytes, byte_order: ByteOrder, word_size: int, names: Collection[str]
) -> dict[str, Layout]:
    """Find structures by name, those that there are; the first one of a name.

    One that has too many others within it is not among them.

    Raises:
        FormatError: if the BTF is damaged.
    """
    types = BtfTypes(check_btf(data, byte_order), byte_order)
    found: dict[str, Layout] = {}
    for position in types.positions:
        name_at, info, size = types.header.unpack_from(types.data, position)
        if info >> 24 & 0x1F == _STRUCT:
            name = types.name(name_at)
            if name in names and name not in found:
                with suppress(FormatError):
                    pointers = _Walk(types, word_size).aggregate(position, 0, 0)
                    found[name] = Layout(size, tuple(pointers))
    return found


class _Walk:
    """Goes through one structure and what is embedded in it."""

    def __init__(self, types: BtfTypes, word_size: int) -> None:
        self._types = types
        self._word_size = word_size
        self._left = _MAX_MEMBERS

    def aggregate(self, position: int, base: int, depth: int) -> Iterator[Pointer]:
        """The pointers in the structure or union at ``position``, which begins at ``base``."""
        name_at, info, _ = self._types.header.unpack_from(self._types.data, position)
        is_per_cpu = self._types.name(name_at) == _PER_CPU
        for _, type_id, bits in self._types.iter_own_members(position, info):
            yield from self._member(type_id, base + bits // 8, depth + 1, per_cpu=is_per_cpu)

    def _member(self, type_id: int, at: int, depth: int, *, per_cpu: bool) -> Iterator[Pointer]:
        self._left -= 1
        if self._left < 0 or depth > _MAX_DEPTH:
            raise FormatError("BTF: a struct has too many others within it")
        kind, position, target = self._types.resolve(type_id)
        if kind in (_STRUCT, _UNION):
            yield from self.aggregate(position, at, depth)
        elif kind == _ARRAY:
            element, count = self._types.array(position)
            size = self._size_of(element)
            for number in range(count if size else 0):
                yield from self._member(element, at + number * size, depth + 1, per_cpu=False)
        elif kind == _PTR:
            yield from self._pointer(target, at, per_cpu=per_cpu)

    def _pointer(self, target: int, at: int, *, per_cpu: bool) -> Iterator[Pointer]:
        kind, position, size = self._types.resolve(target)
        if kind in (_STRUCT, _UNION) and 0 < size <= _MAX_TARGET:
            name_at, _, _ = self._types.header.unpack_from(self._types.data, position)
            yield Pointer(at, self._types.name(name_at), size)
        elif kind == _INT and (per_cpu or size == 1):
            yield Pointer(at, "", size if per_cpu else _TEXT, per_cpu)

    def _size_of(self, type_id: int) -> int:
        """Bytes of an array's element; 0 of one that can have no pointers in it."""
        count = 1
        for _ in range(_MAX_DEPTH):
            kind, position, size = self._types.resolve(type_id)
            if kind == _PTR:
                return self._word_size * count
            if kind in (_STRUCT, _UNION):
                return size * count
            if kind != _ARRAY:
                break
            type_id, inner = self._types.array(position)
            count *= inner
        return 0
