"""ELF files of kernels, as far as a vmlinux says whose it is: notes, and a banner."""

from __future__ import annotations

import struct

from tests.builders.dead_machines import EM_X86_64, pack_note

BUILD_ID = "00112233445566778899aabbccddeeff00112233"
"""That of ``dead_machines.vmcoreinfo_text``."""

_LAYOUTS = {32: ("HHI3II6H", "10I", 52, 40), 64: ("HHI3QI6H", "II4QIIQQ", 64, 64)}


def kernel_notes(build_id: str, order: str = "<") -> bytes:
    """The notes of a Debian vmlinux: Xen's and Linux's come before the build id."""
    return (
        pack_note(b"Xen", 6, b"linux\0", order)
        + pack_note(b"Xen", 3, b"\0\0\0\x80\xff\xff\xff\xff", order)  # XEN_ELFNOTE_VIRT_BASE
        + pack_note(b"Linux", 3, b"\x01\0\0\0", order)
        + pack_note(b"GNU", 3, bytes.fromhex(build_id), order)
        + pack_note(b"Linux", 0x100, b"\0\0\0\0", order)
    )


def pack_vmlinux(
    notes: bytes,
    banner: bytes = b"",
    *,
    machine: int = EM_X86_64,
    bits: int = 64,
    order: str = "<",
    e_type: int = 2,
    sections: bool = True,
) -> bytes:
    """A file with ``.notes``, and ``.rodata`` if there is a banner.

    Args:
        notes: What ``.notes`` holds.
        banner: What ``.rodata`` holds.
        machine: ``e_machine``.
        bits: Of its ELF class.
        order: Its byte order.
        e_type: 2 is a program's, 1 an object's.
        sections: Without them, there is a PT_NOTE instead.
    """
    ehdr, shdr, ehdr_size, shdr_size = _LAYOUTS[bits]
    ident = bytes((0x7F, *b"ELF", bits // 32, 1 if order == "<" else 2, 1, *[0] * 9))
    phdr_size = 56 if bits == 64 else 32
    body = notes + banner
    at = ehdr_size + phdr_size
    rows = [
        (0,) * 10,
        (0, 7, 2, 0, at, len(notes), 0, 0, 4, 0),
        *([(0, 1, 2, 0, at + len(notes), len(banner), 0, 0, 1, 0)] if banner else []),
    ]
    table = b"".join(struct.pack(order + shdr, *row) for row in rows) if sections else b""
    header = struct.pack(
        order + ehdr,
        *(e_type, machine, 1, 0, ehdr_size, at + len(body) if sections else 0, 0),
        *(ehdr_size, phdr_size, 1, shdr_size, len(rows) if sections else 0, 0),
    )
    if bits == 64:
        phdr = struct.pack(order + "II6Q", 4, 4, at, 0, 0, len(notes), len(notes), 4)
    else:
        phdr = struct.pack(order + "8I", 4, at, 0, 0, len(notes), len(notes), 4, 4)
    return ident + header + phdr + body + table
