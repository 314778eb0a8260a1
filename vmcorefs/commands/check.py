"""``vmcorefs check``."""

from __future__ import annotations

import click

from vmcorefs.commands.opening import IMAGES_HELP, capture_options, open_capture
from vmcorefs.config import CaptureConfig
from vmcorefs.reports.check import format_check, make_check
from vmcorefs.system.memory import keep_heap_small
from vmcorefs.system.terminal import print_json, print_lines


@click.command(epilog=IMAGES_HELP)
@capture_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON; sizes are in bytes.")
def check(config: CaptureConfig, verify: str | None, as_json: bool) -> None:
    """Show what was found in IMAGE..., how sure it is, and which tools will open its vmcore.

    For each of crash, gdb, drgn, makedumpfile, libkdumpfile, volatility3 and MemProcFS: yes, "yes,
    but" or no, with the rule that is broken, what helps, and where the rule comes from. The exit
    status is 0 even if a tool will not open it.
    """
    keep_heap_small()
    with open_capture(config, verify, thorough=True) as capture:
        report = make_check(capture)
    if as_json:
        print_json(report)
    else:
        print_lines(*format_check(report))
