"""The two words of QMP, QEMU's monitor protocol, that the lab needs (docs/interop/qmp-spec.txt)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from tests.lab.host import GuestError

if TYPE_CHECKING:
    import io
    import socket

_ANSWER_SECONDS: Final = 60.0


def stop(monitor: socket.socket) -> None:
    """Stop the machine's CPUs; its memory does not change any more.

    Args:
        monitor: connected to a QEMU that nobody has spoken to yet.

    Raises:
        GuestError: if QEMU does not answer, or refuses.
    """
    monitor.settimeout(_ANSWER_SECONDS)
    with monitor.makefile("rwb") as stream:
        try:
            for command in ("qmp_capabilities", "stop"):
                _execute(stream, command)
        except (OSError, msgspec.DecodeError) as error:
            raise GuestError(f"QEMU's monitor: {error}") from error


def _execute(stream: io.BufferedRWPair, command: str) -> None:
    stream.write(msgspec.json.encode({"execute": command}) + b"\n")
    stream.flush()
    for line in stream:
        message: dict[str, Any] = msgspec.json.decode(line, type=dict[str, Any])
        if "return" in message:
            return
        if "error" in message:
            raise GuestError(f"QEMU's monitor refused {command}: {message['error']}")
        # the greeting, or an event
    raise GuestError(f"QEMU ended before it answered {command}")
