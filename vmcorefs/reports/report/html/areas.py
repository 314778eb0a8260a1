"""What memory was used for, as areas: each as large as its part of the whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from vmcorefs.core.space.units import format_size
from vmcorefs.reports.report.html.markup import Markup, items, join, tag

_KINDS: Final = (
    ("free", "free"),
    ("anonymous", "anonymous"),
    ("cache", "page cache"),
    ("shared", "shared memory"),
    ("slab_unreclaimable", "slab"),
    ("slab_reclaimable", "slab, reclaimable"),
    ("kernel_stacks", "kernel stacks"),
    ("rest", "not accounted for"),
)
"""A class of style.css, and its name."""

_ASPECT: Final = 3.0
"""Width by height, as far as the shapes of the areas go: they stretch with the page."""

_LABELLED: Final = 0.18
"""An area that is lower or narrower has its name in the key alone."""

Box = tuple[float, float, float, float]
"""Left, top, width and height, as parts of the whole."""


def draw_areas(counters: Mapping[str, int], total: int | None) -> Markup:
    """The picture and its key.

    Args:
        counters: Bytes, as ``Memory.counters`` of a report has them.
        total: Bytes that the kernel managed, if that is known.
    """
    sizes = _without_overlaps(counters, total)
    shown = sorted(
        ((sizes[kind], kind, label) for kind, label in _KINDS if sizes.get(kind)), reverse=True
    )
    whole = sum(size for size, _, _ in shown)
    boxes = _split([size for size, _, _ in shown], (0.0, 0.0, 1.0, 1.0))
    areas = (
        _area(kind, label, size, box) for (size, kind, label), box in zip(shown, boxes, strict=True)
    )
    key = (
        join((_swatch(kind), f"{label} ", tag("small", f"{format_size(size)}, {size / whole:.1%}")))
        for size, kind, label in shown
    )
    picture = tag(
        "svg",
        *areas,
        class_="areas",
        width="100%",
        height=220,
        role="img",
        aria_label="memory by use",
    )
    return join((picture, items(key, class_="key")))


def _without_overlaps(counters: Mapping[str, int], total: int | None) -> dict[str, int]:
    """Kinds that together are the whole; shared memory is counted as file pages too."""
    sizes = {kind: counters[kind] for kind, _ in _KINDS if kind in counters}
    sizes["cache"] = max(counters.get("file", 0) - sizes.get("shared", 0), 0)
    if total is not None:
        sizes["rest"] = max(total - sum(sizes.values()), 0)
    return sizes


def _split(sizes: Sequence[int], box: Box) -> Iterator[Box]:
    """A box for each size, the largest first: halves of like weight, across the longer side."""
    if len(sizes) <= 1:
        yield from [box] * len(sizes)
        return
    whole, count, first = sum(sizes), 1, sizes[0]
    while count < len(sizes) - 1 and first + sizes[count] <= whole / 2:
        first, count = first + sizes[count], count + 1
    left, top, width, height = box
    part = first / whole
    if width * _ASPECT >= height:
        yield from _split(sizes[:count], (left, top, width * part, height))
        yield from _split(sizes[count:], (left + width * part, top, width * (1 - part), height))
    else:
        yield from _split(sizes[:count], (left, top, width, height * part))
        yield from _split(sizes[count:], (left, top + height * part, width, height * (1 - part)))


def _area(kind: str, label: str, size: int, box: Box) -> Markup:
    left, top, width, height = (f"{part:.3%}" for part in box)
    labels = (
        tag("text", label, x=8, y=20),
        tag("text", format_size(size), x=8, y=38, class_="size"),
    )
    return tag(
        "svg",
        tag("title", f"{label}: {format_size(size)}"),
        tag("rect", width="100%", height="100%", class_=kind),
        *(labels if box[2] >= _LABELLED and box[3] >= _LABELLED else ()),
        x=left,
        y=top,
        width=width,
        height=height,
    )


def _swatch(kind: str) -> Markup:
    return tag("svg", tag("rect", width="100%", height="100%", class_=kind), class_="swatch")
