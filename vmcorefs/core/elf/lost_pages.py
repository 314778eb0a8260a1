"""Program headers without the pages that could not be read, lest a hole be taken for zeros."""

from __future__ import annotations

import numpy as np

from vmcorefs.core.elf.elf import PT_LOAD, PhdrTable
from vmcorefs.core.space.ranges import Ranges, make_ranges, normalise, subtract

_NOWHERE = frozenset({0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF})


def without_lost(phdrs: PhdrTable, lost: Ranges) -> PhdrTable:
    """Take lost memory out of all PT_LOADs.

    Args:
        phdrs: The program headers; if one has a ``p_memsz`` above ``p_filesz``, the last piece of
            it keeps that.
        lost: Physical addresses, a normal set.

    Returns:
        The program headers in the same order. A PT_LOAD that held lost memory is divided, and those
        without a physical address are dropped, as what they show may be lost. No byte moves in the
        file.
    """
    rows: list[np.void] = []
    for phdr in phdrs:
        start, size = int(phdr["p_paddr"]), int(phdr["p_filesz"])
        if phdr["p_type"] != PT_LOAD or not size:
            rows.append(phdr)
        elif start not in _NOWHERE:
            pieces = subtract(make_ranges([(start, start + size)]), lost).tolist()
            rows += [_piece(phdr, first, end) for first, end in pieces]
    return np.array(rows, dtype=phdrs.dtype)


def fit(phdrs: PhdrTable, lost: Ranges, room: int) -> Ranges:
    """The least memory to drop so that ``without_lost`` makes at most ``room`` headers.

    Args:
        phdrs: As for ``without_lost``.
        lost: Physical addresses that are lost, a normal set.
        room: How many program headers there may be; no fewer than in ``phdrs``.

    Returns:
        ``lost`` with the shortest gaps between its ranges closed.
    """
    while len(lost) > 1 and (excess := len(without_lost(phdrs, lost)) - room) > 0:
        gaps = lost[1:, 0] - lost[:-1, 1]
        shortest = np.argsort(gaps, kind="stable")[:excess]
        closed = np.stack((lost[shortest, 1], lost[shortest + 1, 0]), axis=1)
        lost = normalise(np.concatenate((lost, closed)))
    return lost


def _piece(phdr: np.void, start: int, end: int) -> np.void:
    inside = start - int(phdr["p_paddr"])
    piece = phdr.copy()
    piece["p_paddr"], piece["p_offset"] = start, int(phdr["p_offset"]) + inside
    vaddr = int(phdr["p_vaddr"])
    piece["p_vaddr"] = vaddr if not vaddr or vaddr in _NOWHERE else (vaddr + inside) % (1 << 64)
    size = end - start
    is_last = inside + size == int(phdr["p_filesz"])
    piece["p_filesz"] = size
    piece["p_memsz"] = size + (int(phdr["p_memsz"] - phdr["p_filesz"]) if is_last else 0)
    return piece
