"""How architectures encode their page tables, as data for ``core.paging.walk``.

What counts is what the CPU does with an entry, not the kernel's ``pte_present``: entries that the
kernel keeps with the valid bit clear (PROT_NONE, swap, ``set_memory_np``) map nothing.
"""

from __future__ import annotations

from enum import IntFlag

import msgspec

from vmcorefs.errors import UnsupportedError


class Access(IntFlag):
    """What a mapping allows; the same bits for every architecture."""

    WRITABLE = 1
    EXECUTABLE = 2
    """By the kernel: on arm64 that is PXN, not UXN."""
    USER = 4
    """User mode may access it."""
    GLOBAL = 8
    """It is the same in every address space, so it stays in the TLB when that changes."""


ALL_ACCESS = Access.WRITABLE | Access.EXECUTABLE | Access.USER | Access.GLOBAL


class Rule(msgspec.Struct, frozen=True):
    """An entry denies ``access`` if its bits under ``mask`` are ``value``."""

    access: Access
    mask: int
    value: int


class PageTableFormat(msgspec.Struct, frozen=True):
    """A page-table format.

    Attributes:
        name: For messages, such as ``x86-64, 5 levels``.
        page_shift: log2 of the page size.
        level_bits: Bits of the virtual address that index each level, root first.
        address: The parts of an entry's output address: ``(mask, shift to the left)`` each.
        leaf_mask: Distinguishes, above the last level, an entry that maps memory from one that
            names a table.
        leaf_value: True if a leaf has any bit of ``leaf_mask`` set, False if it has none set.
        page_mask: An entry of the last level must have a bit of this set.
        in_use: ``(mask, value)`` of the bits by which an entry is in use: bit 0 is set
            (``_PAGE_PRESENT``, ``PTE_VALID`` in asm/pgtable*.h of x86, arm64 and riscv), if nothing
            else is said.
        page_in_use: The same in the last level, where that differs.
        table_address: As ``address``, in an entry that names a table, where that differs.
        large_shifts: log2 of the sizes that a leaf above the last level may have.
        large_ignored: Bits of ``address`` that mean something else in such a leaf.
        reserved: ``(mask, value)``: a leaf with these bits is invalid; ``None`` if there are none.
        leaf_rules: What a leaf denies; it allows everything else.
        table_rules: What an entry that names a table denies to everything below it.
        base: What the root's first entry maps, as a negative address, where the root is the
            kernel's alone, as arm64's TTBR1; None if its upper half is the kernel's.
        big_endian: Its entries are so even where the kernel is not, as Power ISA's radix trees.
        napot: riscv's Svnapot: a 64 KiB page is sixteen equal entries of the last level.
    """

    name: str
    page_shift: int
    level_bits: tuple[int, ...]
    address: tuple[tuple[int, int], ...]
    leaf_mask: int
    leaf_value: bool
    page_mask: int
    large_shifts: frozenset[int]
    leaf_rules: tuple[Rule, ...]
    table_rules: tuple[Rule, ...] = ()
    large_ignored: int = 0
    reserved: tuple[int, int] | None = None
    base: int | None = None
    big_endian: bool = False
    in_use: tuple[int, int] = (1, 1)
    page_in_use: tuple[int, int] | None = None
    table_address: tuple[tuple[int, int], ...] | None = None
    napot: bool = False

    @property
    def levels(self) -> int:
        """Number of levels."""
        return len(self.level_bits)

    @property
    def kernel_entry(self) -> int:
        """The root's first entry for the kernel."""
        return self.entries(0) // 2 if self.base is None else 0

    @property
    def kernel_start(self) -> int:
        """What that entry maps, as a negative address."""
        return -1 << (self.shift(0) + self.level_bits[0] - 1) if self.base is None else self.base

    def entries(self, level: int) -> int:
        """Entries in a table of ``level`` (0: root); each has eight bytes."""
        return 1 << self.level_bits[level]

    def use(self, level: int) -> tuple[int, int]:
        """``(mask, value)`` of the bits by which an entry of ``level`` (0: root) is in use."""
        is_last = level == self.levels - 1
        return self.page_in_use if is_last and self.page_in_use is not None else self.in_use

    def shift(self, level: int) -> int:
        """log2 of the bytes that one entry of ``level`` (0: root) spans."""
        return self.page_shift + sum(self.level_bits[level + 1 :])


def _bits(high: int, low: int) -> int:
    """The kernel's ``GENMASK_ULL``."""
    return (1 << (high + 1)) - (1 << low)


