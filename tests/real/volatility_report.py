"""Run by the tests as ``volatility_report.py DUMP [PADDR...]``: what volatility3 sees in a dump.

With ``scan`` in place of an address it looks for banners and VMCOREINFO, some seconds for a GiB.
With ``walk=ROOT,VADDR`` it follows the page tables from ROOT on, as it does for Linux.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from volatility3.framework import contexts, exceptions, interfaces
from volatility3.framework.layers.elf import Elf64Stacker
from volatility3.framework.layers.intel import LinuxIntel32e
from volatility3.framework.layers.physical import FileLayer
from volatility3.framework.symbols.linux import VMCoreInfo
from volatility3.plugins.banners import Banners


def report(dump: str, paddrs: list[int], walk: list[int], *, scan: bool) -> dict[str, Any]:
    """Stack the ELF layer as its automagic does, and look at it as its plugins do."""
    context = contexts.Context()
    context.config["file.location"] = Path(dump).as_uri()
    context.add_layer(FileLayer(context, "file", "file"))
    layer = Elf64Stacker.stack(context, "file")
    if layer is None:
        return {"opened": False}
    context.add_layer(layer)
    found = _walk(context, layer.name, *walk) if walk else None
    return {
        "walked": found,
        "opened": True,
        "minimum": layer.minimum_address,
        "maximum": layer.maximum_address,
        "pages": {str(paddr): _page(layer, paddr) for paddr in paddrs},
    } | (_scan(context, layer.name) if scan else {})


def _scan(context: interfaces.context.ContextInterface, name: str) -> dict[str, Any]:
    notes = VMCoreInfo.search_vmcoreinfo_elf_note(context=context, layer_name=name)
    return {
        "banners": sorted({str(text) for _, text in Banners.locate_banners(context, name)}),
        "releases": sorted({str(info.get("OSRELEASE")) for _, info in notes}),
    }


def _walk(
    context: interfaces.context.ContextInterface, name: str, root: int, vaddr: int
) -> int | None:
    context.config["walk.memory_layer"] = name
    context.config["walk.page_map_offset"] = root
    try:
        paddr, _ = LinuxIntel32e(context, "walk", "walk").translate(vaddr)
    except exceptions.InvalidAddressException:
        return None
    return int(paddr)


def _page(layer: interfaces.layers.DataLayerInterface, paddr: int) -> str | None:
    try:
        return hashlib.sha256(layer.read(paddr, 4096)).hexdigest()
    except exceptions.InvalidAddressException:
        return None


if __name__ == "__main__":
    words = sys.argv[2:]
    numbers = [int(word) for word in words if word.isdecimal()]
    walks = [word.removeprefix("walk=") for word in words if word.startswith("walk=")]
    path = [int(number) for walk in walks for number in walk.split(",")]
    print(json.dumps(report(sys.argv[1], numbers, path, scan="scan" in words)))  # noqa: T201
