"""An export of an NBD server, by libnbd (nbd(5); Debian's python3-libnbd).

URIs: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/uri.md. The protocol has no version
of what is exported: that it was replaced shows only in its size, when a connection is made anew.
"""

from __future__ import annotations

import errno
import threading
from importlib import import_module
from typing import Any, Final

from vmcorefs.errors import UnsupportedError
from vmcorefs.sources.remote.messages import ChangedError, Described

_FINAL: Final = {
    **dict.fromkeys((errno.EINVAL, errno.EOVERFLOW), ValueError),
    **dict.fromkeys((errno.EPERM, errno.EACCES), PermissionError),
}
"""Errors that will be the same again."""


class NbdObject:
    """An export of an NBD server.

    Attributes:
        described: As it is when it is opened.
    """

    def __init__(self, url: str) -> None:
        """Connect to it.

        Raises:
            UnsupportedError: if libnbd is missing.
            OSError: with what libnbd says.
        """
        try:
            self._libnbd: Any = import_module("nbd")  # Debian's, and not on PyPI
        except ImportError as error:
            raise UnsupportedError(
                f"{url}: needs libnbd for this Python; Debian has it as python3-libnbd"
            ) from error
        self._url = url
        self._local = threading.local()
        self.described = Described(self._connect().get_size(), "")

    def read(self, offset: int, size: int) -> bytes:
        """See ``RemoteObject.read``."""
        try:
            return bytes(self._handle().pread(size, offset))
        except self._libnbd.Error as error:
            self._local.handle = None
            raise self._as_os_error(error) from None

    def check(self) -> None:
        """See ``RemoteObject.check``: the size is all that can be compared."""
        if self._connect().get_size() != self.described.size:
            raise ChangedError

    def _handle(self) -> Any:  # noqa: ANN401  # libnbd's
        handle = getattr(self._local, "handle", None)
        if handle is None:
            handle = self._connect()
            if handle.get_size() != self.described.size:
                raise ChangedError
            self._local.handle = handle
        return handle

    def _connect(self) -> Any:  # noqa: ANN401  # libnbd's
        handle = self._libnbd.NBD()
        try:
            handle.connect_uri(self._url)
        except self._libnbd.Error as error:
            raise self._as_os_error(error) from None
        return handle

    def _as_os_error(self, error: Any) -> Exception:  # noqa: ANN401  # libnbd's
        return _FINAL.get(error.errnum, OSError)(error.string)
