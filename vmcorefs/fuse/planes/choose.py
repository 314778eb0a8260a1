"""Choosing the plane that serves a file, with the reasons against better ones.

``kernel``: reads never reach the daemon; the kernel passes them to the image, or to a composite
file that it assembles itself. ``mapped``: the daemon answers from one mapping of the file.
``plain``: the daemon reads the inputs for each answer.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Literal, get_args

import msgspec
import numpy as np

from vmcorefs.core.space.extents import Kind, coalesce
from vmcorefs.errors import VmcorefsError
from vmcorefs.fuse.planes.composite import CompositeError, open_composite
from vmcorefs.fuse.planes.linux import can_populate
from vmcorefs.fuse.planes.mapping import Mapping
from vmcorefs.fuse.planes.pages import Pages, cut_into_pages
from vmcorefs.fuse.planes.remote import may_hang
from vmcorefs.sources.file import FileSource
from vmcorefs.tree.file import TreeFile

PlaneName = Literal["kernel", "mapped", "plain"]
PLANES: tuple[PlaneName, ...] = get_args(PlaneName)
"""Best first."""

SMALL = 1 << 20
"""Smaller files use the plain plane: after the first read they are in the page cache."""
_MAX_MAPPINGS = 16384
"""A process may have 65530 mappings (vm.max_map_count), and a table may be hostile."""
_MAX_COPIED = 16 << 20

PASSTHROUGH_RELEASE = (6, 9)
"""FUSE passthrough came with Linux 6.9 (fs/fuse/passthrough.c)."""

OpenBacking = Callable[[int], int]
"""Registers an opened file with the kernel and returns its number, or raises OSError."""

PagesOf = Callable[[frozenset[int]], Pages]
"""The file's pages, if those of these inputs can be shown in place."""


class Served(msgspec.Struct, frozen=True):
    """How one file is served.

    Attributes:
        plane: Its name.
        by: How, for people.
        why_not: Why each better plane was not used, best first.
        backing: Number of the file that the kernel passes reads to; 0 for none.
        backs_direct: Whether that file can be opened with O_DIRECT; if not, such an open would
            fail.
        mapping: The mapping of the file, in ``mapped``.
        descriptors: The inputs that the plane shows without reading, with their sizes; none for a
            composite, which reports lost bytes by itself.
    """

    plane: PlaneName
    by: str
    why_not: tuple[str, ...] = ()
    backing: int = 0
    backs_direct: bool = False
    mapping: Mapping | None = None
    descriptors: tuple[tuple[int, int], ...] = ()

    def describe(self) -> dict[str, object]:
        """The value of ``plane`` in ``layout.json``."""
        return {"name": self.plane, "by": self.by, "why_not": list(self.why_not)}

    @property
    def has_shrunk(self) -> bool:
        """Whether an input has lost bytes since.

        A read that is passed to the input then ends early; in a mapping, the rest of the last page
        is zeros (mmap(2)). Readers must see neither.
        """
        return any(os.fstat(fd).st_size < size for fd, size in self.descriptors)


class _NotPossibleError(Exception):
    """This plane cannot serve this file here; the message says why."""


def choose_plane(
    file: TreeFile,
    best: PlaneName,
    open_backing: OpenBacking,
    why_no_better: str,
    *,
    may_wait: bool = False,
) -> Served:
    """Set up the best plane that can serve a file on this machine.

    Args:
        file: It has been made.
        best: No better plane than this.
        open_backing: Registers a file that reads are passed to.
        why_no_better: Why ``best`` is not the best plane of all.
        may_wait: Readers may wait forever for an input that does not answer.
    """
    if file.size < SMALL:
        return Served("plain", f"smaller than {SMALL} bytes")
    first = PLANES.index(best)
    why_not = [f"{plane}: {why_no_better}" for plane in PLANES[:first]]
    pages_of = cache(partial(_pages_of, file))  # two planes want the same, of a million rows
    for plane in PLANES[first:]:
        try:
            if plane == "kernel":
                return _kernel(file, pages_of, open_backing, may_wait=may_wait)
            if plane == "mapped":
                return _mapped(file, pages_of, tuple(why_not), may_wait=may_wait)
        except (_NotPossibleError, CompositeError, VmcorefsError) as error:
            why_not.append(f"{plane}: {error}")
        except MemoryError:
            why_not.append(f"{plane}: out of memory")
        except OSError as error:
            why_not.append(f"{plane}: {error.strerror}")
    return Served("plain", "the inputs are read for each answer", tuple(why_not))


def expected_plane(file: TreeFile) -> dict[str, object]:
    """How ``mount`` would serve a file here and now, for ``layout.json``.

    Only a mount shows whether /dev/fuse offers passthrough; Linux 6.9 and CAP_SYS_ADMIN are taken
    as evidence of it.
    """
    file.make()
    return choose_plane(file, PLANES[0], _expect_backing, "").describe()


