"""Run by the tests as ``leechcore_report.py DUMP PADDR...``: what LeechCore sees in a dump."""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

import leechcorepyc


def report(dump: str, paddrs: list[int]) -> dict[str, Any]:
    """Open it as MemProcFS does (``-device FILE``), and read pages."""
    try:
        device = leechcorepyc.LeechCore(f"file://{dump}")
    except (TypeError, RuntimeError) as error:
        return {"opened": False, "error": str(error)}
    # what it cannot read is not among what it returns
    found = {page["addr"]: page["data"] for page in device.read_scatter(paddrs)}
    pages = {
        str(paddr): hashlib.sha256(found[paddr]).hexdigest() if paddr in found else None
        for paddr in paddrs
    }
    ranges = [[entry["base"], entry["base"] + entry["size"]] for entry in device.memmap]
    device.close()
    return {"opened": True, "ranges": ranges, "pages": pages}


if __name__ == "__main__":
    print(json.dumps(report(sys.argv[1], [int(word) for word in sys.argv[2:]])))  # noqa: T201
