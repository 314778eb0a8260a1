"""DWARF 4 written in batches: many entries of one shape at a time (DWARF 4, section 7.5)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.structures.types.btf_table import Rows


class Tag(IntEnum):
    """``DW_TAG_*``."""

    ARRAY_TYPE = 0x01
    ENUMERATION_TYPE = 0x04
    FORMAL_PARAMETER = 0x05
    MEMBER = 0x0D
    POINTER_TYPE = 0x0F
    COMPILE_UNIT = 0x11
    STRUCTURE_TYPE = 0x13
    SUBROUTINE_TYPE = 0x15
    TYPEDEF = 0x16
    UNION_TYPE = 0x17
    UNSPECIFIED_PARAMETERS = 0x18
    SUBRANGE_TYPE = 0x21
    BASE_TYPE = 0x24
    CONST_TYPE = 0x26
    ENUMERATOR = 0x28
    SUBPROGRAM = 0x2E
    VARIABLE = 0x34
    VOLATILE_TYPE = 0x35
    RESTRICT_TYPE = 0x37


class At(IntEnum):
    """``DW_AT_*``."""

    LOCATION = 0x02
    NAME = 0x03
    BYTE_SIZE = 0x0B
    STMT_LIST = 0x10
    LOW_PC = 0x11
    HIGH_PC = 0x12
    LANGUAGE = 0x13
    CONST_VALUE = 0x1C
    PRODUCER = 0x25
    PROTOTYPED = 0x27
    COUNT = 0x37
    DATA_MEMBER_LOCATION = 0x38
    DECLARATION = 0x3C
    ENCODING = 0x3E
    EXTERNAL = 0x3F
    TYPE = 0x49
    BIT_SIZE = 0x0D
    DATA_BIT_OFFSET = 0x6B


class Form(IntEnum):
    """``DW_FORM_*``; EXPRLOC is a static address (DW_OP_addr), REF4 a row that has an entry."""

    ADDR = 0x01
    DATA4 = 0x06
    DATA8 = 0x07
    DATA1 = 0x0B
    STRP = 0x0E
    REF4 = 0x13
    SEC_OFFSET = 0x17
    EXPRLOC = 0x18
    FLAG_PRESENT = 0x19


_WIDTHS: Final = {
    Form.ADDR: "u8",
    Form.DATA4: "u4",
    Form.DATA8: "u8",
    Form.DATA1: "u1",
    Form.STRP: "u4",
    Form.REF4: "u4",
    Form.SEC_OFFSET: "u4",
    Form.EXPRLOC: "u8",
}
_STATIC_ADDRESS: Final = np.uint16(0x0309)  # an expression of 9 bytes: DW_OP_addr and an address
_HEADER_SIZE: Final = 11  # of the unit, with 32-bit offsets
_VERSION: Final = 4


class Attribute(msgspec.Struct, frozen=True, eq=False):
    """One attribute of many entries.

    Attributes:
        at: Which.
        form: How it is written.
        values: One for each entry, or one for all; None for a flag.
        optional: Left out of the entries in which it is 0.
    """

    at: At
    form: Form
    values: npt.NDArray[np.generic] | int | None = None
    optional: bool = False


class Entries(msgspec.Struct, frozen=True, eq=False):
    """A unit with its entries.

    Attributes:
        info: ``.debug_info``.
        address_at: int64, where there are addresses in it.
        addresses: uint64, those.
    """

    info: bytes
    address_at: Rows
    addresses: npt.NDArray[np.uint64]


class DieStream:
    """Debugging information entries by their place in the order of all.

    An entry that nobody adds is null: it ends a list of children. The number of a shape, a tag with
    its attributes, is one byte here: there must be fewer than 128.

    Args:
        count: Entries, null ones included.
    """

    def __init__(self, count: int) -> None:
        self._sizes = np.ones(count, dtype=np.int64)
        self._batches: list[tuple[int, Rows, list[tuple[Attribute, npt.NDArray[np.generic]]]]] = []
        self._shapes: dict[tuple[int, ...], int] = {}

    def add(
        self, tag: Tag, places: Rows, attributes: Sequence[Attribute], *, children: bool = False
    ) -> None:
        """Add entries.

        Args:
            tag: Their tag.
            places: int64, where each stands in the order of all.
            attributes: Theirs, in order.
            children: Whether those that follow, up to a null entry, are below them.
        """
        columns = [
            (attribute, np.broadcast_to(np.asarray(attribute.values), places.shape))
            for attribute in attributes
        ]
        kept = np.zeros(len(places), dtype=np.int64)  # a bit for each optional one that is there
        for bit, (attribute, values) in enumerate(columns):
            if attribute.optional:
                kept |= (values != 0).astype(np.int64) << bit
        for choice in np.unique(kept).tolist():
            chosen = kept == choice
            self._add(
                tag,
                places[chosen],
                [
                    (attribute, values[chosen])
                    for bit, (attribute, values) in enumerate(columns)
                    if not attribute.optional or choice >> bit & 1
                ],
                children=children,
            )

    def _add(
        self,
        tag: Tag,
        places: Rows,
        columns: list[tuple[Attribute, npt.NDArray[np.generic]]],
        *,
        children: bool,
    ) -> None:
        shape = [int(tag), int(children)]
        for attribute, _ in columns:
            shape += [attribute.at, attribute.form]
        code = self._shapes.setdefault(tuple(shape), len(self._shapes) + 1)
        self._sizes[places] = _entry_dtype("<", columns).itemsize
        self._batches.append((code, places, columns))

    def pack_abbreviations(self) -> bytes:
        """``.debug_abbrev``: every shape that was used, by its number."""
        tables = (bytes([code, *shape, 0, 0]) for shape, code in self._shapes.items())
        return b"".join(tables) + b"\0"

    def pack_strings(self, strings: bytes) -> bytes:
        """``.debug_str``: what entries name of ``strings``, each of which ends with a NUL.

        The entries that have been added are made to name it there.
        """
        ends = np.flatnonzero(np.frombuffer(strings, dtype=np.uint8) == 0)
        starts = np.append(0, ends[:-1] + 1)
        used = np.zeros(len(ends), dtype=np.bool_)
        named = [
            (columns, number, attribute, ends.searchsorted(values.astype(np.int64)))
            for _, _, columns in self._batches
            for number, (attribute, values) in enumerate(columns)
            if attribute.form == Form.STRP
        ]
        for *_, which in named:
            used[which] = True
        sizes = (ends + 1 - starts) * used
        moved = np.cumsum(sizes) - sizes - starts
        for columns, number, attribute, which in named:
            columns[number] = attribute, columns[number][1].astype(np.int64) + moved[which]
        picked = np.repeat(used, ends + 1 - starts)
        return np.frombuffer(strings, dtype=np.uint8)[: len(picked)][picked].tobytes()

    def pack(self, byte_order: ByteOrder, place_of: Rows) -> Entries:
        """One unit with all entries.

        Args:
            byte_order: The machine's.
            place_of: For each row that REF4 may name, where its entry stands in the order of all.
        """
        offsets = _HEADER_SIZE + np.cumsum(self._sizes) - self._sizes
        size = int(offsets[-1]) + 1 if len(offsets) else _HEADER_SIZE
        info = np.zeros(size, dtype=np.uint8)
        header = np.array(
            (size - 4, _VERSION, 0, 8),
            [(name, byte_order + width) for name, width in zip("lvao", _HEADER, strict=True)],
        )
        info[:_HEADER_SIZE] = np.frombuffer(header.tobytes(), dtype=np.uint8)
        address_at, addresses = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.uint64)]
        for code, places, columns in self._batches:
            dtype = _entry_dtype(byte_order, columns)
            entries = np.zeros(len(places), dtype=dtype)
            entries["code"] = code
            for number, (attribute, values) in enumerate(columns):
                if attribute.form == Form.REF4:
                    entries[f"{number}"] = offsets[place_of[values.astype(np.int64)]]
                elif attribute.form != Form.FLAG_PRESENT:
                    entries[f"{number}"] = values
                if attribute.form == Form.EXPRLOC:
                    entries[f"{number}.op"] = _STATIC_ADDRESS
                if attribute.form in (Form.ADDR, Form.EXPRLOC):
                    address_at.append(offsets[places] + _offset_of(dtype, f"{number}"))
                    addresses.append(values.astype(np.uint64))
            raw = entries.view(np.uint8).reshape(len(places), entries.dtype.itemsize)
            for byte in range(raw.shape[1]):
                info[offsets[places] + byte] = raw[:, byte]
        return Entries(info.tobytes(), np.concatenate(address_at), np.concatenate(addresses))


_HEADER: Final = ("u4", "u2", "u4", "u1")  # length, version, where abbreviations are, address size


def pack_lines(files: Sequence[str], byte_order: ByteOrder) -> bytes:
    """``.debug_line`` of a unit of which no lines are known, but source files are (6.2.4)."""
    listed = b"".join(name.encode() + b"\0\0\0\0" for name in files)
    after = bytes((1, 1, 1, 0, 1, len(_OPERANDS) + 1, *_OPERANDS)) + b"\0" + listed + b"\0"
    header = struct.pack(byte_order + "HI", _VERSION, len(after))
    return struct.pack(byte_order + "I", len(header + after)) + header + after


_OPERANDS: Final = (0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1)  # of each standard opcode (6.2.5.2)


def _entry_dtype(
    byte_order: ByteOrder, columns: Sequence[tuple[Attribute, npt.NDArray[np.generic]]]
) -> np.dtype[np.void]:
    fields = [("code", "u1")]
    for number, (attribute, _) in enumerate(columns):
        if attribute.form == Form.EXPRLOC:
            fields.append((f"{number}.op", "<u2"))  # a length and an operation, of a byte each
        if attribute.form != Form.FLAG_PRESENT:
            fields.append((f"{number}", byte_order + _WIDTHS[attribute.form]))
    return np.dtype(fields)


def _offset_of(dtype: np.dtype[np.void], field: str) -> int:
    fields = dtype.fields
    assert fields is not None  # noqa: S101  # it has been made of some
    return fields[field][1]
