"""The names of Rust functions, out of their symbols.

The kernel's Rust is built with the mangling of RFC 2603 (Makefile,
``-Csymbol-mangling-version=v0``). Here are paths, and the types that are parts of them, without
hashes and without the crate that made an instance. A symbol with anything else stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

_MAX_SYMBOL: Final = 1 << 10
_MAX_NAME: Final = 1 << 12
_MAX_DEPTH: Final = 32
_BASE_62: Final = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_BASIC: Final = dict(
    zip(
        "abcdefhijlmnostuvxyzp",
        (
            *("i8", "bool", "char", "f64", "str", "f32", "u8", "isize", "usize", "i32", "u32"),
            *("i128", "u128", "i16", "u16", "()", "...", "i64", "u64", "!", "_"),
        ),
        strict=True,
    )
)
_POINTERS: Final = {"R": "&", "Q": "&mut ", "P": "*const ", "O": "*mut "}


@lru_cache(maxsize=1024)
def demangle(symbol: str) -> str:
    """Name the function of a symbol; the symbol itself, if it is not Rust's.

    Args:
        symbol: Without what the compiler added, such as ``.llvm.123``.
    """
    if not symbol.startswith("_R") or len(symbol) > _MAX_SYMBOL:
        return symbol
    try:
        return _Reader(symbol[2:]).path(0)
    except _NotKnownError:
        return symbol


class _NotKnownError(Exception):
    """The symbol is cut off, or has what is not read here."""


class _Reader:
    """Reads the parts of a symbol, from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._made = 0

    def path(self, depth: int) -> str:
        self._bound(depth)
        read = _PATHS.get(self._next())
        if read is None:
            raise _NotKnownError
        return self._count(read(self, depth + 1))

    def type(self, depth: int) -> str:
        self._bound(depth)
        tag = self._next()
        if tag in _BASIC:
            return _BASIC[tag]
        if tag in _POINTERS:
            if tag in "RQ":
                self._lifetime()
            return self._count(_POINTERS[tag] + self.type(depth + 1))
        if tag == "S":
            return self._count(f"[{self.type(depth + 1)}]")
        if tag == "T":
            return self._count(f"({', '.join(self._until_end(depth))})")
        if tag == "B":
            return self._again(self.type, depth + 1)
        self._at -= 1
        return self.path(depth + 1)

    def crate(self, _depth: int) -> str:
        return self._identifier()[1]

    def inherent(self, depth: int) -> str:
        self._skip_impl(depth)
        # what it is of says more than where it stands
        return f"<{self.type(depth)}>"

    def trait_here(self, depth: int) -> str:
        self._skip_impl(depth)
        return self.trait(depth)

    def trait(self, depth: int) -> str:
        of = self.type(depth)
        return f"<{of} as {self.path(depth)}>"

    def nested(self, depth: int) -> str:
        namespace = self._next()
        inside = self.path(depth)
        number, name = self._identifier()
        if namespace.islower():
            return f"{inside}::{name}" if name else inside
        kind = {"C": "closure", "S": "shim"}.get(namespace, namespace)
        return f"{inside}::{{{kind}{':' * bool(name)}{name}#{number}}}"

    def generic(self, depth: int) -> str:
        inside = self.path(depth)
        return f"{inside}<{', '.join(self._until_end(depth))}>"

    def path_again(self, depth: int) -> str:
        return self._again(self.path, depth)

    def _until_end(self, depth: int) -> list[str]:
        found = []
        while not self._take("E"):
            if self._lifetime():
                found.append("'_")
            else:
                found.append(self.type(depth + 1))
        return found

    def _again(self, read: Callable[[int], str], depth: int) -> str:
        """Read what stands earlier in the symbol, and is meant here too."""
        here = self._at - 1
        target = self._number()
        if target >= here:
            raise _NotKnownError
        after, self._at = self._at, target
        text = read(depth)
        self._at = after
        return text

    def _skip_impl(self, depth: int) -> None:
        self._disambiguator()
        self.path(depth)

    def _identifier(self) -> tuple[int, str]:
        number = self._disambiguator()
        punycode = self._take("u")
        digits = ""
        while self._at < len(self._text) and self._text[self._at].isdigit() and digits != "0":
            digits += self._next()
        if not digits or punycode or len(digits) > 4:
            raise _NotKnownError
        self._take("_")
        end = self._at + int(digits)
        if end > len(self._text):
            raise _NotKnownError
        name = self._text[self._at : end]
        self._at = end
        return number, self._count(name)

    def _disambiguator(self) -> int:
        return self._number() + 1 if self._take("s") else 0

    def _lifetime(self) -> bool:
        if not self._take("L"):
            return False
        self._number()
        return True

    def _number(self) -> int:
        """Read digits of base 62 up to an underscore: none is 0, and 0 is 1."""
        value, digits = 0, 0
        while not self._take("_"):
            digit = _BASE_62.find(self._next())
            if digit < 0 or digits > 15:
                raise _NotKnownError
            value, digits = value * 62 + digit, digits + 1
        return value + 1 if digits else 0

    def _next(self) -> str:
        if self._at >= len(self._text):
            raise _NotKnownError
        self._at += 1
        return self._text[self._at - 1]

    def _take(self, expected: str) -> bool:
        if not self._text.startswith(expected, self._at):
            return False
        self._at += 1
        return True

    def _bound(self, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise _NotKnownError

    def _count(self, text: str) -> str:
        """Keep backward references from making a name that fills the memory."""
        self._made += len(text)
        if self._made > _MAX_NAME:
            raise _NotKnownError
        return text


_PATHS: Final[dict[str, Callable[[_Reader, int], str]]] = {
    "C": _Reader.crate,
    "M": _Reader.inherent,
    "X": _Reader.trait_here,
    "Y": _Reader.trait,
    "N": _Reader.nested,
    "I": _Reader.generic,
    "B": _Reader.path_again,
}
