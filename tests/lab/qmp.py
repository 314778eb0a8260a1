"""As much of QMP, QEMU's monitor protocol, as the lab needs (docs/interop/qmp-spec.txt)."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tests.lab.host import GuestError

if TYPE_CHECKING:
    import io
    import socket
    from collections.abc import Callable, Iterator

_ANSWER_SECONDS: Final = 300.0  # a dump of all memory takes some


@contextmanager
def session(monitor: socket.socket) -> Iterator[Callable[..., Any]]:
    """Give what executes a command with its arguments, and returns what QEMU does.

    Args:
        monitor: connected to a QEMU that nobody has spoken to yet.

    Raises:
        GuestError: if QEMU does not answer, or refuses.
    """
    monitor.settimeout(_ANSWER_SECONDS)
    with monitor.makefile("rwb") as stream:

        def execute(command: str, **arguments: object) -> Any:
            try:
                return _execute(stream, command, arguments)
            except (OSError, msgspec.DecodeError) as error:
                raise GuestError(f"QEMU's monitor: {error}") from error

        execute("qmp_capabilities")
        yield execute


def _execute(stream: io.BufferedRWPair, command: str, arguments: dict[str, object]) -> Any:
    order = {"execute": command, **({"arguments": arguments} if arguments else {})}
    stream.write(msgspec.json.encode(order) + b"\n")
    stream.flush()
    for line in stream:
        message: dict[str, Any] = msgspec.json.decode(line, type=dict[str, Any])
        if "return" in message:
            return message["return"]
        if "error" in message:
            raise GuestError(f"QEMU's monitor refused {command}: {message['error']}")
        # the greeting, or an event
    raise GuestError(f"QEMU ended before it answered {command}")
