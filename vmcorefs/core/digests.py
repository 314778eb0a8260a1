"""Files of digests: those of sha256sum and the like, and the one LiME writes next to an image."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from vmcorefs.errors import FormatError

ALGORITHMS: Final = {"sha512": 128, "sha384": 96, "sha256": 64, "sha224": 56, "sha1": 40, "md5": 32}
"""hashlib's names, the strongest first, and how many hexadecimal digits each has."""

AUTO: Final = "auto"
"""In place of a file of digests: one stands beside each input, ``FILE.sha256`` or of another."""

_OF_LENGTH: Final = {length: name for name, length in ALGORITHMS.items()}
# sha256sum(1): two spaces, or a space and an asterisk; a backslash in front of an escaped name
_LINE: Final = re.compile(r"(?P<escaped>\\?)(?P<value>[0-9a-fA-F]{32,128}) [ *](?P<name>.+)")
_TAGGED: Final = re.compile(
    r"(?P<escaped>\\?)(?P<algorithm>[A-Z0-9]+) ?\((?P<name>.+)\) ?= (?P<value>[0-9a-fA-F]{32,128})"
)
_ESCAPES: Final = {"\\\\": "\\", "\\n": "\n", "\\r": "\r"}


class Digest(msgspec.Struct, frozen=True):
    """The digest of a file's bytes.

    Attributes:
        algorithm: One of ``ALGORITHMS``.
        value: Hexadecimal, in lower case.
    """

    algorithm: str
    value: str

    def __str__(self) -> str:
        return f"{self.algorithm} {self.value}"


def parse_sums(text: str) -> Iterator[tuple[str, Digest]]:
    """Read the output of sha256sum(1) and the like, with ``--tag`` or without: name and digest.

    Raises:
        FormatError: if a line is something else; it names the line.
    """
    # not splitlines(): a name may contain any character that is not escaped
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line) or _TAGGED.fullmatch(line)
        if match is None:
            raise FormatError(f"line {number}: {line[:80]!r}, expected a digest and a file name")
        algorithm = match.groupdict().get("algorithm")
        digest = _make_digest(match["value"], algorithm.lower() if algorithm else None)
        if digest is None:
            raise FormatError(
                f"line {number}: {line[:80]!r}, expected a digest of {', '.join(ALGORITHMS)}"
            )
        name = match["name"]
        yield _unescape(name) if match["escaped"] else name, digest


def parse_sidecar(text: str, algorithm: str) -> Digest:
    """Read a file that holds one digest, as LiME writes it; a file name may follow.

    Raises:
        FormatError: if it holds something else.
    """
    word = next(iter(text.split()), "")
    digest = _make_digest(word, algorithm) if re.fullmatch(r"[0-9a-fA-F]+", word) else None
    if digest is None:
        expected = f"{ALGORITHMS[algorithm]} hexadecimal digits of {algorithm}"
        raise FormatError(f"{word[:140]!r}, expected {expected}")
    return digest


def _make_digest(value: str, algorithm: str | None) -> Digest | None:
    if algorithm is None:
        algorithm = _OF_LENGTH.get(len(value))
    if algorithm is None or ALGORITHMS.get(algorithm) != len(value):
        return None
    return Digest(algorithm, value.lower())


def _unescape(name: str) -> str:
    return re.sub(r"\\[\\nr]", lambda match: _ESCAPES[match[0]], name)
