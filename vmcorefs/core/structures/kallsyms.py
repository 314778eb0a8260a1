"""The kernel's own symbol table, decoded from its memory with nothing but VMCOREINFO.

scripts/kallsyms.c writes it into the kernel and kernel/kallsyms.c reads it; VMCOREINFO names its
parts since 6.0 (kernel/vmcore_info.c). A name is a type character and the symbol, compressed: a
length, then that many bytes, each of which stands for one of 256 tokens. Addresses are 32-bit
offsets from a base that depends on the kernel:

* from ``kallsyms_relative_base``, unsigned;
* with CONFIG_KALLSYMS_ABSOLUTE_PERCPU (x86 with SMP before 6.15) downwards from
  ``kallsyms_relative_base - 1`` if negative, and absolute if not: per-CPU symbols count from zero;
* from the address of the offset itself (``offset_to_ptr``, since 7.0), without a base;
* or they are whole words, ``kallsyms_addresses`` (CONFIG_KALLSYMS_BASE_RELATIVE=n, before 6.11).

VMCOREINFO does not say which of these it is: the right one puts ``_stext`` where VMCOREINFO's
SYMBOL(_stext) has it. That also proves that the right table was decoded.

Memory is treated as hostile here: sizes are checked before anything is read or allocated.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo
from vmcorefs.core.made_before import made_before
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.errors import FormatError

MAX_SYMBOLS = 1 << 21
"""Most symbols accepted: distributions' kernels have 100,000 to 250,000."""

MAX_NAMES = 1 << 25
"""Longest table of names accepted, in bytes, compressed or not; 2 and 6 MiB are usual."""

UNPRINTABLE = bytes(range(0x21)) + b"\x7f"
"""Characters that no name may have: they would break the lines of /proc/kallsyms."""

Addresses = npt.NDArray[np.uint64]

_TOKENS = 256  # a compressed name is made of bytes (scripts/kallsyms.c, best_table)
_SEPARATOR, _NOTHING = _TOKENS, _TOKENS + 1  # codes of our own, for the bytes of a name's length
_CHUNK = 1 << 14  # codes expanded at a time: bytes.join() takes 80 bytes for each


class SymbolTable(msgspec.Struct, frozen=True, eq=False):
    """Symbols of the kernel, or of one module, in the order in which /proc/kallsyms has them.

    Attributes:
        addresses: uint64, not int64 as in extents: kernel addresses are above 2**63, and they are
            only compared or passed to ``int()``. KASLR is applied.
        types: One character for each symbol, as in ``nm``: ``T``, ``t``, ``D`` ...
        names: The symbols' names; several symbols can have the same one.
        word_size: Bytes in an address: 4 or 8.
        module: The module's name; empty for the kernel itself.
        module_at: Where its ``struct module`` is; 0 for the kernel itself.
    """

    addresses: Addresses
    types: str
    names: tuple[str, ...]
    word_size: int = 8
    module: str = ""
    module_at: int = 0

    def __len__(self) -> int:
        return len(self.names)

    def lookup(self, name: str) -> int | None:
        """The address of the first symbol of that name, as ``kallsyms_lookup_name`` finds it."""
        try:
            return int(self.addresses[self.names.index(name)])
        except ValueError:
            return None

    def require(self, name: str) -> int:
        """The same address; raises ``FormatError`` if there is no such symbol."""
        address = self.lookup(name)
        if address is None:
            raise FormatError(f"kallsyms: no {name}")
        return address

    def with_others(self, others: Mapping[str, int]) -> SymbolTable:
        """The same, and behind them those of others that it lacks, whose type is not known."""
        others = {name: at for name, at in others.items() if self.lookup(name) is None}
        addresses = np.array([at % (1 << 64) for at in others.values()], dtype=np.uint64)
        return replace(
            self,
            addresses=np.append(self.addresses, addresses),
            types=self.types + "?" * len(others),
            names=(*self.names, *others),
        )

    def format(self) -> bytes:
        """The lines of /proc/kallsyms (kernel/kallsyms.c, ``s_show``), as root sees them."""
        digits = self.word_size * 2
        end = f"\t[{self.module}]\n" if self.module else "\n"
        lines = [
            f"{address:0{digits}x} {kind} {name}{end}"
            for address, kind, name in zip(
                self.addresses.tolist(), self.types, self.names, strict=True
            )
        ]
        return "".join(lines).encode("latin-1")


