"""``vmcorefs gdb``, ``crash`` and ``drgn``: each on a mount of its own, which goes when it ends."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from typing import Any, Final

import click
import msgspec

from vmcorefs.api import Capture
from vmcorefs.commands.opening import IMAGES_HELP, capture_options, open_capture
from vmcorefs.commands.private_mount import private_mount
from vmcorefs.config import CaptureConfig
from vmcorefs.core.elf.machines import machine_number
from vmcorefs.errors import UnsupportedError
from vmcorefs.system.memory import keep_heap_small
from vmcorefs.system.terminal import print_lines
from vmcorefs.tree.debug.modules import MODULES
from vmcorefs.tree.debug.symbols import find_symbol_file
from vmcorefs.tree.live import mounted_name

_HELP: Final = f"""\
{IMAGES_HELP}

What follows -- is for the tool: "vmcorefs {{name}} ram -- {{example}}"."""


class _Tool(msgspec.Struct, frozen=True):
    """A program that is started on a mounted tree.

    Attributes:
        name: The program, and our command.
        package: What to install if it is not here.
        needs: The file of the tree that it opens.
        arguments: What it is started with, of the mount point and the file with symbols.
        example: Arguments of its own, for the help.
        foreign: The program for machines that are not of this one's kind, if there is another.
        directory: Its option for a directory with files of modules, if newer versions have one.
        modules: Its option for where the files are that belong to the tree's own vmlinux, if it
            would look elsewhere first.
    """

    name: str
    package: str
    needs: str
    arguments: Callable[[str, str], list[str]]
    example: str
    foreign: str | None = None
    directory: str | None = None
    modules: str | None = None

    def find(self) -> str:
        """The program's path.

        Raises:
            UnsupportedError: if it is not here.
        """
        for name in filter(None, (self.name, self.foreign)):
            found = _find_program(name)
            if found is not None:
                return found
        raise UnsupportedError(f"{self.name}: not installed here; it is in {self.package}")

    def choose(self, program: str, machine: int) -> str:
        """The program for an ``e_machine``: ``program``, or the one for foreign machines."""
        if self.foreign is None or machine == machine_number(platform.machine()):
            return program
        return _find_program(self.foreign) or program


_GDB: Final = _Tool(
    "gdb",
    "Debian's package gdb (gdb-multiarch for another machine's memory)",
    "gdbinit",
    lambda gdbinit, _: ["-q", "-x", gdbinit],
    "-batch -ex bt",
    foreign="gdb-multiarch",
)
_CRASH: Final = _Tool(
    "crash",
    "Debian's package crash",
    "vmcore",
    lambda dump, symbols: [symbols, dump],
    "-s -i commands",
    modules="--mod",  # else it takes those of this machine, if it runs the same release
)
_DRGN: Final = _Tool(
    "drgn",
    "Debian's package python3-drgn, or drgn of PyPI",
    "vmcore",
    lambda dump, symbols: ["-c", dump, "-s", symbols],
    "script.py",
    directory="--kernel-directory",  # since 0.0.31
)


class _ToolCommand(click.Command):
    """Keeps what follows ``--`` for the tool, as ``arguments``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        left = super().parse_args(ctx, args[:end])
        ctx.params["arguments"] = tuple(args[end + 1 :])
        return left

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- ARGUMENT...]"]


def _command(tool: _Tool, summary: str) -> click.Command:
    def run(config: CaptureConfig, verify: str | None, arguments: tuple[str, ...]) -> None:
        status = _run(tool, config, verify, arguments)
        click.get_current_context().exit(status)

    run.__doc__ = f"""{summary}

    The tree is mounted where only you can read it, and unmounted when {tool.name} ends, whose exit
    status this command has.
    """
    helped = _HELP.format(name=tool.name, example=tool.example)
    make: Any = click.command(tool.name, cls=_ToolCommand, epilog=helped)
    command: click.Command = make(capture_options(run))
    return command


def _run(tool: _Tool, config: CaptureConfig, verify: str | None, arguments: tuple[str, ...]) -> int:
    keep_heap_small()
    program = tool.find()

    def open_there(mountpoint: str) -> Capture:
        capture = open_capture(config, verify, mountpoint)
        for warning in capture.image.warnings:
            print_lines(f"vmcorefs: warning: {warning}", err=True)
        return capture

    def command_for(mountpoint: str, capture: Capture) -> list[str]:
        made = "vmlinux" if "vmlinux" in capture.files else None
        symbols = find_symbol_file(capture.image) or made
        if tool.needs not in capture.files or symbols is None:
            missing = tool.needs if symbols is not None else "vmlinux"
            raise UnsupportedError(
                f"{capture.image.inputs[0].name}: {tool.name} cannot be started, as the tree has no"
                f" {missing}: VMCOREINFO leads to the kernel's symbols since Linux 6.0; give the"
                " file that has them, --vmlinux FILE"
            )
        chosen = tool.choose(program, capture.image.plan.elfcorehdr.header.e_machine)
        needed = os.path.join(mountpoint, mounted_name(capture.image, tool.needs))
        started = [chosen, *tool.arguments(needed, os.path.join(mountpoint, symbols))]
        if tool.directory is not None and _has_option(chosen, tool.directory):
            started += [tool.directory, mountpoint]
        if tool.modules is not None and symbols == made:
            started += [tool.modules, os.path.join(mountpoint, MODULES)]
        return [*started, *arguments]

    return private_mount(open_there, command_for)


def _has_option(program: str, option: str) -> bool:
    said = subprocess.run([program, "--help"], capture_output=True, check=False)
    return option.encode() in said.stdout


def _find_program(name: str) -> str | None:
    """Its path: on PATH, or beside this Python, as where both are in one environment."""
    return shutil.which(name) or shutil.which(name, path=sysconfig.get_path("scripts"))


gdb = _command(_GDB, "Start gdb on kcore, with symbols and a thread for each task.")
crash = _command(_CRASH, "Start crash on vmcore, with the kernel's own vmlinux.")
drgn = _command(_DRGN, "Start drgn on vmcore, with the kernel's own vmlinux.")
