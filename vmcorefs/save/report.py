"""What a save did: for people, and for programs."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from vmcorefs.core.pages.dump_level import PageKind
from vmcorefs.core.space.units import counted, format_size
from vmcorefs.output.losses import Losses
from vmcorefs.save.written import Counts

NAMES: Mapping[PageKind, str] = {
    **{kind: kind.name.lower() for kind in PageKind},
    PageKind.CACHE_PRIVATE: "private cache",
}
"""What people and programs call each kind."""


class Report(msgspec.Struct, frozen=True):
    """What a save did.

    Attributes:
        names: The files, by the names that they have now.
        format: ``kdump``, ``elf`` or ``flattened``.
        codec: How pages are compressed, or ``none``.
        level: The dump level in use.
        page_size: Bytes in a page.
        kept: Pages that are in the dump.
        left_out: Pages that the level left out.
        losses: Bytes that could not be read.
        missing: Bytes of RAM that no input holds (``--truncated``).
        resumed: Pages that an earlier try had written.
        size: Bytes of all files together.
        seconds: How long it took.
        sha256: The sum of each file; None if it was not asked for.
        log: The file of the kernel's log; None if there is none.
        warnings: What a person should know.
        triage: How many pages a triage dump has for each thing; None for any other.
    """

    names: tuple[str, ...]
    format: str
    codec: str
    level: int
    page_size: int
    kept: Counts
    left_out: Counts
    losses: Losses
    missing: int
    resumed: int
    size: int
    seconds: float
    sha256: tuple[str | None, ...]
    log: str | None
    warnings: tuple[str, ...]
    triage: Mapping[str, int] | None = None

    @property
    def is_complete(self) -> bool:
        """Whether everything is in it that should be."""
        return not self.losses.size

    @property
    def memory(self) -> int:
        """Bytes of RAM that the dump is of."""
        return int(self.kept.sum() + self.left_out.sum()) * self.page_size


def as_dict(report: Report) -> dict[str, object]:
    """The report for programs; docs/save.md says what its keys are."""
    return {
        "version": 1,
        "complete": report.is_complete,
        "files": [
            {"name": name, "sha256": digest}
            for name, digest in zip(report.names, report.sha256, strict=True)
        ],
        "dmesg": report.log,
        "format": report.format,
        "codec": report.codec,
        "dump_level": report.level,
        "triage": None if report.triage is None else dict(report.triage),
        "page_size": report.page_size,
        "pages": {
            kind.name.lower(): {
                "kept": int(report.kept[kind]),
                "left_out": int(report.left_out[kind]),
            }
            for kind in PageKind
        },
        "resumed_pages": report.resumed,
        "memory_bytes": report.memory,
        "dump_bytes": report.size,
        "ratio": round(report.memory / report.size, 3) if report.size else None,
        "seconds": round(report.seconds, 3),
        "missing_bytes": report.missing,
        "lost_bytes": report.losses.size,
        "lost": report.losses.rows("paddr"),
        "warnings": list(report.warnings),
    }


def format_summary(report: Report) -> list[str]:
    """The report for people: some lines."""
    lost = report.losses.lines("... (--json lists them)")
    return [*_pages(report), *_files(report), *lost]


def describe_losses(report: Report) -> str:
    """What is wrong with a dump that is not complete, in one line."""
    return report.losses.describe(report.names[0], "are not in the dump")


def _pages(report: Report) -> list[str]:
    lines = [f"{'pages':<14}{'kept':>12}{'left out':>12}   of {report.page_size} bytes"]
    if report.triage is not None:
        lines += [f"{what:<14}{count:>12}" for what, count in report.triage.items() if count]
    for kind, name in NAMES.items():
        kept, left_out = int(report.kept[kind]), int(report.left_out[kind])
        if kept or left_out:
            lines.append(f"{name:<14}{kept:>12}{left_out:>12}")
    kept, left_out = int(report.kept.sum()), int(report.left_out.sum())
    lines.append(f"{'all':<14}{kept:>12}{left_out:>12}")
    return lines


def _files(report: Report) -> list[str]:
    ratio = f", 1 to {report.memory / report.size:.1f}" if report.size else ""
    rate = report.memory / report.seconds if report.seconds else 0
    codec = f", {report.codec}" if report.codec != "none" else ""
    what = f"level {report.level}" if report.triage is None else "triage"
    how = f"{report.format}{codec}, {what}"
    resumed = f"; {counted(report.resumed, 'page')} already there" if report.resumed else ""
    sizes = f"{format_size(report.memory)} of memory in {format_size(report.size)}{ratio}"
    speed = f"in {report.seconds:.1f} s, {format_size(int(rate))}/s"
    lines = [f"{sizes} ({how}), {speed}{resumed}"]
    if report.missing:
        lines.append(f"{format_size(report.missing)} of RAM are in no input (--truncated)")
    if report.log is not None:
        lines.append(f"log     {report.log}")
    for name, digest in zip(report.names, report.sha256, strict=True):
        lines.append(f"sha256  {digest}  {name}" if digest is not None else f"dump    {name}")
    return lines
