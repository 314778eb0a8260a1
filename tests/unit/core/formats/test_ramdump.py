"""The table of a phone's RAM."""

from __future__ import annotations

import pytest

from tests.matching import exactly
from vmcorefs.core.formats.ramdump import Part, parse_table
from vmcorefs.errors import FormatError

TABLE = b"""\
Thu Jan  1 00:00:00 1970
 Pref  Base              Length       Region              File
   1 0x00000000c0000000 0000002147483648   DDR CS0 part1 Memo         DDRCS0_1.BIN
   1 0x0000000040000000 0000002147483648   DDR CS0 part0 Memo         DDRCS0_0.BIN
   1 0x0000000014680000 0000000000262144   OCIMEM                     OCIMEM.BIN
   1 0x0000000000000000 0000000000001024   DDR CS0                    ../DDRCS9.BIN
   2 0x0000000081b476d0             5784   CMM Script                 load.cmm
"""


def test_ram_is_what_ddr_files_have() -> None:
    assert parse_table(TABLE) == (
        Part("DDRCS0_0.BIN", 0x40000000, 2 << 30),
        Part("DDRCS0_1.BIN", 0xC0000000, 2 << 30),
    )


def test_a_table_without_ram_is_refused() -> None:
    expected = "dump_info.txt: no file with RAM (DDRCS*.BIN) is in it"
    with pytest.raises(FormatError, match=exactly(expected)):
        parse_table(b"".join(TABLE.splitlines(keepends=True)[4:]))


def test_ram_beyond_all_addresses_is_refused() -> None:
    line = b"1 0xffffffffffffffff 0000000000000001 DDR DDRCS0.BIN\n"
    expected = "dump_info.txt: 1 bytes of RAM at 0xffffffffffffffff"
    with pytest.raises(FormatError, match=exactly(expected)):
        parse_table(line)
