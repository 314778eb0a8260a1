"""Objects that are read over a network, in the process that fetches them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

from vmcorefs.errors import UnsupportedError
from vmcorefs.sources.remote.messages import ChangedError, Described
from vmcorefs.system.stores import find_store

_VERSION = ("ETag", "etag", "generation", "md5Hash", "Content-MD5", "checksum")
_TIME = ("Last-Modified", "LastModified", "last_modified", "mtime", "modified", "updated")
_CHANGED = 412
_PERMANENT = frozenset(range(400, 429)) - {408, 425}
"""HTTP's statuses that will be the same again: no timeout, and not "too early" (RFC 9110, 8470)."""


class RemoteObject(Protocol):
    """An object elsewhere."""

    described: Described

    def read(self, offset: int, size: int) -> bytes:
        """The bytes there.

        Raises:
            ChangedError: if the object has changed since it was opened.
            Exception: of whatever kind; ``is_final`` says whether it may go away.
        """

    def check(self) -> None:
        """Ask whether it is still the same; the errors are those of ``read``."""


def is_final(error: Exception) -> bool:
    """Whether trying again is of no use."""
    if isinstance(error.__cause__, Exception):
        return is_final(error.__cause__)
    status = _status_of(error)
    if status is not None:
        return status in _PERMANENT
    final = (ChangedError, FileNotFoundError, PermissionError, NotImplementedError, ValueError)
    return isinstance(error, final)


class StoredObject:
    """An object that fsspec reads.

    Attributes:
        described: As it is when it is opened.
    """

    def __init__(self, url: str) -> None:
        """Find it.

        Raises:
            UnsupportedError: if fsspec, or its package for this place, is missing, or the place
                cannot give parts of it.
            Exception: as its package says.
        """
        self._store, self._path = find_store(url, url, "place")
        self._open: dict[str, Any] = {"mode": "rb", "cache_type": "none"}
        info = self._store.info(self._path)
        if info.get("partial") is False:
            raise UnsupportedError(f"{url}: the server does not give parts of it (ranges)")
        if info.get("type") == "directory" or info.get("size") is None:
            raise UnsupportedError(f"{url}: it has no size, expected a file")
        self.described = Described(int(info["size"]), _version_of(info), _time_of(info))
        self._local = threading.local()
        protocols = self._store.protocol
        names = {protocols} if isinstance(protocols, str) else set(protocols)
        # s3fs sends the ETag with each request by itself
        self._is_conditional = "s3" in names or ("https" in names and self._ask_for(info))

    def read(self, offset: int, size: int) -> bytes:
        """See ``RemoteObject.read``."""
        try:
            file = self._file()
            file.seek(offset)
            data = bytes(file.read(size))
        except Exception as error:
            self._local.file = None
            if _status_of(error) == _CHANGED or type(error).__name__ == "FileExpired":
                raise ChangedError from error
            raise
        if not self._is_conditional:
            self.check()
        if len(data) != size:
            raise OSError(f"{len(data)} bytes came, expected {size}")
        return data

    def _file(self) -> Any:  # noqa: ANN401  # fsspec's
        file = getattr(self._local, "file", None)
        if file is None:
            file = self._store.open(self._path, **self._open)
            self.check()  # a file that is opened anew may be another one
            self._local.file = file
        return file

    def _ask_for(self, info: Mapping[str, Any]) -> bool:
        """Have the server compare the version at each request, if it does that: RFC 9110, 13.1."""
        tag = info.get("ETag")
        if not isinstance(tag, str) or tag.startswith("W/"):
            return False
        try:
            self._store.cat_file(self._path, 0, 1, headers={"If-Match": '"vmcorefs asks"'})
        except Exception as error:  # noqa: BLE001  # each store has its own
            if _status_of(error) == _CHANGED:
                self._open["headers"] = {"If-Match": tag}
                return True
        return False

    def check(self) -> None:
        """See ``RemoteObject.check``."""
        self._store.invalidate_cache()
        info = self._store.info(self._path)
        if (int(info["size"]), _version_of(info)) != (self.described.size, self.described.version):
            raise ChangedError


def _status_of(error: BaseException | None) -> int | None:
    """HTTP's status, of an error or of one behind it: fsspec calls any of them a file not found."""
    while error is not None:
        status = getattr(error, "status", None)
        if isinstance(status, int):
            return status
        error = error.__cause__
    return None


def _version_of(info: Mapping[str, Any]) -> str:
    found = [str(info[key]) for key in (*_VERSION, *_TIME) if info.get(key) is not None]
    return " ".join(found)


def _time_of(info: Mapping[str, Any]) -> float:
    for key in _TIME:
        value = info.get(key)
        with suppress(ValueError, TypeError, OverflowError):
            if isinstance(value, datetime):
                return value.timestamp()
            if isinstance(value, int | float):
                return float(value)
            if isinstance(value, str):
                return parsedate_to_datetime(value).timestamp()
    return 0.0
