"""What is to be known of the kernel itself: its variables, modules, nodes and caches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final

import numpy as np

from vmcorefs.core.structures.module_parts import ModuleReader
from vmcorefs.core.structures.types.pointers import Layout
from vmcorefs.errors import VmcorefsError
from vmcorefs.kernel.kernel import Kernel
from vmcorefs.reports.triage.crawl import Crawl, UInt64Array

_SECTIONS: Final = (
    ("__start_ro_after_init", "__end_ro_after_init"),
    ("_sdata", "_edata"),
    ("__bss_start", "__bss_stop"),
)
_UNWIND: Final = (
    ("__start_orc_unwind_ip", "__stop_orc_unwind_ip"),
    ("__start_orc_unwind", "__stop_orc_unwind"),
    ("orc_lookup", "orc_lookup_end"),
)
_MAX_CODE: Final = 1 << 14
_AHEAD: Final = 1 << 9  # it reads so much at a time
_READ_ON: Final = 1 << 13  # a disassembler reads past the end
_LOOKED_AT: Final = (
    # crash disassembles them to learn how the kernel was built (x86_64.c)
    *("common_interrupt", "asm_common_interrupt", "__x64_sys_open", "__x64_sys_read"),
    *("__x64_sys_write", "__x64_sys_fork", "do_futex", "vfs_read", "vfs_write"),
    *("schedule", "__schedule"),
)
_TABLES: Final = ("taint_flags", "pageflag_names", "task_state_array", "mt_slots", "mt_pivots")
"""Constants: tables that have pointers to names, and sizes of maple trees' nodes."""
_TABLE: Final = 1 << 10
_TEXT: Final = 1 << 6
_NOTES: Final = 1 << 10  # of a CPU (note_buf_t)
_MAX_SECTION: Final = 1 << 27
_MAX_NODES: Final = 1 << 10
_XA_INTERNAL: Final = 2
_XA_MIN: Final = 4096  # lower ones are marks, no nodes (include/linux/xarray.h)
_MAX_XA_NODES: Final = 1 << 13


def want_variables(crawl: Crawl) -> None:
    """Want the kernel's static variables, and each CPU's."""
    _want_sections(crawl, _SECTIONS)
    symbols = crawl.kernel.symbols
    start, end = symbols.require("__per_cpu_start"), symbols.require("__per_cpu_end")
    crawl.mark(crawl.cpu_offsets + np.uint64(start), min(end - start, _MAX_SECTION))
    notes = crawl.kernel.image.pointer(symbols.require("crash_notes"))
    crawl.mark(crawl.cpu_offsets + np.uint64(notes), _NOTES)


def want_unwind_tables(crawl: Crawl) -> None:
    """Want what leads from a frame of a stack to the next one.

    Of ``__crash_kexec`` that is its code (core/debuginfo/orc.py).
    """
    _want_sections(crawl, _UNWIND)
    _want_code(crawl, ("__crash_kexec",))


