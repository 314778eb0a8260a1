"""The zones of memory, and what was left in them."""

from __future__ import annotations

from collections.abc import Iterator

import drgn
from drgn.helpers.linux.mmzone import (
    NODE_DATA,
    high_wmark_pages,
    low_wmark_pages,
    min_wmark_pages,
)
from drgn.helpers.linux.nodemask import for_each_online_node
from drgn.helpers.linux.vmstat import zone_page_state

from vmcorefs.reports.report.schema import Zone


def describe_zones(program: drgn.Program) -> Iterator[Zone]:
    """The zones that have memory (include/linux/mmzone.h); the errors are drgn's."""
    page_size = int(program["PAGE_SIZE"])
    free = program["NR_FREE_PAGES"]
    for node in for_each_online_node(program):
        for zone in NODE_DATA(program, node).node_zones:
            if not zone.managed_pages.counter:
                continue
            place = zone.address_of_()
            yield Zone(
                node=node,
                name=zone.name.string_().decode("utf-8", "backslashreplace"),
                managed=int(zone.managed_pages.counter) * page_size,
                # CPUs have counts of their own that are not in yet: it may be below zero
                free=max(zone_page_state(place, free), 0) * page_size,
                min=min_wmark_pages(place) * page_size,
                low=low_wmark_pages(place) * page_size,
                high=high_wmark_pages(place) * page_size,
            )
