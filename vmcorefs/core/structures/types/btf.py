"""The kernel's BTF, its own description of its types, read for the offsets of members.

Format: include/uapi/linux/btf.h, Documentation/bpf/btf.rst. A header, then the types one after
another, numbered from 1, then their names. It lies in the kernel's memory from ``__start_BTF`` up
to ``__stop_BTF``. Only the types that are asked for are decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator

import msgspec

from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.made_before import made_before
from vmcorefs.errors import FormatError

BTF_MAGIC = 0xEB9F
"""First 16 bits of BTF, in the kernel's byte order."""

MAX_BTF = 1 << 25
"""Longest BTF accepted, in bytes: distributions' kernels have 4 to 8 MiB."""

_HEADER = "HBBIIIII"
_HEADER_SIZE = struct.calcsize(f"={_HEADER}")
_TYPE_SIZE = _MEMBER_SIZE = 12
_STRUCT, _UNION, _ENUM = 4, 5, 6
_MODIFIERS = (8, 9, 10, 11, 18)  # TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG

# BTF_KIND_* -> bytes after struct btf_type: fixed, and for each of the vlen elements
_TAIL = {
    **dict.fromkeys((2, 7, 8, 9, 10, 11, 12, 16, 18), (0, 0)),  # PTR ... FUNC, FLOAT, TYPE_TAG
    **dict.fromkeys((1, 14, 17), (4, 0)),  # INT, VAR, DECL_TAG
    3: (12, 0),  # ARRAY
    **dict.fromkeys((_STRUCT, _UNION, 15, 19), (0, 12)),  # ..., DATASEC, ENUM64
    **dict.fromkeys((_ENUM, 13), (0, 8)),  # ENUM, FUNC_PROTO
}

_MAX_MEMBERS = 1 << 14  # of one structure, including those of anonymous ones within it
_MAX_NESTING = 16
_MAX_NAME = 256  # longer ones are cut, but none of those is ever looked up


class Struct(msgspec.Struct, frozen=True):
    """A structure's layout.

    Attributes:
        name: Its name.
        size: In bytes.
        offsets: Member to offset in bytes; members of anonymous structures and unions within it are
            its own, as in C, and bit-fields that start within a byte are left out.
    """

    name: str
    size: int
    offsets: dict[str, int]

    def offset(self, member: str) -> int:
        """Where ``member`` is, in bytes.

        Raises:
            FormatError: if the structure has no such member.
        """
        try:
            return self.offsets[member]
        except KeyError:
            raise FormatError(f"BTF: struct {self.name} has no {member}") from None


def btf_start(byte_order: ByteOrder) -> bytes:
    """The first bytes of any kernel's BTF: magic, version, no flags, the header's size."""
    return struct.pack(f"{byte_order}HBBI", BTF_MAGIC, 1, 0, _HEADER_SIZE)


def check_btf(data: bytes, byte_order: ByteOrder) -> bytes:
    """Return BTF without any bytes after it.

    Raises:
        FormatError: if it is not BTF, or is cut off (kernel/bpf/btf.c, ``btf_parse_hdr``).
    """
    if not _HEADER_SIZE <= len(data) <= MAX_BTF:
        raise FormatError(f"BTF: {len(data)} bytes, expected {_HEADER_SIZE} to {MAX_BTF}")
    magic, version, _, header, type_at, type_size, string_at, string_size = struct.unpack_from(
        byte_order + _HEADER, data
    )
    if (magic, version) != (BTF_MAGIC, 1):
        raise FormatError(f"BTF: magic {magic:#x}, version {version}, expected {BTF_MAGIC:#x}, 1")
    end = int(header + max(type_at + type_size, string_at + string_size))
    if header < _HEADER_SIZE or end > len(data):
        raise FormatError(f"BTF: header of {header} bytes, {end} in all, but there are {len(data)}")
    return data[:end]


def read_structs(data: bytes, byte_order: ByteOrder, names: Collection[str]) -> dict[str, Struct]:
    """Find structures by name; the first one if several have the same name.

    Raises:
        FormatError: if the BTF is damaged, or a structure is missing.
    """
    found = find_structs(data, byte_order, names)
    missing = set(names) - set(found)
    if missing:
        raise FormatError(f"BTF: no struct {', '.join(sorted(missing))}")
    return found


def find_structs(data: bytes, byte_order: ByteOrder, names: Collection[str]) -> dict[str, Struct]:
    """Find those of some structures that there are, as ``read_structs`` does.

    Raises:
        FormatError: if the BTF is damaged.
    """

    def find() -> bytes:
        return msgspec.msgpack.encode(_find_structs(check_btf(data, byte_order), byte_order, names))

    made_of = (data, byte_order.encode(), *(name.encode() for name in sorted(names)))
    return msgspec.msgpack.decode(made_before("structs", made_of, find), type=dict[str, Struct])


def _find_structs(data: bytes, byte_order: ByteOrder, names: Collection[str]) -> dict[str, Struct]:
    types = BtfTypes(data, byte_order)
    found: dict[str, Struct] = {}
    for position in types.positions:
        name_at, info, size = types.header.unpack_from(types.data, position)
        if info >> 24 & 0x1F == _STRUCT:
            name = types.name(name_at)
            if name in names and name not in found:
                found[name] = Struct(name, size, dict(types.iter_members(position)))
    return found


