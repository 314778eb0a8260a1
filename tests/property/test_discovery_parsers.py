"""What discovery reads out of a kernel's memory: parsed, or refused with an error of ours.

Each target is a function of bytes that raises nothing but a ``VmcorefsError`` and asks for no more
memory than there is sense in; ``TARGETS`` names them, and ``SEEDS`` has what is valid.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

import vmcorefs
from tests.builders.dead_machines import vmcoreinfo_text
from tests.builders.kernels import ARM, IMAGE_SIZE, MIB, X86, DeadKernel, make_kernel
from tests.property.discovery_targets import (
    AT,
    SEEDS,
    TARGETS,
    VALID,
)
from vmcorefs.core.space.units import MAX_ADDRESS
from vmcorefs.discovery.vmcoreinfo import given_vmcoreinfo
from vmcorefs.errors import VmcorefsError
from vmcorefs.options import parse_vmcoreinfo_choice

WORDS = [
    b"\xff" * 8,
    bytes(8),
    struct.pack("<Q", AT),
    struct.pack("<Q", AT + 64),
    struct.pack("<Q", 1 << 63),
    struct.pack("<Q", MAX_ADDRESS),
    b"9" * 20 + b"\n",
    b"\n",
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A seed with some bytes replaced, inserted or cut out."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, min(len(data), 300)))
        if draw(st.booleans()):
            at &= ~7
        length = draw(st.sampled_from([0, 1, 4, 8]))
        data[at : at + length] = draw(st.sampled_from(WORDS) | st.binary(max_size=8))
    return bytes(data)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.__name__)
@given(data=st.binary(max_size=300) | mutated())
def test_parsed_or_refused(target: Callable[[bytes], None], data: bytes) -> None:
    with suppress(VmcorefsError):
        target(data)


@pytest.mark.parametrize(("target", "seed"), VALID)
def test_the_seeds_are_valid(target: Callable[[bytes], None], seed: bytes) -> None:
    target(seed)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("discovery")


@given(data=st.binary(max_size=200) | mutated() | st.just(vmcoreinfo_text()))
def test_a_file_with_vmcoreinfo(directory: Path, data: bytes) -> None:
    path = directory / "vmcoreinfo"
    path.write_bytes(data)
    with suppress(VmcorefsError):
        read = given_vmcoreinfo(str(path))
        assert isinstance(read, int) or read.text


@given(text=st.text(max_size=20) | st.from_regex(r"(0x)?[0-9a-fA-F]{1,40}", fullmatch=True))
def test_what_is_typed_for_vmcoreinfo(directory: Path, text: str) -> None:
    with suppress(VmcorefsError):
        given_one, use = parse_vmcoreinfo_choice(text, str(directory))
        assert use == (text != "none")
        if isinstance(given_one, str):
            with suppress(VmcorefsError):
                given_vmcoreinfo(given_one + "\0")  # never a file


# --- the whole way ---------------------------------------------------------------------------


@cache
def small(number: int) -> DeadKernel:
    if number == 0:
        return make_kernel(ram=[(0x1000, 0x9FC00), (MIB, 8 * MIB)], base=4 * MIB)
    return make_kernel(ARM, [(4 * MIB, 12 * MIB)], base=6 * MIB)


@cache
def interesting(number: int) -> list[int]:
    """Where the image of a kernel is not zeros, by 8 bytes, from its start."""
    kernel = small(number)
    image = bytearray(IMAGE_SIZE + 0x30000)
    for paddr, data in kernel.chunks:
        at = paddr - kernel.base
        if 0 <= at < len(image):
            image[at : at + len(data)] = data
    return (np.flatnonzero(np.frombuffer(image, dtype=np.uint64)) * 8).tolist()


PATCHES = st.lists(
    st.tuples(st.integers(0, 1 << 20), st.sampled_from(WORDS[:6]) | st.binary(max_size=16)),
    min_size=1,
    max_size=12,
)


@settings(max_examples=150)
@given(number=st.integers(0, 1), patches=PATCHES, truncated=st.booleans(), end=st.integers(0, 40))
@example(number=0, patches=[(0, b"")], truncated=False, end=0)
def test_a_kernel_with_wrong_bytes_is_opened_or_refused(
    directory: Path, number: int, patches: list[tuple[int, bytes]], truncated: bool, end: int
) -> None:
    kernel = small(number)
    places = interesting(number)
    wrong = [(kernel.base + places[where % len(places)], data) for where, data in patches]
    spoilt = DeadKernel(kernel.arch, kernel.ram, kernel.base, chunks=[*kernel.chunks, *wrong])
    start = 0 if kernel.arch is X86 else kernel.ram[0][0]
    size = kernel.ram[-1][1] - start - end * 100_000
    path = spoilt.save(directory / "ram", [(start, 0, size)])
    with suppress(VmcorefsError), vmcorefs.open(path, truncated=truncated) as capture:
        for file in capture.files.values():
            with suppress(VmcorefsError):
                file.pread(min(4096, file.size), 0)
        assert truncated or not len(capture.image.missing)


def test_the_kernels_that_are_spoilt_are_sound(directory: Path) -> None:
    for number in (0, 1):
        kernel = small(number)
        start = 0 if kernel.arch is X86 else kernel.ram[0][0]
        path = kernel.save(directory / "ram", [(start, 0, kernel.ram[-1][1] - start)])
        with vmcorefs.open(path) as capture:
            assert capture.image.memory_map.ram.tolist() == [list(row) for row in kernel.ram]
