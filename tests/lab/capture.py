"""Crash a real Linux kernel in QEMU, or stop it, and keep what a user would have afterwards.

From the command line::

    python -m tests.lab.capture OUTDIR [--memory 5G] [--cpus 4] [--load file] [--kernel newer] ...

and without ``OUTDIR`` the capture is kept in the cache. From Python::

    from tests.lab.capture import Recipe, cached_capture, debug_vmlinux, make_capture

    capture = cached_capture(Recipe(memory="5G", cpus=4, load="file"))
    capture.vmcore, capture.config, capture.text("iomem"), debug_vmlinux(capture.recipe.kernel)

With ``load="none"`` nothing crashes: the machine is stopped from outside before any crash kernel
was loaded, as a hypervisor's snapshot would be taken. ``cached_snapshot`` and ``make_snapshot``
take such recipes too, and what they return has no ``vmcore``. Such a machine may be of another
architecture.

The directory then holds

===================  ==========================================================================
``capture.toml``     describes the capture to vmcorefs
``ram``              the guest's memory as QEMU keeps it: below 2816 MiB flat; else [0, 2 GiB)
                     at offset 0 and what lies from 4 GiB on right behind it; arm64's begins at
                     paddr 1 GiB. The capture kernel
                     has run in it: its own range and some low pages are no longer the crashed
                     kernel's (with load=none it has not: all is the running kernel's)
``vmcore``           ``/proc/vmcore`` as the capture kernel gave it, sparse; not with load=none
``lowmem``           the copy of low memory that kexec's purgatory made (only with load=kexec);
                     ``lowmem.range`` says, as ``/proc/iomem`` would, what was copied
``iomem`` ...        what the crashed kernel said of itself: ``crash_notes``, ``vmcoreinfo``,
                     ``firmware-memmap``, ``symbols``, ``dmesg``, ``e820`` (of dmesg), ``uname``,
                     ``version`` (/proc/version), ``tasks`` (pid and name), ``kexec`` (the
                     loader's debug output; not with load=none), ``kallsyms-sums`` and ``btf-sum``
                     (lines and MD5 of /proc/kallsyms without and with modules, MD5 of
                     /sys/kernel/btf/vmlinux) and ``kcore-headers`` (the first page of
                     /proc/kcore, in base64), ``workload`` (pages of each kind: a name, the first
                     page's number in hexadecimal, and how many). arm64 has no firmware map and
                     no workload
``guest.elf``        dump-guest-memory of the same moment, and ``registers``: what QEMU's monitor
                     says of each CPU's; if the recipe says ``dumps``
``serial``           the console, of both kernels
``recipe.json``      how it was made, and with which kernel package
===================  ==========================================================================
"""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from tests.lab.build import ATTEMPTS, TIMEOUT, make_capture, make_snapshot
from tests.lab.cache import cached_capture, cached_snapshot
from tests.lab.host import GuestError, LabError
from tests.lab.kernels import Role, debug_vmlinux
from tests.lab.packages import Arch
from tests.lab.recipe import Load, Recipe
from tests.lab.snapshot import Capture, Snapshot, load_capture, load_snapshot

if TYPE_CHECKING:
    from types import FrameType

__all__ = [
    "Capture",
    "GuestError",
    "LabError",
    "Recipe",
    "Snapshot",
    "cached_capture",
    "cached_snapshot",
    "debug_vmlinux",
    "load_capture",
    "load_snapshot",
    "make_capture",
    "make_snapshot",
]


@click.command(context_settings={"show_default": True})
@click.argument("outdir", type=click.Path(path_type=Path), required=False)
@click.option("--memory", default=Recipe.memory, help="The guest's memory.")
@click.option("--cpus", default=Recipe.cpus, help="How many CPUs it has.")
@click.option("--crashkernel", default=Recipe.crashkernel, help="Memory set aside for kdump.")
@click.option("--load", type=click.Choice(get_args(Load)), default=Recipe.load, help="System call.")
@click.option("--kernel", type=click.Choice(get_args(Role)), default=Recipe.kernel)
@click.option("--append", default=Recipe.append, help="More of the kernel's command line.")
@click.option("--arch", type=click.Choice(get_args(Arch)), default=Recipe.arch)
@click.option("--timeout", default=TIMEOUT, help="Seconds for each attempt.")
@click.option("--attempts", default=ATTEMPTS, help="How often to try.")
def main(outdir: Path | None, timeout: float, attempts: int, **recipe: Any) -> None:
    """Crash a kernel and keep the capture in OUTDIR, or else in the cache; prints its path."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    signal.signal(signal.SIGTERM, _leave)
    try:
        wanted = Recipe(**recipe)
        if outdir is None:
            capture = cached_snapshot(wanted, timeout=timeout, attempts=attempts)
        else:
            capture = make_snapshot(wanted, outdir, timeout=timeout, attempts=attempts)
    except (LabError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(capture.directory)


def _leave(number: int, _frame: FrameType | None) -> None:
    """Turn a signal into an exception, so that all that is half done is taken down."""
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
