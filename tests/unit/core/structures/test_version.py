"""linux_banner and init_uts_ns, in memory that is written by hand."""

from __future__ import annotations

import pytest

from tests.matching import exactly
from vmcorefs.core.elf.vmcoreinfo import parse_vmcoreinfo
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.core.structures.version import MAX_BANNER, names_uts, read_banner, read_uts
from vmcorefs.errors import FaultError, FormatError

AT = 0xFFFF_FFFF_8200_0000
BANNER = b"Linux version 6.1.0-test (me@here) (gcc 12.2.0, GNU ld 2.40) #1 SMP 2026-11-16\n"
INFO = parse_vmcoreinfo(b"SYMBOL(init_uts_ns)=ffffffff82000000\nOFFSET(uts_namespace.name)=4\n")


def holding(image: bytes) -> KernelMemory:
    def read(vaddr: int, size: int) -> bytes:
        if not AT <= vaddr <= vaddr + size <= AT + len(image):
            raise FaultError("memory", vaddr, size, "missing")
        return image[vaddr - AT : vaddr - AT + size]

    return KernelMemory(read, "<", 8)


def uts(*fields: bytes) -> bytes:
    """``struct uts_namespace`` with the name at 4; each field has 65 bytes."""
    return b"\xee" * 4 + b"".join(field.ljust(65, b"\0") for field in fields)


def test_the_banner_ends_with_its_newline() -> None:
    assert read_banner(holding(BANNER + b"\0" * 100), AT) == BANNER


@pytest.mark.parametrize("start", [0, 1, 63])
def test_a_banner_right_before_the_end_of_a_page_is_read(start: int) -> None:
    image = (bytes(start) + BANNER).ljust(192, b"\0")
    assert read_banner(holding(image), AT + start) == BANNER


@pytest.mark.parametrize(
    "image",
    [
        b"Linux verse".ljust(200, b"\n"),
        b"Linux version 6.1\0\n".ljust(200, b"\0"),
        b"Linux version 6.1 \x1b[2J\n".ljust(200, b"\0"),
        b"Linux version 6".ljust(MAX_BANNER + 200, b"1"),
        bytes(MAX_BANNER + 200),
    ],
)
def test_what_is_no_banner_is_refused(image: bytes) -> None:
    with pytest.raises(FormatError, match=r"^linux_banner at 0xffffffff82000000 is b'"):
        read_banner(holding(image), AT)


def test_init_uts_ns_tells_release_and_version() -> None:
    image = uts(b"Linux", b"dead", b"6.1.0-test", b"#1 SMP 2026-11-16", b"x86_64")
    assert names_uts(INFO)
    assert read_uts(INFO, holding(image)) == b"Linux version 6.1.0-test #1 SMP 2026-11-16\n"


def test_an_empty_or_endless_field_is_refused() -> None:
    for release in (b"", b"6" * 65, b"6.1\n"):
        image = uts(b"Linux", b"dead", release, b"#1", b"")
        with pytest.raises(
            FormatError,
            match=exactly(
                f"init_uts_ns: release is {release.ljust(65, bytes(1))[:40]!r}, expected a name"
            ),
        ):
            read_uts(INFO, holding(image))


@pytest.mark.parametrize(
    "text", [b"", b"SYMBOL(init_uts_ns)=1\n", b"OFFSET(uts_namespace.name)=4\n"]
)
def test_both_keys_are_needed(text: bytes) -> None:
    assert not names_uts(parse_vmcoreinfo(text))
    with pytest.raises(FormatError, match=r"^VMCOREINFO: "):
        read_uts(parse_vmcoreinfo(text), holding(bytes(1000)))
