"""Following a kernel's structures: the pages that they are in, and those that they lead to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property

import numpy as np
import numpy.typing as npt

from vmcorefs.core.space.ranges import Int64Array, distinct
from vmcorefs.core.space.units import KERNEL_HALF
from vmcorefs.core.structures.per_cpu import cpu_offsets
from vmcorefs.core.structures.types.pointers import Layout, Pointer, read_layouts
from vmcorefs.errors import FormatError, VmcorefsError
from vmcorefs.kernel.kernel import Kernel

UInt64Array = npt.NDArray[np.uint64]

MAX_OBJECTS = 1 << 17
"""Most objects of one kind that are followed."""

_SECRET = ("key",)  # keyrings (include/linux/key.h)
_ADDRESSES = 1 << 64
_LAYOUTS = (
    *("task_struct", "mm_struct", "signal_struct", "kmem_cache", "pglist_data", "module"),
    *("request_queue", "gendisk", "blk_mq_tag_set", "blk_mq_tags", "request"),
)


class Crawl:
    """A kernel whose structures are followed.

    Attributes:
        kernel: The kernel.
        layouts: Its structures that are followed, by name, as far as it has them.
    """

    def __init__(self, kernel: Kernel, want: Callable[[Int64Array], None]) -> None:
        """Prepare to follow.

        Args:
            kernel: The kernel.
            want: Called with page frame numbers, in any order.
        """
        self.kernel = kernel
        self._want = want
        self._mappings = kernel.mappings
        self._page = self._mappings.page_size

    @cached_property
    def layouts(self) -> dict[str, Layout]:
        """See the class; the errors are those of ``Kernel.types``."""
        kernel = self.kernel
        return read_layouts(kernel.types, kernel.byte_order, kernel.word_size, _LAYOUTS)

    @cached_property
    def cpu_offsets(self) -> UInt64Array:
        """How far each possible CPU's variables are from where they are declared."""
        offsets = cpu_offsets(self.kernel.image, self.kernel.symbols).values()
        return np.array([offset % _ADDRESSES for offset in offsets], dtype=np.uint64)

    def layout(self, name: str) -> Layout:
        """A structure.

        Raises:
            FormatError: if the kernel has none of that name.
        """
        try:
            return self.layouts[name]
        except KeyError:
            raise FormatError(f"BTF: no struct {name}") from None

    def mark(
        self, starts: Iterable[int] | UInt64Array, sizes: int | list[int] | Int64Array
    ) -> None:
        """Want the pages of some virtual memory, as far as it is mapped.

        Args:
            starts: Where each piece begins; what is not in the kernel's half is left out.
            sizes: How many bytes each has.
        """
        start = np.array(list(starts), dtype=np.uint64)
        size = np.broadcast_to(np.asarray(sizes, dtype=np.int64), start.shape)
        sane = (start >= KERNEL_HALF) & (size > 0)
        first = start[sane].astype(np.int64)
        last = first + (size[sane] - 1)
        fits = last >= first
        first, last = first[fits] // self._page, last[fits] // self._page
        count = last - first + 1
        pages = np.repeat(first, count)
        pages += np.arange(len(pages)) - np.repeat(np.cumsum(count) - count, count)
        found = self._mappings.translate_many(distinct(pages) * self._page)
        self._want(found[found >= 0] // self._page)

    def follow(self, layout: Layout, addresses: Iterable[int]) -> None:
        """Want structures of a kind, and what their pointers lead to."""
        places = list(dict.fromkeys(addresses))[:MAX_OBJECTS]
        self.mark(places, layout.size)
        for pointer, values in self.pointers(layout, places):
            if pointer.to in _SECRET:
                continue
            if pointer.is_per_cpu:
                self.mark((values[:, None] + self.cpu_offsets[None, :]).ravel(), pointer.size)
            else:
                self.mark(values, pointer.size)

    def pointers(
        self, layout: Layout, places: Iterable[int]
    ) -> Iterator[tuple[Pointer, UInt64Array]]:
        """Each pointer of a structure, and its distinct values in those at ``places``."""
        held = np.frombuffer(b"".join(self._read(places, layout.size)), dtype=np.uint8)
        objects = held.reshape(-1, layout.size)
        word, order = self.kernel.word_size, self.kernel.byte_order
        for pointer in layout.pointers:
            if pointer.at + word <= layout.size:
                column = objects[:, pointer.at : pointer.at + word].copy()
                values = column.view(f"{order}u{word}")[:, 0].astype(np.uint64)
                # on x86-64 what each CPU has is at a small number, to which its distance is added
                least = 1 if pointer.is_per_cpu else KERNEL_HALF
                values = distinct_words(values, least)
                if len(values):
                    yield pointer, values

    def _read(self, places: Iterable[int], size: int) -> Iterator[bytes]:
        for place in places:
            try:
                yield self.kernel.virtual.read(place, size)
            except VmcorefsError:
                continue

    def list(self, head: int, offset: int) -> Iterator[int]:
        """The structures on a list, by where their ``struct list_head`` is in them.

        What comes before an error is sound.

        Raises:
            FormatError: if the list does not end.
            VmcorefsError: if it cannot be read.
        """
        seen = {head}
        node = self.kernel.virtual.pointer(head)
        while node != head:
            if node in seen or len(seen) > MAX_OBJECTS:
                raise FormatError(f"the list at {head:#x} does not end")
            seen.add(node)
            yield (node - offset) % _ADDRESSES
            node = self.kernel.virtual.pointer(node)


def distinct_words(values: UInt64Array, least: int = KERNEL_HALF) -> UInt64Array:
    """The distinct values that are no less than the least that counts, sorted."""
    values = np.sort(values[values >= np.uint64(least)])
    if not len(values):
        return values
    return values[np.concatenate(([True], values[1:] != values[:-1]))]
