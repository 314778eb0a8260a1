"""The texts: VMCOREINFO, the memory map and the log."""

from __future__ import annotations

from collections.abc import Iterator

from vmcorefs.core.maps.iomem import iomem_size
from vmcorefs.core.maps.memory_map import format_iomem
from vmcorefs.image import MemoryImage
from vmcorefs.tree.file import TreeFile, text_file


def text_files(image: MemoryImage) -> Iterator[TreeFile]:
    """``iomem``, and what the crashed kernel left of ``vmcoreinfo`` and ``dmesg``."""
    memory_map = image.memory_map
    yield text_file(
        "iomem",
        lambda: format_iomem(memory_map).encode(),
        lambda: iomem_size(memory_map.regions),
    )
    vmcoreinfo = image.notes.vmcoreinfo
    if vmcoreinfo is not None:
        yield text_file("vmcoreinfo", lambda: vmcoreinfo.text)
    log = image.log
    if log is not None:
        yield text_file("dmesg", lambda: log)
