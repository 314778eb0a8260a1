"""A kernel's command line, cut into words as the kernel does (lib/cmdline.c, ``next_arg``).

Double quotes keep white space in a word, may begin anywhere in it, and cannot be escaped; one that
is not closed reaches to the end. A word ``--`` ends the kernel's parameters: whatever follows is
init's (kernel/params.c, ``parse_args``; init/main.c, ``set_init_arg``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import msgspec

_WORD = re.compile(r'(?:[^\s"]|"[^"]*(?:"|$))+', re.ASCII)
_END = ("--", '"--"', '"--')


class CommandLine(msgspec.Struct, frozen=True):
    """A command line in two parts.

    Attributes:
        words: The kernel's parameters, as they are written: with their quotes, every one of which
            is closed.
        init: The arguments of init, as they are written; empty if there are none.
    """

    words: tuple[str, ...]
    init: str = ""

    def __str__(self) -> str:
        return " ".join((*self.words, *(("--", self.init) if self.init else ())))


def parse_command_line(text: str) -> CommandLine:
    """Cut a command line into words."""
    words: list[str] = []
    for match in _WORD.finditer(text):
        if match[0] in _END:
            return CommandLine(tuple(words), text[match.end() :].strip())
        words.append(match[0] + '"' * (match[0].count('"') % 2))
    return CommandLine(tuple(words))


def without(words: Iterable[str], removed: Iterable[str]) -> Iterator[str]:
    """The words but for those that are removed.

    Args:
        words: As ``CommandLine.words`` has them.
        removed: Whole words, or names of parameters; ``-`` and ``_`` are the same in a name.
    """
    wholes = frozenset(removed)
    names = frozenset(map(_spell, wholes))
    for word in words:
        if (
            word not in wholes
            and _spell(word.lstrip('"').partition("=")[0].rstrip('"')) not in names
        ):
            yield word


def _spell(name: str) -> str:
    return name.replace("-", "_")
