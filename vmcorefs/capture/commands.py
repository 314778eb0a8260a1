"""The commands of the capture kernel: ``vmcorefs capture ...`` and ``vmcorefs config check``."""

from __future__ import annotations

import importlib
import os
import platform
import socket
import sys
from typing import cast

import click
from msgspec.structs import asdict

from vmcorefs.capture.estimate import describe_needs
from vmcorefs.capture.prepare.checks import check_all, format_checks, has_error
from vmcorefs.capture.prepare.crash import crash_now, describe_crash
from vmcorefs.capture.prepare.initramfs import fill, make_initramfs
from vmcorefs.capture.prepare.install import install as install_files, uninstall as uninstall_files
from vmcorefs.capture.prepare.load import (
    is_outdated,
    load_crash_kernel,
    plan_load,
    reserved_size,
    unload_crash_kernel,
)
from vmcorefs.capture.run.actions import (
    SHELL_SECONDS,
    VMCORE,
    perform,
    require_capture_kernel,
    run_shell,
)
from vmcorefs.capture.run.limit import time_limit
from vmcorefs.capture.run.saver import save as save_memory
from vmcorefs.capture.settings import SETTINGS_PATH, Settings, load_settings
from vmcorefs.core.space.units import counted, format_size
from vmcorefs.errors import ConfigError, UnsupportedError
from vmcorefs.system.terminal import print_json, print_lines, printable

_config_option = click.option(
    "--config",
    "config_path",
    default=SETTINGS_PATH,
    show_default=True,
    metavar="FILE",
    help="The settings.",
)


@click.group()
def capture() -> None:
    """What runs in the capture kernel, and what prepares it."""


@capture.command(short_help="Save the crashed kernel's memory, as the settings say.")
@_config_option
@click.option("--vmcore", default=VMCORE, show_default=True, metavar="FILE", help="What to save.")
def save(config_path: str, vmcore: str) -> None:
    """Save the crashed kernel's memory where the settings say, within their time limit.

    If the settings cannot be read, the memory is saved with the defaults.
    """
    settings = _settings_at_any_rate(config_path)
    with time_limit(settings.finish.timeout_seconds):
        try:
            save_memory(settings, vmcore, _say)
        except MemoryError:
            raise UnsupportedError(
                "out of memory: crashkernel= reserves too little for this"
            ) from None


@capture.command(short_help="End this system, as the settings say.")
@_config_option
@click.option("--failed", is_flag=True, help="Saving has failed.")
def finish(config_path: str, *, failed: bool) -> None:
    """Reboot, power off, halt, or give the console a shell: only in a capture kernel."""
    require_capture_kernel()
    settings = _settings_at_any_rate(config_path)
    action = settings.finish.failure if failed else settings.finish.success
    if failed:
        reason = _failure_reason()
        if reason:
            _say(reason)
        _say(f"THE CRASHED KERNEL'S MEMORY WAS NOT SAVED (see above); now: {action}")
    else:
        _say(f"done; now: {action}")
    with time_limit(SHELL_SECONDS):  # a person may stay longer than a unit may take
        if settings.finish.stay and action != "shell":
            run_shell(f"the crashed kernel's memory is at /run/vmcorefs; after the shell: {action}")
        perform(action)


@capture.command(short_help="Load the crash kernel.")
@_config_option
@click.option("--replace", is_flag=True, help="Replace one that another tool has loaded.")
@click.option("-n", "--dry-run", is_flag=True, help="Show what would be loaded.")
def load(config_path: str, *, replace: bool, dry_run: bool) -> None:
    """Load the crash kernel, on the healthy system, as the settings say."""
    settings = load_settings(config_path)
    plan = plan_load(settings)
    if settings.load.save_from == "initramfs" and not dry_run and is_outdated(plan, config_path):
        _say(f"{plan.initrd}: making a new one")
        make_initramfs(
            plan.initrd, config_path, settings, release=platform.release(), modules="dep"
        )
    _say(f"{plan.kernel}, {plan.initrd}: {plan.command_line}")
    if not dry_run:
        _say(f"loaded with {load_crash_kernel(plan, replace=replace)}")


@capture.command(short_help="Unload the crash kernel that load has loaded.")
def unload() -> None:
    """Unload the crash kernel, if it is ours."""
    _say("unloaded" if unload_crash_kernel() else "no crash kernel of ours is loaded")


@capture.command(short_help="Install the units, hooks and settings.")
@click.option("--root", default="/", metavar="DIR", help="Install below DIR.")
def install(root: str) -> None:
    """Install the systemd units, the initramfs hooks, and /etc/vmcorefs.toml if there is none.

    May be run again: what is up to date stays. Nothing is enabled; "systemctl enable
    vmcorefs-load" loads the crash kernel at each boot.
    """
    for line in install_files(root):
        _say(line)


