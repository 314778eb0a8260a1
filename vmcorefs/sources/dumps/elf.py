"""ELF dumps: a vmcore on disk or in a mounted tree, /proc/vmcore, QEMU's dump-guest-memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from vmcorefs.core.elf.dump_headers import DumpHeaders, read_dump_headers
from vmcorefs.core.elf.dump_memory import (
    DUMP_ELF_INCOMPLETE,
    DumpMemory,
    check_core,
    read_dump_memory,
)
from vmcorefs.core.elf.elf import MAX_EHDR_SIZE
from vmcorefs.core.elf.notes import walk_notes
from vmcorefs.core.formats.vcpu_contexts import read_virtualbox_notes
from vmcorefs.core.space.extents import Extents, Kind, fill, make_extents
from vmcorefs.core.space.ranges import make_ranges, total_size
from vmcorefs.core.space.units import format_range, format_size
from vmcorefs.errors import FormatError, UnsupportedError
from vmcorefs.sources.dumps.dump import DumpFile, NoteSegment, read_segment
from vmcorefs.sources.input import File
from vmcorefs.sources.unreadable import read_up_to


def open_elf(file: File) -> DumpFile:
    """Read only the headers and notes of an ELF dump.

    Args:
        file: Closed when the returned dump is closed.

    Raises:
        FormatError: if it is not the core of a machine, or is cut off within its headers.
        UnsupportedError: if it is an ELF file of another kind, or tells no physical address.
        SourceIOError: if it cannot be read.
    """
    try:
        check_core(_reader(file)(MAX_EHDR_SIZE, 0))
        dump = read_dump_headers(_reader(file), file.size, _note_reader(file))
        memory = read_dump_memory(dump)
        warnings = list(_warnings(file, dump))
        notes = tuple(_read_notes(file, dump, warnings))
    except FormatError as error:
        raise FormatError(f"{file.name}: {error}") from error
    except UnsupportedError as error:
        raise UnsupportedError(f"{file.name}: {error}") from error
    walks = (walk_notes(one.data, dump.header.byte_order) for one in notes)
    cpus = read_virtualbox_notes(note for walk in walks for note in walk.notes)
    return DumpFile(
        name=file.name,
        format="an ELF core" if cpus is None else "an ELF core by VirtualBox",
        sources=(file,),
        memory=memory.held,
        plan=memory.plan,
        has_vaddrs=memory.has_vaddrs,
        missing=memory.missing,
        lost=_describe_loss(file, memory),
        notes=notes,
        notes_in=_whole(file.size),
        vmcore=fill(_whole(file.size), make_ranges([(0, memory.end)]), Kind.MISSING),
        cpus=cpus,
        warnings=tuple(warnings),
    )


def _whole(size: int) -> Extents:
    return make_extents(make_ranges([(0, size)]), kind=Kind.DATA, source=0)


def _reader(file: File) -> Callable[[int, int], bytes]:
    def read(size: int, offset: int) -> bytes:
        buffer = bytearray(max(min(size, file.size - offset), 0))
        file.pread_into(offset, memoryview(buffer))
        return bytes(buffer)

    return read


def _note_reader(file: File) -> Callable[[int, int], bytes]:
    def read(size: int, offset: int) -> bytes:
        return read_up_to(file.pread_into, offset, max(min(size, file.size - offset), 0))[0]

    return read


def _read_notes(file: File, dump: DumpHeaders, warnings: list[str]) -> Iterator[NoteSegment]:
    for phdr in dump.note_phdrs:  # read_dump_headers has checked the total size
        offset, size = int(phdr["p_offset"]), int(phdr["p_filesz"])
        if offset + size > file.size:
            where = format_range(offset, offset + size)
            raise FormatError(f"the PT_NOTE at {where} ends past the file's {file.size} bytes")
        yield read_segment(file, offset, size, dump.header.byte_order, warnings)


def _describe_loss(file: File, memory: DumpMemory) -> str:
    if not len(memory.missing):
        return ""
    return (
        f"{file.name}: {file.size} bytes, but its PT_LOADs end at {memory.end}:"
        f" {format_size(total_size(memory.missing))} of RAM are cut off, first"
        f" {format_range(*memory.missing[0].tolist())}"
    )


def _warnings(file: File, dump: DumpHeaders) -> Iterator[str]:
    if dump.header.e_flags & DUMP_ELF_INCOMPLETE:
        yield f"{file.name}: it is marked as incomplete (e_flags)"
