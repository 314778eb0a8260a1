"""``vmcorefs mount``."""

from __future__ import annotations

import click
from msgspec.structs import replace

from vmcorefs.commands.opening import IMAGES_HELP, capture_options, find_evidence, open_capture
from vmcorefs.config import CaptureConfig
from vmcorefs.daemon import configure_logging, run_in_background, run_in_foreground
from vmcorefs.fuse.reservation import Reservation
from vmcorefs.fuse.serve import parse_mount_options
from vmcorefs.piece import Far
from vmcorefs.reports.report.files import report_files
from vmcorefs.system.memory import keep_heap_small
from vmcorefs.system.terminal import print_lines


@click.command(epilog=IMAGES_HELP)
@capture_options
@click.argument("mountpoint")
@click.option("--allow-other", is_flag=True, help="Let every user read the tree (mode 0444).")
@click.option(
    "-o",
    "mount_options",
    multiple=True,
    metavar="OPTION",
    help="plane=kernel|mapped|plain: the best plane that may serve reads; direct_io: keep them"
    " out of the page cache, for bulk copies in little memory; read_timeout=SECONDS: how long an"
    " input may take to answer before the read fails (default: 30; 0: no limit).",
)
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground.")
@click.option("--log", "log_path", metavar="FILE", help="Append the log to FILE.")
@click.option("--no-seccomp", is_flag=True, help="Do not filter the daemon's system calls.")
@click.option("-v", "--verbose", is_flag=True, help="Log more than warnings, in the foreground.")
def mount(
    config: CaptureConfig,
    verify: str | None,
    mountpoint: str,
    *,
    allow_other: bool,
    mount_options: tuple[str, ...],
    foreground: bool,
    log_path: str | None,
    no_seccomp: bool,
    verbose: bool,
) -> None:
    """Mount the memory in IMAGE... at MOUNTPOINT.

    Only the memory has to be given: the memory map, where the bytes of the file belong, and the
    kernel's notes are found in it; "vmcorefs check IMAGE" shows how. Returns when the tree can be
    read, and leaves a daemon running. The tree holds vmcore, oldmem, kcore, crash_notes,
    crash_notes.d/cpuN, cpu/N/registers, version, vmcoreinfo, dmesg, kallsyms, vmlinux,
    modules/NAME.ko.debug, volatility3's symbol file, gdbinit, iomem, report.txt, report.json and
    layout.json, read-only and for their owner alone; with --dump-level, vmcore.kdump too. What the
    image does not have is left out.
    """
    keep_heap_small()
    reservation = Reservation(mountpoint)
    target = parse_mount_options(reservation.mountpoint, mount_options, allow_other=allow_other)
    config = replace(config, far=Far(target.read_timeout))
    evidence = find_evidence(config, verify)
    evidence.refuse_to_hide(mountpoint)
    if log_path is not None:
        evidence.refuse(log_path)
    capture = open_capture(config, verify, target.mountpoint, add=report_files)
    for warning in capture.image.warnings:
        print_lines(f"vmcorefs: warning: {warning}", err=True)
    if foreground:
        configure_logging(log_path, background=False, verbose=verbose)
        run_in_foreground(capture, target, reservation, filtered=not no_seccomp)
    else:
        run_in_background(capture, target, reservation, log_path, filtered=not no_seccomp)
