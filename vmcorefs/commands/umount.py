"""``vmcorefs umount``."""

from __future__ import annotations

import click

from vmcorefs.fuse.mounts import unmount


@click.command()
@click.argument("mountpoints", nargs=-1, required=True, metavar="MOUNTPOINT...")
@click.option("--lazy", is_flag=True, help="Detach now, though files are open; do not wait.")
@click.option(
    "--timeout", default=30.0, show_default=True, help="Seconds to wait for the daemon to go."
)
def umount(mountpoints: tuple[str, ...], lazy: bool, timeout: float) -> None:
    """Unmount the tree at MOUNTPOINT and wait until its daemon has gone.

    Also cleans up after a daemon that has died ("Transport endpoint is not connected").
    """
    for mountpoint in mountpoints:
        unmount(mountpoint, lazy=lazy, timeout=timeout)
