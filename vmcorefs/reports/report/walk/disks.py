"""Block devices that had requests under way: input and output that does not end."""

from __future__ import annotations

from itertools import islice
from typing import Final

import drgn
from drgn.helpers.linux.block import disk_name, for_each_disk, request_queue_busy_iter, rq_data_dir

from vmcorefs.reports.report.asked import Asked
from vmcorefs.reports.report.schema import Disk
from vmcorefs.reports.report.walk.absent import ABSENT

_MAX_DISKS: Final = 1 << 14
_MAX_REQUESTS: Final = 1 << 14
_MAX_QUEUES: Final = 8192  # NR_CPUS of x86-64 with CONFIG_MAXSMP
_MAX_TAGS: Final = 1 << 16  # BLK_MQ_MAX_DEPTH is 10240 (include/linux/blk-mq.h)
_NS: Final = 10**9


def find_disks(asked: Asked, program: drgn.Program, uptime: int | None) -> list[Disk]:
    """The devices with requests, the one that has waited longest first.

    Args:
        asked: Is told what cannot be had.
        program: The kernel.
        uptime: Seconds from its boot to its end, by the clock that requests are stamped with.
    """
    found: list[Disk] = []
    try:
        for disk in islice(for_each_disk(program), _MAX_DISKS):
            name = disk_name(disk).decode("utf-8", "backslashreplace")
            try:
                one = _describe(name, disk.queue.read_(), uptime)
            except ABSENT as error:
                asked.miss(f"disks.{name}", str(error))
                continue
            if one.reads or one.writes:
                found.append(one)
    except ABSENT as error:
        asked.miss("disks", f"{len(found)} found, then: {error}")
    return sorted(found, key=lambda disk: -(disk.seconds or 0))


def _describe(name: str, queue: drgn.Object, uptime: int | None) -> Disk:
    _check(queue)
    requests = list(islice(request_queue_busy_iter(queue), _MAX_REQUESTS))
    writes = sum(bool(rq_data_dir(request)) for request in requests)
    started = [int(request.start_time_ns) for request in requests]
    oldest = min(filter(None, started), default=None)  # 0: a device that keeps no statistics
    seconds = None
    if oldest is not None and uptime is not None:
        seconds = max(float(uptime - oldest // _NS), 0.0)
    return Disk(name, len(requests) - writes, writes, seconds)


def _check(queue: drgn.Object) -> None:
    """See that what will be gone through is no larger than the kernel makes it.

    Raises:
        ValueError: if it is.
    """
    tags = queue.tag_set.read_()
    if not tags:
        return
    if not int(tags.nr_hw_queues) <= _MAX_QUEUES:
        raise ValueError(f"it has {int(tags.nr_hw_queues)} queues")
    for number in range(int(tags.nr_hw_queues)):
        one = tags.tags[number]
        for bitmap in (one.bitmap_tags.sb, one.breserved_tags.sb):
            if int(bitmap.depth) > _MAX_TAGS or int(bitmap.map_nr) > _MAX_TAGS:
                raise ValueError(f"a queue has room for {int(bitmap.depth)} requests")
