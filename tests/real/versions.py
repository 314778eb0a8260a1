"""What the tools of this machine make of a kernel, by their versions."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Final

from tests.real import tools

if TYPE_CHECKING:
    from tests.lab.kernels import Kernel

Version = tuple[int, ...]

_ASK: Final = {"crash": "--version", "makedumpfile": "-v"}

# versions in Debian 12 and 13, and the first series of which it was seen
_CRASH_ENDS_AT: Final[dict[Version, Version]] = {
    (8, 0, 2): (6, 12),  # "do not match"
    (8, 0, 6): (7, 3),  # "invalid structure member offset: kmem_cache_s_num"
}
_MAKEDUMPFILE_LOSES_PAGES_OF: Final[dict[Version, Version]] = {
    (1, 7, 2): (6, 12),
    (1, 7, 6): (7, 3),
}


@cache
def version(tool: str) -> Version:
    """Return the version of a tool that is installed here."""
    said = tools.attempt([tool, _ASK[tool]]).stdout
    found = re.search(rf"^{tool}:?(?: version)? (\d+)\.(\d+)\.(\d+)", said, re.MULTILINE)
    assert found is not None, said
    return tuple(map(int, found.groups()))


def crash_knows(kernel: Kernel) -> bool:
    """Say whether this machine's crash opens a dump of a kernel."""
    return kernel.series < _CRASH_ENDS_AT[version("crash")]


def makedumpfile_loses_pages(kernel: Kernel) -> bool:
    """Say whether this machine's makedumpfile takes the kernel's own pages for others'."""
    return kernel.series >= _MAKEDUMPFILE_LOSES_PAGES_OF[version("makedumpfile")]


def makedumpfile_knows_free_pages(kernel: Kernel) -> bool:
    """Say whether this machine's makedumpfile knows what page types look like since 6.12."""
    return kernel.series < (6, 12) or version("makedumpfile") >= (1, 7, 7)
