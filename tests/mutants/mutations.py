"""Seeded damage: what is changed in a capture, and how that is undone."""

from __future__ import annotations

import os
import random
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from tests.mutants.base import IMAGE, Base, Spot

MIB: Final = 1 << 20
_LARGEST: Final = 1 << 16
"""Bytes of a spot that are looked at at once; a BTF has megabytes."""
_LARGEST_CUT: Final = 8 * MIB
_SMALL: Final = (0, 1, 2, 3, 4, 7, 8, 255, 256, 4095, 4096, 4097, 65535, 65536, 1 << 20)
WORDS: Final = (
    *_SMALL,
    *((1 << bits) + more for bits in (31, 32, 40, 52, 62, 63, 64) for more in (-4096, -8, -1, 0)),
    *(0xFFFF888000000000, 0xFFFFFFFF80000000, 0xFFFF800008000000, 0xDEADBEEFDEADBEEF),
)
NUMBERS: Final = ("0", "1", "-1", "4095", "0x1000", "4G", "0xffffffffffffffff", "9" * 30, "", "1e9",
                  "ffffffffffffffff", "7fffffffffffffff", "9223372036854775807")  # fmt: skip
_NUMBER: Final = re.compile(rb"(?:0x)?[0-9a-fA-F]{2,}|[0-9]+")
OPTIONS: Final = (
    ("--truncated",),
    ("--layout", "universal"),
    ("--holes", "error"),
    ("--raw-reserved",),
    ("--drop-torn-notes",),
    ("--elfcorehdr", "none"),
    ("--vmcoreinfo", "none"),
    ("--dump-level", "31"),
)


@dataclass(frozen=True)
class Patch:
    """Bytes written over a file of the capture; or, with ``cut``, its new size."""

    file: str
    offset: int
    data: bytes
    cut: bool = False
    what: str = ""

    def __str__(self) -> str:
        if self.cut:
            return f"{self.file} ends at {self.offset:#x}"
        shown = self.data.hex() if len(self.data) <= 32 else f"{len(self.data)} bytes"
        return f"{self.what}: {self.file}[{self.offset:#x}] = {shown}"


@dataclass(frozen=True)
class Mutant:
    """A capture as it is to be damaged and opened.

    Attributes:
        base: The good one.
        patches: The damage.
        options: Of the command line.
    """

    base: Base
    patches: tuple[Patch, ...]
    options: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.base.name} {' '.join(self.options)}: {'; '.join(map(str, self.patches))}"


def make_mutant(rng: random.Random, base: Base) -> Mutant:
    """Damage up to four places; the same of the same state of ``rng``."""
    options: list[str] = []
    for option in OPTIONS:
        if rng.random() < (0.5 if option == OPTIONS[0] else 0.08):
            options += option
    patches = list(_iter_patches(rng, base))
    return Mutant(base, tuple(patches), tuple(options))


def _iter_patches(rng: random.Random, base: Base) -> Iterator[Patch]:
    for _ in range(rng.choice((1, 1, 2, 4))):
        spot = rng.choice(base.spots)
        path = base.directory / spot.file
        if rng.random() < 0.02 and spot.file == IMAGE:
            size = path.stat().st_size
            yield Patch(IMAGE, size - rng.randrange(min(size, _LARGEST_CUT)), b"", cut=True)
        elif not spot.size:
            yield Patch(spot.file, 0, _damage_text(rng, path.read_bytes()), what=spot.what)
        else:
            yield _damage_spot(rng, base, spot)


def _damage_spot(rng: random.Random, base: Base, spot: Spot) -> Patch:
    # a large thing is mostly broken where it begins
    span = min(spot.size, _LARGEST)
    inside = 0 if rng.random() < 0.7 else rng.randrange(max(spot.size - span, 0) + 1)
    span = rng.choice((span, min(span, 64), min(span, 1024)))
    with (base.directory / spot.file).open("rb") as file:
        file.seek(spot.offset + inside)
        before = file.read(span)
    data = rng.choice(_DAMAGES)(rng, bytearray(before), base)[: len(before)]
    first = next((at for at in range(len(data)) if data[at] != before[at]), 0)
    last = next((at for at in range(len(data), 0, -1) if data[at - 1] != before[at - 1]), first)
    return Patch(spot.file, spot.offset + inside + first, bytes(data[first:last]), what=spot.what)


Damage = Callable[[random.Random, bytearray, Base], bytearray]


