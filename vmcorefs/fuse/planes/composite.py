"""A file that the kernel assembles: EROFS over the image, with its metadata in memory.

Both file systems, the EROFS and the ramfs for its metadata, are mounted without a mount point: they
live as long as a descriptor in them is open, so a daemon that is killed leaves nothing behind.
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable

import numpy as np

from vmcorefs.core.space.extents import Kind, make_extents, merge
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.fuse.planes import erofs
from vmcorefs.fuse.planes.linux import bdi_names, mount_detached, read_further_ahead
from vmcorefs.fuse.planes.pages import PAGE, Pages

_MIN_BUDGET = 4 << 20
"""Bytes of metadata allowed for any file; they are kernel memory that cannot be reclaimed."""
_SHARE = 4096
"""A larger file may have metadata of this fraction of its size."""
_MAX_EXTENTS = 1 << 16
"""More would hardly fit into the budget, and finding that out would take long."""
_AT_ONCE = 1 << 20


class CompositeError(Exception):
    """No composite for this file on this machine; the message says why."""


def open_composite(
    pages: Pages, descriptors: dict[int, int], read: Callable[[int, int], bytes]
) -> int:
    """Have the kernel assemble a file.

    Args:
        pages: The file.
        descriptors: For each source that is shown, its opened regular file.
        read: Reads ``size`` bytes of the file from ``offset`` on, called as ``read(size, offset)``.

    Returns:
        A descriptor of the file; closing it releases everything.

    Raises:
        CompositeError: if that is not possible here, or needs too much metadata.
        VmcorefsError: whatever ``read`` raises.
    """
    if pages.has_faults:
        raise CompositeError("some of it must read as an error, and EROFS has only zeros for that")
    if len(pages.table) > _MAX_EXTENTS:
        raise CompositeError(f"{len(pages.table)} extents, more than {_MAX_EXTENTS}")
    if not kernel_tells_short_reads():
        raise CompositeError("this kernel's EROFS would show zeros if the image shrank")
    plan = erofs.plan_chunks(pages)
    budget = max(pages.size // _SHARE, _MIN_BUDGET)
    if plan.cost > budget:
        raise CompositeError(f"EROFS would need {plan.cost} bytes of metadata, more than {budget}")
    devices = [descriptors[source] for source in erofs.device_order(pages)]
    sizes = [os.fstat(device).st_size for device in devices]
    if len(devices) > erofs.MAX_DEVICES or max(sizes, default=0) >= erofs.MAX_DEVICE_SIZE:
        raise CompositeError("EROFS cannot hold so many or such large inputs")
    try:
        return _open(pages, plan, devices, sizes, read)
    except OSError as error:
        raise CompositeError(f"cannot mount EROFS over the image: {error.strerror}") from error


def _open(
    pages: Pages,
    plan: erofs.ChunkPlan,
    devices: list[int],
    sizes: list[int],
    read: Callable[[int, int], bytes],
) -> int:
    ramfs = mount_detached("ramfs", [])
    try:
        metadata = os.open("metadata", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=ramfs)
    finally:
        os.close(ramfs)
    try:
        for at, piece in erofs.iter_image(pages, plan, sizes):
            _write(metadata, piece if isinstance(piece, bytes) else piece.tobytes(), at)
        copies = erofs.copies_at(pages, plan)
        os.ftruncate(metadata, copies + len(plan.copied) * plan.size)
        for number, chunk in enumerate(plan.copied.tolist()):
            _copy(metadata, copies + number * plan.size, pages, chunk * plan.size, plan.size, read)
        known = bdi_names()
        names = [f"/proc/self/fd/{fd}" for fd in (metadata, *devices)]
        root = mount_detached("erofs", [("source", names[0]), *(("device", n) for n in names[1:])])
        _read_further_ahead(bdi_names() - known)
    finally:
        os.close(metadata)
    try:
        return os.open(erofs.FILE_NAME, os.O_RDONLY | os.O_CLOEXEC, dir_fd=root)
    finally:
        os.close(root)


def _read_further_ahead(new: set[str]) -> None:
    # its page cache then has larger folios, and random reads cost a fifth less. The kernel does
    # not say which name an EROFS has; if two names are new, one belongs to another mount
    if len(found := [name for name in new if name.startswith("erofs-")]) == 1:
        read_further_ahead(found[0])


def _copy(
    metadata: int, to: int, pages: Pages, start: int, size: int, read: Callable[[int, int], bytes]
) -> None:
    for at in range(start, min(start + size, pages.size), _AT_ONCE):
        count = min(_AT_ONCE, start + size - at, pages.size - at)
        _write(metadata, read(count, at), to + at - start)


def _write(descriptor: int, data: bytes, offset: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done:], offset + done)


@functools.cache
def kernel_tells_short_reads() -> bool:
    """Whether this kernel's EROFS gives EIO, not zeros, past the end of a device.

    There are kernels of both kinds, and an image that shrinks must never read as zeros.

    Raises:
        CompositeError: if there is no EROFS over files here.
    """
    try:
        ramfs = mount_detached("ramfs", [])
    except OSError as error:
        raise CompositeError(f"cannot mount ramfs: {error.strerror}") from error
    try:
        device = os.open("device", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=ramfs)
    finally:
        os.close(ramfs)
    try:
        os.ftruncate(device, PAGE)
        return _behind_the_end_is_an_error(device)
    finally:
        os.close(device)


def _behind_the_end_is_an_error(device: int) -> bool:
    two = make_extents(make_ranges([(0, 2 * PAGE)]), kind=Kind.DATA, source=0)
    pages = Pages(merge(two), 2 * PAGE)
    plan = erofs.ChunkPlan(1, np.empty(0, dtype=np.int64), 8)
    try:
        file = _open(pages, plan, [device], [2 * PAGE], lambda size, _: bytes(size))
    except OSError as error:
        raise CompositeError(f"no EROFS over files here: {error.strerror}") from error
    try:
        os.pread(file, 2 * PAGE, 0)
        os.pread(file, PAGE, PAGE)
    except OSError as error:
        return error.errno == errno.EIO
    else:
        return False
    finally:
        os.close(file)
