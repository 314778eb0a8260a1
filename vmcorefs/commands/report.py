"""``vmcorefs report``."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack, closing

import click
import msgspec

from vmcorefs.commands.opening import (
    IMAGES_HELP,
    find_evidence,
    open_capture,
    optional_capture_options,
    refuse_streams,
)
from vmcorefs.config import CaptureConfig
from vmcorefs.output.places import STDOUT, open_target
from vmcorefs.reports.crash import format_crash, read_log_file, report_log
from vmcorefs.sources.evidence import gather
from vmcorefs.system.terminal import print_json, print_lines


@click.command(epilog=IMAGES_HELP)
@optional_capture_options
@click.option(
    "--log",
    metavar="FILE",
    help="Instead of IMAGE..., a kernel's log: of a console, of dmesg or of syslog.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--html",
    metavar="FILE",
    help="Write the report as one HTML page, which loads nothing, instead of printing it: a file,"
    " - for a pipe, ssh://... or another URL.",
)
@click.option("--force", is_flag=True, help="Replace the FILE of --html if it exists.")
def report(
    config: CaptureConfig | None,
    verify: str | None,
    log: str | None,
    as_json: bool,
    html: str | None,
    force: bool,
) -> None:
    """Say why the machine in IMAGE... died, with no debug package and without mounting.

    Which machine, what the crash is called, the stack that led to it, what every CPU did, tasks
    that could not go on and what they wait for, memory, modules, and what could not be found out
    and why. With --html it has the memory map, the log and all tasks too.

    With --log, say what the first crash in a log is called, so that it can be looked up and
    counted: its title, other titles of the same crash, its class, and the function to blame, as
    syzkaller's dashboard has them; and whether the log is too mangled to trust. The exit status is
    0 even if no crash is in it.
    """
    if log is not None:
        if config is not None or verify is not None or html is not None:
            raise click.UsageError("--log takes no IMAGE, none of its options and no --html")
        refuse_streams(gather(None, log))
        crash = report_log(read_log_file(log))
        _show(crash, format_crash(crash), as_json=as_json)
    elif config is not None:
        _report_image(config, verify, as_json=as_json, html=html, force=force)
    else:
        raise click.UsageError("expected IMAGE... or --log FILE")


def _report_image(
    config: CaptureConfig, verify: str | None, *, as_json: bool, html: str | None, force: bool
) -> None:
    # here: drgn is large, and no other command needs it
    from vmcorefs.reports.report.gather import make_report  # noqa: PLC0415
    from vmcorefs.reports.report.html.page import make_page, shown_of  # noqa: PLC0415
    from vmcorefs.reports.report.text import format_report  # noqa: PLC0415

    if html == STDOUT and as_json:
        raise click.UsageError("--html - and --json both print")
    with ExitStack() as stack:
        target = None
        if html is not None:
            evidence = find_evidence(config, verify)
            target = open_target(html, force=force, evidence=evidence, hashed=False)
            stack.enter_context(closing(target))
        capture = stack.enter_context(open_capture(config, verify))
        made = make_report(capture.image)
        if target is not None:
            target.pwrite(make_page(made, shown_of(capture.image)), 0)
            target.sync()
            target.publish()
    if as_json or target is None:
        _show(made, format_report(made), as_json=as_json)


def _show(made: msgspec.Struct, lines: Iterable[str], *, as_json: bool) -> None:
    if as_json:
        print_json(msgspec.to_builtins(made))
    else:
        print_lines(*lines)