def read_enumerators(data: bytes, byte_order: ByteOrder, names: Collection[str]) -> dict[str, int]:
    """Find 32-bit enumerators by name in all enumerations; the first one if there are several.

    Returns:
        The values of those that were found, signed if the enumeration is.

    Raises:
        FormatError: if the BTF is damaged.
    """
    types = BtfTypes(check_btf(data, byte_order), byte_order)
    found: dict[str, int] = {}
    for position in types.positions:
        _, info, _ = types.header.unpack_from(types.data, position)
        if info >> 24 & 0x1F == _ENUM:
            for name, value in types.iter_enumerators(position, info):
                if name in names:
                    found.setdefault(name, value)
    return found


class BtfTypes:
    """The types of checked BTF.

    Attributes:
        data: The BTF.
        positions: Where each type is in it, in bytes; type 1 is the first.
        header: The layout of ``struct btf_type``.
    """

    def __init__(self, data: bytes, byte_order: ByteOrder) -> None:
        _, _, _, header, type_at, type_size, string_at, string_size = struct.unpack_from(
            byte_order + _HEADER, data
        )
        self.data = data
        self.header = struct.Struct(f"{byte_order}III")
        start = header + string_at
        self._strings = data[start : start + string_size]
        self.positions = self._walk(header + type_at, header + type_at + type_size)

    def _walk(self, position: int, end: int) -> list[int]:
        """Where each type is; its kind decides its length."""
        positions = []
        unpack = self.header.unpack_from
        while position < end:
            if position + _TYPE_SIZE > end:
                raise FormatError(f"BTF: the type at {position:#x} ends past the types, {end:#x}")
            _, info, _ = unpack(self.data, position)
            tail = _TAIL.get(info >> 24 & 0x1F)
            if tail is None:
                raise FormatError(f"BTF: the type at {position:#x} is of kind {info >> 24 & 0x1F}")
            positions.append(position)
            position += _TYPE_SIZE + tail[0] + tail[1] * (info & 0xFFFF)
        if position > end:
            raise FormatError(f"BTF: the last type ends past the types, {end:#x}")
        return positions

    def name(self, name_at: int) -> str:
        """The name at an offset of the string section; empty if there is none."""
        name, _, _ = self._strings[name_at : name_at + _MAX_NAME].partition(b"\0")
        return name.decode("ascii", "replace")

    def iter_members(self, position: int) -> Iterator[tuple[str, int]]:
        """Members of the structure at ``position``, and their offsets in bytes."""
        pending = [(position, 0, 0)]
        left = _MAX_MEMBERS
        while pending:
            position, base, depth = pending.pop()
            _, info, _ = self.header.unpack_from(self.data, position)
            left -= info & 0xFFFF
            if left < 0 or depth > _MAX_NESTING:
                raise FormatError(f"BTF: the struct at {position:#x} has too many members")
            for name, type_id, bits in self.iter_own_members(position, info):
                if name and bits % 8 == 0:
                    yield name, base + bits // 8
                elif not name:
                    nested = self._find_aggregate(type_id)
                    if nested is not None:
                        pending.append((nested, base + bits // 8, depth + 1))

    def iter_enumerators(self, position: int, info: int) -> Iterator[tuple[str, int]]:
        """Name and value of each enumerator of the enumeration at ``position``."""
        layout = f"{self.header.format[0]}I{'i' if info >> 31 else 'I'}"
        start = position + _TYPE_SIZE
        end = start + (info & 0xFFFF) * struct.calcsize(layout)
        for name_at, value in struct.iter_unpack(layout, self.data[start:end]):
            yield self.name(name_at), value

    def iter_own_members(self, position: int, info: int) -> Iterator[tuple[str, int, int]]:
        """Name, type and offset in bits of each member, without those of what is embedded."""
        start = position + _TYPE_SIZE
        for at in range(start, start + (info & 0xFFFF) * _MEMBER_SIZE, _MEMBER_SIZE):
            name_at, type_id, bits = self.header.unpack_from(self.data, at)
            # with kind_flag the upper 8 bits are a bit-field's width
            yield self.name(name_at), type_id, bits & 0xFFFFFF if info >> 31 else bits

    def resolve(self, type_id: int) -> tuple[int, int, int]:
        """Kind, position, and size or type, of a type, behind what only stands before it.

        The kind is 0 if it is void, or not in the table.
        """
        for _ in range(_MAX_NESTING):
            if not 0 < type_id <= len(self.positions):
                break
            position = self.positions[type_id - 1]
            _, info, target = self.header.unpack_from(self.data, position)
            kind = info >> 24 & 0x1F
            if kind not in _MODIFIERS:
                return kind, position, target
            type_id = target
        return 0, 0, 0

    def array(self, position: int) -> tuple[int, int]:
        """The type of the elements of the array at ``position``, and how many it has."""
        element, _, count = self.header.unpack_from(self.data, position + _TYPE_SIZE)
        return element, count

    def _find_aggregate(self, type_id: int) -> int | None:
        if not 0 < type_id <= len(self.positions):
            return None
        position = self.positions[type_id - 1]
        _, info, _ = self.header.unpack_from(self.data, position)
        return position if info >> 24 & 0x1F in (_STRUCT, _UNION) else None
