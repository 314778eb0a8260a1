"""Everything that commands print goes through here, so that nothing of it can act on a terminal.

An image, another user and another machine choose names, releases and messages. In them, a control
character would move the cursor and a line end would forge a line.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import chain

from vmcorefs.system.listing import iter_json

_AT_ONCE = 1 << 20  # characters of a long report, more or less, that are written at a time


def printable(text: str) -> str:
    r"""Escape what is not printed as itself, as ``\n``, ``\x1b`` or ``\u202e``.

    That is: control characters (C0, DEL, C1), ends of lines and paragraphs, what changes the
    direction of text or is invisible, blanks other than a space, private and unassigned characters,
    and bytes that are not UTF-8, which are written as ``\xNN``. What is printable stays,
    backslashes included, so escaping twice does no harm.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else _escape(one) for one in text)


def print_lines(*lines: str, err: bool = False) -> None:
    """Print lines, each of which stays one line.

    Args:
        lines: Without line ends.
        err: To standard error.
    """
    _write(format_lines(*lines), err=err)


def format_lines(*lines: str) -> str:
    """What ``print_lines`` prints."""
    return "".join(f"{printable(line)}\n" for line in lines)


def print_json(report: object) -> None:
    """Print a report as JSON, in ASCII."""
    for text in format_json(report):
        _write(text, err=False)


def format_json(report: object) -> Iterator[str]:
    """What ``print_json`` prints, in pieces."""
    # json escapes all that is not ASCII, and of that the control characters but DEL
    held, size = [], 0
    for piece in chain(iter_json(report), "\n"):
        held.append(piece)
        size += len(piece)
        if size >= _AT_ONCE:
            yield "".join(held).replace("\x7f", "\\u007f")
            held, size = [], 0
    yield "".join(held).replace("\x7f", "\\u007f")


def _write(text: str, *, err: bool) -> None:
    stream = sys.stderr if err else sys.stdout
    # a terminal may lack a character: no reason to fail
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name, see os.fsdecode
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
