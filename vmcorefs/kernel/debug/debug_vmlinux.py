"""The dead kernel's ``vmlinux``, made from its memory: what debuggers ask a debug package for."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import msgspec
from msgspec.structs import replace

from vmcorefs.core.debuginfo.declarations import declare
from vmcorefs.core.debuginfo.dwarf import Dwarf, make_dwarf
from vmcorefs.core.debuginfo.elf_file import PER_CPU, Contents
from vmcorefs.core.debuginfo.frame_records import make_record_frame
from vmcorefs.core.debuginfo.orc import read_debug_frame
from vmcorefs.core.debuginfo.variables import SOURCES
from vmcorefs.core.debuginfo.vmlinux import at_link_addresses, image_sections, make_vmlinux
from vmcorefs.core.elf.elf import EM_AARCH64, EM_X86_64
from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.made_before import made_before
from vmcorefs.core.structures.kallsyms import SymbolTable
from vmcorefs.core.structures.types.btf_table import TypeTable, read_types
from vmcorefs.errors import FaultError, FormatError, VmcorefsError
from vmcorefs.kernel.debug.places import find_places, size_at, sizes_of
from vmcorefs.kernel.kernel import Kernel
from vmcorefs.kernel.symbols import Symbols

log = logging.getLogger(__name__)

NEEDED = 300 << 20
"""Bytes of memory that must be left: making the file takes up to two thirds of that.

