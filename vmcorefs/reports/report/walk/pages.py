"""Pages that a task waits for."""

from __future__ import annotations

from typing import Final

import drgn

from vmcorefs.reports.report.schema import Lock
from vmcorefs.reports.report.walk.absent import ABSENT

_BLOCK_DEVICES: Final = b"bdev"  # block/bdev.c: the file system that their pages belong to
_KINDS: Final = {"PG_locked": "page lock", "PG_writeback": "page writeback"}


def describe_page(wait: drgn.Object) -> Lock:
    """What a ``struct wait_page_queue *`` waits for (include/linux/pagemap.h).

    The errors are drgn's.
    """
    try:
        page = wait.folio.read_()
    except AttributeError:  # before 5.16
        page = wait.page.read_()
    bit = int(wait.bit_nr)
    kind = next((k for name, k in _KINDS.items() if wait.prog_[name].value_() == bit), "page")
    try:
        what = _describe(page)
    except ABSENT:
        what = ""
    return Lock(kind, int(page), "", None, what)


def _describe(page: drgn.Object) -> str:
    inode = page.mapping.host.read_()
    where = f"page {int(page.index)} of "
    if inode.i_sb.s_id.string_() == _BLOCK_DEVICES:
        device = drgn.container_of(inode, "struct bdev_inode", "vfs_inode").bdev
        return where + _text(device.bd_disk.disk_name)
    return f"{where}inode {int(inode.i_ino)} on {_text(inode.i_sb.s_id)}"


def _text(array: drgn.Object) -> str:
    text: bytes = array.string_()
    return text.decode("utf-8", "backslashreplace")
