"""Run by the tests as ``kdumpfile_pages.py DUMP MEMORY``: each page that libkdumpfile has.

MEMORY is a file of the true memory, by physical address. Debian's Python runs this, as it does
``kdumpfile_report.py``.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import kdumpfile

_PAGE = 4096
_BLOCK = 4 << 20  # a makedumpfile that keeps free pages has hundreds of thousands to compare


def report(dump: str, memory: str) -> dict[str, Any]:
    """How many pages it has, the SHA-256 of all, and how many are not the true ones."""
    opened = kdumpfile.kdumpfile(dump)
    pages, different, digest = 0, 0, hashlib.sha256()
    with Path(memory).open("rb", buffering=_BLOCK) as truth:
        for paddr in range(0, int(opened.attr["max_pfn"]) * _PAGE, _PAGE):
            try:
                page = bytes(opened.read(kdumpfile.KDUMP_MACHPHYSADDR, paddr, _PAGE))
            except kdumpfile.exceptions.NoDataException:
                continue
            pages += 1
            digest.update(page)
            truth.seek(paddr)
            different += page != truth.read(_PAGE)
    return {"pages": pages, "different": different, "sha256": digest.hexdigest()}


if __name__ == "__main__":
    print(json.dumps(report(sys.argv[1], sys.argv[2])))  # noqa: T201
