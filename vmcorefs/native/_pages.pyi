from typing import Any, TypeAlias

from numpy.typing import NDArray

_Buffer: TypeAlias = NDArray[Any] | bytes | bytearray

def find_zeros(pages: _Buffer, page_size: int, zero: _Buffer, /) -> None: ...
def library(flag: int, /) -> str: ...
def pack(
    flag: int, pages: _Buffer, page_size: int, stored: _Buffer, out: _Buffer, sizes: _Buffer, /
) -> int: ...
def read_and_pack(
    flag: int,
    descriptor: int,
    offsets: _Buffer,
    counts: _Buffer,
    page_size: int,
    out: _Buffer,
    sizes: _Buffer,
    /,
) -> int: ...
