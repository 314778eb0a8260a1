"""Encrypted files, and files that lie beside a memory image.

Sources: openssl-enc(1), age's specification, systemd's journal-def.h, perf.data-file-format.txt,
pcap-savefile(5) and the pcapng draft, ISO 32000 (PDF), PNG's and SQLite's file formats.
"""

from __future__ import annotations

from vmcorefs.core.formats.foreign.signature import FILE, NEW, Foreign, Signature, Start

_BESIDE = "give the memory as IMAGE"


def _is_pcapng(start: Start) -> bool:
    return start.head[8:12] in (b"\x4d\x3c\x2b\x1a", b"\x1a\x2b\x3c\x4d")


OTHERS = (
    Signature(
        Foreign("data encrypted by openssl", f"decrypt it first: openssl enc -d -in {FILE}"),
        (b"Salted__",),
    ),
    Signature(
        Foreign("data encrypted by age", f"decrypt it first: age -d -o {NEW} {FILE}"),
        (b"age-encryption.org/v1\n",),
    ),
    Signature(Foreign("a journal of systemd", _BESIDE), (b"LPKSHHRH",)),
    Signature(Foreign("a recording by perf", _BESIDE), (b"PERFILE2", b"2ELIFREP")),
    Signature(
        Foreign("captured network packets (pcap)", _BESIDE),
        (
            *(b"\xd4\xc3\xb2\xa1\2\0\4\0", b"\xa1\xb2\xc3\xd4\0\2\0\4"),
            *(b"\x4d\x3c\xb2\xa1\2\0\4\0", b"\xa1\xb2\x3c\x4d\0\2\0\4"),
        ),
    ),
    Signature(
        Foreign("captured network packets (pcapng)", _BESIDE), (b"\n\r\r\n",), check=_is_pcapng
    ),
    Signature(Foreign("a PDF document", _BESIDE), (b"%PDF-",)),
    Signature(Foreign("a PNG picture", _BESIDE), (b"\x89PNG\r\n\x1a\n",)),
    Signature(Foreign("a database (SQLite)", _BESIDE), (b"SQLite format 3\0",)),
)
"""The first that fits is it."""
