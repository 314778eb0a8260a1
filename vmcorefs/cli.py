"""The command, ``vmcorefs``: which commands there are, and how each one's errors end."""

from __future__ import annotations

import importlib
import logging
from difflib import get_close_matches
from typing import Any, Final

import click

from vmcorefs.errors import StoppedError, VmcorefsError
from vmcorefs.system.logfile import LineFormatter
from vmcorefs.system.terminal import print_lines, printable

_COMMANDS: Final = {
    "capture": ("capture.commands", "What runs in the capture kernel, and what prepares it."),
    "check": ("commands.check", "Show what was found, and which tools will open it."),
    "config": ("capture.commands", "Settings of the capture kernel, /etc/vmcorefs.toml."),
    "crash": ("commands.debuggers", "Start crash on IMAGE..., mounted while it runs."),
    "drgn": ("commands.debuggers", "Start drgn on IMAGE..., mounted while it runs."),
    "estimate": ("commands.estimate", "Estimate how large a dump would be at each level."),
    "extract": ("commands.extract", "Write FILE of the tree, such as vmcore, without mounting."),
    "gdb": ("commands.debuggers", "Start gdb on IMAGE..., mounted while it runs."),
    "inspect": ("commands.inspect", "Show everything that is known, without mounting."),
    "mount": ("commands.mount", "Mount the memory in IMAGE... at MOUNTPOINT."),
    "report": ("commands.report", "Say why the machine died, or what a log's crash is called."),
    "save": ("commands.save", "Write a filtered and compressed dump."),
    "test-crash": ("capture.commands", "Crash this machine, to test that its dump is saved."),
    "triage": ("commands.triage", "Say of many dumps which crashes are the same."),
    "umount": ("commands.umount", "Unmount a tree and wait until its daemon has gone."),
    "verify": ("commands.verify", "Compare the images with their digests."),
}
"""By name: where it is, and what ``--help`` says of it. A command's module is imported when it is
run: a capture kernel that saves needs no FUSE, and no memory for what serves it."""

_OTHER_NAMES: Final = {"unmount": "umount"}
_INTERRUPTED: Final = 130
"""The exit status of what Ctrl-C ends, as a shell has it: 128 + SIGINT."""


class _Group(click.Group):
    """Ends with one line and the error's own exit status where vmcorefs says what is wrong."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        cmd_name = _OTHER_NAMES.get(cmd_name, cmd_name)
        if cmd_name not in _COMMANDS:
            if ctx.resilient_parsing:  # a shell that completes asks of any word
                return None
            likest = get_close_matches(cmd_name, _COMMANDS, 1)
            hint = f"; did you mean {likest[0]!r}?" if likest else ""
            ctx.fail(f"no such command: {cmd_name!r}{hint}")
        module, _ = _COMMANDS[cmd_name]
        command: click.Command = getattr(
            importlib.import_module(f"vmcorefs.{module}"), cmd_name.replace("-", "_")
        )
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401  # click's own signature
        if logging.lastResort is not None:  # what is logged where no log was asked for
            logging.lastResort.setFormatter(LineFormatter("vmcorefs: %(message)s"))
        try:
            return super().invoke(ctx)
        except VmcorefsError as error:
            print_lines(f"vmcorefs: {error}", err=True)
            interrupted = isinstance(error, StoppedError) and error.is_interrupt
            ctx.exit(_INTERRUPTED if interrupted else error.exit_code)
        except KeyboardInterrupt:
            print_lines("vmcorefs: interrupted", err=True)
            ctx.exit(_INTERRUPTED)
        except click.ClickException as error:
            # it may quote a file's name
            error.message = printable(error.message)  # type: ignore[misc]  # final but for this
            raise


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="vmcorefs")
def main() -> None:
    """Mount a dead Linux machine's memory as the vmcore its own kernel would have given.

    Exit status: 0 done, 2 wrong use, 3 cannot mount or unmount, 4 an input is not what it should
    be, 5 not possible here, 6 bytes cannot be read or written, 130 ended by Ctrl-C, 1 a bug.
    """
