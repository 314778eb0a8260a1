"""How large a dump would be at each level, from a sample of pages that are compressed.

All pages are counted by kind, from the kernel's own page array; of each kind a bounded number is
read and compressed. makedumpfile ``--mem-usage`` has only the counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from vmcorefs.api import Capture
from vmcorefs.core.formats.kdump.descriptors import DESC_SIZE, bitmap_blocks
from vmcorefs.core.pages.dump_level import PageKind, left_out
from vmcorefs.core.space.ranges import Int64Array
from vmcorefs.core.space.units import align_up, format_size
from vmcorefs.errors import UnsupportedError
from vmcorefs.save.codecs import CODEC_NAMES, Codec, find_codec
from vmcorefs.save.command import default_threads, make_dump
from vmcorefs.save.dump import Dump
from vmcorefs.save.packing import packed_sizes
from vmcorefs.save.pages import Batch, PageReader
from vmcorefs.save.report import NAMES
from vmcorefs.save.survey import ABSENT, Survey
from vmcorefs.save.watched import WatchedKinds
from vmcorefs.system.progress import Progress

SAMPLES = 2048
"""Pages of each kind that are compressed: 8 MiB."""

LEVELS = (0, 1, 3, 7, 15, 17, 31)
"""Dump levels in the report: all pages; one kind less each; without zeros and free pages; the
least."""

_KINDS = len(PageKind)
_BATCH = 256
_NORMAL_95 = 1.96

Report = dict[str, Any]
FloatArray = npt.NDArray[np.float64]


class Sample(msgspec.Struct, frozen=True):
    """What pages take in a dump by one codec, by ``PageKind``; those of zeros take nothing.

    Attributes:
        mean: Bytes of a page, shape ``(8,)``.
        variance: Of that, in square bytes, shape ``(8,)``.
    """

    mean: FloatArray
    variance: FloatArray


class Estimate(msgspec.Struct, frozen=True):
    """How large a dump would be.

    Attributes:
        page_size: Bytes in a page.
        pages: How many there are of each ``PageKind``, shape ``(8,)``; those of zeros count as what
            they were used for.
        lacking: How many the image, a dump, is without; shape ``(8,)``.
        sampled: How many of each kind were read, shape ``(8,)``; of a kind with none that could
            be, each counts as a whole page.
        zeros: Which part of each kind is zeros, by the sample; shape ``(8,)``.
        samples: For each codec, what pages take.
        overhead: Bytes of headers, notes and bitmaps.
        warnings: What a person should know; a line each.
    """

    page_size: int
    pages: Int64Array
    lacking: Int64Array
    sampled: Int64Array
    zeros: FloatArray
    samples: Mapping[str, Sample]
    overhead: int
    warnings: tuple[str, ...] = ()

    def kept(self, level: int) -> int:
        """Pages that a dump of that level has; those of zeros are one of its bits."""
        kept = np.where(left_out(level), 0, self.pages)
        return round(float((kept * (1 - self.zeros)).sum() if level & 1 else kept.sum()))

    def size(self, level: int, codec: str) -> int:
        """Bytes of a kdump-compressed dump of that level.

        A page of zeros takes a descriptor at any level, as ``save`` has one such page for all.

        Raises:
            KeyError: if the codec was not tried.
        """
        kept = np.where(left_out(level), 0, self.pages)
        stored = float((kept * self.samples[codec].mean).sum())
        return self.overhead + DESC_SIZE * int(kept.sum()) + round(stored)

    def margin(self, level: int, codec: str) -> int:
        """How far the true size may be from ``size``, with a probability of 95 %, in bytes.

        Kinds of which no page could be read add nothing to it: ``warnings`` name them.
        """
        kept = np.where(left_out(level), 0, self.pages).astype(np.float64)
        some = self.sampled > 0
        count, of = kept[some], self.sampled[some]
        unseen = np.maximum(1 - of / np.maximum(self.pages[some], 1), 0)
        variance = (count**2 * self.samples[codec].variance[some] / of * unseen).sum()
        return round(_NORMAL_95 * math.sqrt(float(variance)))


def estimate(
    capture: Capture, *, samples: int = SAMPLES, seed: int = 0, progress: Progress | None = None
) -> Estimate:
    """Estimate the size of dumps of a capture.

    Args:
        capture: An opened image, which may be of a live machine (/proc/kcore).
        samples: Pages of each kind that are compressed at most.
        seed: Of the choice: the same seed chooses the same pages.
        progress: Told how far the counting is, in pages.

    Raises:
        SourceIOError: if what tells the kinds of pages cannot be read.
    """
    warnings = list(capture.image.warnings)
    dump, _ = make_dump(capture.image, warnings)
    if progress is not None:
        dump = replace(dump, kinds=WatchedKinds(dump, progress))
    found = estimate_dump(dump, samples=samples, seed=seed)
    later = capture.image.take_unreadable()  # of the page array
    return replace(found, warnings=(*warnings, *later, *found.warnings))


def estimate_dump(dump: Dump, *, samples: int = SAMPLES, seed: int = 0) -> Estimate:
    """Estimate the size of dumps of what ``dump`` holds at level 0; otherwise as ``estimate``."""
    survey = Survey(replace(dump, level=0), default_threads())
    try:
        chosen = _choose(survey, samples, seed)
    finally:
        survey.close()
    return _measure(dump, survey, chosen)


def _choose(survey: Survey, samples: int, seed: int) -> list[Int64Array]:
    """Page frame numbers of the sample of each kind, in order."""
    random = np.random.default_rng(seed)
    ranks = [
        np.sort(random.choice(count, min(count, samples), replace=False, shuffle=False))
        for count in survey.kept.tolist()
    ]
    chosen: list[list[Int64Array]] = [[] for _ in PageKind]
    seen = np.zeros(_KINDS, dtype=np.int64)
    for window in survey.windows():
        counts = np.bincount(window.kinds[window.kinds != ABSENT], minlength=_KINDS)
        for kind in np.flatnonzero(counts).tolist():
            low, high = np.searchsorted(ranks[kind], (seen[kind], seen[kind] + counts[kind]))
            if low < high:
                pages = np.flatnonzero(window.kinds == kind)
                chosen[kind].append(pages[ranks[kind][low:high] - seen[kind]] + window.first)
        seen += counts
    return [np.concatenate([np.empty(0, dtype=np.int64), *parts]) for parts in chosen]


def _measure(dump: Dump, survey: Survey, chosen: list[Int64Array]) -> Estimate:
    size = dump.kinds.page_size
    codecs = list(_codecs())
    taken = {codec.name: np.zeros((2, _KINDS)) for codec in codecs}  # mean, variance
    sampled = np.zeros(_KINDS, dtype=np.int64)
    zeros = np.zeros(_KINDS)
    warnings = []
    reader = PageReader(dump)
    for kind, pfns in zip(PageKind, chosen, strict=True):
        pages, count, zero = [np.empty((0, size), dtype=np.uint8)], 0, 0
        for start in range(0, len(pfns), _BATCH):
            some = pfns[start : start + _BATCH]
            read = reader.read(Batch(some, np.full(len(some), kind, dtype=np.uint8)))
            pages.append(read.data[read.stored])
            reader.give_back(read)
            count += int((~read.lost).sum())
            zero += int(read.zero.sum())
        total = int(survey.kept[kind])
        if count < len(pfns):
            warnings.append(f"{NAMES[kind]}: {len(pfns) - count} of {len(pfns)} pages not readable")
        if count < min(2, total):  # one page does not show how far others differ
            for row in taken.values():
                row[0, kind] = size
            warnings.append(f"{NAMES[kind]}: nothing to compress: {total} count as whole pages")
            continue
        if not count:
            continue
        sampled[kind], zeros[kind] = count, zero / count
        stored = np.concatenate(pages)
        for codec in codecs:
            lengths = np.zeros(count)
            lengths[: len(stored)] = packed_sizes(codec, stored)
            taken[codec.name][:, kind] = lengths.mean(), lengths.var(ddof=1) if count > 1 else 0
    return Estimate(
        page_size=size,
        pages=survey.kept.astype(np.int64),
        lacking=survey.left_out.astype(np.int64),
        sampled=sampled,
        zeros=zeros,
        samples={name: Sample(mean, variance) for name, (mean, variance) in taken.items()},
        overhead=_overhead(dump, survey),
        warnings=tuple(warnings),
    )


def _codecs() -> Iterator[Codec]:
    for name in CODEC_NAMES:
        with suppress(UnsupportedError):
            yield find_codec(name)


def _overhead(dump: Dump, survey: Survey) -> int:
    block = dump.kinds.page_size
    notes = align_up(len(dump.notes), block) + block
    return block + notes + bitmap_blocks(survey.max_mapnr, block) * block


def make_report(estimated: Estimate) -> Report:
    """What ``vmcorefs estimate --json`` prints; sizes are in bytes."""
    return {
        "page_size": estimated.page_size,
        "pages": {
            NAMES[kind]: {
                "count": int(estimated.pages[kind]),
                "lacking": int(estimated.lacking[kind]),
                "sampled": int(estimated.sampled[kind]),
                "zeros": round(float(estimated.zeros[kind]), 4),
            }
            for kind in PageKind
            if kind is not PageKind.ZERO
        },
        "levels": {
            str(level): {
                "pages": estimated.kept(level),
                "sizes": {
                    codec: {
                        "size": estimated.size(level, codec),
                        "margin": estimated.margin(level, codec),
                    }
                    for codec in estimated.samples
                },
            }
            for level in LEVELS
        },
        "warnings": list(estimated.warnings),
    }


def format_report(report: Report) -> list[str]:
    """A report for a person: the lines of two tables."""
    size = report["page_size"]
    lines = [f"{'pages':<14}{'count':>12}{'size':>12}{'zeros':>8}{'looked at':>11}"]
    for name, row in report["pages"].items():
        if row["count"]:
            zeros = f"{100 * row['zeros']:.0f} %" if row["sampled"] else ""
            lines.append(
                f"{name:<14}{row['count']:>12}{format_size(row['count'] * size):>12}"
                f"{zeros:>8}{row['sampled']:>11}"
            )
    lacking = sum(row["lacking"] for row in report["pages"].values())
    if lacking:
        lines.append(f"{'left out':<14}{lacking:>12}{format_size(lacking * size):>12}")
    codecs = list(report["levels"]["0"]["sizes"])
    lines += ["", f"{'dump level':<14}{'pages':>12}" + "".join(f"{c:>20}" for c in codecs)]
    for level, row in report["levels"].items():
        cells = (
            f"{format_size(cell['size'])} ± {100 * cell['margin'] / max(cell['size'], 1):.0f} %"
            for cell in row["sizes"].values()
        )
        lines.append(f"{level:<14}{row['pages']:>12}" + "".join(f"{c:>20}" for c in cells))
    return lines + [f"warning: {warning}" for warning in report["warnings"]]
