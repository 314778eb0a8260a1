"""Text: what people give in place of the memory, or beside it, such as a log or a memory map."""

from __future__ import annotations

import re
from typing import Final

from vmcorefs.core.formats.foreign.signature import Foreign, ReadAt, Start

_SAMPLE: Final = 4096
_LEAST: Final = 16
# all that C0 has but BEL, BS, TAB, LF, VT, FF, CR and ESC, which terminals and logs have
_CONTROL = re.compile("[\x00-\x06\x0e-\x1a\x1c-\x1f\x7f]")

_MEMORY = "give the memory as IMAGE"
_KINDS: Final = (
    ("# Disk DescriptorFile", Foreign("a disk image (VMDK)", "a disk holds files, not memory")),
    ("System RAM", Foreign("a memory map as text", f"{_MEMORY}, and this by --map")),
    ("BIOS-e820", Foreign("a kernel's log", f"{_MEMORY}; for its memory map, give this by --map")),
    ("OSRELEASE=", Foreign("VMCOREINFO as text", f"{_MEMORY}, and this by --vmcoreinfo")),
    ("[[image]]", Foreign("a capture description", "its name must end in .toml")),
)
_PLAIN: Final = Foreign("text", _MEMORY)


def recognise_text(start: Start, read: ReadAt) -> Foreign | None:
    """Say what text a file is; None if it is not text at its start, in its middle and at its end.

    Memory may begin with a page of text, but is not text everywhere.
    """
    if start.size < _LEAST:
        return None
    middle = max(start.size // 2 - _SAMPLE // 2, 0) & ~1  # UTF-16 has two bytes a character
    parts = (start.head, read(middle, _SAMPLE), read(max(start.size - _SAMPLE, 0) & ~1, _SAMPLE))
    order = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}.get(start.head[:2], "utf-8")
    texts = [_decode(part, order) for part in parts]
    if not all(texts):
        return None
    return next((kind for word, kind in _KINDS if word in texts[0]), _PLAIN)


def _decode(data: bytes, encoding: str) -> str:
    """The text in ``data``, which may begin and end within a character; empty if it is none."""
    if encoding == "utf-8":
        data = data.lstrip(bytes(range(0x80, 0xC0))) if data[:1] >= b"\x80" else data
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if error.reason not in ("unexpected end of data", "truncated data"):
            return ""
        text = data[: error.start].decode(encoding, "replace")
    return "" if _CONTROL.search(text) else text
