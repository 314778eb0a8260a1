"""Estimates against the dumps that they are of, and by hand."""

from __future__ import annotations

import random
import zlib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from tests.builders.dumps import PAGE, MemoryOutput, Watch, small_dump
from tests.builders.elf_dumps import pack_dump, save_dump
from tests.conftest import Opener
from vmcorefs.cli import main
from vmcorefs.core.pages.dump_level import PageKind
from vmcorefs.reports.estimate import LEVELS, Estimate, Sample, estimate, estimate_dump, make_report
from vmcorefs.save.codecs import find_codec
from vmcorefs.save.dump import Dump
from vmcorefs.save.formats.kdump import KdumpFormat

COUNT = 1500
KINDS = [PageKind.KERNEL, PageKind.CACHE, PageKind.CACHE_PRIVATE, PageKind.USER, PageKind.FREE]


def varied_dump() -> Dump:
    """Pages of every kind, that compress differently well; a third of them is zeros."""
    chosen = random.Random(5)  # noqa: S311  # the same pages in every run
    kinds = [chosen.choice(KINDS) for _ in range(COUNT)]
    pages = [
        bytes(PAGE)
        if chosen.random() < 0.3
        else chosen.randbytes(chosen.randrange(10, 700) * (kind + 1)).ljust(PAGE, b"x")[:PAGE]
        for kind in kinds
    ]
    return small_dump(((0, COUNT * PAGE),), kinds=kinds, memory=b"".join(pages))


def written(dump: Dump, codec: str) -> int:
    output = MemoryOutput()
    KdumpFormat(find_codec(codec), 1)(dump, [output], Watch())
    return len(output.data)


@pytest.mark.parametrize("codec", ["zlib", "lzo", "none"])
@pytest.mark.parametrize("level", [0, 8, 16, 30])
def test_a_sample_of_all_pages_tells_the_size_of_the_dump(level: int, codec: str) -> None:
    dump = varied_dump()
    found = estimate_dump(dump, samples=COUNT)
    true = written(replace(dump, level=level), codec)
    # the page of zeros that all share is not counted, and the data begin at once
    assert 0 <= true - found.size(level, codec) <= PAGE
    assert found.margin(level, codec) == 0


@pytest.mark.parametrize("level", [0, 31])
def test_a_small_sample_is_within_its_margin(level: int) -> None:
    dump = varied_dump()
    true = written(replace(dump, level=level), "zlib")
    hits = 0
    for seed in range(12):
        found = estimate_dump(dump, samples=100, seed=seed)
        assert 0 < found.margin(level, "zlib") < true // 5
        hits += abs(found.size(level, "zlib") - true) <= found.margin(level, "zlib")
    assert hits >= 10  # of 12 at 95 %


def test_the_same_seed_looks_at_the_same_pages() -> None:
    dump = varied_dump()
    one, two, other = (estimate_dump(dump, samples=50, seed=seed) for seed in (1, 1, 2))
    assert one.size(31, "zlib") == two.size(31, "zlib")
    assert one.size(31, "zlib") != other.size(31, "zlib")


def test_pages_are_counted_by_kind_and_those_of_zeros_by_the_sample() -> None:
    kinds = [PageKind.KERNEL] * 10 + [PageKind.FREE] * 30 + [PageKind.USER] * 20
    found = estimate_dump(small_dump(((0, 60 * PAGE),), kinds=kinds, zero=[3, 40, 41, 42, 43]))
    assert found.pages.tolist() == [10, 0, 0, 0, 20, 30, 0, 0]
    assert found.zeros.tolist() == [0.1, 0, 0, 0, 0.2, 0, 0, 0]
    assert [found.kept(level) for level in (0, 1, 8, 16, 17, 31)] == [60, 55, 40, 30, 25, 9]


