"""Large things that a guest said in few bytes: how many lines, and their MD5."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.lab.capture import Snapshot


def kallsyms_sums(snapshot: Snapshot) -> dict[str, str]:
    """What the guest made of its /proc/kallsyms: of the ``kernel`` alone, and of ``all``.

    Left out is what is made at run time: BPF's, ftrace's and kprobes' symbols.
    """
    return dict(line.split(" ", 1) for line in snapshot.text("kallsyms-sums").splitlines())


def sum_of(text: bytes) -> str:
    """The same of any text."""
    lines = text.count(b"\n")
    return f"{lines} {md5(text)}  -"  # "-" is md5sum's own


def md5(data: bytes) -> str:
    """MD5 in hexadecimal, as md5sum prints it."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
