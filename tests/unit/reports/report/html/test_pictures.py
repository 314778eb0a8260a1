"""The memory map and the areas: shapes, by the numbers that they stand for."""

from __future__ import annotations

import re

import numpy as np
import pytest

from vmcorefs.core.maps.memory_map import MemoryMap, make_memory_map
from vmcorefs.core.maps.regions import Region, Regions
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.reports.report.html.areas import draw_areas
from vmcorefs.reports.report.html.memory_map import Places, draw_map

GIB, MIB = 1 << 30, 1 << 20
NOTHING = make_ranges([])


def _map(*regions: tuple[int, int, str, int]) -> MemoryMap:
    return make_memory_map([Region(*region) for region in regions], "iomem")


def _rects(html: str) -> dict[str, list[tuple[float, float, str]]]:
    """Left, width and title of what is drawn in the strips, by class."""
    found: dict[str, list[tuple[float, float, str]]] = {}
    rect = r'<rect x="([\d.]+)%" y="0" width="([\d.]+)%" height="100%" class="(\w+)"><title>(.*?)<'
    for left, width, kind, title in re.findall(rect, html):
        found.setdefault(kind, []).append((float(left), float(width), title))
    return found


def test_ram_is_drawn_by_its_size_and_devices_take_little_room() -> None:
    memory_map = _map(
        (0, GIB, "System RAM", 0),
        (64 * MIB, 96 * MIB, "Kernel code", 1),
        (512 * MIB, 768 * MIB, "Crash kernel", 1),
        (3 * GIB, 4 * GIB, "PCI Bus 0000:00", 0),
        (4 * GIB, 5 * GIB, "System RAM", 0),
    )
    missing = make_ranges([(4 * GIB, 4 * GIB + 256 * MIB)])
    backup, kernel = make_ranges([(0x1000, 0x9FC00)]), make_ranges([(64 * MIB, 96 * MIB)])
    rects = _rects(draw_map(Places(memory_map, missing, backup, kernel)))

    (low, low_width, title), (_, high_width, _) = rects["ram"]
    assert (low, title) == (0.0, "RAM: [0x0, 0x40000000)")
    assert low_width == pytest.approx(high_width, abs=0.2)
    assert low_width + high_width == pytest.approx(100 / 1.2, abs=0.5)
    ((left, width, _),) = rects["kernel"]
    assert (left, width) == pytest.approx((low_width / 16, low_width / 32), abs=0.2)
    ((left, width, _),) = rects["crash"]
    assert (left, width) == pytest.approx((low_width / 2, low_width / 4), abs=0.2)
    ((_, width, title),) = rects["missing"]
    assert width == pytest.approx(high_width / 4, abs=0.2)
    assert title == "missing from the image: [0x100000000, 0x110000000)"
    ((_, width, _),) = rects["backup"]  # 639 KiB of 2 GiB, and seen all the same
    assert width == pytest.approx(0.1)
    ((_, width, _),) = rects["other"]
    assert 1 < width < 20


def test_very_many_regions_are_no_more_than_can_be_seen() -> None:
    starts = np.arange(200_000, dtype=np.int64) * 8192
    regions = Regions.flat(np.stack((starts, starts + 4096), axis=1), "System RAM")
    html = draw_map(Places(make_memory_map(regions, "iomem"), NOTHING, NOTHING, NOTHING))
    assert len(html) < 200_000
    assert "200000 regions, from iomem, the first 200 of them here" in html


def test_areas_are_as_large_as_what_they_stand_for() -> None:
    counters = {"free": 400, "anonymous": 300, "file": 200, "shared": 50, "dirty": 7}
    html = draw_areas(counters, 1000)
    area = r'<svg x="[\d.]+%" y="[\d.]+%" width="([\d.]+)%" height="([\d.]+)%"><title>(.*?)</title>'
    found = {
        title: round(float(width) * float(height) / 10_000, 3)
        for width, height, title in re.findall(area, html)
    }
    assert found == {
        "free: 400 bytes": 0.4,
        "anonymous: 300 bytes": 0.3,
        "page cache: 150 bytes": 0.15,
        "not accounted for: 100 bytes": 0.1,
        "shared memory: 50 bytes": 0.05,
    }
    assert "page cache <small>150 bytes, 15.0%</small>" in html


def test_counters_that_contradict_each_other_are_drawn() -> None:
    assert "free" in draw_areas({"free": 10, "file": 3, "shared": 5}, 4)
    assert "<rect" not in draw_areas({"free": 0}, 0)
