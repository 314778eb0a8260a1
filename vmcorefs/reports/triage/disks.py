"""What is to be known of block devices: what they have under way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from vmcorefs.core.structures.types.btf import Struct
from vmcorefs.errors import FormatError, VmcorefsError
from vmcorefs.reports.triage.crawl import Crawl

_MAX_QUEUES: Final = 1 << 10
_MAX_TAGS: Final = 1 << 14
_MAP: Final = 1 << 7  # of struct sbitmap_word, with what aligns it to a cache line
_STRUCTS: Final = (
    *("kset", "kobject", "subsys_private", "klist", "klist_node", "device_private"),
    *("block_device", "device", "gendisk", "request_queue", "blk_mq_tag_set", "blk_mq_tags"),
    *("sbitmap_queue", "sbitmap", "class"),
)


def want_disks(crawl: Crawl) -> None:
    """Want every block device, its queues, and the requests in them.

    The list of them is that of the class ``block`` (block/genhd.c, drivers/base/class.c).
    """
    structs = crawl.kernel.structs(*_STRUCTS)
    walk = _Walk(crawl, structs)
    disks = list(dict.fromkeys(walk.disks()))
    crawl.follow(crawl.layout("gendisk"), disks)
    at = structs["gendisk"].offset("queue")
    queues = [queue for disk in disks if (queue := walk.pointer(disk + at))]
    crawl.follow(crawl.layout("request_queue"), queues)
    at = structs["request_queue"].offset("tag_set")
    for tag_set in dict.fromkeys(walk.pointer(queue + at) for queue in queues):
        if tag_set:
            walk.want_tags(tag_set)


class _Walk:
    def __init__(self, crawl: Crawl, structs: dict[str, Struct]) -> None:
        self._crawl = crawl
        self._structs = structs
        self._memory = crawl.kernel.virtual

    def pointer(self, place: int) -> int:
        """The pointer at a place, which is wanted; 0 if it cannot be read."""
        self._crawl.mark([place], self._memory.word_size)
        with suppress(VmcorefsError):
            return self._memory.pointer(place)
        return 0

    def disks(self) -> Iterator[int]:
        """Every ``struct gendisk``, once for each of its partitions."""
        at = self._structs["device_private"].offset("knode_class")
        at += self._structs["klist_node"].offset("n_node")
        for private in self._crawl.list(self._devices(), at):
            self._crawl.mark([private], self._structs["device_private"].size)
            device = self.pointer(private + self._structs["device_private"].offset("device"))
            self._crawl.mark([device], self._structs["device"].size)
            block = device - self._structs["block_device"].offset("bd_device")
            self._crawl.mark([block], self._structs["block_device"].size)
            disk = self.pointer(block + self._structs["block_device"].offset("bd_disk"))
            if disk:
                yield disk

    def _devices(self) -> int:
        """Where the list of the class's devices is; the errors are those of reading memory."""
        kernel, structs = self._crawl.kernel, self._structs
        wanted, private = kernel.symbol("block_class"), structs["subsys_private"]
        classes = self._memory.pointer(kernel.symbol("class_kset"))
        self._crawl.mark([classes], structs["kset"].size)
        at = private.offset("subsys") + structs["kset"].offset("kobj")
        at += structs["kobject"].offset("entry")
        for one in self._crawl.list(classes + structs["kset"].offset("list"), at):
            self._crawl.mark([one], private.size)
            if self.pointer(one + private.offset("class")) == wanted:
                return one + private.offset("klist_devices") + structs["klist"].offset("k_list")
        raise FormatError("no class of block devices")

    def want_tags(self, tag_set: int) -> None:
        """Want the tags of a device's queues, and the requests that have one."""
        layout = self._structs["blk_mq_tag_set"]
        self._crawl.mark([tag_set], layout.size)
        count = self._number(tag_set + layout.offset("nr_hw_queues"), _MAX_QUEUES)
        table = self.pointer(tag_set + layout.offset("tags"))
        self._crawl.mark([table], count * self._memory.word_size)
        for tags in self._words(table, count):
            if tags:
                self._want_requests(tags)

    def _want_requests(self, tags: int) -> None:
        layout = self._structs["blk_mq_tags"]
        self._crawl.mark([tags], layout.size)
        for name in ("bitmap_tags", "breserved_tags"):
            bitmap = tags + layout.offset(name) + self._structs["sbitmap_queue"].offset("sb")
            words = self._number(bitmap + self._structs["sbitmap"].offset("map_nr"), _MAX_TAGS)
            start = self.pointer(bitmap + self._structs["sbitmap"].offset("map"))
            self._crawl.mark([start], words * _MAP)
        count = self._number(tags + layout.offset("nr_tags"), _MAX_TAGS)
        table = self.pointer(tags + layout.offset("rqs"))
        self._crawl.mark([table], count * self._memory.word_size)
        self._crawl.mark(self._words(table, count), self._crawl.layout("request").size)

    def _number(self, place: int, most: int) -> int:
        with suppress(VmcorefsError):
            return min(self._memory.integer(place, 4), most)
        return 0

    def _words(self, table: int, count: int) -> list[int]:
        with suppress(VmcorefsError):
            found = self._memory.integers(table, count, self._memory.word_size)
            return [int(word) for word in found]
        return []