def _expect_backing(_: int) -> int:
    if os.geteuid():
        raise PermissionError(errno.EPERM, "only root may register a file")
    release = tuple(int(part) for part in re.findall(r"[0-9]+", os.uname().release)[:2])
    if release < PASSTHROUGH_RELEASE:
        raise OSError(errno.ENOSYS, "this kernel does not offer it (Linux 6.9)")
    return 1


def _kernel(
    file: TreeFile, pages_of: PagesOf, open_backing: OpenBacking, *, may_wait: bool
) -> Served:
    files = _of_kind("file", file.reader.sources)
    if not may_wait:
        _refuse_what_may_hang(files, "the kernel would wait for it forever")
    whole = _one_run(file, {**files, **_of_kind("proc file", file.reader.sources)})
    if whole is not None:
        return _passed_to(
            open_backing,
            whole.fileno(),
            f"passthrough to {whole.origin}",
            ((whole.fileno(), whole.size),),
        )
    pages = pages_of(frozenset(files))
    composite = open_composite(pages, _descriptors(files), file.pread)
    try:
        return _passed_to(open_backing, composite, "passthrough to EROFS over the inputs", ())
    finally:
        os.close(composite)


def _pages_of(file: TreeFile, shown: frozenset[int]) -> Pages:
    reader = file.reader
    held = np.isin(reader.table.source, list(shown)).any()  # a dump's pages are in no file as such
    pages = cut_into_pages(reader.table, reader.faults, shown) if held else None
    if pages is None or not (pages.table.kind == Kind.DATA).any():
        raise _NotPossibleError("no input holds a whole page of it as it is")
    return pages


def _passed_to(
    open_backing: OpenBacking, descriptor: int, by: str, inputs: tuple[tuple[int, int], ...]
) -> Served:
    try:
        backing = open_backing(descriptor)
    except OSError as error:
        raise _NotPossibleError(f"FUSE passthrough: {error.strerror}") from error
    return Served(
        "kernel", by, backing=backing, backs_direct=_opens_direct(descriptor), descriptors=inputs
    )


def _opens_direct(descriptor: int) -> bool:
    try:
        os.close(os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _one_run(file: TreeFile, files: dict[int, FileSource]) -> FileSource | None:
    """The input that the whole file is one run of, if there is one."""
    table = coalesce(file.reader.table)
    if len(table) != 1 or table.kind[0] != Kind.DATA or table.offset[0] != 0:
        return None
    source = files.get(int(table.source[0]))
    return source if source is not None and source.size == file.size else None


def _mapped(
    file: TreeFile, pages_of: PagesOf, why_not: tuple[str, ...], *, may_wait: bool
) -> Served:
    regular = _of_kind("file", file.reader.sources)
    if not may_wait and not can_populate():
        _refuse_what_may_hang(regular, "a reply from a mapping could not be given up")
    files = {**regular, **_of_kind("block device", file.reader.sources)}
    pages = pages_of(frozenset(files))
    if len(pages.table) > _MAX_MAPPINGS:
        raise _NotPossibleError(f"{len(pages.table)} mappings, more than {_MAX_MAPPINGS}")
    copied = int((pages.copied[:, 1] - pages.copied[:, 0]).sum())
    if copied > _MAX_COPIED:
        raise _NotPossibleError(f"{copied} bytes would be copied, more than {_MAX_COPIED}")
    mapping = Mapping(pages, _descriptors(files), file.pread)
    return Served(
        "mapped",
        "one mapping of the inputs",
        why_not,
        mapping=mapping,
        descriptors=_shown(pages, regular),
    )


def _refuse_what_may_hang(files: dict[int, FileSource], why: str) -> None:
    for source in files.values():
        fs_type = may_hang(source.fileno())
        if fs_type:
            raise _NotPossibleError(
                f"{source.name} lies on {fs_type}, which may stop answering, and {why}"
                " (-o read_timeout=0 allows that)"
            )


def _of_kind(kind: str, sources: Sequence[object]) -> dict[int, FileSource]:
    return {
        number: source
        for number, source in enumerate(sources)
        if isinstance(source, FileSource) and source.kind == kind
    }


def _descriptors(files: dict[int, FileSource]) -> dict[int, int]:
    return {number: source.fileno() for number, source in files.items()}


def _shown(pages: Pages, files: dict[int, FileSource]) -> tuple[tuple[int, int], ...]:
    numbers = set(pages.table.only(Kind.DATA).source.tolist()) & files.keys()
    return tuple((files[n].fileno(), files[n].size) for n in sorted(numbers))
