"""Notifying systemd of a service's state: sd_notify(3), without a library."""

from __future__ import annotations

import logging
import os
import socket

log = logging.getLogger(__name__)


def notify_systemd(*lines: str) -> None:
    """Notify the service manager, if there is one (sd_notify(3)); a failure is only logged."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
            notify.connect("\0" + address[1:] if address[0] == "@" else address)
            notify.sendall("\n".join(lines).encode())
    except OSError as error:
        log.warning("cannot notify systemd at %s: %s", address, error.strerror)
