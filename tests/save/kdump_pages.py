"""Run by the tests as ``kdump_pages.py DUMP MEMORY``: which pages libkdumpfile reads, and how.

Debian's Python runs it: its package python3-libkdumpfile is for that one alone.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import kdumpfile

PAGE = 4096


def judge(dump: str, memory: bytes) -> dict[str, Any]:
    """Read each page of ``memory`` from ``dump``: right, wrong, or an error."""
    try:
        opened = kdumpfile.kdumpfile(dump)
    except kdumpfile.exceptions.KDumpBaseException as error:
        return {"opened": False, "error": str(error)}
    found = Counter(_judge_page(opened, memory, paddr) for paddr in range(0, len(memory), PAGE))
    return {"opened": True, **found}


def _judge_page(opened: Any, memory: bytes, paddr: int) -> str:
    try:
        page = bytes(opened.read(kdumpfile.KDUMP_MACHPHYSADDR, paddr, PAGE))
    except kdumpfile.exceptions.KDumpBaseException:
        return "error"
    return "right" if page == memory[paddr : paddr + PAGE] else "wrong"


if __name__ == "__main__":
    print(json.dumps(judge(sys.argv[1], Path(sys.argv[2]).read_bytes())))  # noqa: T201
