"""ORC entries, written by hand."""

from __future__ import annotations

TEXT = 0xFFFFFFFF81000000
ORC = TEXT + 0x2000
END, CALL, REGS, PARTIAL = 1 << 8, 2 << 8, 3 << 8, 4 << 8  # since 6.4
SP, BP, BP_INDIRECT, SP_INDIRECT = 5, 4, 8, 9
BP_AT_CFA, BP_AT_BP = 1 << 4, 4 << 4
Entry = tuple[int, int, int, int]  # offset in the text; sp_offset, bp_offset, flags

ENTRIES: list[Entry] = [
    (0x00, 8, 0, SP | CALL),
    (0x01, 16, -16, SP | BP_AT_CFA | CALL),
    (0x04, 16, -16, BP | BP_AT_CFA | CALL),
    (0x90, 0, 0, 0),
    (0x200, 0, 0, SP | REGS),
    (0x210, 8, 0, SP | PARTIAL),
    (0x220, 200, 0, SP | CALL),
    (0x300, -8, 0, BP_INDIRECT | CALL),
    (0x310, 24, 0, SP_INDIRECT | CALL),
    (0x320, 16, -24, SP | BP_AT_BP | CALL),
    (0x400, 0, 0, 0),
]
