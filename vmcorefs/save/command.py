"""From an opened image to a dump of it: what is in it, and in which format."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

import numpy as np
from msgspec.structs import replace

from vmcorefs.config import CaptureConfig
from vmcorefs.core.elf.triage import pack_triage
from vmcorefs.core.pages.dump_level import MAX_DUMP_LEVEL, KindArray, PageKind
from vmcorefs.core.pages.selection import PageKinds
from vmcorefs.core.space.extents import Kind, make_extents, overlay
from vmcorefs.core.space.ranges import round_out, subtract, total_size
from vmcorefs.errors import ConfigError, FormatError
from vmcorefs.image import MemoryImage
from vmcorefs.output.places import STDOUT, check_place, is_local
from vmcorefs.reader import Reader
from vmcorefs.save.codecs import DEFAULT_CODEC, find_codec
from vmcorefs.save.dump import Dump, Triage
from vmcorefs.save.formats.kdump import KdumpFormat
from vmcorefs.save.origin import find_origin
from vmcorefs.save.report import Report
from vmcorefs.save.saver import Console, Order, Write, save
from vmcorefs.sources.evidence import NOTHING, Evidence
from vmcorefs.system.memory import trim_heap
from vmcorefs.system.urls import without_password
from vmcorefs.tree.vmcore import notes_file

MAX_DEFAULT_THREADS = 8
"""Threads for which docs/save.md says how much memory is enough."""

FORMATS = ("kdump", "elf", "flattened")

TRIAGE_LEVELS = (30,)
"""What the header of a triage dump says: it may lack pages of every kind, but not those of zeros,
which a reader would take for left out."""


class EveryPage:
    """The kinds of pages where they are not known: all are kept."""

    def __init__(self, page_size: int) -> None:
        self.page_size = page_size

    def of(self, first: int, count: int) -> KindArray:
        """See ``PageKinds.of``."""
        return np.full(count, PageKind.KERNEL, dtype=np.uint8)


def read_levels(text: str | None, config: CaptureConfig) -> tuple[int, ...]:
    """The dump levels of the command line, or else of the capture's description, or else all.

    Raises:
        ConfigError: as ``parse_levels`` says.
    """
    if text is not None:
        return parse_levels(text)
    return (MAX_DUMP_LEVEL if config.dump_level is None else config.dump_level,)


def parse_levels(text: str) -> tuple[int, ...]:
    """Read a dump level, or several with commas between them, as makedumpfile's ``-d``.

    Raises:
        ConfigError: if one of them is no number from 0 to ``MAX_DUMP_LEVEL``.
    """
    levels = []
    for word in text.split(","):
        # no longer than it can be: Python refuses to convert thousands of digits
        level = int(word) if re.fullmatch("[0-9]{1,3}", word) else -1
        if not 0 <= level <= MAX_DUMP_LEVEL:
            raise ConfigError(
                f"dump level {word!r}: expected 0 to {MAX_DUMP_LEVEL}, or several with commas"
            )
        levels.append(level)
    return tuple(levels)


def choose_format(output: str, wanted: str | None, parts: int) -> str:
    """The chosen format, or the default for a place: kdump for a file, flattened for a stream.

    Raises:
        ConfigError: if the place cannot take the wanted one.
    """
    if is_local(output):
        chosen = wanted or "kdump"
    elif wanted == "kdump":
        raise ConfigError(
            f"{_call(output)} takes bytes in order only, and a kdump file is not written in order;"
            " --format flattened is made for that (makedumpfile -R turns it into a kdump file)"
        )
    else:
        chosen = wanted or "flattened"
    if parts > 1 and (chosen != "kdump" or not is_local(output)):
        raise ConfigError("--split is for kdump files of this machine")
    return chosen


def make_order(  # all but the first four by name
    output: str,
    levels: tuple[int, ...],
    wanted: str | None,
    codec: str | None,
    *,
    parts: int = 1,
    resume: bool = False,
    force: bool = False,
) -> Order:
    """Put together what is asked for on the command line.

    Args:
        output: Where to.
        levels: Dump levels, in the order in which they are tried.
        wanted: The format; None for the place's own.
        codec: How pages are compressed; None for the format's own.
        parts: Files to write.
        resume: Continue what an earlier try has left.
        force: Replace what is there.

    Raises:
        ConfigError: if it cannot be had.
        UnsupportedError: if the codec's library is not installed.
    """
    check_place(output)
    chosen = choose_format(output, wanted, parts)
    if chosen == "elf" and codec not in (None, "none"):
        raise ConfigError(f"an ELF core holds pages as they are: --codec {codec} is for the others")
    if resume and chosen != "kdump":
        raise ConfigError(
            f"--resume is for --format kdump: a dump in the format {chosen} is started"
            " over with --force"
        )
    if codec is None:
        codec = "none" if chosen == "elf" else DEFAULT_CODEC
    find_codec(codec)  # a library that is missing: before the image is looked through
    return Order(output, levels, chosen, codec, parts, resume=resume, force=force)


def refuse_with_triage(options: Mapping[str, object]) -> None:
    """Refuse options that a triage dump knows nothing of.

    Args:
        options: Each by its name; one that is false was not given.

    Raises:
        ConfigError: if one was given.
    """
    given = next((name for name, value in options.items() if value), None)
    if given is not None:
        raise ConfigError(f"{given} is not for --triage, which saves what a report needs, at once")


def _call(output: str) -> str:
    return "standard output" if output == STDOUT else without_password(output)


def default_threads() -> int:
    """A thread for each CPU that this process may run on, as far as memory is bounded."""
    return min(len(os.sched_getaffinity(0)), MAX_DEFAULT_THREADS)


def make_dump(
    image: MemoryImage, warnings: list[str], triage: Triage | None = None
) -> tuple[Dump, int]:
    """What a dump of ``image`` is to hold.

    Args:
        image: The dead machine.
        warnings: Gets a line for each thing that a person should know.
        triage: The pages that are wanted, if not all that a dump level keeps.

    Returns:
        The dump, at level 0, and how many bytes of RAM no input holds: they are not part of it.

    Raises:
        SourceIOError: if an input cannot be read.
    """
    notes = notes_file(image)
    dump = Dump(
        ram=subtract(image.plan.elfcorehdr.ram, image.missing),
        memory=Reader("memory", image.memory, image.sources),
        kinds=_find_kinds(image, warnings) if triage is None else EveryPage(image.page_size),
        level=0,
        notes=notes.pread(notes.size, 0),
        vmcoreinfo=image.notes.vmcoreinfo,
        elfcorehdr=image.plan.elfcorehdr,
        told=image.kdump,
        origin=find_origin(image.inputs, image.memory),
    )
    if triage is not None:
        dump = _only(dump, triage)
    return dump, total_size(image.missing)


def _only(dump: Dump, triage: Triage) -> Dump:
    """The same dump with nothing but the pages that a triage dump holds."""
    page, table = dump.kinds.page_size, dump.memory.table
    others = make_extents(subtract(round_out(dump.ram, page), triage.pages), kind=Kind.EXCLUDED)
    return replace(
        dump,
        memory=Reader(dump.memory.name, overlay(table, others), dump.memory.sources),
        kinds=EveryPage(page),
        notes=dump.notes + pack_triage(triage.contents, dump.elfcorehdr.header.byte_order),
        triage=triage,
    )


def _find_kinds(image: MemoryImage, warnings: list[str]) -> PageKinds:
    try:
        kinds = image.pages
    except FormatError as error:
        # a dump that is too big is better than none
        warnings.append(f"{error}; only pages of zeros are left out")
        return EveryPage(image.page_size)
    warnings.extend(kinds.unknown)
    return kinds


def make_writer(chosen: str, codec: str, threads: int) -> Write:
    """The format of that name.

    Raises:
        UnsupportedError: if the codec's library is not installed.
    """
    # here: a dump has one format
    if chosen == "elf":
        from vmcorefs.save.formats.elf import ElfFormat  # noqa: PLC0415

        return ElfFormat(threads)
    found = find_codec(codec)
    if chosen == "flattened":
        from vmcorefs.save.formats.flattened import FlattenedFormat  # noqa: PLC0415

        return FlattenedFormat(KdumpFormat(found, threads, once=True))
    return KdumpFormat(found, threads)


def save_image(
    image: MemoryImage,
    order: Order,
    threads: int,
    console: Console,
    evidence: Evidence = NOTHING,
    triage: Triage | None = None,
) -> Report:
    """Save the memory of a dead machine as ``order`` says.

    Args:
        image: The dead machine.
        order: What is asked for.
        threads: Threads that compress.
        console: Where messages go.
        evidence: What may not be written to.
        triage: What to save, for a triage dump.

    Raises:
        VmcorefsError: as ``make_writer``, ``make_dump`` and ``saver.save`` say.
    """
    write = make_writer(order.format, order.codec, threads)
    warnings = list(image.warnings)
    dump, missing = make_dump(image, warnings, triage)
    for warning in warnings:
        console.warn(f"warning: {warning}")
    log = image.log if order.log else None
    trim_heap()  # what the search took would stay beside what the threads are about to take
    report = save(dump, log, order, write, console, missing=missing, evidence=evidence)
    later = image.take_unreadable()  # of the page array
    for warning in later:
        console.warn(f"warning: {warning}")
    return replace(report, warnings=(*warnings, *report.warnings, *later))