@capture.command(short_help="Remove what install has installed, settings excepted.")
@click.option("--root", default="/", metavar="DIR", help="Remove it below DIR.")
def uninstall(root: str) -> None:
    """Remove the units and hooks that install has installed; /etc/vmcorefs.toml stays."""
    for line in uninstall_files(root):
        _say(line)


@capture.command(short_help="Make a capture initramfs.")
@_config_option
@click.option("-o", "--output", metavar="FILE", help="Where to (default: as [load] says).")
@click.option("--kernel", "release", metavar="RELEASE", help="For that kernel (default: this one).")
@click.option(
    "--modules",
    type=click.Choice(["dep", "most"]),
    default="dep",
    show_default=True,
    help="Drivers: what this machine needs, or most that there are.",
)
def initramfs(config_path: str, output: str | None, release: str | None, modules: str) -> None:
    """Make an initramfs that saves the crashed kernel's memory without any root file system.

    mkinitramfs or dracut makes it, whichever is installed; vmcorefs, its Python and the settings
    are put in. It has to be made again when any of these, or the kernel, changes.
    """
    settings = load_settings(config_path)
    release = release or platform.release()
    output = output or plan_load(settings, release=release).initrd
    make_initramfs(output, config_path, settings, release=release, modules=modules)
    _say(f"{output}: {format_size(os.path.getsize(output))}")


@capture.command(short_help="Add vmcorefs to an initramfs that is being made.")
@_config_option
@click.argument("directory")
def bundle(config_path: str, directory: str) -> None:
    """Copy vmcorefs, its Python, and the settings below DIRECTORY; the hooks call this."""
    done = fill(directory, load_settings(config_path))
    _say(
        f"{directory}: {counted(done.modules, 'module')},"
        f" {counted(done.libraries, 'library', 'libraries')},"
        f" {format_size(done.size)}{', numpy with its BLAS' if done.has_blas else ''}"
    )


@capture.command(name="try", hidden=True)
@click.pass_context
def try_(context: click.Context) -> None:
    """Load every command, and what mounting loads later, to show that all of it is there."""
    main = cast("click.Group", context.find_root().command)
    for name in main.list_commands(context):
        main.get_command(context, name)
    importlib.import_module("vmcorefs.fuse.serve")


@click.group()
def config() -> None:
    """Settings of the capture kernel, /etc/vmcorefs.toml."""


@config.command(short_help="Check the settings, and this system against them.")
@click.argument("file", default=SETTINGS_PATH)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def check(context: click.Context, file: str, *, as_json: bool) -> None:
    """Check FILE (/etc/vmcorefs.toml), and whether a dump would be saved if the kernel crashed now.

    Each line is ok, a warning, or an error: with one of those, no dump would be saved as FILE says,
    and the exit status is 2.
    """
    checks = check_all(file)
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        print_lines(*format_checks(checks))
    if has_error(checks):
        context.exit(ConfigError.exit_code)


@click.command(name="test-crash")
@_config_option
@click.option(
    "--yes-crash-this-machine", "is_sure", is_flag=True, help="Do not ask: crash at once."
)
def test_crash(config_path: str, *, is_sure: bool) -> None:
    """Show what will happen if this kernel crashes, and after two confirmations crash it.

    THIS TAKES THE MACHINE DOWN. It asks for the machine's name, and then once more.
    """
    print_lines(*describe_crash(load_settings(config_path)).split("\n"))
    if not is_sure:
        name = printable(socket.gethostname())
        if click.prompt(f"To continue, type the name of this machine ({name})") != name:
            raise ConfigError("that is another name: nothing was done")
        if click.prompt("Crash it now? Type yes in capitals") != "YES":
            raise ConfigError("nothing was done")
    crash_now()


def say_needs() -> None:
    """Print what a dump of this machine needs, by its settings."""
    try:
        reserved = reserved_size()
    except UnsupportedError:
        reserved = None
    print_lines(*describe_needs(load_settings().dump, reserved).splitlines())


def _failure_reason() -> str:
    """What ended the service that saves, where that is not its own message (systemd.exec(5))."""
    result = os.environ.get("MONITOR_SERVICE_RESULT", "")
    status = os.environ.get("MONITOR_EXIT_STATUS", "")
    if result == "oom-kill" or (result == "signal" and status == "KILL"):
        return (
            "saving was killed, as it is for want of memory: crashkernel= reserves too little, if"
            " the kernel says so above"
        )
    if result == "timeout":
        return "saving did not end, nor ask for more time, and was killed"
    return f"saving ended by {result} {status}" if result in ("signal", "core-dump") else ""


def _settings_at_any_rate(path: str) -> Settings:
    try:
        return load_settings(path)
    except ConfigError as error:
        _say(f"warning: {error}; using the defaults")
        return Settings()


def _say(text: str) -> None:
    print_lines(f"vmcorefs: {text}")
    sys.stdout.flush()
