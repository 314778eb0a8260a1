"""QEMU's migration streams, after its migration/savevm.c and ram.c, and libvirt's header."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

from tests.builders.qemu_devices import pack_devices, x86_fields

PAGE = 4096
ZERO, MEM_SIZE, STORED, EOS, CONTINUE, XBZRLE = 2, 4, 8, 16, 32, 64
RAM = 3
"""The number of RAM's sections."""

REGISTERS = [{"rip": 0xFFFFFFFF81000000 + n, "rsp": 0x1000 * n, "rax": n, "cs": 16} for n in (1, 2)]
"""Of a PC with two CPUs."""

DEVICES = pack_devices([x86_fields(one) for one in REGISTERS], REGISTERS)


def text(name: str) -> bytes:
    return bytes([len(name)]) + name.encode()


def configuration(machine: str = "pc-q35-7.2", *parts: bytes) -> bytes:
    name = struct.pack(">BI", 7, len(machine)) + machine.encode()
    return b"QEVM\0\0\0\3" + name + b"".join(parts)


def capabilities(*names: str) -> bytes:
    head = b"\5" + text("configuration/capabilities") + struct.pack(">II", 1, len(names))
    return head + b"".join(text(name) for name in names)


def start(name: str = "ram", number: int = RAM, version: int = 4) -> bytes:
    return struct.pack(">BI", 1, number) + text(name) + struct.pack(">II", 0, version)


def footer(number: int = RAM) -> bytes:
    return struct.pack(">BI", 0x7E, number)


def block_list(sizes: Mapping[str, int]) -> bytes:
    head = struct.pack(">Q", sum(sizes.values()) | MEM_SIZE)
    return head + b"".join(text(name) + struct.pack(">Q", size) for name, size in sizes.items())


def end_of_records() -> bytes:
    return struct.pack(">Q", EOS)


def records(name: str, pages: Iterable[tuple[int, bytes]]) -> bytes:
    """Pages of a block by their address in it; those of zeros are not stored."""
    packed, first = [], True
    for address, page in pages:
        flags = STORED if any(page) else ZERO
        where = text(name) if first else b""
        head = struct.pack(">Q", address | flags | (0 if first else CONTINUE)) + where
        packed.append(head + (page if any(page) else b"\0"))
        first = False
    return b"".join(packed)


def pages_of(data: bytes, first: int = 0) -> list[tuple[int, bytes]]:
    return [(at, data[at : at + PAGE]) for at in range(first, len(data), PAGE)]


def section(kind: int, body: bytes, number: int = RAM) -> bytes:
    return struct.pack(">BI", kind, number) + body + end_of_records() + footer(number)


def pack_stream(
    ram: bytes,
    others: Mapping[str, bytes] | None = None,
    old: bytes | None = None,
    again: Sequence[int] = (),
    devices: bytes = DEVICES,
) -> bytes:
    """A stream.

    Args:
        ram: Of ``pc.ram``, below the PCI hole.
        others: More blocks, which are sent first.
        old: What ``pc.ram`` had when it was sent first, if the machine ran meanwhile.
        again: Addresses of the pages that are sent once more, as they are in ``ram``.
        devices: What is behind RAM.
    """
    blocks = {**(others or {}), "pc.ram": ram}
    sizes = {name: len(data) for name, data in blocks.items()}
    pages = pages_of(ram if old is None else old)
    first = b"".join(records(name, pages_of(data)) for name, data in (others or {}).items())
    return b"".join(
        (
            configuration(),
            start() + block_list(sizes) + end_of_records() + footer(),
            section(2, first + records("pc.ram", pages[:300])),
            section(2, records("pc.ram", pages[300:])),
            struct.pack(">BHH", 8, 1, 4) + b"\0\0\0\7",  # a command, with four bytes for it
            struct.pack(">BHH", 8, 11, 0),  # and the one that QEMU 10 sends in front of the end
            section(3, records("pc.ram", [(at, ram[at : at + PAGE]) for at in again])),
            devices,
        )
    )


def pack_mapped(ram: bytes, before: bytes = b"", devices: bytes = DEVICES) -> bytes:
    """A stream with the capability mapped-ram, by one of a host whose words are little-endian."""
    out = bytearray(before + configuration("pc-q35-9.0", capabilities("x-ignored", "mapped-ram")))
    out += start() + struct.pack(">Q", 2 * PAGE + len(ram) | MEM_SIZE)
    for name, data in (("vga.vram", b"\1" * 2 * PAGE), ("pc.ram", ram)):
        out += text(name) + struct.pack(">Q", len(data))
        stored = [any(page) for _, page in pages_of(data)]
        bitmap = sum(1 << number for number, held in enumerate(stored) if held)
        room = -(-len(stored) // 64) * 8
        at = len(out) + 28
        pages = -(-(at + room) // (1 << 20)) << 20
        out += struct.pack(">IQQQ", 1, PAGE, at, pages) + bitmap.to_bytes(room, "little")
        out += bytes(pages - len(out)) + data
    return bytes(out) + end_of_records() + footer() + section(3, b"") + devices


def pack_libvirt(stream: bytes, form: int = 0, magic: bytes = b"LibvirtQemudSave") -> bytes:
    xml = b"<domain type='qemu'/>\0".ljust(1000, b"\0")
    return magic + struct.pack("<5I", 2, len(xml), 1, form, 0) + bytes(56) + xml + stream
