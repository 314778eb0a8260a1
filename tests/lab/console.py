"""What a guest says on its serial console, in the form that ``init`` gives it. No I/O here."""

from __future__ import annotations

import re

from tests.lab.host import GuestError

_TAIL_LINES = 15


def clean(raw: bytes) -> str:
    """Decode a console as it is recorded: without the terminal's carriage returns."""
    return raw.decode(errors="replace").replace("\r", "")


def tail(text: str) -> str:
    """Return the last lines of a console, for a message."""
    return "\n".join(line for line in text.splitlines()[-_TAIL_LINES:] if line.strip())


def event(text: str, name: str) -> str | None:
    """Return what follows ``LAB-name`` on its line; None if that was never said in full."""
    found = re.search(rf"^LAB-{name}(?: (.*))?\n", text, re.MULTILINE)
    return None if found is None else found[1] or ""


def expect(text: str, name: str) -> str:
    """Return what follows ``LAB-name`` on its line.

    Raises:
        GuestError: if that was never said.
    """
    found = event(text, name)
    if found is None:
        raise GuestError(f"the guest never said LAB-{name}; its last words:\n{tail(text)}")
    return found


def sections(text: str) -> dict[str, str]:
    """Return the text between each ``BEGIN name`` and its ``END name``, by name."""
    found = re.finditer(r"^BEGIN (\S+)\n(.*?)^END \1\n", text, re.MULTILINE | re.DOTALL)
    return {match[1]: match[2] for match in found}
