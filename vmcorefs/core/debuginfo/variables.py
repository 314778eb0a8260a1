"""Global variables that BTF does not describe, as the kernel declares them.

BTF has per-CPU variables alone. Those here are looked up by name by crash, drgn's helpers,
volatility3 or gdb's lx- scripts. A type or a symbol that a kernel does not have leaves the variable
out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec
import numpy as np
from msgspec.structs import replace

from vmcorefs.core.structures.btf_table import Kind, TypeTable

VARIABLES: Final[Mapping[str, str]] = {
    # sched, fork
    "init_task": "struct task_struct",
    "init_mm": "struct mm_struct",
    "init_thread_union": "union thread_union",
    "init_files": "struct files_struct",
    "init_fs": "struct fs_struct",
    "runqueues": "struct rq",
    "init_pid_ns": "struct pid_namespace",
    "init_uts_ns": "struct uts_namespace",
    "init_css_set": "struct css_set",
    "root_task_group": "struct task_group",
    # CPUs
    "__per_cpu_offset": "long unsigned int[]",
    "__cpu_possible_mask": "struct cpumask",
    "__cpu_present_mask": "struct cpumask",
    "__cpu_online_mask": "struct cpumask",
    "__cpu_active_mask": "struct cpumask",
    "nr_cpu_ids": "unsigned int",
    "boot_cpu_data": "struct cpuinfo_x86",
    "idt_table": "gate_desc[]",
    "phys_base": "long unsigned int",
    "page_offset_base": "long unsigned int",
    "vmalloc_base": "long unsigned int",
    "vmemmap_base": "long unsigned int",
    # the end
    "crash_notes": "note_buf_t*",
    "panic_cpu": "atomic_t",
    "panic_on_oops": "int",
    "vmcoreinfo_data": "unsigned char*",
    "vmcoreinfo_size": "size_t",
    # log
    "prb": "struct printk_ringbuffer*",
    "printk_rb_static": "struct printk_ringbuffer",
    "log_buf": "char*",
    "log_buf_len": "u32",
    "clear_seq": "struct latched_seq",
    "linux_banner": "char[]",
    "saved_command_line": "char*",
    # time
    "jiffies_64": "u64",
    "jiffies": "long unsigned int",
    "tk_core": "struct tk_data",
    # memory
    "mem_section": "struct mem_section**",
    "node_data": "struct pglist_data*[]",
    "slab_caches": "struct list_head",
    "node_states": "nodemask_t[]",
    "vm_zone_stat": "atomic_long_t[]",
    "vm_node_stat": "atomic_long_t[]",
    "vm_numa_event": "atomic_long_t[]",
    "_totalram_pages": "atomic_long_t",
    "totalreserve_pages": "long unsigned int",
    "max_pfn": "long unsigned int",
    "max_low_pfn": "long unsigned int",
    "min_low_pfn": "long unsigned int",
    "high_memory": "void*",
    "vmap_area_list": "struct list_head",
    "vmap_nodes": "struct vmap_node*",
    "nr_vmap_nodes": "int",
    "swap_info": "struct swap_info_struct*[]",
    "nr_swapfiles": "unsigned int",
    "huge_zero_page": "struct page*",
    "huge_zero_pfn": "long unsigned int",
    "hstates": "struct hstate[]",
    "default_hstate_idx": "unsigned int",
    "shrinker_list": "struct list_head",
    "iomem_resource": "struct resource",
    "ioport_resource": "struct resource",
    # modules
    "modules": "struct list_head",
    "mod_tree": "struct mod_tree_root",
    "module_kset": "struct kset*",
    "taint_flags": "struct taint_flag[]",
    # file systems
    "super_blocks": "struct list_head",
    "file_systems": "struct file_system_type*",
    "mount_hashtable": "struct hlist_head*",
    "m_hash_mask": "unsigned int",
    # devices
    "block_class": "struct class",
    "devices_kset": "struct kset*",
    "chrdevs": "struct char_device_struct*[]",
    "major_names": "struct blk_major_name*[]",
    "tty_drivers": "struct list_head",
    "irq_desc_tree": "struct xarray",
    "sparse_irqs": "struct maple_tree",
    "irq_desc": "struct irq_desc[]",
    "nr_irqs": "unsigned int",
    "softirq_vec": "struct softirq_action[]",
    # net
    "init_net": "struct net",
    "net_namespace_list": "struct list_head",
    # others that are walked
    "workqueues": "struct list_head",
    "cgrp_dfl_root": "struct cgroup_root",
    "cgroup_roots": "struct list_head",
    "prog_idr": "struct idr",
    "map_idr": "struct idr",
    "btf_idr": "struct idr",
    "link_idr": "struct idr",
    "ftrace_ops_list": "struct ftrace_ops*",
    "keyboard_notifier_list": "struct atomic_notifier_head",
    "sys_call_table": "void*[]",
}
"""Name to C type; ``[]`` has as many elements as fit up to the next symbol."""

_DECLARATION: Final = re.compile(r"(?:(struct|union|enum) )?([\w ]+?)(\**)(\[\])?")
_TAGGED: Final = {
    "struct": (Kind.STRUCT,),
    "union": (Kind.UNION,),
    "enum": (Kind.ENUM, Kind.ENUM64),
    None: (Kind.INT, Kind.TYPEDEF),
}
_POINTER_SIZE: Final = 8
_MAX_TYPEDEFS: Final = 16


class _New(msgspec.Struct, frozen=True):
    """A type that is not in BTF: a pointer to another, or an array of ``count`` of them."""

    kind: Kind
    target: int
    count: int = 0


def declare(types: TypeTable, sizes: Mapping[str, int]) -> tuple[TypeTable, dict[str, int]]:
    """Give the variables of ``VARIABLES`` types.

    Args:
        types: The kernel's BTF.
        sizes: Of each symbol, bytes up to the next one.

    Returns:
        The types, with those pointers and arrays that are new, and each variable's row among them.
    """
    added: list[_New] = []
    declared = {
        name: row
        for name, declaration in VARIABLES.items()
        if name in sizes
        for row in _resolve(types, declaration, sizes[name], added)
    }
    return _extend(types, added), declared


def parse(declaration: str) -> tuple[str | None, str, str, str | None]:
    """Take a C type apart: ``struct`` or the like, name, asterisks, ``[]``.

    Raises:
        ValueError: if it is none of those that ``VARIABLES`` may have.
    """
    match = _DECLARATION.fullmatch(declaration)
    if match is None:
        raise ValueError(f"{declaration!r} is no declaration")
    return match[1], match[2], match[3], match[4]


def _resolve(types: TypeTable, declaration: str, size: int, added: list[_New]) -> Iterator[int]:
    """The row of a C type, or nothing if BTF lacks it."""
    tag, name, stars, array = parse(declaration)
    row: int | None = 0 if name == "void" else types.find(name, *_TAGGED[tag])
    if row is None:
        return
    element = _POINTER_SIZE if stars else _size_of(types, row)
    for _ in stars:
        row = _add(types, added, _New(Kind.PTR, row))
    if array is not None:
        if not element:
            return
        row = _add(types, added, _New(Kind.ARRAY, row, size // element))
    yield row


def _size_of(types: TypeTable, row: int) -> int:
    for _ in range(_MAX_TYPEDEFS):
        if types.kind[row] != Kind.TYPEDEF:
            break
        row = int(types.target[row])
    sized = types.kind[row] in (Kind.INT, Kind.STRUCT, Kind.UNION)
    return int(types.target[row]) if sized else 0


def _add(types: TypeTable, added: list[_New], new: _New) -> int:
    if new not in added:
        added.append(new)
    return len(types) + added.index(new)


def _extend(types: TypeTable, added: list[_New]) -> TypeTable:
    index = types.of_kind(Kind.INT)[:1].tolist() or [0]  # nobody reads it
    words = [word for new in added for word in (new.target, *index, new.count)]
    none = np.zeros(len(added), dtype=np.int64)
    return replace(
        types,
        kind=np.append(types.kind, np.array([new.kind for new in added], dtype=np.uint8)),
        name=np.append(types.name, none),
        count=np.append(types.count, none),
        flag=np.append(types.flag, none > 0),
        target=np.append(types.target, [new.target for new in added]).astype(np.int64),
        place=np.append(types.place, len(types.words) + 3 * np.arange(len(added))),
        words=np.append(types.words, words).astype(np.int64),
    )
