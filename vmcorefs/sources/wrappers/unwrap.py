"""Taking off what an image is wrapped in, layer by layer, by content.

What opens a wrapper is imported when there is one: most images are wrapped in nothing, and a saver
in a capture kernel starts sooner without all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from vmcorefs.core.formats.foreign.packed import PACKED
from vmcorefs.core.formats.foreign.signature import HEAD_SIZE, Start
from vmcorefs.core.formats.magics import LIBVIRT, LIBVIRT_PARTIAL
from vmcorefs.core.space.units import format_size
from vmcorefs.errors import ConfigError, FormatError, TruncatedError
from vmcorefs.sources.input import File
from vmcorefs.sources.later import find
from vmcorefs.sources.unreadable import read_around
from vmcorefs.system.progress import Progress, untold

_MOST: Final = 8
"""Wrappers around wrappers that are taken off."""


class Unwrapping(msgspec.Struct, frozen=True):
    """How wrappers are taken off.

    Attributes:
        truncated: Accept data that is cut off or damaged, up to there.
        progress: Told how far making an index is, in compressed bytes.
    """

    truncated: bool = False
    progress: Progress = untold


AS_USUAL = Unwrapping()


def unwrap(file: File, how: Unwrapping, member: str = "") -> tuple[File, tuple[str, ...]]:
    """Open what is in a file that is compressed or an archive, as often as it is.

    Args:
        file: Closed with what is returned.
        how: How.
        member: The name of what is wanted of an archive; empty for the only one in it.

    Returns:
        What is in it, or the file itself; and what a person should know about it.

    Raises:
        TruncatedError: if the compressed data is cut off or damaged, and that is not accepted.
        UnsupportedError: if a package is missing.
        FormatError: if it is wrapped too often.
        SourceIOError: if it cannot be read.
    """
    warnings: list[str] = []
    try:
        while wrapper := _wrapper_of(file):
            inside: File
            if wrapper in _ARCHIVES:
                inside, member = find(_ARCHIVES[wrapper])(file, member, how.progress), ""
            else:
                inside = find(_OPENERS[wrapper])(file, how.progress)
            file.file.wrappers = (*file.file.wrappers, inside.kind)
            file = inside
            warnings += _check(inside, how)
        _refuse_member(file, member)
    except BaseException:
        file.close()
        raise
    return file, tuple(warnings)


def _refuse_member(file: File, member: str) -> None:
    if member:
        raise ConfigError(f"{file.name}: it is no archive, expected one with {member!r} in it")


def _check(inside: File, how: Unwrapping) -> list[str]:
    if len(inside.file.wrappers) > _MOST:
        raise FormatError(f"{inside.name}: compressed more than {_MOST} times")
    damage = getattr(inside, "damage", "")
    if not damage:
        return []
    text = f"{inside.name}: the {inside.kind} data in it: {damage}"
    if not how.truncated:
        raise TruncatedError(
            f"{text}; --truncated opens the {format_size(inside.size)} before that"
        )
    return [f"{text}; only the {format_size(inside.size)} before that can be read"]


def _wrapper_of(file: File) -> str:
    """What a file is wrapped in, as far as that can be taken off; else empty."""
    if file.kind == "character device" or not file.size:
        return ""
    buffer = bytearray(min(HEAD_SIZE, file.size))
    read_around(file.pread_into, 0, memoryview(buffer))
    saved = buffer.startswith((LIBVIRT, LIBVIRT_PARTIAL))
    if saved and find("wrappers.libvirt.is_compressed")(bytes(buffer)):
        return _LIBVIRT
    start = Start(bytes(buffer), file.size)
    found = next((one.foreign for one in PACKED if one.fits(start)), None)
    known = found is not None and (found.wrapper in _OPENERS or found.wrapper in _ARCHIVES)
    return found.wrapper if found is not None and known else ""


_LIBVIRT: Final = "libvirt's header"
_ARCHIVES: Final[Mapping[str, str]] = {
    "tar": "wrappers.archives.open_tar",
    "zip": "wrappers.archives.open_zip",
}
_OPENERS: Final[Mapping[str, str]] = {
    "gzip": "wrappers.gzip.open_gzip",
    "bzip2": "wrappers.xz.open_bzip2",
    _LIBVIRT: "wrappers.libvirt.open_stream",
    "lz4": "wrappers.lz.open_lz4",
    "lzma": "wrappers.xz.open_lzma",
    "lzop": "wrappers.lz.open_lzop",
    "xz": "wrappers.xz.open_xz",
    "zstd": "wrappers.zstd.open_zstd",
    "zlib": "wrappers.gzip.open_zlib",
}
"""What opens each, as ``later.find`` has it."""
