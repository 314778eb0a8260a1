"""``vmcorefs verify``."""

from __future__ import annotations

from contextlib import ExitStack

import click

from vmcorefs.commands.opening import find_evidence, refuse_streams, verify_inputs
from vmcorefs.config import make_config
from vmcorefs.confine import process
from vmcorefs.core.digests import AUTO
from vmcorefs.sources.pieces import open_file
from vmcorefs.system.terminal import print_lines


@click.command(
    epilog="IMAGE is as for the other commands, except a mounted tree: verify the files that it was"
    " mounted from. An address or size after a name changes nothing: files are read whole."
)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option(
    "--sums",
    metavar="SUMS",
    default=AUTO,
    help="What sha256sum wrote (default: FILE.sha256, .sha1, .md5 ... beside each image).",
)
def verify(images: tuple[str, ...], sums: str) -> None:
    """Read IMAGE... and backups whole, and compare them with digests taken before.

    With --verify, the other commands do this first, with the very files that they have opened.
    """
    process.forbid_dumps()
    config = make_config(images)
    refuse_streams(find_evidence(config, sums))
    pieces = [(piece, "image") for piece in config.images]
    pieces += [(config.backup, "backup")] if config.backup is not None else []
    with ExitStack() as stack:
        inputs = []
        for piece, role in pieces:
            source = open_file(piece, role=role)
            stack.callback(source.close)
            inputs.append(source)
        for line in verify_inputs(inputs, sums):
            print_lines(line)
