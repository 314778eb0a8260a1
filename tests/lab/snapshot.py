"""What is kept of a guest: a directory, and what it holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from tests.lab.host import LabError
from tests.lab.kernels import Kernel
from tests.lab.qemu import Piece, memory_pieces
from tests.lab.recipe import Recipe

_MANIFEST: Final = "recipe.json"


@dataclass(frozen=True)
class Snapshot:
    """A guest's memory, and what the guest said of itself.

    Args:
        directory: where the files are.
        recipe: how it was made.
        kernel: that ran.
        seconds: that the attempt took which succeeded.
    """

    directory: Path
    recipe: Recipe
    kernel: Kernel
    seconds: float

    @property
    def ram(self) -> Path:
        """The guest's memory as QEMU kept it."""
        return self.directory / "ram"

    @property
    def guest(self) -> Path:
        """QEMU's own dump of the same moment, an ELF core; only if the recipe says ``dumps``."""
        return self.directory / "guest.elf"

    @property
    def config(self) -> Path:
        """The description for vmcorefs, ``capture.toml``."""
        return self.directory / "capture.toml"

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """How physical addresses lie in ``ram``."""
        return memory_pieces(self.recipe.memory_size, self.recipe.arch)

    def text(self, name: str) -> str:
        """Return one of the text files, such as ``iomem`` or ``dmesg``."""
        return (self.directory / name).read_text()


class Capture(Snapshot):
    """The snapshot of a guest that crashed: its capture kernel has run in ``ram``."""

    @property
    def vmcore(self) -> Path:
        """The capture kernel's ``/proc/vmcore``: the truth to compare with."""
        return self.directory / "vmcore"

    @property
    def lowmem(self) -> Path | None:
        """The backup of low memory; None with kexec_file_load, which makes none."""
        path = self.directory / "lowmem"
        return path if path.exists() else None


class _Manifest(msgspec.Struct):
    recipe: Recipe
    kernel: Kernel
    seconds: float


def write_manifest(directory: Path, recipe: Recipe, kernel: Kernel, seconds: float) -> None:
    """Write down how a snapshot was made, once the rest of it is in its directory."""
    encoded = msgspec.json.encode(_Manifest(recipe, kernel, round(seconds, 1)))
    (directory / _MANIFEST).write_bytes(msgspec.json.format(encoded) + b"\n")


def load_snapshot(directory: Path) -> Snapshot:
    """Return the snapshot that was left in a directory; a ``Capture`` if its guest crashed.

    Raises:
        LabError: if there is none.
    """
    try:
        body = (directory / _MANIFEST).read_bytes()
        found = msgspec.json.decode(body, type=_Manifest)
    except (OSError, msgspec.DecodeError) as error:
        raise LabError(f"{directory}: not a capture: {error}") from error
    kind = Capture if found.recipe.crashes else Snapshot
    return kind(directory, found.recipe, found.kernel, found.seconds)


def load_capture(directory: Path) -> Capture:
    """Return the capture of a crash that was left in a directory.

    Raises:
        LabError: if there is none, or its guest did not crash.
    """
    return as_capture(load_snapshot(directory))


def as_capture(snapshot: Snapshot) -> Capture:
    """Take a snapshot for the capture of a crash.

    Raises:
        LabError: if it is none.
    """
    if not isinstance(snapshot, Capture):
        raise LabError(f"{snapshot.directory}: no capture of a crash: {snapshot.recipe}")
    return snapshot