# arch/x86/include/asm/pgtable_types.h; every level must allow an access
_X86_RULES = (
    Rule(Access.WRITABLE, 1 << 1, 0),
    Rule(Access.USER, 1 << 2, 0),
    Rule(Access.EXECUTABLE, 1 << 63, 1 << 63),
)


def x86_64(*, levels: int, sme_mask: int = 0) -> PageTableFormat:
    """The format of x86-64.

    Args:
        levels: 4 or 5.
        sme_mask: The bit that marks an encrypted page and is not part of its address: AMD's C-bit,
            as in ``NUMBER(sme_mask)``.
    """
    if levels not in (4, 5):
        raise UnsupportedError(f"x86-64 page tables of {levels} levels, expected 4 or 5")
    return PageTableFormat(
        name=f"x86-64, {levels} levels",
        page_shift=12,
        level_bits=(9,) * levels,
        address=((_bits(51, 12) & ~sme_mask, 0),),
        leaf_mask=1 << 7,  # _PAGE_PSE; in the last level it is _PAGE_PAT, but is not tested there
        leaf_value=True,
        page_mask=1,  # _PAGE_PRESENT
        large_shifts=frozenset({21, 30}),
        large_ignored=1 << 12,  # _PAGE_PAT_LARGE
        leaf_rules=(*_X86_RULES, Rule(Access.GLOBAL, 1 << 8, 0)),
        table_rules=_X86_RULES,
    )


_ARM64_LARGE = {12: frozenset({21, 30}), 14: frozenset({25}), 16: frozenset({29})}
_ARM64_RDONLY, _ARM64_DBM = 1 << 7, 1 << 51


def arm64(*, page_size: int, va_bits: int) -> PageTableFormat:
    """The format of arm64's TTBR1, the kernel's half.

    Addresses of 52 bits: 64 KiB pages keep bits 51:48 in bits 15:12 (FEAT_LPA), which are zero
    where they are not used; smaller pages keep bits 51:50 in bits 9:8 (FEAT_LPA2), which otherwise
    hold the shareability. The kernel turns FEAT_LPA2 on together with 52-bit virtual addresses
    (arch/arm64/Kconfig, ``ARM64_PA_BITS_52``), so ``va_bits`` decides.

    Args:
        page_size: The granule in bytes: 4096, 16384 or 65536.
        va_bits: Bits of virtual addresses that the root covers.
    """
    page_shift = page_size.bit_length() - 1
    if page_size != 1 << page_shift or page_shift not in _ARM64_LARGE:
        raise UnsupportedError(f"arm64 pages of {page_size} bytes, expected 4, 16 or 64 KiB")
    if not 36 <= va_bits <= 52:
        raise UnsupportedError(f"arm64 virtual addresses of {va_bits} bits, expected 36 to 52")
    full, root = divmod(va_bits - page_shift, page_shift - 3)
    address: tuple[tuple[int, int], ...] = ((_bits(47, page_shift), 0),)
    if page_shift == 16:
        address = (*address, (_bits(15, 12), 36))
    elif va_bits == 52:
        address = ((_bits(49, page_shift), 0), (_bits(9, 8), 42))
    return PageTableFormat(
        name=f"arm64, {page_size >> 10} KiB pages, {va_bits} bits",
        page_shift=page_shift,
        level_bits=(*((root,) if root else ()), *(page_shift - 3,) * full),
        address=address,
        leaf_mask=1 << 1,  # PTE_TABLE_BIT (asm/pgtable-hwdef.h): clear in a block ...
        leaf_value=False,
        page_mask=1 << 1,  # ... and set in a page
        large_shifts=_ARM64_LARGE[page_shift],
        large_ignored=1 << 16,  # nT (FEAT_BBM)
        leaf_rules=(
            # PTE_WRITE is DBM: the CPU clears PTE_RDONLY at the first write
            Rule(Access.WRITABLE, _ARM64_RDONLY | _ARM64_DBM, _ARM64_RDONLY),
            Rule(Access.EXECUTABLE, 1 << 53, 1 << 53),  # PTE_PXN
            Rule(Access.USER, 1 << 6, 0),
            Rule(Access.GLOBAL, 1 << 11, 1 << 11),  # PTE_NG
        ),
        table_rules=(
            Rule(Access.EXECUTABLE, 1 << 59, 1 << 59),  # PXNTable: the direct map is under it
            Rule(Access.USER, 1 << 61, 1 << 61),  # APTable
            Rule(Access.WRITABLE, 1 << 62, 1 << 62),
        ),
        base=-1 << va_bits,
    )


_RISCV_LEVELS = {39: 3, 48: 4, 57: 5}