def _flip(rng: random.Random, data: bytearray, _base: Base) -> bytearray:
    for _ in range(rng.choice((1, 1, 3, 16))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def _word(rng: random.Random, data: bytearray, _base: Base) -> bytearray:
    """An aligned number becomes one at the edge of what it can be, or near what it was."""
    size = rng.choice((1, 2, 4, 8, 8))
    for _ in range(rng.choice((1, 1, 4))):
        at = rng.randrange(max(len(data) // size, 1)) * size
        old = int.from_bytes(data[at : at + size], "little")
        near = (old + 1, old - 1, old * 2, old // 2, old + 4096, old ^ 0xFFFFFFFF, -old)
        new = rng.choice(WORDS if rng.random() < 0.6 else near)
        data[at : at + size] = (new % (1 << 8 * size)).to_bytes(size, "little")
    return data


def _fill(rng: random.Random, data: bytearray, _base: Base) -> bytearray:
    at = rng.randrange(len(data))
    size = rng.choice((8, 64, 4096, len(data)))
    data[at : at + size] = rng.choice((b"\0", b"\xff", b"\x01", b"A")) * len(data[at : at + size])
    return data


def _noise(rng: random.Random, data: bytearray, _base: Base) -> bytearray:
    at = rng.randrange(len(data))
    data[at : at + 64] = rng.randbytes(len(data[at : at + 64]))
    return data


def _repeat(rng: random.Random, data: bytearray, _base: Base) -> bytearray:
    """One of its words stands in the place of others: lists and tables that lead to themselves."""
    words = len(data) // 8
    if not words:
        return data
    at = 8 * rng.randrange(words)
    word = bytes(data[at : at + 8])
    for _ in range(rng.choice((1, 4, words))):
        to = 8 * rng.randrange(words)
        data[to : to + 8] = word
    return data


def _shift(rng: random.Random, data: bytearray, _base: Base) -> bytearray:
    at, by = rng.randrange(len(data)), rng.choice((1, 4, 8, 16))
    if rng.random() < 0.5:
        return data[:at] + data[at + by :] + bytes(by)
    return data[:at] + bytes(by) + data[at:]


def _transplant(rng: random.Random, data: bytearray, base: Base) -> bytearray:
    """What belongs somewhere else in the image."""
    donor = rng.choice([spot for spot in base.spots if spot.size])
    with (base.directory / donor.file).open("rb") as file:
        file.seek(donor.offset)
        data[:] = file.read(min(len(data), donor.size)).ljust(len(data), b"\0")[: len(data)]
    return data


def _digits(rng: random.Random, data: bytearray, _base: Base) -> bytearray:
    """Numbers in a text that must keep its length, such as VMCOREINFO's."""
    found = list(_NUMBER.finditer(data))
    for match in rng.sample(found, min(len(found), rng.choice((1, 1, 3)))):
        width = match.end() - match.start()
        data[match.start() : match.end()] = rng.choice(
            (b"0" * width, b"f" * width, b"9" * width, b"-" + b"1" * (width - 1), b" " * width)
        )
    return data


_DAMAGES: Final[tuple[Damage, ...]] = (
    _flip, _word, _word, _word, _fill, _noise, _repeat, _shift, _transplant, _digits,
)  # fmt: skip


def _damage_text(rng: random.Random, text: bytes) -> bytes:
    """Lines that are gone, twice, or elsewhere; numbers that cannot be; bytes that are no text."""
    for _ in range(rng.choice((1, 1, 2))):
        lines = text.splitlines(keepends=True) or [b""]
        at = rng.randrange(len(lines))
        numbers = list(_NUMBER.finditer(text))
        choice = rng.randrange(6)
        if choice == 0 and numbers:
            match = rng.choice(numbers)
            text = text[: match.start()] + rng.choice(NUMBERS).encode() + text[match.end() :]
        elif choice == 1 and numbers:
            one, other = rng.choice(numbers), rng.choice(numbers)
            text = text[: one.start()] + other[0] + text[one.end() :]
        elif choice == 2:
            text = b"".join(lines[:at] + lines[at + 1 :])
        elif choice == 3:
            text = b"".join([*lines[:at], lines[at], *lines[at:]])
        elif choice == 4:
            rng.shuffle(lines)
            text = b"".join(lines)
        elif text:
            byte = rng.randrange(len(text))
            text = text[:byte] + rng.choice((b"\xff", b"\0", b'"', b"=", b"\n")) + text[byte:]
    return text


@contextmanager
def damaged(mutant: Mutant) -> Iterator[None]:
    """Write the damage into the capture's files, and undo it at the end."""
    undo: list[tuple[str, int, int, bytes]] = []
    try:
        for patch in mutant.patches:
            undo.append(_apply(mutant.base, patch))  # noqa: PERF401  # each as it is done
        yield
    finally:
        for name, size, offset, data in reversed(undo):
            descriptor = os.open(mutant.base.directory / name, os.O_RDWR)
            try:
                # what was cut off comes back as zeros, and mostly that is what it was
                shrunk = os.fstat(descriptor).st_size < size
                os.ftruncate(descriptor, size)
                if not shrunk or data.strip(b"\0"):
                    os.pwrite(descriptor, data, offset)
            finally:
                os.close(descriptor)


def _apply(base: Base, patch: Patch) -> tuple[str, int, int, bytes]:
    descriptor = os.open(base.directory / patch.file, os.O_RDWR)
    try:
        size = os.fstat(descriptor).st_size
        is_text = patch.file != IMAGE and not patch.offset
        kept = size - patch.offset if patch.cut or is_text else len(patch.data)
        before = os.pread(descriptor, max(kept, 0), patch.offset)
        if patch.cut or is_text:
            os.ftruncate(descriptor, patch.offset)
        os.pwrite(descriptor, patch.data, patch.offset)
    finally:
        os.close(descriptor)
    return patch.file, size, patch.offset, before


def seeded(seed: int, number: int) -> random.Random:
    """The randomness of one case, whatever cases were run before it."""
    return random.Random(struct.pack("<qq", seed, number))  # noqa: S311  # to be repeated
