"""Which CPUs a kernel has, and how far each one's variables are from where they are declared."""

from __future__ import annotations

import numpy as np

from vmcorefs.core.structures.kallsyms import SymbolTable
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.errors import FormatError

MAX_CPUS = 1 << 13
"""CONFIG_NR_CPUS is at most 8192 (arch/x86/Kconfig)."""


def cpu_offsets(memory: KernelMemory, symbols: SymbolTable) -> dict[int, int]:
    """What is added to the address of a per-CPU variable, for each possible CPU, by its number.

    Raises:
        FormatError: if a symbol is missing, or its value cannot be true.
        VmcorefsError: whatever ``memory.read`` raises.
    """
    offsets = symbols.lookup("__per_cpu_offset")
    if offsets is None:  # no CONFIG_SMP: a per-CPU variable is an ordinary variable
        return {0: 0}
    cpus = _possible_cpus(memory, symbols)
    stored = memory.integers(offsets, cpus[-1] + 1, memory.word_size).tolist()
    return {cpu: stored[cpu] for cpu in cpus}


def _possible_cpus(memory: KernelMemory, symbols: SymbolTable) -> list[int]:
    # with CONFIG_FORCE_NR_CPUS nr_cpu_ids is a constant, not a symbol
    at = symbols.lookup("nr_cpu_ids")
    limit = memory.integer(at, 4) if at is not None else 64
    if not 0 < limit <= MAX_CPUS:
        raise FormatError(f"nr_cpu_ids is {limit}, expected 1 to {MAX_CPUS}")
    word = memory.word_size
    words = memory.integers(symbols.require("__cpu_possible_mask"), -(-limit // (8 * word)), word)
    little = words.astype(f"<u{word}").view(np.uint8)
    cpus: list[int] = np.flatnonzero(np.unpackbits(little, bitorder="little")[:limit]).tolist()
    if not cpus:
        raise FormatError("__cpu_possible_mask is empty")
    return cpus
