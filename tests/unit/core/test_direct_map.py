"""The direct map, and the kernel's image, told from runs written by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vmcorefs.core.direct_map import directly_mapped, find_direct_map, is_contiguous
from vmcorefs.core.paging_formats import x86_64
from vmcorefs.core.paging_mappings import Aliases, Mappings

TEXT, DIRECT = 0xFFFFFFFF81000000, 0xFFFF888000000000
MIB = 1 << 20
ROOT = 18 * MIB


def mappings(*runs: tuple[int, int, int], root: int = ROOT) -> Mappings:
    """``(vaddr, paddr, size)`` runs, sorted."""
    vaddr, paddr, size = np.array(runs, dtype=np.uint64).reshape(-1, 3).T.view(np.int64)
    nothing = np.empty(0, dtype=np.int64)
    flags = np.zeros(len(runs), dtype=np.uint8)
    aliases = Aliases(nothing, nothing, nothing)
    return Mappings(x86_64(levels=4), root, vaddr, paddr, size, flags, aliases, (), 1)


KERNEL = mappings(
    (DIRECT + 0x1000, 0x1000, 0x9E000),
    (DIRECT + MIB, MIB, 63 * MIB),
    (0xFFFFC90000000000, 40 * MIB, 0x4000),
    (TEXT, 16 * MIB, 8 * MIB),
)


def test_the_direct_map_is_where_most_is_seen_at_the_distance_of_the_root() -> None:
    assert find_direct_map(KERNEL) == DIRECT
    assert directly_mapped(KERNEL, DIRECT).tolist() == [[0x1000, 0x9F000], [MIB, 64 * MIB]]
    assert directly_mapped(KERNEL, 1).tolist() == []


def test_vmalloc_space_is_no_direct_map_however_large() -> None:
    huge = (0xFFFFC90000000000, 1 << 40, 1 << 40)
    assert find_direct_map(mappings((DIRECT + MIB, MIB, 63 * MIB), huge)) == DIRECT


@pytest.mark.parametrize("runs", [(), ((DIRECT, 0, MIB),)])
def test_there_is_none_where_nothing_shows_the_root(runs: tuple[tuple[int, int, int], ...]) -> None:
    assert find_direct_map(mappings(*runs)) is None


def test_the_edges_of_a_run() -> None:
    assert find_direct_map(mappings((DIRECT + ROOT, ROOT, 0x1000))) == DIRECT
    assert find_direct_map(mappings((DIRECT + ROOT - 0x1000, ROOT - 0x1000, 0x1000))) is None


def test_an_image_is_one_run_of_memory() -> None:
    assert is_contiguous(KERNEL, TEXT, 8 * MIB)
    assert is_contiguous(KERNEL, TEXT + 0x1000, 1)
    assert not is_contiguous(KERNEL, TEXT, 8 * MIB + 1)
    assert not is_contiguous(KERNEL, TEXT, 0)
    assert not is_contiguous(KERNEL, TEXT, -5)
    assert not is_contiguous(KERNEL, TEXT - 0x1000, 0x2000)


def test_an_image_of_pages_with_different_access_is_contiguous_all_the_same() -> None:
    image = mappings((TEXT, MIB, MIB), (TEXT + MIB, 2 * MIB, MIB), (TEXT + 2 * MIB, 0, MIB))
    assert is_contiguous(image, TEXT, 2 * MIB)
    assert not is_contiguous(image, TEXT, 3 * MIB)


def test_an_image_that_does_not_start_at_a_page() -> None:
    image = mappings((TEXT, MIB, 0x2000))
    assert is_contiguous(image, TEXT + 0x800, 0x1800)
    assert not is_contiguous(image, TEXT + 0x800, 0x1801)


@pytest.mark.parametrize("size", [1 << 40, 1 << 63, (1 << 64) - 1])
def test_an_absurd_size_costs_nothing(size: int) -> None:
    """_end and _text come from the image: their distance is what it likes."""
    assert not is_contiguous(KERNEL, TEXT, size)
