"""The summary."""

from __future__ import annotations

import numpy as np
from msgspec.structs import replace

from vmcorefs.core.pages.dump_level import PageKind
from vmcorefs.output.losses import Losses
from vmcorefs.save.report import Report, as_dict, describe_losses, format_summary
from vmcorefs.save.written import no_counts


def _counts(**kinds: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    counts = no_counts()
    for name, count in kinds.items():
        counts[PageKind[name]] = count
    return counts


REPORT = Report(
    names=("vmcore",),
    format="kdump",
    codec="zlib",
    level=31,
    page_size=4096,
    kept=_counts(KERNEL=1000, CACHE_PRIVATE=24),
    left_out=_counts(ZERO=100, FREE=7000, HWPOISON=1, OFFLINE=67),
    losses=Losses(),
    missing=0,
    resumed=0,
    size=4 << 20,
    seconds=4.0,
    sha256=("ab" * 32,),
    log="vmcore-dmesg.txt",
    warnings=(),
)


def test_people_get_a_table_and_the_sum() -> None:
    assert format_summary(REPORT) == [
        "pages                 kept    left out   of 4096 bytes",
        "kernel                1000           0",
        "zero                     0         100",
        "private cache           24           0",
        "free                     0        7000",
        "hwpoison                 0           1",
        "offline                  0          67",
        "all                   1024        7168",
        "32 MiB of memory in 4 MiB, 1 to 8.0 (kdump, zlib, level 31), in 4.0 s, 8 MiB/s",
        "log     vmcore-dmesg.txt",
        f"sha256  {'ab' * 32}  vmcore",
    ]


def test_people_are_told_of_what_is_not_there() -> None:
    losses = Losses()
    losses.add(0x5000, 0x1000, "Input/output error")
    losses.add(0x6000, 0x1000, "Input/output error")
    report = replace(
        REPORT, names=("vmcore.incomplete",), losses=losses, missing=1 << 20, resumed=12
    )
    lines = format_summary(report)
    assert lines[8].endswith("8 MiB/s; 12 pages already there")
    assert "1 MiB of RAM are in no input (--truncated)" in lines
    assert lines[-1] == "lost    [0x5000, 0x7000): Input/output error"
    assert describe_losses(report) == (
        "vmcore.incomplete: 8 KiB could not be read and are not in the dump, first"
        " [0x5000, 0x7000): Input/output error"
    )


def test_programs_get_numbers() -> None:
    found = as_dict(REPORT)
    assert found["complete"] is True
    assert found["files"] == [{"name": "vmcore", "sha256": "ab" * 32}]
    assert found["ratio"] == 8.0
    pages = found["pages"]
    assert isinstance(pages, dict)
    assert list(pages) == [
        *("kernel", "zero", "cache", "cache_private", "user", "free", "hwpoison", "offline")
    ]
    assert pages["free"] == {"kept": 0, "left_out": 7000}


def test_a_dump_of_nothing_has_no_ratio() -> None:
    report = replace(REPORT, kept=no_counts(), left_out=no_counts(), size=0, seconds=0.0)
    assert as_dict(report)["ratio"] is None
    assert "0 bytes of memory in 0 bytes (kdump" in "\n".join(format_summary(report))
