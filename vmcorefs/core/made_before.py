"""Results that are the same for all dumps of one kernel, kept by what they are made of.

Who opens many dumps, one after another, keeps what decoding a kernel's symbols and types gives.
What a result is made of is all of its key: a dump in which a bit is different has its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Final

DIGEST: Final = 32
"""Bytes of a key."""

_LARGE: Final = 1 << 16

Made = Mapping[bytes, bytes]


class Keeper:
    """What was made before, and what is made now.

    Attributes:
        before: Results by their keys.
        now: Those that were not among them.
    """

    def __init__(self, before: Made) -> None:
        self.before = before
        self.now: dict[bytes, bytes] = {}
        self._digests: dict[int, tuple[bytes, bytes]] = {}

    def get(self, what: str, made_of: Iterable[bytes], make: Callable[[], bytes]) -> bytes:
        """See ``made_before``."""
        key = hashlib.sha256(what.encode())
        for part in made_of:
            key.update(self._digest(part) if len(part) >= _LARGE else _sized(part))
        found = self.before.get(key.digest(), self.now.get(key.digest()))
        if found is None:
            found = self.now[key.digest()] = make()
        return found

    def _digest(self, part: bytes) -> bytes:
        """BTF of some MiB is in several keys."""
        held, digest = self._digests.get(id(part), (None, b""))
        if held is not part:
            digest = hashlib.sha256(part).digest()
            self._digests[id(part)] = part, digest
        return digest


_keepers: list[Keeper] = []


def keep(before: Made) -> Keeper:
    """Keep, from now on, what ``made_before`` is asked for in this process."""
    _keepers[:] = [Keeper(before)]
    return _keepers[0]


def made_before(what: str, made_of: Iterable[bytes], make: Callable[[], bytes]) -> bytes:
    """A result, which is made anew unless it is kept.

    Args:
        what: What it is.
        made_of: All that it depends on. Nothing is asked for if nothing is kept.
        make: Makes it.
    """
    return _keepers[0].get(what, made_of, make) if _keepers else make()


def _sized(part: bytes) -> bytes:
    return len(part).to_bytes(8, "little") + part
