"""Names in the tree of a machine that still runs, whose memory changes while it is read."""

from __future__ import annotations

from vmcorefs.image import MemoryImage

_MEMORY = ("vmcore", "vmcore.kdump", "oldmem", "kcore")


def mounted_name(image: MemoryImage, path: str) -> str:
    """What a file is called in a mounted tree: ``vmcore.live`` if its bytes may change."""
    return f"{path}.live" if image.is_live and path in _MEMORY else path
