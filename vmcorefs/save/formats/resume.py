"""Whether what an earlier try has left is the beginning of the same dump, and why not."""

from __future__ import annotations

from vmcorefs.core.formats.kdump.descriptors import COMPRESSED
from vmcorefs.core.formats.kdump.headers import (
    MAX_SUB_HEADER_SIZE,
    SIGNATURE,
    MainHeader,
    parse_main_header,
    parse_sub_header,
)
from vmcorefs.errors import ConfigError, FormatError
from vmcorefs.save.formats.kdump_plan import Part


def refuse_other(found: bytes, part: Part) -> None:
    """Refuse to go on from another dump: it may be all that is left of its machine.

    Args:
        found: What stands where the headers and notes of ``part`` go, as far as it is there. A file
            that has not even these has nothing to be lost.
        part: What is to be written.

    Raises:
        ConfigError: saying what differs.
    """
    wanted = part.front(incomplete=True)
    if len(found) < len(wanted) and SIGNATURE.startswith(found[: len(SIGNATURE)]):
        return
    difference = _difference(found, wanted, part)
    if difference is not None:
        raise ConfigError(f"{difference}, so it cannot be gone on from; --force begins anew")


def other_pages() -> ConfigError:
    """The error for the same headers over other bitmaps."""
    return ConfigError(
        "it is a dump of the same machine, but of other pages, so it cannot be gone on from;"
        " --force begins anew"
    )


def _difference(found: bytes, wanted: bytes, part: Part) -> str | None:
    try:
        main = parse_main_header(found)
        block = main.block_size
        sub = parse_sub_header(main, found[block : block + MAX_SUB_HEADER_SIZE])
    except FormatError:
        return "it is no kdump-compressed dump"
    theirs, ours = ((one.split, one.start_pfn_64, one.end_pfn_64) for one in (sub, part.sub))
    level, pages = part.sub.dump_level, part.main.block_size
    # the notes hold VMCOREINFO, and so the time of the crash, and the CPUs' registers
    other = main.utsname != part.main.utsname or found[block:] != wanted[block:]
    differences = (
        (block != pages, f"its pages have {block} bytes, and not {pages}"),
        (_codec(main) != _codec(part.main), "its pages are compressed by another codec"),
        (sub.dump_level != level, f"its dump level is {sub.dump_level}, and not {level}"),
        (theirs != ours, "it is another part of a split dump"),
        (other, "it is of another machine or another crash"),
    )
    return next((words for differs, words in differences if differs), None)


def _codec(main: MainHeader) -> int:
    return main.status & COMPRESSED