A capture kernel has less, and whoever lists the tree there must not cost the dump.
"""

_BUILD_ID = re.compile("([0-9a-f]{2}){8,64}")
_MAX_SECTION = 1 << 27  # .text of distributions' kernels is 14 to 20 MiB
_MAX_TABLE = 1 << 16  # of system calls: there are 470
_FULL = {"sys_call_table": "", "taint_flags": "taint_flag"}
"""Tables whose last element is not zero, and the structures that they are of; "": of pointers."""
_ADDRESSES = 1 << 64
_SECOND = 10**9  # in ns
_MAX_HZ = 1200  # alpha's
_UNSIGNED_CHARS = (6, 2)  # 3bc753c06dd0 ("kbuild: treat char as always unsigned")


def kernel_offset(kernel: Kernel) -> int:
    """How far KASLR moved the kernel, in bytes; 0 where VMCOREINFO has no sane value."""
    text = kernel.vmcoreinfo.values.get("KERNELOFFSET", "")
    return int(text, 16) if re.fullmatch("[0-9a-f]{1,16}", text) else 0


def recover_vmlinux(
    kernel: Kernel,
    symbols: Symbols,
    available: int | None = None,
    *,
    with_contents: bool = True,
) -> bytes:
    """An ELF file with the kernel's symbols, types, code, constants, data and unwind tables.

    What cannot be had is left out, and the log says why.

    Args:
        kernel: The kernel.
        symbols: Its symbols.
        available: Bytes of memory that this machine has left, if that is known. With less than
            ``NEEDED`` there are no types and no bytes of the image.
        with_contents: Put the bytes of the image into it, and its functions among the types. A
            debugger that looks for the variables of each function on a stack goes through them all.
    """
    is_short = available is not None and available < NEEDED
    if is_short:
        log.warning("vmlinux: this machine has too little memory left to make types and contents")
    offset = kernel_offset(kernel)
    linked = at_link_addresses(symbols.kernel, offset)
    build_id = kernel.vmcoreinfo.values.get("BUILD-ID", "")
    has_image = with_contents and not is_short
    contents = Contents(
        image=dict(_read_contents(kernel, linked, offset)) if has_image else {},
        btf=symbols.btf,
        build_id=bytes.fromhex(build_id) if _BUILD_ID.fullmatch(build_id) else None,
        debug_frame=_read_frames(kernel, symbols.kernel, linked, offset),
    )
    btf = None if is_short else symbols.btf  # where there is none, the symbols' warnings say why
    told = None if btf is None else _ask_kernel(kernel, linked)

    def make() -> bytes:
        dwarf = None
        if btf is not None and told is not None:
            dwarf = _describe_types(linked, btf, told, with_functions=with_contents)
        whole = replace(contents, dwarf=dwarf)
        return make_vmlinux(linked, whole, machine=kernel.machine, byte_order=kernel.byte_order)

    if has_image:
        return make()
    made_of = (
        *("\0".join(linked.names).encode(), linked.addresses.tobytes(), linked.types.encode()),
        msgspec.msgpack.encode((kernel.machine, kernel.byte_order, linked.word_size, told)),
        *(contents.btf or b"", contents.build_id or b"", contents.debug_frame or b""),
    )
    return made_before("vmlinux", made_of, make)


def _read_contents(kernel: Kernel, linked: SymbolTable, offset: int) -> Iterator[tuple[str, bytes]]:
    for name, start, size in image_sections(linked):
        try:
            if size > _MAX_SECTION:
                raise FormatError(f"{size} bytes are more than {_MAX_SECTION}")
            if name == PER_CPU:
                yield name, read_first_cpu(kernel, kernel.symbol("__per_cpu_start"), size)
            else:
                yield name, kernel.image.read(start + offset, size)
        except VmcorefsError as error:
            log.warning("vmlinux: no bytes in %s, readers take them from the dump: %s", name, error)


def read_first_cpu(kernel: Kernel, start: int, size: int) -> bytes:
    """The per-CPU variables of CPU 0; what they began with is no longer in memory.

    Args:
        kernel: The kernel.
        start: Where they begin in each CPU's area: a per-CPU address.
        size: Bytes of them.

    Raises:
        VmcorefsError: if they cannot be read.
    """
    moved = kernel.image.integer(kernel.symbol("__per_cpu_offset"), kernel.word_size)
    return kernel.virtual.read((start + moved) % _ADDRESSES, size)


def _read_frames(
    kernel: Kernel, symbols: SymbolTable, linked: SymbolTable, offset: int
) -> bytes | None:
    if kernel.machine == EM_AARCH64:
        return make_record_frame(linked, _pac_mask(kernel))
    if kernel.machine != EM_X86_64:
        return None
    try:
        return read_debug_frame(symbols, kernel.image, offset)
    except (FormatError, FaultError) as error:  # CONFIG_UNWINDER_FRAME_POINTER has no ORC
        log.warning("vmlinux: no unwind tables, gdb goes by prologues: %s", error)
        return None


def _pac_mask(kernel: Kernel) -> int:
    """The bits of a return address that a signature may take; 0 where VMCOREINFO has none."""
    text = kernel.vmcoreinfo.values.get("NUMBER(KERNELPACMASK)", "")
    return int(text, 16) if re.fullmatch("0x[0-9a-f]{1,16}", text) else 0


class _Told(msgspec.Struct, frozen=True):
    """What memory says of a kernel's types and variables, beside its BTF and its symbols.

    Attributes:
        sizes: Bytes of variables, by name, of which the next symbol does not tell.
        constants: See ``Places``.
        byte_order, char_is_signed: See ``make_dwarf``.
    """

    sizes: dict[str, int]
    constants: dict[str, int]
    byte_order: ByteOrder
    char_is_signed: bool


def _ask_kernel(kernel: Kernel, linked: SymbolTable) -> _Told:
    return _Told(
        _told_sizes(kernel, linked),
        _read_constants(kernel),
        kernel.byte_order,
        has_signed_chars(kernel),
    )


def _describe_types(
    linked: SymbolTable, btf: bytes, told: _Told, *, with_functions: bool
) -> Dwarf | None:
    try:
        sizes = _sizes(linked, told.sizes)
        types, declared = declare(read_types(btf, told.byte_order), sizes)
        start = linked.lookup("_stext") or 0
        code = start, max((linked.lookup("_etext") or start) - start, 0)
        places = find_places(linked, code, constants=told.constants, sources=SOURCES)
        if not with_functions:
            places = replace(places, functions={}, code=(start, 0))
        return make_dwarf(
            types,
            places,
            declared,
            byte_order=told.byte_order,
            char_is_signed=told.char_is_signed,
        )
    except FormatError as error:
        log.warning("vmlinux: no types: %s", error)
        return None


def read_declared(
    kernel: Kernel, linked: SymbolTable, btf: bytes
) -> tuple[TypeTable, dict[str, int]]:
    """All types of the kernel, and rows for the variables that its BTF does not describe.

    Raises:
        FormatError: if the BTF is damaged.
    """
    return declare(read_types(btf, kernel.byte_order), _known_sizes(kernel, linked))


def has_signed_chars(kernel: Kernel) -> bool:
    """Whether ``char`` is signed, which BTF does not tell: before 6.2 the architecture decides."""
    found = re.match(r"(\d+)\.(\d+)", kernel.vmcoreinfo.release or "")
    version = (int(found[1]), int(found[2])) if found is not None else _UNSIGNED_CHARS
    return version < _UNSIGNED_CHARS and kernel.machine == EM_X86_64


def _known_sizes(kernel: Kernel, symbols: SymbolTable) -> dict[str, int]:
    """Of each symbol whose name is unique, the bytes that its variable has, as far as is known."""
    return _sizes(symbols, _told_sizes(kernel, symbols))


def _sizes(symbols: SymbolTable, told: dict[str, int]) -> dict[str, int]:
    counts = Counter(symbols.names)
    sizes = {name: size for name, size in sizes_of(symbols).items() if counts[name] == 1}
    return sizes | {name: size for name, size in told.items() if name in sizes}


def _told_sizes(kernel: Kernel, symbols: SymbolTable) -> dict[str, int]:
    """Bytes of the banner and of ``_FULL``: what is behind them up to the next symbol is zero."""
    sizes: dict[str, int] = {}
    with suppress(VmcorefsError):
        room = size_at(symbols, symbols.require("linux_banner"))
        sizes["linux_banner"] = min(room, len(kernel.banner) + 1)
    for name, element in _FULL.items():
        with suppress(VmcorefsError):
            room = min(size_at(symbols, symbols.require(name)), _MAX_TABLE)
            width = kernel.structs(element)[element].size if element else kernel.word_size
            table = kernel.image.read(kernel.symbol(name), room)
            sizes[name] = -(-len(table.rstrip(b"\0")) // (width or 1)) * width
    return sizes


def _read_constants(kernel: Kernel) -> dict[str, int]:
    """What readers look for in variables that the compiler has turned into numbers.

    crash takes ``write_expire`` (block/mq-deadline.c) for 5 * HZ, and HZ for 1000 without it: it
    would tell a wrong uptime.
    """
    try:
        tick = _read_tick(kernel)
    except VmcorefsError:
        return {}
    # TICK_NSEC is rounded (include/linux/jiffies.h), and ntp_tick_adj= moves it a little
    hz = round(_SECOND / tick) if tick else 0
    return {"write_expire": 5 * hz} if 0 < hz <= _MAX_HZ else {}


def _read_tick(kernel: Kernel) -> int:
    """How long a tick is, in ns."""
    with suppress(VmcorefsError):
        return kernel.image.integer(kernel.symbol("tick_nsec"), kernel.word_size)
    # since 6.13 (kernel/time/ntp.c), in ns << NTP_SCALE_SHIFT
    at = kernel.symbol("tk_ntp_data") + kernel.structs("ntp_data")["ntp_data"].offset("tick_length")
    return kernel.image.integer(at, 8) >> 32
