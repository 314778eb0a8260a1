"""Pointers in structures, against BTF written by hand."""

from __future__ import annotations

from tests.builders.btf import ARRAY, INT, Writer
from vmcorefs.core.structures.types.pointers import Layout, Pointer, read_layouts

_PTR, _CONST = 2, 10


def test_pointers_wherever_they_are_embedded() -> None:
    btf = Writer()
    btf.add_struct("task", 64, [("mm", 2, 0), ("", 5, 64), ("nodes", 7, 192), ("name", 9, 448)])
    btf.add(_PTR, "", 3)  # 2: struct mm *
    btf.add_struct("mm", 24, [("rss", 10, 0)])
    btf.add(_PTR, "", 0)  # 4: void *
    btf.add_struct("", 16, [("any", 4, 0), ("twin", 6, 64)])
    btf.add(_PTR, "", 1)  # 6: struct task *
    btf.add(ARRAY, "", 0, [2, 8, 4])  # 7: struct mm *[4]
    btf.add(INT, "char", 1, [8])
    btf.add(_PTR, "", 11)  # 9: const char *
    btf.add_struct("percpu_counter", 24, [("count", 12, 0), ("counters", 13, 64)])
    btf.add(_CONST, "", 8)
    btf.add(INT, "long", 8, [64])
    btf.add(_PTR, "", 14)  # 13: int *
    btf.add(INT, "int", 4, [32])

    found = read_layouts(btf.finish(), "<", 8, ["task", "mm", "absent"])

    mms = [Pointer(at, "mm", 24) for at in (24, 32, 40, 48)]
    assert found["task"] == Layout(
        64, (Pointer(0, "mm", 24), Pointer(16, "task", 64), *mms, Pointer(56, "", 128))
    )
    assert found["mm"] == Layout(24, (Pointer(8, "", 4, is_per_cpu=True),))
    assert set(found) == {"task", "mm"}


def test_arrays_without_end_are_not_followed() -> None:
    btf = Writer()
    btf.add_struct("hostile", 8, [("all", 2, 0)])
    btf.add(ARRAY, "", 0, [3, 3, 0xFFFFFFFF])
    btf.add_struct("empty", 8, [])
    btf.add_struct("itself", 8, [("again", 5, 0)])
    btf.add(ARRAY, "", 0, [5, 5, 2])

    assert set(read_layouts(btf.finish(), "<", 8, ["hostile", "itself"])) == {"itself"}
