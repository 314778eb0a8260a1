"""A dump in an object store, or anywhere else that fsspec can write.

fsspec (https://filesystem-spec.readthedocs.io) knows s3, gs, abfs, hdfs, sftp, smb and others, each
by a package of its own. The dump goes there as a stream under ``KEY.incomplete``; when it is whole
the store renames it: an object store copies it on its side, and deletes the first.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from vmcorefs.errors import ConfigError, OutputError, UnsupportedError
from vmcorefs.output.stream import SequentialTarget
from vmcorefs.output.target import INCOMPLETE
from vmcorefs.system.stores import find_store
from vmcorefs.system.urls import hide, without_password

_MIN_BLOCK, _MAX_BLOCK = 8 << 20, 64 << 20
_MAX_PARTS = 9000
"""S3 takes 10,000 parts of an object: with blocks of ``_MAX_BLOCK``, 562 GiB."""


class StoreTarget(SequentialTarget):
    """A file that fsspec writes; see ``Target``."""

    def __init__(
        self, url: str, *, force: bool, resume: bool = False, reach: int = 0, hashed: bool = True
    ) -> None:
        """Find the store, and start ``KEY.incomplete``.

        Args:
            url: As fsspec takes it, such as ``s3://bucket/key``.
            force: Replace what is there.
            resume: Refused.
            reach: Bytes that the file may get: the blocks that it is sent in follow from that.
            hashed: Its sum will be asked for.

        Raises:
            ConfigError: if it exists already, or ``resume`` is asked for.
            UnsupportedError: if fsspec, or its package for this store, is missing, or the store
                cannot be written.
            OutputError: if the store refuses.
        """
        shown = without_password(url)
        self._url = url
        if resume:
            raise ConfigError(
                f"{shown}: --resume works for local files only: a store keeps nothing of an upload"
                " that was not finished"
            )
        super().__init__(shown, hashed=hashed)
        self.incomplete = f"{shown}{INCOMPLETE}"
        self._force = force
        self._published = False
        self._store, self._key = _find_store(url)
        self._file: Any = None
        self._block = min(max(-(-reach // _MAX_PARTS), _MIN_BLOCK), _MAX_BLOCK)
        self._refuse_existing()
        self._open()

    def _refuse_existing(self) -> None:
        if self._force:
            return
        try:
            exists = self._store.exists(self._key)
            left = self._store.exists(self._key + INCOMPLETE)
        except Exception as error:  # each store has its own
            raise self._failed(error) from error
        if exists:
            raise ConfigError(f"{self.name}: exists already; pass --force to replace it")
        if left:
            raise ConfigError(
                f"{self.incomplete}: an earlier try has left it, or another process is writing it;"
                " pass --force to start over"
            )

    def _open(self) -> None:
        try:
            self._file = self._store.open(self._key + INCOMPLETE, "wb", block_size=self._block)
        except NotImplementedError as error:
            # what its read-only stores raise for any mode but "rb" (implementations/http.py)
            raise UnsupportedError(f"{self.name}: fsspec can read there, but not write") from error
        except Exception as error:
            raise self._failed(error) from error

    def _send(self, data: memoryview) -> None:
        try:
            self._file.write(bytes(data))
        except Exception as error:
            raise self._failed(error) from error

    def sync(self) -> None:
        """See ``Target.sync``: a store that has taken the last block has it safe."""
        try:
            self._file.close()
            size = self._store.size(self._key + INCOMPLETE)
        except Exception as error:
            raise self._failed(error) from error
        if size != self.sent:
            raise OutputError(f"{self.incomplete}: {self.sent} bytes were sent, but {size} arrived")

    def publish(self) -> None:
        """See ``Target.publish``."""
        self._refuse_name()
        try:
            self._store.mv(self._key + INCOMPLETE, self._key)
        except Exception as error:
            raise self._failed(error) from error
        self._published = True

    def _refuse_name(self) -> None:
        try:
            taken = not self._force and self._store.exists(self._key)
        except Exception as error:
            raise self._failed(error) from error
        if taken:
            raise OutputError(
                f"{self.name}: another process has made it meanwhile; {self.incomplete} is complete"
            )

    def close(self) -> None:
        """See ``Target.close``; an upload that did not end is called off where that can be done."""
        file, self._file = self._file, None
        if file is None or getattr(file, "closed", False):
            return
        with suppress(Exception):
            if hasattr(file, "discard"):
                file.discard()
                file.closed = True  # or its destructor would send what is left, as if it were all
            else:
                file.close()

    def _failed(self, error: Exception) -> OutputError:
        return _failed(self._url, error)


def exists(url: str) -> bool:
    """Whether anything has that name, or one that begins with it as with a directory's.

    Raises:
        UnsupportedError: if fsspec, or its package for this store, is missing.
        OutputError: if the store refuses.
    """
    store, key = _find_store(url)
    try:
        return bool(store.exists(key))
    except Exception as error:  # each store has its own
        raise _failed(url, error) from error


def _failed(url: str, error: Exception) -> OutputError:
    words = str(error).strip().replace("\n", " ") or type(error).__name__
    return OutputError(f"{without_password(url)}: {hide(words, url)}")


def _find_store(url: str) -> tuple[Any, str]:
    try:
        store, key = find_store(url, without_password(url), "store")
    except UnsupportedError as error:
        raise UnsupportedError(hide(str(error), url)) from error
    except Exception as error:  # each store has its own
        raise _failed(url, error) from error
    if not key or key.endswith("/"):
        raise ConfigError(f"{without_password(url)}: expected the name of a file at its end")
    return store, key
