"""numpy without its linear algebra.

numpy's wheels link OpenBLAS: 28 MiB on disk, which in an initramfs is memory, for functions that
vmcorefs never calls. Two extensions name it as a library that they need; the functions themselves
are looked up when they are first called. So in a copy of them the name is taken off the list. A
call would then end the process with a message: numpy makes one, when it is loaded, to see whether
its BLAS is a good one, and that is left out of the copy too.
"""

from __future__ import annotations

import ast
import io
import os
import re
from pathlib import Path
from typing import Literal

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile

ByteOrder = Literal["little", "big"]
_BLAS = re.compile(r"lib(scipy_)?(openblas|blas|cblas|lapack|gfortran|quadmath)[-_.0-9a-z]*\.so.*")
_IGNORED_TAG = 0x6FFFF000
"""DT_HIOS: a tag for operating systems, of no meaning to ld.so (elf/get-dynamic-info.h)."""


def is_blas(path: str) -> bool:
    """Whether a library is a BLAS or LAPACK, or the Fortran that comes with them."""
    return _BLAS.fullmatch(os.path.basename(path)) is not None


def drop_blas(path: str) -> bool:
    """Take BLAS off the list of libraries that the extension ``path`` needs, in place.

    Returns:
        Whether it was on it.
    """
    data = bytearray(Path(path).read_bytes())
    places = _needed_blas(bytes(data))
    for offset, size, byte_order in places:
        data[offset : offset + size] = _IGNORED_TAG.to_bytes(size, byte_order)
    if places:
        Path(path).write_bytes(data)
    return bool(places)


def _needed_blas(data: bytes) -> list[tuple[int, int, ByteOrder]]:
    """Where the tags of such entries stand: file offset and size in bytes, and byte order."""
    try:
        elf = ELFFile(io.BytesIO(data))
        dynamic = elf.get_section_by_name(".dynamic")
        if not isinstance(dynamic, DynamicSection):
            return []
        order: ByteOrder = "little" if elf.little_endian else "big"
        return [
            (dynamic.header.sh_offset + index * dynamic.header.sh_entsize, elf.elfclass // 8, order)
            for index, tag in enumerate(dynamic.iter_tags())
            if tag.entry.d_tag == "DT_NEEDED" and is_blas(str(getattr(tag, "needed", "")))
        ]
    except ELFError:
        return []


def without_sanity_check(tree: ast.Module) -> ast.Module:
    """``numpy/__init__.py`` without the call that tries its BLAS (``_sanity_check``)."""

    class _Dropper(ast.NodeTransformer):
        def visit_Expr(self, node: ast.Expr) -> ast.AST | None:  # ast's
            call = node.value
            if (
                isinstance(call, ast.Call)
                and isinstance(call.func, ast.Name)
                and call.func.id == "_sanity_check"
            ):
                return ast.copy_location(ast.Pass(), node)
            return node

    _Dropper().visit(tree)
    return tree
