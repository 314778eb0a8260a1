"""libaddrxlat, libkdumpfile's page table walker, as an oracle for ours.

Debian's python3-libkdumpfile 0.5.1 cannot be used: a step of its ``addrxlat.Step`` ends in
"'Context' object has no attribute 'next_cb_num_value'" or "... attribute 'cb_get_page' is
read-only", whatever the callbacks. So the C library below it is called itself; the structures are
those of libkdumpfile/addrxlat.h, soname 3 (libkdumpfile 0.5.1 to 0.5.5).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_int,
    c_size_t,
    c_uint,
    c_uint64,
    c_ulong,
    c_ushort,
    c_void_p,
)
from typing import Final

LIBRARY: Final = "libaddrxlat.so.3"

AARCH64, X86_64, AARCH64_LPA, AARCH64_LPA2 = 3, 6, 9, 10
"""``addrxlat_pte_format_t``."""

ReadPage = Callable[[int], bytes | None]
"""``read_page(paddr)``: the page that begins at a physical address, or None if there is none."""

_OK, _NOT_PRESENT, _NO_DATA = 0, 2, 5
_KPHYSADDR, _KVADDR = 0, 2
_PGT = 3
_LITTLE_ENDIAN = 1


class _FullAddr(Structure):
    _fields_ = [("addr", c_uint64), ("space", c_int)]


class _Buffer(Structure):
    _fields_ = [
        ("addr", _FullAddr),
        ("ptr", c_void_p),
        ("size", c_size_t),
        ("byte_order", c_int),
        ("put_page", c_void_p),
        ("priv", c_void_p),
    ]


_GetPage = CFUNCTYPE(c_int, c_void_p, POINTER(_Buffer))
_PutPage = CFUNCTYPE(None, c_void_p)
_ReadCaps = CFUNCTYPE(c_ulong, c_void_p)


class _Callbacks(Structure):
    _fields_ = [
        ("next", c_void_p),
        ("priv", c_void_p),
        ("get_page", _GetPage),
        ("read_caps", _ReadCaps),
        *((name, c_void_p) for name in ("reg", "sym", "sizeof", "offsetof", "num")),
    ]


class _PageTableMethod(Structure):
    """``addrxlat_meth_t`` whose parameters are ``addrxlat_param_pgt_t``, the largest of them."""

    _fields_ = [
        ("kind", c_int),
        ("target", c_int),
        ("root", _FullAddr),
        ("mask", c_uint64),
        ("pte_format", c_int),
        ("count", c_ushort),
        ("bits", c_ushort * 8),
    ]


class _Step(Structure):
    _fields_ = [
        ("ctx", c_void_p),
        ("sys", c_void_p),
        ("meth", POINTER(_PageTableMethod)),
        ("remain", c_ushort),
        ("elemsz", c_uint),
        ("base", _FullAddr),
        ("raw", c_uint64),
        ("idx", c_uint64 * 9),
    ]


def kernel_tables(machine: int, vmcoreinfo: bytes, read_page: ReadPage) -> AddrXlat:
    """Set up the translation of a kernel's own addresses, by hand from its VMCOREINFO.

    Args:
        machine: 62 for x86-64, 183 for arm64 with 4 KiB pages and 48 bits or less.
        vmcoreinfo: The note's text.
        read_page: The kernel's memory, 4 KiB at a time.
    """
    told = dict(line.split("=", 1) for line in vmcoreinfo.decode().splitlines() if line)
    swapper = int(told["SYMBOL(swapper_pg_dir)"], 16)
    if machine == 62:
        root = swapper - 0xFFFFFFFF80000000 + int(told["NUMBER(phys_base)"])
        levels = 5 if told["NUMBER(pgtable_l5_enabled)"] == "1" else 4
        return AddrXlat(read_page, root=root, pte_format=X86_64, bits=(12, *(9,) * levels))
    assert machine == 183
    assert told["PAGESIZE"] == "4096"
    root = (swapper - int(told["NUMBER(kimage_voffset)"], 0)) % (1 << 64)
    upper = range(12, int(told["NUMBER(VA_BITS)"]), 9)
    bits = (12, *(min(9, int(told["NUMBER(VA_BITS)"]) - low) for low in upper))
    return AddrXlat(read_page, root=root, pte_format=AARCH64, bits=bits)


class AddrXlat:
    """A walk of page tables in little-endian memory, one address at a time."""

    def __init__(
        self, read_page: ReadPage, *, root: int, pte_format: int, bits: tuple[int, ...]
    ) -> None:
        """Set up a translation.

        Args:
            read_page: The memory that the tables are in.
            root: Physical address of the root table.
            pte_format: ``X86_64`` ...
            bits: Of a virtual address: those of the page offset, then of each level's index, the
                root's last.
        """
        library = ctypes.CDLL(LIBRARY)
        library.addrxlat_ctx_new.restype = c_void_p
        library.addrxlat_ctx_add_cb.restype = POINTER(_Callbacks)
        library.addrxlat_ctx_add_cb.argtypes = [c_void_p]
        library.addrxlat_ctx_decref.argtypes = [c_void_p]
        library.addrxlat_ctx_get_err.argtypes = [c_void_p]
        library.addrxlat_ctx_get_err.restype = ctypes.c_char_p
        library.addrxlat_ctx_clear_err.argtypes = [c_void_p]
        library.addrxlat_launch.argtypes = [POINTER(_Step), c_uint64]
        library.addrxlat_step.argtypes = [POINTER(_Step)]
        self._library = library
        self._read_page = read_page
        self._page_size = 1 << bits[0]
        self._pages: dict[int, ctypes.Array[ctypes.c_char]] = {}
        self._context = library.addrxlat_ctx_new()
        # ctypes keeps no reference to what a structure's function pointers call
        self._kept = (_GetPage(self._get_page), _PutPage(lambda _: None), _ReadCaps(lambda _: 1))
        callbacks = library.addrxlat_ctx_add_cb(self._context).contents
        callbacks.get_page, callbacks.read_caps = self._kept[0], self._kept[2]
        self._method = _PageTableMethod(
            _PGT, _KPHYSADDR, _FullAddr(root, _KPHYSADDR), 0, pte_format, len(bits), bits
        )

    def translate(self, vaddr: int) -> int:
        """The physical address that ``vaddr`` is mapped to, or -1 if it is not mapped."""
        step = _Step(self._context, None, ctypes.pointer(self._method))
        status = self._library.addrxlat_launch(step, vaddr)
        while status == _OK and step.remain:
            status = self._library.addrxlat_step(step)
        if status == _OK:
            return int(step.base.addr)
        said = self._library.addrxlat_ctx_get_err(self._context)
        self._library.addrxlat_ctx_clear_err(self._context)
        assert status in (_NOT_PRESENT, _NO_DATA), (hex(vaddr), status, said)
        return -1

    def _get_page(self, _callbacks: int, buffer: ctypes._Pointer[_Buffer]) -> int:
        wanted = buffer.contents
        paddr = wanted.addr.addr & -self._page_size
        if paddr not in self._pages:
            data = self._read_page(paddr)
            if data is None:
                return _NO_DATA
            self._pages[paddr] = ctypes.create_string_buffer(data, self._page_size)
        wanted.addr.addr = paddr
        wanted.ptr = ctypes.addressof(self._pages[paddr])
        wanted.size = self._page_size
        wanted.byte_order = _LITTLE_ENDIAN
        wanted.put_page = ctypes.cast(self._kept[1], c_void_p)
        return _OK
