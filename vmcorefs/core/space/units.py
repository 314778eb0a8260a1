"""Addresses and sizes: aligning, parsing what people write, formatting for people to read."""

from __future__ import annotations

import re

from vmcorefs.errors import ConfigError

KERNEL_HALF = 1 << 63
"""Where the kernel's half of the virtual addresses of a 64-bit machine begins."""

PAGE_SIZE = 4096
"""Page size in bytes where the crashed kernel's (PAGESIZE in VMCOREINFO) is not known."""

MAX_ADDRESS = 2**62
"""Addresses and offsets are int64 everywhere (docs/decisions/0001), and no range may end above
this: far beyond what any architecture can address, and far enough below 2**63 that adding a page or
two cannot wrap."""

_NUMBER = re.compile(r"(0x[0-9a-f]{1,16}|[0-9]{1,19})([KMGTP]?)(?:i?B)?", re.IGNORECASE | re.ASCII)
_SHIFT = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40, "P": 50}


def align_up(value: int, alignment: int) -> int:
    """Round ``value`` up to a multiple of ``alignment``, a power of two."""
    return (value + alignment - 1) & ~(alignment - 1)


def parse_size(text: str) -> int:
    """Read an address or a size in bytes: ``0x1000``, ``655360``, ``640K``, ``4G``.

    Raises:
        ConfigError: if ``text`` is something else, or is above ``MAX_ADDRESS``.
    """
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{text!r}: expected an address or a size, such as 0x100000, 640K or 4G")
    value = int(match[1], 0 if match[1][:2].lower() == "0x" else 10) << _SHIFT[match[2].upper()]
    if value > MAX_ADDRESS:
        raise ConfigError(f"{text!r}: above the highest supported address, {MAX_ADDRESS:#x}")
    return value


def parse_range(text: str) -> tuple[int, int]:
    """Read a range of addresses as ``(start, end)``, half-open.

    ``START-END`` has an inclusive end, as in /proc/iomem; ``START+SIZE`` has a size.

    Raises:
        ConfigError: if ``text`` is neither, or the range is empty.
    """
    if "+" in text:
        start_text, size_text = text.split("+", 1)
        start = parse_size(start_text)
        end = start + parse_size(size_text)
    elif "-" in text:
        start_text, end_text = text.split("-", 1)
        start, end = parse_size(start_text), parse_size(end_text) + 1
    else:
        raise ConfigError(
            f"{text!r}: expected START-END (inclusive, as in /proc/iomem) or START+SIZE"
        )
    if not start < end <= MAX_ADDRESS:
        raise ConfigError(f"{text!r}: the range is empty or ends above {MAX_ADDRESS:#x}")
    return start, end


def format_range(start: int, end: int) -> str:
    """Print the half-open range ``[start, end)``."""
    return f"[{start:#x}, {end:#x})"


def counted(count: int, one: str, more: str = "") -> str:
    """Print a number with what is counted: ``1 table``, ``2 tables``.

    Args:
        count: How many.
        one: What one of them is called.
        more: What several are called, or none, if not that with an s.
    """
    return f"{count} {one if count == 1 else more or f'{one}s'}"


def format_size(size: int) -> str:
    """Print a size for a person: ``1.0 GiB``, ``632 KiB``, ``17 bytes``."""
    if size < 1024:
        return counted(size, "byte")
    value = float(size)
    for unit in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        value /= 1024
        if value < 1024 or unit == "PiB":
            return f"{value:.4g} {unit}"
    raise AssertionError


def page_in_the_middle(start: int, end: int) -> int:
    """The boundary of pages next to the middle; ``end`` or more if it is all in one page."""
    middle = (start + end) // 2 // PAGE_SIZE * PAGE_SIZE
    return middle if middle > start else start // PAGE_SIZE * PAGE_SIZE + PAGE_SIZE
