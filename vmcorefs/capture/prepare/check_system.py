"""Checks of the system around the dump: the reserved memory, the crash kernel, the units."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

from vmcorefs.capture.estimate import needed_memory, read_meminfo
from vmcorefs.capture.prepare.install import outdated_files
from vmcorefs.capture.prepare.load import (
    STATE_PATH,
    is_loaded,
    is_outdated,
    plan_load,
    read_state,
    reserved_size,
)
from vmcorefs.capture.prepare.report import Check, error, ok, warning
from vmcorefs.capture.programs import run
from vmcorefs.capture.run.dumps import VMCORE
from vmcorefs.capture.run.saver import make_order
from vmcorefs.capture.settings import SETTINGS_PATH, Settings
from vmcorefs.core.space.units import format_size
from vmcorefs.errors import UnsupportedError, VmcorefsError
from vmcorefs.save.command import make_writer


def check_system(settings: Settings) -> Iterator[Check]:
    """Check everything but the target."""
    yield _check_dump(settings)
    yield from _check_reserved()
    yield from _check_files(settings)
    yield from _check_loaded(settings)
    yield from _check_units(settings)
    yield _check_fuse()


def _check_dump(settings: Settings) -> Check:
    dump, url = settings.dump, settings.target.url
    if dump.format == "vmcore" and dump.levels:
        if url:
            return error(
                "dump", f"format vmcore is for a directory, not for {settings.target.shown_url}"
            )
        return ok("dump", "a sparse copy of /proc/vmcore")
    order = make_order(dump, f"{url or settings.target.directory}/{VMCORE}", dump.levels)
    try:
        make_writer(order.format, order.codec, 1)
    except VmcorefsError as problem:
        return error("dump", str(problem))
    return ok("dump", f"format {order.format}, codec {order.codec}, level {dump.level}")


def _check_reserved() -> Iterator[Check]:
    try:
        size = reserved_size()
    except UnsupportedError as problem:
        yield error("crashkernel", str(problem))
        return
    needed = needed_memory(read_meminfo()["MemTotal"])
    if size == 0:
        yield error("crashkernel", f"no memory is reserved: boot with crashkernel={needed >> 20}M")
    elif size < needed:
        yield warning(
            "crashkernel",
            f"{format_size(size)} are reserved; less than {format_size(needed)} was not seen to be"
            " enough",
        )
    else:
        yield ok("crashkernel", f"{format_size(size)} are reserved")


def _check_files(settings: Settings) -> Iterator[Check]:
    plan = plan_load(settings)
    for path in (plan.kernel, plan.initrd):
        if os.path.isfile(path):
            yield ok("load", path)
        else:
            yield error("load", f"{path}: no such file; see [load]")
    if settings.load.save_from == "initramfs" and is_outdated(plan, SETTINGS_PATH):
        yield error(
            "load",
            f"{plan.initrd}: older than {SETTINGS_PATH}, which it holds a copy of: make a new"
            " one with vmcorefs capture initramfs",
        )
    if shutil.which("kexec") is None:
        yield error("load", "no kexec program: install kexec-tools")


def _check_loaded(settings: Settings) -> Iterator[Check]:
    try:
        loaded = is_loaded()
    except UnsupportedError:
        return  # said already
    state = read_state() if loaded else None
    if not loaded:
        yield error("loaded", "no crash kernel is loaded: systemctl enable --now vmcorefs-load")
    elif state is None:
        yield warning("loaded", f"another tool's crash kernel is loaded ({STATE_PATH} is missing)")
    elif state != plan_load(settings):
        yield error("loaded", "not what the settings say any more: systemctl reload vmcorefs-load")
    else:
        yield ok("loaded", f"{state.kernel}, {state.initrd}")


def _check_units(settings: Settings) -> Iterator[Check]:
    outdated = outdated_files("/")
    if outdated:
        yield error(
            "units",
            f"{', '.join(outdated)}: missing, or of another version: vmcorefs capture install",
        )
    else:
        yield ok("units", "installed")
    if shutil.which("systemctl") is None:
        if settings.load.save_from == "root":
            yield error("units", "no systemd here: save_from = initramfs does without")
        return
    done = run(["systemctl", "is-enabled", "vmcorefs-load.service"], "cannot ask systemctl")
    answer = done.stdout.strip() or done.stderr.strip().split("\n")[0]
    if done.returncode == 0:
        yield ok("units", f"vmcorefs-load.service: {answer}")
    else:
        yield warning(
            "units",
            f"vmcorefs-load.service: {answer}: at the next boot no crash kernel will be loaded",
        )


def _check_fuse() -> Check:
    modules = Path("/lib/modules") / platform.release()
    if os.path.exists("/dev/fuse") or any((modules / "kernel/fs/fuse").glob("fuse.ko*")):
        return ok("fuse", "there: the memory will be mounted at /run/vmcorefs")
    return warning("fuse", "not in this kernel: the memory will be saved, but not mounted")