def test_the_arithmetic_of_two_kinds() -> None:
    def by_kind(kernel: float, free: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        values = np.zeros(8)
        values[PageKind.KERNEL], values[PageKind.FREE] = kernel, free
        return values

    found = Estimate(
        page_size=PAGE,
        pages=by_kind(1000, 5000).astype(np.int64),
        lacking=np.zeros(8, dtype=np.int64),
        sampled=by_kind(100, 100).astype(np.int64),
        zeros=by_kind(0.5, 0),
        samples={"zlib": Sample(by_kind(900, 10), by_kind(400, 0))},
        overhead=7,
    )
    assert found.size(0, "zlib") == 7 + 24 * 6000 + 1000 * 900 + 5000 * 10
    assert found.size(16, "zlib") == 7 + 24 * 1000 + 1000 * 900
    # 1000 pages, each off by the root of 400 / 100, of which a tenth was seen
    assert found.margin(0, "zlib") == found.margin(16, "zlib") == round(1960 * 2 * 0.9**0.5)
    assert (found.kept(0), found.kept(1), found.kept(17)) == (6000, 5500, 500)


def test_pages_that_cannot_be_read_are_no_sample() -> None:
    found = estimate_dump(small_dump(bad=range(10)))
    assert found.sampled.tolist() == [54, 0, 0, 0, 0, 0, 0, 0]
    assert found.warnings == ("kernel: 10 of 64 pages not readable",)


@pytest.mark.parametrize("readable", [0, 1])
def test_a_kind_that_cannot_be_sampled_counts_whole_and_is_named(readable: int) -> None:
    kinds = [PageKind.KERNEL] * 8 + [PageKind.USER] * 4
    found = estimate_dump(
        small_dump(
            ((0, 12 * PAGE),), kinds=kinds, memory=bytes(12 * PAGE), bad=range(8 + readable, 12)
        )
    )
    of_kernel = found.size(8, "zlib")  # all but user data
    assert found.size(0, "zlib") == of_kernel + 4 * (24 + PAGE)
    assert found.sampled[PageKind.USER] == 0
    assert found.warnings == (
        f"user: {4 - readable} of 4 pages not readable",
        "user: nothing to compress: 4 count as whole pages",
    )


def test_a_kind_of_one_page_is_told_by_that_page() -> None:
    found = estimate_dump(small_dump(((0, 2 * PAGE),), kinds=[PageKind.KERNEL, PageKind.USER]))
    assert found.sampled.tolist() == [1, 0, 0, 0, 1, 0, 0, 0]
    assert found.warnings == ()


def test_a_page_that_does_not_compress_takes_a_page() -> None:
    noise = random.Random(1).randbytes(4 * PAGE)  # noqa: S311  # the same bytes in every run
    assert len(zlib.compress(noise[:PAGE])) > PAGE
    found = estimate_dump(small_dump(((0, 4 * PAGE),), memory=noise))
    assert {codec: sample.mean[0] for codec, sample in found.samples.items()} == dict.fromkeys(
        found.samples, PAGE
    )


def test_what_a_dump_lacks_is_not_counted(tmp_path: Path, open_capture: Opener) -> None:
    told: list[tuple[int, int]] = []
    capture = open_capture(save_dump(tmp_path, pack_dump()))
    found = estimate(capture, progress=lambda done, total: told.append((done, total)))
    assert found.pages[0] == 0x9F + 0x100 + 0x40
    assert "cannot tell what pages were used for" in " ".join(found.warnings)
    assert told[-1][0] == told[-1][1] > 0
    report = make_report(found)
    assert list(report["levels"]) == [str(level) for level in LEVELS]


def test_the_command(tmp_path: Path) -> None:
    path = save_dump(tmp_path, pack_dump())
    done = CliRunner().invoke(main, ["estimate", str(path)])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["pages", "count", "size", "zeros", "looked", "at"]
    assert lines[1].split() == ["kernel", "479", "1.871", "MiB", "0", "%", "479"]
    assert [line.split()[0] for line in lines if line[:1].isdigit()] == [str(n) for n in LEVELS]