def read_symbols(vmcoreinfo: Vmcoreinfo, memory: KernelMemory) -> SymbolTable:
    """Decode the kernel's symbol table; module symbols are not in it.

    Raises:
        FormatError: if VMCOREINFO lacks a key, or memory contradicts itself or VMCOREINFO.
        VmcorefsError: whatever ``memory.read`` raises.
    """
    tokens = _read_tokens(vmcoreinfo, memory)
    types, names = expand_names(*_read_names(vmcoreinfo, memory), tokens)
    addresses = _read_addresses(vmcoreinfo, memory, names)
    return SymbolTable(addresses, types, names, memory.word_size)


def find_tables(vmcoreinfo: Vmcoreinfo, memory: KernelMemory) -> dict[str, int]:
    """Where the tables themselves are, by name: many kernels do not have them among the symbols.

    Raises:
        FormatError: if VMCOREINFO lacks a key, or memory contradicts itself.
        VmcorefsError: whatever ``memory.read`` raises.
    """
    names = [key[7:-1] for key in vmcoreinfo.values if key.startswith("SYMBOL(kallsyms_")]
    found = {name: vmcoreinfo.symbol(name) for name in names}
    _, end = _walk_names(*_read_names(vmcoreinfo, memory))
    # scripts/kallsyms.c writes it behind the names, aligned as every table (output_label)
    end += vmcoreinfo.symbol("kallsyms_names")
    return {**found, "kallsyms_markers": end + -end % memory.word_size}


def _read_names(vmcoreinfo: Vmcoreinfo, memory: KernelMemory) -> tuple[bytes, int]:
    """Bytes that start with the compressed names, and how many names there are."""
    count = memory.integer(vmcoreinfo.symbol("kallsyms_num_syms"), 4)
    if not 0 < count <= MAX_SYMBOLS:
        raise FormatError(f"kallsyms_num_syms is {count}, expected 1 to {MAX_SYMBOLS}")
    names = vmcoreinfo.symbol("kallsyms_names")
    # scripts/kallsyms.c has always written the names before the tokens, with other tables between
    size = vmcoreinfo.symbol("kallsyms_token_table") - names
    if not count < size <= MAX_NAMES:
        raise FormatError(f"kallsyms_names: {size} bytes up to the tokens, for {count} names")
    return memory.read(names, size), count


def _read_tokens(vmcoreinfo: Vmcoreinfo, memory: KernelMemory) -> list[bytes]:
    """The 256 tokens: NUL-terminated strings, directly followed by a table of 16-bit indices."""
    start = vmcoreinfo.symbol("kallsyms_token_table")
    index = vmcoreinfo.symbol("kallsyms_token_index")
    size = index - start
    if not 0 < size <= 1 << 16:  # an index has 16 bits
        raise FormatError(f"kallsyms_token_table: {size} bytes, expected 1 to {1 << 16}")
    table = memory.read(start, size)
    tokens = []
    for offset in memory.integers(index, _TOKENS, 2).tolist():
        end = table.find(b"\0", offset)
        if end < 0:
            raise FormatError(f"kallsyms_token_index: {offset:#x} is outside the token table")
        tokens.append(table[offset:end])
    return tokens


def expand_names(data: bytes, count: int, tokens: Sequence[bytes]) -> tuple[str, tuple[str, ...]]:
    """Decompress names, each preceded by its type; return the types, and the names without them.

    Args:
        data: Bytes that start with the first name; anything after the last is ignored.
        count: Number of names.
        tokens: 256 of them.

    Raises:
        FormatError: if ``data`` ends too early, or a name is empty, too long, or unprintable.
    """

    def expand() -> bytes:
        return _expand(data, count, tokens)

    made_of = (data, count.to_bytes(4, "little"), *tokens)
    text = np.frombuffer(made_before("names", made_of, expand), dtype=np.uint8)
    at = np.flatnonzero(text == ord("\n")) + 1  # the types
    if np.diff(at, append=len(text) + 1).min() < len("T0\n"):
        raise FormatError("kallsyms_names: a symbol without a name")
    types = text[at].tobytes().decode("latin-1")
    return types, tuple(np.delete(text, at).tobytes().decode("latin-1").split("\n")[1:])


