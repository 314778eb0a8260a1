"""Whether the inputs are still what they were when somebody took their digests.

What is read is the descriptor that the capture is opened by, not the path again: the bytes that are
verified are those that are served.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from typing import Final

from vmcorefs.core.digests import ALGORITHMS, AUTO, Digest, parse_sidecar, parse_sums
from vmcorefs.core.space.units import format_size
from vmcorefs.errors import ConfigError, DigestError, FormatError
from vmcorefs.sources.input import Input
from vmcorefs.system.files import read_file
from vmcorefs.system.progress import Progress

_AT_ONCE: Final = 4 << 20
_MAX_SUMS: Final = 16 << 20


def expected_digests(inputs: Sequence[Input], sums: str) -> list[tuple[Input, Digest]]:
    """What each input is expected to come to; an input that is opened twice is there once.

    Args:
        inputs: Images and backups.
        sums: Path of what sha256sum(1) or its like printed, or ``AUTO`` for ``FILE.sha256`` and
            the like beside each input.

    Raises:
        ConfigError: if there is no digest for an input, or no file that could have one.
        FormatError: if a file of digests holds something else.
    """
    once = {source.identity.file: source for source in reversed(inputs)}
    distinct = [source for source in inputs if once[source.identity.file] is source]
    if sums == AUTO:
        return [(source, _beside(source)) for source in distinct]
    try:
        listed = list(parse_sums(_read(sums)))
    except FormatError as error:
        raise FormatError(f"{sums}: {error}") from None
    return [(source, _listed(source, sums, listed)) for source in distinct]


def verify(expected: Sequence[tuple[Input, Digest]], progress: Progress) -> Iterator[str]:
    """Read every input whole, compare, and give a line for each that is as it was.

    Afterwards the input knows its digest, for ``layout.json``. ``progress`` counts bytes.

    Raises:
        DigestError: if one is not as expected, or changes while it is read.
        SourceIOError: if it cannot be read.
    """
    done, total = 0, sum(source.size for source, _ in expected)
    for source, digest in expected:
        found = _digest_of(source, digest.algorithm, progress, done, total)
        done += source.size
        if found != digest:
            raise DigestError(
                f"{source.name}: its {digest.algorithm} is {found.value}, expected {digest.value}"
            )
        source.digest = found
        yield f"{source.name}: {format_size(source.size)}, {found}: as expected"


def _digest_of(source: Input, algorithm: str, progress: Progress, done: int, total: int) -> Digest:
    if source.kind == "character device":
        raise ConfigError(f"{source.name}: a character device has no end, and so no digest")
    hasher = hashlib.new(algorithm, usedforsecurity=False)
    buffer = memoryview(bytearray(_AT_ONCE))
    for at in range(0, source.size, _AT_ONCE):
        piece = buffer[: min(_AT_ONCE, source.size - at)]
        if source.is_hole(at, len(piece)):
            piece[:] = bytes(len(piece))
        else:
            source.pread_into(at, piece)
        hasher.update(piece)
        progress(done + at + len(piece), total)
    if source.identity_now != source.identity:
        raise DigestError(
            f"{source.name}: changed while it was read: {source.identity_now}, expected"
            f" {source.identity}"
        )
    return Digest(algorithm, hasher.hexdigest())


def _beside(source: Input) -> Digest:
    for algorithm in ALGORITHMS:
        path = f"{source.origin}.{algorithm}"
        if os.path.exists(path):
            try:
                return parse_sidecar(_read(path), algorithm)
            except FormatError as error:
                raise FormatError(f"{path}: {error}") from None
    raise ConfigError(
        f"{source.name}: no digest beside it: expected {source.name}.sha256, or of another of"
        f" {', '.join(ALGORITHMS)}"
    )


def _listed(source: Input, sums: str, listed: Sequence[tuple[str, Digest]]) -> Digest:
    """The line of a file of sums for an input: of that very file, or else of one of its name."""
    name = os.path.basename(source.origin)
    alike = [(path, digest) for path, digest in listed if os.path.basename(path) == name]
    here = os.path.dirname(os.path.abspath(sums))
    same = [digest for path, digest in alike if _is_file(os.path.join(here, path), source)]
    found = set(same or [digest for _, digest in alike])
    if not found:
        raise ConfigError(f"{sums}: no line for {name}, expected one")
    if len({digest.value for digest in found if digest.algorithm == _best(found)}) > 1:
        raise ConfigError(f"{sums}: {len(found)} digests for files named {name}, expected one")
    return next(digest for digest in found if digest.algorithm == _best(found))


def _best(digests: set[Digest]) -> str:
    return min((digest.algorithm for digest in digests), key=list(ALGORITHMS).index)


def _is_file(path: str, source: Input) -> bool:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return False
    return (status.st_dev, status.st_ino) == source.identity.file


def _read(path: str) -> str:
    data = read_file(path, "the digests", _MAX_SUMS)
    if len(data) > _MAX_SUMS:
        raise FormatError(f"more than {format_size(_MAX_SUMS)}, expected digests")
    return data.decode("utf-8", "surrogateescape")
