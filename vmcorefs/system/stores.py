"""fsspec's stores, by URL: s3, gs, abfs, hdfs, smb and others, each by a package of its own.

https://filesystem-spec.readthedocs.io
"""

from __future__ import annotations

from typing import Any

from vmcorefs.errors import UnsupportedError


def find_store(url: str, shown: str, what: str) -> tuple[Any, str]:
    """The store of a URL, and the path in it.

    Args:
        url: As fsspec takes it.
        shown: The same for messages, without a password.
        what: What it is to the user, for messages: a store or a place.

    Raises:
        UnsupportedError: if fsspec, or its package for this store, is missing, or does not take
            such a URL.
        Exception: of whatever kind, as the package raises where it cannot connect.
    """
    try:
        from fsspec.core import url_to_fs  # noqa: PLC0415  # optional, and slow to import
    except ImportError as error:
        raise UnsupportedError(
            f"{shown}: needs fsspec; install vmcorefs[remote], and fsspec's package for this {what}"
        ) from error
    try:
        store, path = url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UnsupportedError(f"{shown}: {error}") from error
    return store, path
