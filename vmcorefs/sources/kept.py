"""What was read of an object elsewhere, kept in the user's cache for the next time it is opened.

A file holds blocks, sealed as indexes of wrapped files are (``wrappers.records``): encrypted with a
key that is made of some of the blocks themselves. Which ones is told; what they hold is asked of
the object again. So whoever has the file, but not the object, has noise.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import tempfile
import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import accumulate, islice
from pathlib import Path
from typing import Final

import msgspec

from vmcorefs.errors import SourceIOError
from vmcorefs.sources.remote.file import BLOCK, CACHE_SIZE, RemoteFile
from vmcorefs.sources.wrappers.cache import NEW, SUFFIX, cache_directory, prune
from vmcorefs.sources.wrappers.records import KEPT_FREE, seal

KEPT_SIZE: Final = 1 << 30
"""Bytes that all such files may take: those that were used last are kept."""

KEY_BLOCKS: Final = 32
"""Blocks that the key is made of. Some of a memory are no secret, such as a kernel's code; that all
of those that chance has picked are, is not to be feared."""

_LEAST_CONTENT: Final = 1 << 10
"""Bytes of a block of the key when it is compressed: zeros are no secret."""
_AT_ONCE: Final = 4
_LARGEST: Final = CACHE_SIZE + (1 << 20)


class _Kept(msgspec.Struct, frozen=True):
    """A file of the cache.

    Attributes:
        nonce: Chance, so that no key is used twice.
        key: The numbers of the blocks that the key is made of.
        blocks: The numbers of those that are in it.
        sum: HMAC-SHA-256 of the numbers and of the sealed blocks.
        sealed: The blocks, one behind the other.
    """

    nonce: bytes
    key: list[int]
    blocks: list[int]
    sum: bytes
    sealed: bytes


def keep_blocks(file: RemoteFile) -> None:
    """Give a file what was kept of the same object, and keep what it has when it is closed.

    A cache that cannot be used is passed over, and so is an object without a version: nothing would
    tell that it has changed.
    """
    if not file.identity.version:
        return
    directory = cache_directory(file, "objects")
    if directory is None:
        return
    name = hashlib.sha256(f"{file.origin}\0{file.identity}".encode()).hexdigest()[:40]
    path = directory / f"{name}{SUFFIX}"
    with suppress(OSError, ValueError, SourceIOError):  # msgspec's errors are ValueErrors
        file.take_blocks(_load(path, file))
    before = frozenset(file.blocks())

    def save() -> None:
        blocks = file.blocks()
        if blocks.keys() - before:
            with suppress(OSError):
                _save(path, blocks)

    file.before_close = save


def _load(path: Path, file: RemoteFile) -> dict[int, bytes]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as stream:
        kept = msgspec.msgpack.decode(stream.read(_LARGEST), type=_Kept)
    count = -(-file.size // BLOCK)
    if len(kept.key) != KEY_BLOCKS or not all(0 <= n < count for n in (*kept.key, *kept.blocks)):
        raise ValueError
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        secret = _secret(kept.nonce, kept.key, pool.map(file.read_block, kept.key))
    if not hmac.compare_digest(kept.sum, _sum(secret, kept)):
        raise ValueError
    data = seal(secret, 0, kept.sealed)
    sizes = [min(BLOCK, file.size - number * BLOCK) for number in kept.blocks]
    if len(data) != sum(sizes):
        raise ValueError
    os.utime(path)
    ends = list(accumulate(sizes))
    rows = zip(kept.blocks, sizes, ends, strict=True)
    return {number: data[end - size : end] for number, size, end in rows}


def _save(path: Path, blocks: Mapping[int, bytes]) -> None:
    room = os.statvfs(path.parent)
    if room.f_bavail * room.f_frsize < KEPT_FREE:
        return
    shuffled = secrets.SystemRandom().sample([*blocks], len(blocks))
    fit = (number for number in shuffled if len(zlib.compress(blocks[number], 1)) > _LEAST_CONTENT)
    key = list(islice(fit, KEY_BLOCKS))
    if len(key) < KEY_BLOCKS:
        return
    nonce = secrets.token_bytes(32)
    secret = _secret(nonce, key, (blocks[number] for number in key))
    sealed = seal(secret, 0, b"".join(blocks.values()))
    kept = _Kept(nonce, key, list(blocks), b"", sealed)
    kept = msgspec.structs.replace(kept, sum=_sum(secret, kept))
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=NEW, delete=False) as new:
        try:
            new.write(msgspec.msgpack.encode(kept))
            new.flush()
            os.replace(new.name, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(new.name)
            raise
    prune(path.parent, path, KEPT_SIZE)


def _secret(nonce: bytes, numbers: Iterable[int], blocks: Iterable[bytes]) -> bytes:
    digest = hashlib.sha256(nonce)
    for number, data in zip(numbers, blocks, strict=True):
        digest.update(number.to_bytes(8, "little") + data)
    return digest.digest()


def _sum(secret: bytes, kept: _Kept) -> bytes:
    told = msgspec.msgpack.encode((kept.nonce, kept.key, kept.blocks))
    return hmac.new(secret, told + kept.sealed, "sha256").digest()
