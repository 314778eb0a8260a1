"""``iomem_resource``: the kernel's own tree of physical ranges, which /proc/iomem prints.

A node is a ``struct resource`` (include/linux/ioport.h) with pointers to its first child and its
next sibling. Its layout comes from BTF, or else is that of every 64-bit kernel since 4.6.
"""

from __future__ import annotations

from vmcorefs.core.elf.vmcoreinfo import MAX_STRUCT
from vmcorefs.core.maps.memory_map import MemoryMap, make_memory_map
from vmcorefs.core.maps.regions import Region
from vmcorefs.core.space.units import MAX_ADDRESS, counted
from vmcorefs.core.structures.kallsyms import UNPRINTABLE
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.core.structures.types.btf import Struct
from vmcorefs.errors import FormatError

MAX_RESOURCES = 1 << 16
"""Most nodes accepted; large servers have some thousands."""

_MAX_DEPTH = 64
_MAX_NAME = 256

RESOURCE = Struct(
    "resource",
    64,
    {"start": 0, "end": 8, "name": 16, "flags": 24, "desc": 32}
    | {"parent": 40, "sibling": 48, "child": 56},
)
"""``struct resource`` of 64-bit kernels."""


def read_resources(
    memory: KernelMemory, root: int, layout: Struct = RESOURCE, dialect: str = "iomem_resource"
) -> MemoryMap:
    """Read the tree below ``iomem_resource`` as the memory map that /proc/iomem would have shown.

    Args:
        memory: The kernel's virtual memory.
        root: Where ``iomem_resource`` is.
        layout: Of a node, from BTF.
        dialect: The ``dialect`` of the map.

    Raises:
        FormatError: if the tree does not end, a name is not printable, or the map contradicts
            itself.
        VmcorefsError: whatever ``memory.read`` raises.
    """
    if not 0 < layout.size < MAX_STRUCT:
        raise FormatError(f"BTF: struct resource has {layout.size} bytes")
    regions: list[Region] = []
    following = [memory.pointer(root + layout.offset("child"))]
    seen = {root}
    while following:
        node = following[-1]
        if not node:
            following.pop()
            continue
        if node in seen or len(seen) > MAX_RESOURCES or len(following) > _MAX_DEPTH:
            raise FormatError(
                f"iomem_resource: not a tree: {node:#x} after {counted(len(seen), 'node')}"
            )
        seen.add(node)
        stored = memory.read(node, layout.size)
        regions.append(_region(memory, stored, layout, len(following) - 1))
        following[-1] = _field(memory, stored, layout, "sibling")
        following.append(_field(memory, stored, layout, "child"))
    return make_memory_map(regions, dialect)


def read_span(memory: KernelMemory, vaddr: int, layout: Struct = RESOURCE) -> tuple[int, int]:
    """The half-open range of one node, such as ``crashk_res``; empty if it is not in use.

    Raises:
        FormatError: if no memory can be there.
        VmcorefsError: whatever ``memory.read`` raises.
    """
    stored = memory.read(vaddr, layout.size)
    start, end = (_field(memory, stored, layout, name) for name in ("start", "end"))
    if end <= start:
        return 0, 0
    if end >= MAX_ADDRESS:
        raise FormatError(f"the resource at {vaddr:#x}: {start:#x} to {end:#x} ends beyond memory")
    return start, end + 1


def _region(memory: KernelMemory, stored: bytes, layout: Struct, depth: int) -> Region:
    start, end, at = (_field(memory, stored, layout, name) for name in ("start", "end", "name"))
    name = memory.string(at, _MAX_NAME) if at else b"<BAD>"  # as r_show does
    if name.translate(None, UNPRINTABLE.replace(b" ", b"")) != name:
        raise FormatError(f"iomem_resource: a name is {name[:16]!r}")
    return Region(start, end + 1, name.decode("utf-8", "replace"), depth)


def _field(memory: KernelMemory, stored: bytes, layout: Struct, name: str) -> int:
    at = layout.offset(name)
    return memory.decode(stored[at : at + memory.word_size])
