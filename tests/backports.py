"""Where a kernel's other packages are, if not in a suite that this machine's apt knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.lab.kernels import Kernel


def suite_of(kernel: Kernel) -> str | None:
    """The suite that has a kernel, as ``tests.lab.packages`` wants it."""
    return "trixie-backports" if kernel.debian == "trixie" and kernel.role == "newer" else None
