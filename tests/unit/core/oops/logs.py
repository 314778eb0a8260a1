"""Logs written by hand: short ones, in the words of the kernel's sources."""

from __future__ import annotations

from vmcorefs.core.oops.title import CrashTitle, read_title

STACK = """\
Call Trace:
 dump_stack+0x1/0x2
 frob_write+0x10/0x20
 vfs_write+0x30/0x40
 ksys_write+0x50/0x60
 do_syscall_64+0x70/0x80
"""
"""A stack on which ``frob_write`` is the first that is ever to blame."""


def stamped(text: str, speaker: str = "") -> str:
    """Put in front of each line what printk does: the time, and perhaps who printed."""
    caller = f"[{speaker:>6}]" if speaker else ""
    return "".join(f"[   12.345678]{caller} {line}\n" for line in text.splitlines())


def title_of(text: str, speaker: str = "T7") -> CrashTitle:
    """What is made of a log that has the text, printed by one task."""
    found = read_title(stamped(text, speaker).encode())
    assert found is not None
    return found