def riscv64(*, va_bits: int) -> PageTableFormat:
    """The format of riscv64.

    Args:
        va_bits: 39, 48 or 57: Sv39, Sv48 or Sv57.
    """
    levels = _RISCV_LEVELS.get(va_bits)
    if levels is None:
        raise UnsupportedError(f"riscv64 virtual addresses of {va_bits} bits, expected 39, 48, 57")
    return PageTableFormat(
        name=f"riscv64, Sv{va_bits}",
        page_shift=12,
        level_bits=(9,) * levels,
        address=((_bits(53, 10), 2),),
        leaf_mask=0b1110,  # _PAGE_LEAF: any of read, write, execute (asm/pgtable-bits.h)
        leaf_value=True,
        page_mask=0b1110,
        large_shifts=frozenset(12 + 9 * above for above in range(1, levels)),
        reserved=(0b0110, 0b0100),  # write without read
        leaf_rules=(
            Rule(Access.WRITABLE, 1 << 2, 0),
            Rule(Access.EXECUTABLE, 1 << 3, 0),
            Rule(Access.USER, 1 << 4, 0),
            Rule(Access.GLOBAL, 1 << 5, 0),
        ),
        napot=True,
    )


_S390X_RULES = (Rule(Access.WRITABLE, 1 << 9, 1 << 9), Rule(Access.EXECUTABLE, 1 << 8, 1 << 8))


def s390x(*, levels: int) -> PageTableFormat:
    """The format of s390x's DAT tables: regions, segments and pages.

    See z/Architecture Principles of Operation, chapter 3, Dynamic Address Translation, and
    arch/s390/include/asm/pgtable.h. The kernel has an address space of its own.

    Args:
        levels: 3 or 4: the root is a region-third or a region-second table.
    """
    if levels not in (3, 4):
        raise UnsupportedError(f"s390x page tables of {levels} levels, expected 3 or 4")
    large = 1 << 10  # _REGION3_ENTRY_LARGE, _SEGMENT_ENTRY_LARGE
    return PageTableFormat(
        name=f"s390x, {levels} levels",
        page_shift=12,
        level_bits=(*(11,) * (levels - 1), 8),
        address=((_bits(62, 12), 0),),
        leaf_mask=large,
        leaf_value=True,
        page_mask=1,  # _PAGE_PRESENT, the kernel's own: a page of zeros is no table
        large_shifts=frozenset({20, 31}),
        large_ignored=_bits(30, 12),  # access-control bits, and the rest of the size
        leaf_rules=(*_S390X_RULES, Rule(Access.USER, 0, 0)),
        table_rules=_S390X_RULES,
        base=0,
        big_endian=True,
        in_use=(1 << 5, 0),  # _REGION_ENTRY_INVALID, _SEGMENT_ENTRY_INVALID
        page_in_use=(1 << 10, 0),  # _PAGE_INVALID
        table_address=((_bits(62, 11), 0),),  # a page table takes half a page
    )


def ppc64_radix(*, page_size: int) -> PageTableFormat:
    """The format of ppc64's radix trees, in the kernel's quadrant of the effective addresses.

    See Power ISA 3.0B, book III, 5.7.10, and arch/powerpc/include/asm/book3s/64/radix*.h. The sizes
    of the tables stand in the entries too (NLS), but Linux has the same everywhere.

    Args:
        page_size: 4096 or 65536.
    """
    last = {1 << 12: 9, 1 << 16: 5}.get(page_size)
    if last is None:
        raise UnsupportedError(f"ppc64 pages of {page_size} bytes, expected 4 or 64 KiB")
    leaf = 1 << 62  # _PAGE_PTE
    return PageTableFormat(
        name=f"ppc64 radix, {page_size >> 10} KiB pages",
        page_shift=page_size.bit_length() - 1,
        level_bits=(13, 9, 9, last),
        address=((_bits(56, 12), 0),),
        leaf_mask=leaf,
        leaf_value=True,
        page_mask=leaf,
        large_shifts=frozenset({21, 30}),
        leaf_rules=(
            Rule(Access.WRITABLE, 1 << 1, 0),  # _PAGE_WRITE
            Rule(Access.EXECUTABLE, 1 << 0, 0),  # _PAGE_EXEC
            Rule(Access.USER, 1 << 3, 1 << 3),  # _PAGE_PRIVILEGED
        ),
        base=-1 << 62,  # 0xc000000000000000
        big_endian=True,
        in_use=(1 << 63, 1 << 63),  # _PAGE_PRESENT
        table_address=((_bits(59, 8), 0),),
    )
