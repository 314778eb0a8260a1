"""Cores of Xen domains, which have sections in place of program headers."""

from __future__ import annotations

from vmcorefs.core.elf.elf import MAX_EHDR_SIZE
from vmcorefs.core.formats.xen import is_xen_core, read_core, read_cpus, stored_pages
from vmcorefs.errors import FormatError
from vmcorefs.sources.base import read_at
from vmcorefs.sources.dumps.dump import DumpFile
from vmcorefs.sources.dumps.elf import open_elf
from vmcorefs.sources.dumps.placed.memory import PlacedMemory
from vmcorefs.sources.input import File


def open_any_elf(file: File) -> DumpFile | PlacedMemory:
    """Open an ELF dump, whether it has program headers or Xen's sections.

    The errors are those of ``open_elf`` and ``open_xen``.
    """
    is_xen = is_xen_core(read_at(file)(0, MAX_EHDR_SIZE))
    return open_xen(file) if is_xen else open_elf(file)


def open_xen(file: File) -> PlacedMemory:
    """Read where the pages of a domain are.

    Args:
        file: Closed when the sources of the returned memory are closed.

    Raises:
        FormatError: if it lacks a part, or that cannot be true.
        SourceIOError: if it cannot be read.
    """
    try:
        core = read_core(read_at(file), file.size)
        held = stored_pages(read_at(file), core)
        cpus = read_cpus(read_at(file), core)
    except FormatError as error:
        raise FormatError(f"{file.name}: {error}") from error
    doubt = (
        f"{file.name}: of a paravirtual domain, whose page tables have the machine's addresses: its"
        " kernel cannot be followed"
    )
    return PlacedMemory(
        name=file.name,
        format="a core of a Xen domain",
        sources=(file,),
        held=held,
        ram=held.ranges,
        cpus=cpus,
        warnings=(doubt,) if core.is_paravirtual else (),
    )
