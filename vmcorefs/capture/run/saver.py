"""Saving the crashed kernel's memory, in the capture kernel.

dmesg goes first, and is synced: it is what is wanted most, and what fits nearly always. Then a
report, if it can be made, and a triage dump, if the settings ask for one; then the dump, under
another name until it is whole; then layout.json; then summary.json, with which the dump counts as
complete.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import closing

import msgspec
from msgspec.structs import replace

from vmcorefs.capture.estimate import MEMINFO, read_meminfo
from vmcorefs.capture.run.dumps import DMESG, LAYOUT, SUMMARY, TRIAGE, VMCORE, dump_name
from vmcorefs.capture.run.place import Place, Say, open_place
from vmcorefs.capture.run.report import report_apart, triage_apart
from vmcorefs.capture.settings import Codec, DumpSettings, Settings
from vmcorefs.config import CaptureConfig
from vmcorefs.core.space.units import format_size
from vmcorefs.errors import IncompleteError, StoppedError, UnsupportedError, VmcorefsError
from vmcorefs.image import MemoryImage, open_image
from vmcorefs.output.extract import extract
from vmcorefs.output.places import is_local, open_target
from vmcorefs.piece import Piece
from vmcorefs.save.codecs import DEFAULT_CODEC, find_codec
from vmcorefs.save.command import TRIAGE_LEVELS, choose_format, default_threads, save_image
from vmcorefs.save.dump import Triage
from vmcorefs.save.report import Report, as_dict
from vmcorefs.save.saver import Console, Order
from vmcorefs.sources.evidence import gather
from vmcorefs.tree.layout import layout_file
from vmcorefs.tree.vmcore import whole_vmcore

_REPORT_SECONDS = 5.0
_SHARE = 4
"""Of the time limit, what a triage dump may take to be found where another dump is to follow."""

NEEDED_AVAILABLE = 64 << 20
"""Bytes that saving was seen to take at least, above the Python that runs already."""


class Saved(msgspec.Struct, frozen=True):
    """What was saved.

    Attributes:
        path: What the names of its files begin with: a directory, or a URL.
        seconds: How long it took.
    """

    path: str
    seconds: float


def save(settings: Settings, vmcore: str, say: Say) -> Saved:
    """Save what ``vmcore`` has to the target.

    Args:
        settings: Where to, and how.
        vmcore: /proc/vmcore.
        say: Called with a line for each step.

    Raises:
        IncompleteError: if the dump lacks bytes that could not be read; all else is saved.
        VmcorefsError: if anything else fails; what has been written by then stays.
    """
    start = time.monotonic()
    check_memory(say)
    config = CaptureConfig(images=(Piece(vmcore),))
    with (
        open_place(settings.target, settings.keep, gather(config), say) as place,
        closing(open_image(config)) as image,
    ):
        path = place.make(dump_name(image.time))
        say(f"{path}: saving the memory of Linux {_release(image) or 'of an unknown release'}")
        _save_log(image, path, say)
        _save_report(image, path, say)
        triage = _save_triage(image, path, settings, place, say)
        facts = _save_large(image, path, settings.dump, place, say) or triage
        layout = layout_file({VMCORE: whole_vmcore(image)})
        _put(path, LAYOUT, layout.pread(layout.size, 0))
        seconds = time.monotonic() - start
        _put(path, SUMMARY, _summary(image, path, facts, triage, seconds))
        if not facts["complete"]:
            raise IncompleteError(
                f"{path}: {facts['lost_bytes']} bytes could not be read; all else is in"
                f" {VMCORE if settings.dump.levels else TRIAGE}.incomplete"
            )
        place.prune()
    say(f"{path}: complete after {seconds:.1f} s")
    return Saved(path, seconds)


def check_memory(say: Say, path: str = MEMINFO) -> None:
    """Say so if this kernel has too little memory left: what follows may be killed for it."""
    try:
        info = read_meminfo(path)
    except UnsupportedError as error:
        say(f"warning: {error}")  # nothing here may keep the memory from being saved
        return
    available = info.get("MemAvailable", info["MemFree"])
    if available < NEEDED_AVAILABLE:
        say(
            f"warning: {format_size(available)} of memory are available, and saving takes"
            f" {format_size(NEEDED_AVAILABLE)}: crashkernel= reserves too little"
        )


def _save_log(image: MemoryImage, path: str, say: Say) -> None:
    if image.log is None:
        say("warning: the kernel's log cannot be read")
        return
    _put(path, DMESG, image.log)
    say(f"{path}/{DMESG}: {len(image.log)} bytes")


def _save_report(image: MemoryImage, path: str, say: Say) -> None:
    if image.kernel is None:
        return  # it would say no more than that
    try:
        for name, data in report_apart(image).items():
            _put(path, name, data)
            say(f"{path}/{name}: {len(data)} bytes")
    except (VmcorefsError, OSError) as error:
        say(f"warning: {error}")  # nothing here may keep the memory from being saved


def make_order(settings: DumpSettings, output: str, levels: tuple[int, ...]) -> Order:
    """What is asked of ``vmcorefs save``, for a dump in a format of its.

    Args:
        settings: Format and codec.
        output: The dump's file, or its URL.
        levels: Dump levels, in the order in which they are tried.
    """
    # what is written in order alone is kdump's flattened form: choose_format knows
    wanted = "elf" if settings.format == "elf" else None
    return Order(
        output,
        levels,
        choose_format(output, wanted, parts=1),
        "none" if settings.format == "elf" else settings.codec,
        force=True,
        log=False,
        sha256=settings.sha256,
    )


def choose_codec(wanted: Codec, say: Say) -> Codec:
    """The codec of the settings, or zlib if its library is missing: nobody can install it now."""
    try:
        find_codec(wanted)
    except UnsupportedError as error:
        say(f"warning: {error}, and compresses the dump instead")
        return DEFAULT_CODEC
    return wanted


def _save_triage(
    image: MemoryImage, path: str, settings: Settings, place: Place, say: Say
) -> Mapping[str, object]:
    """Save what a report needs, if that is asked for; what was saved, or why it was not.

    Whatever goes wrong with it must not cost the dump that is to follow.
    """
    if not settings.dump.has_triage:
        return {}
    limit = settings.finish.timeout_seconds
    try:
        triage = triage_apart(image, limit / _SHARE if settings.dump.levels else limit)
        output = f"{path}/{TRIAGE}"
        return _save_dump(image, output, settings.dump, TRIAGE_LEVELS, place, say, triage)
    except StoppedError:
        raise
    except (VmcorefsError, OSError) as error:
        if not settings.dump.levels:
            raise
        say(f"warning: {error}")
        return {"complete": False, "why": str(error)}


def _save_large(
    image: MemoryImage, path: str, settings: DumpSettings, place: Place, say: Say
) -> Mapping[str, object]:
    """Save the dump that is no triage dump, if there is to be one; what was saved."""
    if not settings.levels:
        return {}
    if settings.format == "vmcore":
        return _copy(image, path, place, say)
    return _save_dump(image, f"{path}/{VMCORE}", settings, settings.levels, place, say)


def _save_dump(  # all that a dump is made of
    image: MemoryImage,
    output: str,
    settings: DumpSettings,
    levels: tuple[int, ...],
    place: Place,
    say: Say,
    triage: Triage | None = None,
) -> Mapping[str, object]:
    """Save in one of the formats of ``vmcorefs save``; its report, as JSON has it."""
    console = Console(
        bar=False, say=say, warn=say, step=place.check_room, make_room=place.check_room
    )
    codec = choose_codec(settings.codec, say)
    order = make_order(replace(settings, codec=codec), output, levels)
    report = save_image(image, order, default_threads(), console, triage=triage)
    say(_describe(report))
    return as_dict(report)


def _describe(report: Report) -> str:
    return (
        f"{', '.join(report.names)}: {format_size(report.memory)} of memory in"
        f" {format_size(report.size)} ({report.format}, {report.codec}, dump level {report.level}),"
        f" {report.seconds:.1f} s"
    )


def _copy(image: MemoryImage, path: str, place: Place, say: Say) -> Mapping[str, object]:
    """Copy /proc/vmcore as it is, but for its zeros."""
    if not is_local(path):
        raise UnsupportedError(
            f"{path}: format vmcore is for a directory; kdump goes elsewhere too"
        )
    file = whole_vmcore(image)
    outcome = extract(file, f"{path}/{VMCORE}", force=True, progress=_Progress(place, say))
    say(f"{outcome.name}: {outcome.size} bytes, {format_size(outcome.written)} not zeros")
    return {
        "complete": not outcome.losses.size,
        "format": "vmcore",
        "dump_bytes": outcome.size,
        "lost_bytes": outcome.losses.size,
        "lost": outcome.losses.rows("offset"),
    }


class _Progress:
    """A line every few seconds, and room on the target."""

    def __init__(self, place: Place, say: Say) -> None:
        self._place, self._say = place, say
        self._last = self._start = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        self._place.check_room()
        now = time.monotonic()
        if now - self._last >= _REPORT_SECONDS:
            self._last = now
            rate = done / (now - self._start)
            self._say(
                f"{done * 100 // total} %, {format_size(int(rate))}/s,"
                f" {(total - done) / rate:.0f} s left"
            )


def _summary(
    image: MemoryImage,
    path: str,
    facts: Mapping[str, object],
    triage: Mapping[str, object],
    seconds: float,
) -> bytes:
    summary = {
        **facts,
        "triage_dump": triage or None,
        "dmesg": f"{path}/{DMESG}" if image.log is not None else None,
        "release": _release(image),
        "crash_time": int(image.time),
        "seconds": round(seconds, 1),
        "host": os.uname().nodename,
    }
    return json.dumps(summary, indent=1).encode() + b"\n"


def _release(image: MemoryImage) -> str | None:
    vmcoreinfo = image.notes.vmcoreinfo
    return vmcoreinfo.release if vmcoreinfo else None


def _put(path: str, name: str, data: bytes) -> None:
    """Write a small file, which has its name only when all of it is safe."""
    with closing(open_target(f"{path}/{name}", force=True)) as target:
        target.pwrite(data, 0)
        target.sync()
        target.publish()
