"""Run by the tests as ``kdumpfile_report.py DUMP PADDR...``: what libkdumpfile sees in a dump.

Debian's Python runs it: its package python3-libkdumpfile is for that one alone.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

import kdumpfile


def report(dump: str, paddrs: list[int]) -> dict[str, Any]:
    """Open it, read pages by physical address, and one word through the page tables."""
    try:
        opened = kdumpfile.kdumpfile(dump)
    except kdumpfile.exceptions.KDumpBaseException as error:
        return {"opened": False, "error": str(error)}
    pages = {str(paddr): _page(opened, paddr) for paddr in paddrs}
    return {"opened": True, "format": opened.attr["file.format"], "pages": pages} | _kernel(opened)


def _kernel(opened: Any) -> dict[str, Any]:
    try:
        release = str(opened.attr["linux.vmcoreinfo.lines.OSRELEASE"])
        names = int(opened.attr["linux.vmcoreinfo.lines.SYMBOL(init_uts_ns)"], 16)
    except KeyError:
        return {"release": None, "reads_kernel": False}
    try:
        opened.attr["addrxlat.ostype"] = "linux"
        found = release.encode() in bytes(opened.read(kdumpfile.KDUMP_KVADDR, names, 512))
    except kdumpfile.exceptions.KDumpBaseException:
        found = False
    return {"release": release, "reads_kernel": found}


def _page(opened: Any, paddr: int) -> str | None:
    try:
        return hashlib.sha256(opened.read(kdumpfile.KDUMP_MACHPHYSADDR, paddr, 4096)).hexdigest()
    except kdumpfile.exceptions.KDumpBaseException:
        return None


if __name__ == "__main__":
    print(json.dumps(report(sys.argv[1], [int(word) for word in sys.argv[2:]])))  # noqa: T201
