"""Run by the tests as ``volatility_report.py DUMP PADDR...``: what volatility3 sees in a dump."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from volatility3.framework import contexts, exceptions, interfaces
from volatility3.framework.layers.elf import Elf64Stacker
from volatility3.framework.layers.physical import FileLayer
from volatility3.framework.symbols.linux import VMCoreInfo
from volatility3.plugins.banners import Banners


def report(dump: str, paddrs: list[int]) -> dict[str, Any]:
    """Stack the ELF layer as its automagic does, and look at it as its plugins do."""
    context = contexts.Context()
    context.config["file.location"] = Path(dump).as_uri()
    context.add_layer(FileLayer(context, "file", "file"))
    layer = Elf64Stacker.stack(context, "file")
    if layer is None:
        return {"opened": False}
    context.add_layer(layer)
    banners = [text for _, text in Banners.locate_banners(context, layer.name)]
    notes = VMCoreInfo.search_vmcoreinfo_elf_note(context=context, layer_name=layer.name)
    return {
        "opened": True,
        "minimum": layer.minimum_address,
        "maximum": layer.maximum_address,
        "banners": sorted({str(banner) for banner in banners}),
        "releases": sorted({str(info.get("OSRELEASE")) for _, info in notes}),
        "pages": {str(paddr): _page(layer, paddr) for paddr in paddrs},
    }


def _page(layer: interfaces.layers.DataLayerInterface, paddr: int) -> str | None:
    try:
        return hashlib.sha256(layer.read(paddr, 4096)).hexdigest()
    except exceptions.InvalidAddressException:
        return None


if __name__ == "__main__":
    print(json.dumps(report(sys.argv[1], [int(word) for word in sys.argv[2:]])))  # noqa: T201
