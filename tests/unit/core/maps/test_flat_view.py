"""The text of QEMU's ``info mtree -f``, as QEMU 7.2 and 10.0 print it."""

from __future__ import annotations

from vmcorefs.core.maps.flat_view import Run, parse_flat_view

VIEWS = """\
FlatView #0
 AS "I/O", root: io
 Root memory region: io
  0000000000000000-0000000000000007 (prio 0, i/o): dma-chan

FlatView #1
 AS "memory", root: system
 AS "cpu-memory-0", root: system
 Root memory region: system
  0000000000000000-000000000009ffff (prio 0, ram): pc.ram
  00000000000a0000-00000000000bffff (prio 1, i/o): vga-lowmem
  00000000000c0000-00000000000cbfff (prio 0, rom): pc.ram @00000000000c0000
  00000000000cc000-00000000bfffffff (prio 0, ram): pc.ram @00000000000cc000 KVM
  00000000fd000000-00000000fdffffff (prio 1, ram): vga.vram
  00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios
  0000000100000000-000000013fffffff (prio 0, ram): pc.ram @00000000c0000000
  0000000140000000-000000017fffffff (prio 0, ram): /objects/hot plugged
  0000000180000000-00000001800000ff (prio 0, ramd): nvdimm flush

FlatView #2
 AS "elsewhere", root: pci
 Root memory region: pci
  0000000000000000-000000000009ffff (prio 0, ram): pc.ram
"""


def test_what_is_ram_is_joined_and_placed_in_its_block() -> None:
    assert parse_flat_view(VIEWS.replace("\n", "\r\n")) == [
        Run(0, 0xA0000, "pc.ram", 0),
        Run(0xC0000, 0xC0000000, "pc.ram", 0xC0000),
        Run(0xFD000000, 0xFE000000, "vga.vram", 0),
        Run(0x1_0000_0000, 0x1_4000_0000, "pc.ram", 0xC0000000),
        Run(0x1_4000_0000, 0x1_8000_0000, "/objects/hot plugged", 0),
    ]


def test_other_text_has_no_ram() -> None:
    assert parse_flat_view("") == []
    assert parse_flat_view(VIEWS.replace('AS "memory"', 'AS "bus"')) == []


def test_rows_that_contradict_an_earlier_one_are_left_out() -> None:
    view = 'FlatView #0\n AS "memory", root: system\n'
    for row in ("1000-0000000000002fff", "2000-0000000000003fff", "f000-0000000000000fff"):
        view += f"  {row.split('-')[0]:>016}-{row.split('-')[1]} (prio 0, ram): pc.ram\n"
    assert parse_flat_view(view) == [Run(0x1000, 0x3000, "pc.ram", 0)]