def _expand(data: bytes, count: int, tokens: Sequence[bytes]) -> bytes:
    """The names, each behind a newline."""
    heads, end = _walk_names(data, count)
    stored = np.frombuffer(data, dtype=np.uint8, count=end)
    codes = stored.astype(np.uint16)
    at = np.frombuffer(heads, dtype=np.int64)
    codes[at] = _SEPARATOR
    codes[at[stored[at] >= 0x80] + 1] = _NOTHING
    table = [*tokens, b"\n", b""]
    chunks = [codes[start : start + _CHUNK] for start in range(0, end, _CHUNK)]
    used = np.zeros(len(table), dtype=np.int64)
    for chunk in chunks:
        used += np.bincount(chunk, minlength=len(table))  # which takes 8 bytes a code
    _check_codes(used.tolist(), table)
    # joining the tokens of many codes at once is faster than going name by name
    return b"".join(b"".join(map(table.__getitem__, chunk.tolist())) for chunk in chunks)


def _walk_names(data: bytes, count: int) -> tuple[array[int], int]:
    """Where each name's length byte is, and where the last name ends.

    Lengths are ULEB128 of one or two bytes since 6.1, one byte before. No kernel with one byte has
    names as long as 128 codes (KSYM_NAME_LEN was 128, and compression halves them), so both can be
    read alike.
    """
    heads = array("q")
    position = 0
    try:
        for _ in range(count):
            heads.append(position)
            length = data[position]
            if length & 0x80:
                position += 1
                length = length & 0x7F | data[position] << 7
            position += 1 + length
    except IndexError:
        position = len(data) + 1
    if position > len(data):
        raise FormatError(
            f"kallsyms_names: name {len(heads) - 1} of {count} ends past the table,"
            f" {len(data)} bytes"
        )
    return heads, position


def _check_codes(used: Sequence[int], table: Sequence[bytes]) -> None:
    """Refuse names that would take too much memory or break the lines of /proc/kallsyms."""
    size = sum(uses * len(token) for uses, token in zip(used, table, strict=True))
    if size > MAX_NAMES:
        raise FormatError(f"kallsyms_names: {size} bytes expanded, expected at most {MAX_NAMES}")
    for uses, token in zip(used[:_TOKENS], table, strict=False):
        if uses and token.translate(None, UNPRINTABLE) != token:
            raise FormatError(f"kallsyms_token_table: unprintable token {token[:16]!r}")


def _read_addresses(
    vmcoreinfo: Vmcoreinfo, memory: KernelMemory, names: Sequence[str]
) -> Addresses:
    expected = vmcoreinfo.symbol("_stext")
    try:
        anchor = names.index("_stext")
    except ValueError:
        raise FormatError(f"kallsyms_names: no _stext in {len(names)} names") from None
    mask = np.uint64((1 << 8 * memory.word_size) - 1)
    found = []
    for candidate in _iter_addresses(vmcoreinfo, memory, len(names)):
        addresses = candidate & mask
        if addresses[anchor] == expected:
            return addresses
        found.append(hex(addresses[anchor]))
    raise FormatError(f"kallsyms: _stext is at {' or '.join(found)}, expected {expected:#x}")


def _iter_addresses(
    vmcoreinfo: Vmcoreinfo, memory: KernelMemory, count: int
) -> Iterator[Addresses]:
    """All possible meanings of the stored offsets (kernel/kallsyms.c, ``kallsyms_sym_address``)."""

    def read_words(name: str, size: int) -> Addresses:
        return memory.integers(vmcoreinfo.symbol(name), count, size)

    if "SYMBOL(kallsyms_offsets)" not in vmcoreinfo.values:
        yield read_words("kallsyms_addresses", memory.word_size)
        return
    offsets = read_words("kallsyms_offsets", 4)
    negative = offsets >= 1 << 31
    signed = np.where(negative, offsets - np.uint64(1 << 32), offsets)  # wraps, as C does
    if "SYMBOL(kallsyms_relative_base)" in vmcoreinfo.values:
        base = np.uint64(memory.pointer(vmcoreinfo.symbol("kallsyms_relative_base")))
        yield offsets + base
        yield np.where(negative, ~signed + base, offsets)  # ~x is -1 - x
    else:
        start = np.uint64(vmcoreinfo.symbol("kallsyms_offsets") % (1 << 64))
        yield signed + start + 4 * np.arange(count, dtype=np.uint64)
        yield offsets  # 32 bits, not relocatable
