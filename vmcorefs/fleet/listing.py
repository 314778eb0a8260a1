"""Which dumps there are, and how each is known again."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatch
from typing import Any, Final

import msgspec

from vmcorefs.errors import ConfigError, UnsupportedError
from vmcorefs.output.places import is_local, local_path
from vmcorefs.system.stores import find_store
from vmcorefs.system.terminal import printable
from vmcorefs.system.urls import hide, without_password

BESIDE: Final = (
    *(".*", "*.incomplete", "*.txt", "*.log", "*.json", "*.toml", "dmesg.*", "*-dmesg", "*.idx"),
    *("*.sha256", "*.sha1", "*.md5", "*.sha512", "SHA256SUMS", "README*"),
)
"""Files of a directory that are not taken for dumps: what ``save`` and kdump's scripts leave beside
one, and what is not whole yet."""

_ETAGS: Final = ("ETag", "etag", "md5", "md5Hash", "content_md5")
_TIMES: Final = ("mtime", "LastModified", "last_modified", "updated", "modified")


class Dump(msgspec.Struct, frozen=True):
    """A dump, as a listing has it.

    Attributes:
        place: Its path, absolute, or its URL.
        size: Bytes; None if the place does not tell.
        modified: When it was last changed, in seconds since 1970; None if the place does not tell.
        etag: What a store calls its content; empty if it does not.
        others: The other files of a dump that was split.
    """

    place: str
    size: int | None = None
    modified: float | None = None
    etag: str = ""
    others: tuple[Dump, ...] = ()

    @property
    def name(self) -> str:
        """Its place, as it is printed and kept: without a password."""
        return printable(without_password(self.place))

    @property
    def key(self) -> str:
        """What it is known by: as long as place, size, time and ETag are the same, it is."""
        told = [os.fsencode(self.place).hex(), self.size, self.modified, self.etag]
        told += [other.key for other in self.others]
        return hashlib.blake2b(msgspec.json.encode(told), digest_size=16).hexdigest()


def find_dumps(places: Sequence[str], without: str, names: Sequence[str] = ("*",)) -> list[Dump]:
    """List the dumps at some places, each once, in the order of the places and of their names.

    Args:
        places: Directories, whose files are all taken but for those of ``BESIDE``; files; and URLs
            of either.
        without: A directory that is not looked into: the output.
        names: Patterns, of which the name of a file in a directory matches one.

    Raises:
        ConfigError: if one is not there, cannot be listed, or is something else.
        UnsupportedError: if fsspec is missing that a URL needs.
    """
    found: dict[str, Dump] = {}
    for place in places:
        listed = _local(local_path(place), without) if is_local(place) else _remote(place)
        for dump, inside in listed:
            if not inside or _is_wanted(os.path.basename(dump.place), names):
                found.setdefault(dump.place, dump)
    return list(found.values())


def _is_wanted(name: str, names: Sequence[str]) -> bool:
    return any(fnmatch(name, one) for one in names) and not any(
        fnmatch(name, one) for one in BESIDE
    )


def _local(path: str, without: str) -> Iterator[tuple[Dump, bool]]:
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be listed: {error}") from error
    path = os.path.abspath(path)
    if stat.S_ISREG(status.st_mode):
        yield _of_file(path, status), False
    elif stat.S_ISDIR(status.st_mode):
        yield from _walk(path, os.path.realpath(without))
    else:
        raise ConfigError(f"{path}: expected a directory or a file")


def _walk(top: str, without: str) -> Iterator[tuple[Dump, bool]]:
    def refuse(error: OSError) -> None:
        raise ConfigError(f"{error.filename}: cannot be listed: {error.strerror}") from error

    for directory, below, files in os.walk(top, onerror=refuse):
        below[:] = sorted(
            name for name in below if os.path.realpath(os.path.join(directory, name)) != without
        )
        for name in sorted(files):
            path = os.path.join(directory, name)
            try:
                status = os.stat(path)
            except OSError:
                continue  # a link to nothing, or it has gone
            if stat.S_ISREG(status.st_mode):
                yield _of_file(path, status), True


def _of_file(path: str, status: os.stat_result) -> Dump:
    return Dump(path, status.st_size, status.st_mtime)


def _remote(url: str) -> Iterator[tuple[Dump, bool]]:
    shown = without_password(url)
    try:
        store, root = find_store(url, shown, "store")
        told = store.info(root)
        # a web server tells files from directories by nothing else
        if told.get("type") == "file" and not url.endswith("/"):
            yield _of_store(url, told), False
            return
        for name, each in sorted(store.find(root, detail=True).items()):
            yield _of_store(f"{url.rstrip('/')}{name.removeprefix(root.rstrip('/'))}", each), True
    except UnsupportedError as error:
        raise UnsupportedError(hide(str(error), url)) from error
    except FileNotFoundError as error:
        raise ConfigError(f"{shown}: nothing is there") from error
    except Exception as error:  # each store has its own
        raise ConfigError(f"{shown}: cannot be listed: {hide(repr(error), url)}") from error


def _of_store(url: str, told: Mapping[str, Any]) -> Dump:
    size = told.get("size")
    time = next((told[name] for name in _TIMES if told.get(name) is not None), None)
    if isinstance(time, datetime):
        time = time.timestamp()
    return Dump(
        url,
        size if isinstance(size, int) else None,
        float(time) if isinstance(time, int | float) else None,
        str(next((told[name] for name in _ETAGS if told.get(name)), "")),
    )
