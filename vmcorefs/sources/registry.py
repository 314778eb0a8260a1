"""Recognise inputs by their first bytes: a dump of one of the formats, or else raw memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from vmcorefs.core.elf.elf import ELF_MAGIC
from vmcorefs.core.formats.magics import (
    AVML,
    FLATTENED,
    KDUMP,
    LIBVIRT,
    LIBVIRT_PARTIAL,
    LIME,
    LKCD,
    QEMU,
    S390,
    S390_EXTENDED,
    SADUMP,
    VMWARE,
)
from vmcorefs.core.space.extents import Extents
from vmcorefs.core.space.units import PAGE_SIZE
from vmcorefs.errors import ConfigError, SourceIOError, UnsupportedError
from vmcorefs.piece import AS_EVER, Far, Piece
from vmcorefs.sources.base import Source
from vmcorefs.sources.companions import VMCORE, companions, image_in, is_ramdump
from vmcorefs.sources.dumps.dump import DumpFile
from vmcorefs.sources.dumps.placed.memory import PlacedMemory
from vmcorefs.sources.input import File
from vmcorefs.sources.later import find
from vmcorefs.sources.live.names import is_live
from vmcorefs.sources.pieces import lay_out_pieces, open_file
from vmcorefs.sources.unreadable import LookedAt, look_at
from vmcorefs.sources.wrappers.unwrap import AS_USUAL, Unwrapping, unwrap
from vmcorefs.system.files import split_member

_LONGEST_MAGIC = 16


class RawMemory(msgspec.Struct, frozen=True):
    """Memory in which the kernel, its map and its headers have to be found.

    Attributes:
        sources: An opened file for each piece; or those of ``placed``.
        captured: What they hold by physical address; its ``source`` column indexes ``sources``.
        looked: The sources as they are looked at.
        warnings: Why a file without an address may be no memory.
        placed: What the format says that the memory has, if it is not plain.
    """

    sources: tuple[Source, ...]
    captured: Extents
    looked: tuple[LookedAt, ...]
    warnings: tuple[str, ...] = ()
    placed: PlacedMemory | None = None


def open_inputs(
    pieces: Sequence[Piece],
    *,
    ram_end: int | None,
    how: Unwrapping = AS_USUAL,
    far: Far = AS_EVER,
    pause: bool = False,
) -> DumpFile | RawMemory:
    """Open every input once, and recognise it.

    A piece that is given with a physical address is raw memory, whatever its first bytes are.

    Args:
        pieces: What the user gave; parts of a split dump in any order. A directory is a mounted
            tree, and stands for its ``vmcore``; or it has a virtual machine's or a phone's memory.
            ``qmp:SOCKET`` or ``qemu:PID`` is a guest that runs.
        ram_end: As for ``pieces.open_file``.
        how: How wrappers are taken off.
        far: As for ``pieces.open_file``.
        pause: As for ``guest.open_live``.

    Raises:
        ConfigError: if an input cannot be opened, is a dump among others, or is one of several
            pieces and lacks its address.
        FormatError: if it is a damaged dump.
        UnsupportedError: if it is a dump that cannot be read here, or is known to be something else
            than memory.
        LayoutError: if two pieces overlap.
        TruncatedError: if a piece ends past the end of its file, or compressed data is not whole.
        SourceIOError: if it cannot be read.
    """
    if (running := _open_running(pieces, pause=pause)) is not None:
        return running
    directory = _open_directory(pieces)
    if directory is not None:
        return _as_raw(directory)
    files: list[File] = []
    warnings: list[str] = []
    pieces = _with_companion(pieces)
    try:
        for piece in pieces:
            place = replace(piece, path=_in_directory(piece.path)) if _is_whole(piece) else piece
            files.append(open_file(place, role="image", ram_end=ram_end, far=far))
            if piece.unwrap:
                files[-1], said = unwrap(files[-1], how, split_member(piece.path)[1])
                warnings += said
        looked = look_at(files)
        unplaced = [
            (file, as_seen, piece)
            for file, as_seen, piece in zip(files, looked, pieces, strict=True)
            if piece.paddr is None
        ]
        formats = [_recognise(*each) for each in unplaced]
        whole = [file for file, _, _ in unplaced]
        if not any(formats):
            doubt = find("foreign.doubt")
            doubts = tuple(filter(None, (doubt(file, as_seen) for file, as_seen, _ in unplaced)))
            captured = lay_out_pieces(pieces, files)
            return RawMemory(tuple(files), captured, looked, (*warnings, *doubts))
        opened = _open_dump(whole, formats, len(pieces))
        opened = replace(opened, warnings=(*warnings, *opened.warnings))
        for file in whole:
            file.file.format = opened.format
        return _as_raw(opened) if isinstance(opened, PlacedMemory) else opened
    except BaseException:
        _close(files)
        raise


def _open_directory(pieces: Sequence[Piece]) -> PlacedMemory | None:
    """Open a directory with several files of one machine; None if it is none."""
    if len(pieces) != 1 or not _is_whole(pieces[0]):
        return None
    path = pieces[0].path
    if not os.path.isdir(path):
        return None
    opener = "ramdump.open_ramdump" if is_ramdump(path) else "cloud_hypervisor.open_snapshot"
    found: PlacedMemory | None = find(f"dumps.placed.{opener}")(path)
    return found


def _with_companion(pieces: Sequence[Piece]) -> Sequence[Piece]:
    if len(pieces) != 1 or not _is_whole(pieces[0]):
        return pieces
    return (pieces[0], *(Piece(path) for path in companions(pieces[0].path)))


def _is_whole(piece: Piece) -> bool:
    return piece.paddr is None and not piece.offset and piece.size is None


def _recognise(file: File, looked: LookedAt, piece: Piece) -> _Format | None:
    """The format of a file that has no address: None if it may be raw memory."""
    found = _format_of(file)
    if found is None:
        find("foreign.refuse_foreign")(file, looked)
        if file.kind != "character device" and 0 < file.size < PAGE_SIZE:
            raise UnsupportedError(
                f"{file.name}: {file.size} bytes, less than a page, expected a machine's memory"
            )
    elif not _is_whole(piece):
        raise ConfigError(f"{file.name}: a dump knows where its memory belongs: give all of it")
    return found


def _as_raw(placed: PlacedMemory) -> RawMemory:
    looked = look_at(placed.sources)
    return RawMemory(placed.sources, placed.held, looked, placed.warnings, placed)


def _open_running(pieces: Sequence[Piece], *, pause: bool) -> RawMemory | None:
    """A guest that runs; None if the pieces are no such thing."""
    if len(pieces) != 1 or not is_live(pieces[0]):
        if pause:
            raise ConfigError(f"{pieces[0].name}: --pause is for a guest that runs: qmp:SOCKET")
        return None
    opened = find("live.guest.open_live")(pieces[0], pause=pause)
    if isinstance(opened, PlacedMemory):
        return _as_raw(opened)
    source, captured = opened
    return RawMemory((source,), captured, look_at((source,)))


def _open_dump(
    files: list[File], formats: list[_Format | None], count: int
) -> DumpFile | PlacedMemory:
    for number, (file, found) in enumerate(zip(files, formats, strict=True)):
        if found is not None and found.is_flattened:
            files[number] = find("dumps.flattened.Unflattened")(file)
            formats[number] = _format_of(files[number])
    pair = next((found for found in formats if found is not None and found.open_pair), None)
    opened: DumpFile | PlacedMemory | None = None
    one = formats[0]
    if pair is not None and _is_pair(formats, count):
        in_order = sorted(files, key=lambda file: formats[files.index(file)] is None)
        opened = find(pair.open_pair)(*in_order)
    elif one is not None and one.open_one and count == 1:
        opened = find(one.open_one)(files[0])
    elif one is not None and one.open_parts and formats == [one] * count:
        opened = find(one.open_parts)(files)
    if opened is not None:
        return opened
    dumps = [file for file, found in zip(files, formats, strict=True) if found is not None]
    if not dumps or (one is not None and one.is_flattened):
        raise UnsupportedError(f"{files[0].name}: a flattened stream of an unknown dump format")
    strange = dumps[0]
    raise ConfigError(f"{strange.name}: a dump knows where its memory belongs: give it alone")


def _in_directory(path: str) -> str:
    """The image in a mounted tree or in a snapshot; any other path as it is."""
    if not os.path.isdir(path):
        return path
    inside = image_in(path)
    if inside is None:
        raise ConfigError(f"{path}: this directory is not a mounted tree: it has no {VMCORE}")
    return inside


def _close(files: Sequence[File]) -> None:
    for file in files:
        file.close()


def _format_of(file: File) -> _Format | None:
    if file.size < _LONGEST_MAGIC:  # also a character device: it is raw memory
        return None
    start = bytearray(_LONGEST_MAGIC)
    try:
        file.pread_into(0, memoryview(start))
    except SourceIOError as error:
        advice = f"if it is raw memory, give its address, as in {file.name}@0"
        error.args = (f"{error}; what kind of file it is cannot be told; {advice}",)
        raise
    return next((one for one in _FORMATS if start.startswith(one.magic)), None)


def _is_pair(formats: Sequence[_Format | None], count: int) -> bool:
    """Whether there is one file with a format, and at most one without."""
    return count == len(formats) <= 2 and sum(found is not None for found in formats) == 1


class _Format(msgspec.Struct, frozen=True):
    """A format of dumps.

    Attributes:
        magic: The first bytes of its files; any of them is enough.
        open_one: What opens a dump that is one file, as ``later.find`` has it.
        open_pair: What opens a dump of one file, or of that and another one with its memory.
        open_parts: What opens a dump of one or several files.
        is_flattened: Whether it is a stream with another format inside.
    """

    magic: bytes | tuple[bytes, ...]
    open_one: str = ""
    open_pair: str = ""
    open_parts: str = ""
    is_flattened: bool = False


_FORMATS: Final = (
    _Format(ELF_MAGIC, open_one="dumps.placed.xen.open_any_elf"),
    _Format(KDUMP, open_parts="dumps.diskdump.open_diskdump"),
    _Format(FLATTENED, is_flattened=True),
    _Format(LIME, open_one="dumps.placed.lime.open_lime"),
    _Format(AVML, open_one="dumps.placed.lime.open_avml"),
    _Format(QEMU, open_one="dumps.placed.qemu.open_qemu"),
    _Format((LIBVIRT, LIBVIRT_PARTIAL), open_one="dumps.placed.libvirt.open_libvirt"),
    _Format(VMWARE, open_pair="dumps.placed.vmware.open_vmware"),
    _Format((S390, S390_EXTENDED), open_one="dumps.placed.s390.open_s390"),
    _Format(SADUMP, open_parts="dumps.placed.sadump.open_sadump"),
    _Format(LKCD, open_one="dumps.placed.lkcd.open_lkcd"),
)
"""Files that say themselves which memory they hold. An opener for each format."""
