"""``vmcorefs report``."""

from __future__ import annotations

import click

from vmcorefs.commands.opening import (
    IMAGES_HELP,
    open_capture,
    optional_capture_options,
    refuse_streams,
)
from vmcorefs.config import CaptureConfig
from vmcorefs.reports.crash import format_report, read_log_file, report_image, report_log
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
def report(
    config: CaptureConfig | None, verify: str | None, log: str | None, as_json: bool
) -> None:
    """Show what the kernel in IMAGE... died of, or the first crash in a log.

    That is what the crash is called, so that it can be looked up and counted: its title, other
    titles of the same crash, its class, and the function to blame, as syzkaller's dashboard has
    them; whether the log is too mangled to trust; and the report as the kernel printed it. The
    exit status is 0 even if no crash is in the log.
    """
    if log is not None:
        if config is not None or verify is not None:
            raise click.UsageError("--log takes no IMAGE and none of its options")
        refuse_streams(gather(None, log))
        told = report_log(read_log_file(log))
    elif config is not None:
        with open_capture(config, verify) as capture:
            told = report_image(capture.image)
    else:
        raise click.UsageError("expected IMAGE... or --log FILE")
    if as_json:
        print_json(told)
    else:
        print_lines(*format_report(told))
