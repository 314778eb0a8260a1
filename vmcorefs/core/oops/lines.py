"""A line of a kernel's log: what was printed, and who printed it.

Consoles, ``dmesg`` and syslog put different things in front of a message. With
CONFIG_PRINTK_CALLER (kernel/printk/printk.c, ``print_caller``), a task's number or a CPU's is among
them, so that messages of several CPUs can be told apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

MAX_LINE: Final = 4096
"""Characters of a line that are looked at; printk's own limit is 1 KiB (PRINTKRB_RECORD_MAX)."""

UNSTAMPED: Final = ""
"""Who printed a line without a time: perhaps no kernel."""
STAMPED: Final = "kernel"
"""Who printed a line with a time, where the kernel does not tell the task or CPU."""

REPLAYED: Final = "\n** replaying previous printk message **"
"""Behind a line that a console did not get whole; it comes again (kernel/printk/printk.c)."""

_SYSLOG = r"(?:\w{3} [ \d]\d [\d:]{8}|\d{4}-\d\d-\d\dT[\d:.,+Z-]+) \S+ kernel: "
_TIME = r"(?:\[ *\d+\.\d+\]|\[\w{3} \w{3} [ \d]\d [\d:]{8} \d{4}\])(?:\[ *([CT]\d+)\])? "
_COLOURS = r"(?:\x1b\[[\d;?]*[a-zA-Z])*"
_PREFIX = re.compile(
    rf"{_SYSLOG}(?:{_TIME})?|{_COLOURS}(?:\*\* \d+ printk messages dropped \*\* )?(?:.* login: )?"
    rf"(?:<\d+>)?{_TIME}",
    re.ASCII,
)
_UNRELIABLE = " (unreliable)"  # arch/powerpc/kernel/process.c, show_stack


class Line(NamedTuple):
    """A line of a log.

    Attributes:
        text: What was printed.
        speaker: Who printed it: ``T`` and a task's number, ``C`` and a CPU's, ``STAMPED`` or
            ``UNSTAMPED``.
        doubtful: It is of a stack, and what unwound it did not trust it: an address that merely
            lay on the stack.
    """

    text: str
    speaker: str
    doubtful: bool


def read_line(line: str) -> Line:
    """Take a line apart.

    Args:
        line: Without its end.
    """
    line = line[:MAX_LINE]
    prefix = _PREFIX.match(line)
    if prefix is None:
        return Line(line, UNSTAMPED, doubtful=False)
    text = line[prefix.end() :]
    # where an interrupt ended (<EOI>), the first entry of the stack below may have the mark
    doubtful = (" ? " in text and "<EOI>" not in text) or text.endswith(_UNRELIABLE)
    return Line(text, prefix[1] or prefix[2] or STAMPED, doubtful)


def iter_lines(log: str, start: int) -> Iterator[tuple[int, str]]:
    """Yield each whole line from ``start`` on, and where it is; the ends of long ones are cut."""
    while start < len(log):
        end = log.find("\n", start)
        end = len(log) if end < 0 else end
        if not log.startswith(REPLAYED, end):
            yield start, log[start : min(end, start + MAX_LINE)].rstrip("\r")
        start = end + 1