def want_code(crawl: Crawl) -> None:
    """Want what other tools look at when they open a dump, besides variables."""
    _want_code(crawl, _LOOKED_AT)
    kernel = crawl.kernel
    for name in _TABLES:
        table = kernel.symbols.lookup(name)
        if table is not None:
            crawl.mark([table], _TABLE)
            words = kernel.image.integers(table, _TABLE // kernel.word_size, kernel.word_size)
            crawl.mark(words, _TEXT)


def want_functions(crawl: Crawl, addresses: UInt64Array) -> None:
    """Want the kernel's functions from where they begin to the addresses in them.

    crash disassembles them to find the next frame of a stack.
    """
    symbols = crawl.kernel.symbols
    start, end = symbols.require("_stext"), symbols.require("_etext")
    inside = addresses[(addresses >= np.uint64(start)) & (addresses < np.uint64(end))]
    known = np.sort(symbols.addresses)
    begin = known[known.searchsorted(inside, side="right") - 1]
    sizes = np.minimum(inside - begin, np.uint64(_MAX_CODE)).astype(np.int64) + _AHEAD
    crawl.mark(begin, sizes)


def _want_code(crawl: Crawl, functions: Iterable[str]) -> None:
    """Want functions, each up to where the next symbol is."""
    symbols = crawl.kernel.symbols
    found = map(symbols.lookup, functions)
    starts = np.array([start for start in found if start is not None], dtype=np.uint64)
    known = np.sort(symbols.addresses)
    following = known[np.minimum(known.searchsorted(starts, side="right"), len(known) - 1)]
    sizes = np.minimum(following - starts, np.uint64(_MAX_CODE)).astype(np.int64) + _READ_ON
    crawl.mark(starts, sizes)


def _want_sections(crawl: Crawl, sections: tuple[tuple[str, str], ...]) -> None:
    symbols = crawl.kernel.symbols
    for first, last in sections:
        start, end = symbols.lookup(first), symbols.lookup(last)
        if start is not None and end is not None and 0 < end - start <= _MAX_SECTION:
            crawl.mark([start], end - start)


def want_modules(crawl: Crawl) -> None:
    """Want each module's structure, its variables and its unwind tables."""
    kernel = crawl.kernel
    modules = [table.module_at for table in kernel.all_symbols.modules]
    crawl.follow(crawl.layout("module"), modules)
    reader = ModuleReader(kernel.virtual, kernel.types)
    for at in modules:
        with suppress(VmcorefsError):  # one whose parts are not known has its structure at least
            parts = reader.read(at)
            for region in parts.regions:
                if not region.is_code:
                    crawl.mark([region.start], region.size)
            if parts.orc is not None:
                crawl.mark([parts.orc.ips, parts.orc.entries], 6 * parts.orc.count)


def want_memory(crawl: Crawl) -> None:
    """Want the nodes of memory with their zones, and the slab caches with their names."""
    kernel = crawl.kernel
    crawl.follow(crawl.layout("pglist_data"), _nodes(kernel))
    cache = kernel.structs("kmem_cache")["kmem_cache"]
    caches: list[int] = []
    with suppress(VmcorefsError):
        caches.extend(crawl.list(kernel.symbol("slab_caches"), cache.offset("list")))
    crawl.follow(_as_allocated(kernel, crawl.layout("kmem_cache")), caches)


def _as_allocated(kernel: Kernel, cache: Layout) -> Layout:
    """A slab cache's structure without the pointers to nodes that the machine cannot have.

    They are an array at its end (mm/slub.c, ``kmem_cache_init``).
    """
    nodes = [pointer.at for pointer in cache.pointers if pointer.to == "kmem_cache_node"]
    count = _count_nodes(kernel)
    size = nodes[count] if 0 < count < len(nodes) else cache.size
    wanted = ("", "kmem_cache_node", "node_barn")
    kept = (one for one in cache.pointers if one.at < size and one.to in wanted)
    return Layout(size, tuple(kept))


def _nodes(kernel: Kernel) -> Iterator[int]:
    table = kernel.symbols.lookup("node_data")
    if table is None:
        yield kernel.symbol("contig_page_data")
        return
    count = min(_count_nodes(kernel), _MAX_NODES)
    yield from kernel.image.integers(table, count, kernel.word_size).tolist()


def _count_nodes(kernel: Kernel) -> int:
    """How many nodes the machine can have; without CONFIG_NUMA that is a constant."""
    ids = kernel.symbols.lookup("nr_node_ids")
    return kernel.image.integer(ids, 4) if ids is not None else 1


def want_pids(crawl: Crawl) -> None:
    """Want the tree that leads from a number to its task (kernel/pid.c, ``init_pid_ns``)."""
    kernel = crawl.kernel
    structs = kernel.structs("pid_namespace", "idr", "xarray", "xa_node")
    place = kernel.symbol("init_pid_ns") + structs["pid_namespace"].offset("idr")
    place += structs["idr"].offset("idr_rt") + structs["xarray"].offset("xa_head")
    node = structs["xa_node"]
    slots = node.offset("slots")
    count = (node.offset("tags" if "tags" in node.offsets else "marks") - slots) // kernel.word_size
    todo, found = [kernel.image.pointer(place)], list[int]()
    while todo and len(found) < _MAX_XA_NODES:
        entry = todo.pop()
        if entry & 3 == _XA_INTERNAL and entry > _XA_MIN:
            found.append(entry - _XA_INTERNAL)
            with suppress(VmcorefsError):
                todo += kernel.virtual.integers(found[-1] + slots, count, kernel.word_size).tolist()
    crawl.mark(found, node.size)
