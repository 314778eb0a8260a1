"""An option that describes a capture: what it is called and does, and how its value is read.

``config.CaptureConfig`` has one for each of its fields. The commands' options, the keys of a TOML
file and the keywords of ``vmcorefs.open`` are made from them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from os import PathLike
from typing import Any

import msgspec

from vmcorefs.core.elf.machines import machine_number
from vmcorefs.core.space.units import parse_range, parse_size
from vmcorefs.errors import ConfigError

StrPath = str | PathLike[str]

_NUMBER = re.compile(r"0x[0-9a-f]+|[0-9]+", re.IGNORECASE)


def _as_given(value: Any, _directory: str) -> Any:  # noqa: ANN401  # whatever the field's type is
    return value


class Option(msgspec.Struct, frozen=True):
    """How a field of ``CaptureConfig`` is given.

    Attributes:
        help: What it decides.
        metavar: What stands for its value in the help; None if its type is enough.
        parse: Makes the field's value of what is given, and of the directory that paths are
            relative to.
        toml: Its type in TOML; None for the field's own.
        switch: The field that the words ``auto`` and ``none`` set, where there are such words;
            ``parse`` makes both values.
        name: Its key in TOML, and with dashes the command's option; empty for the field's name.
        type: The field's type, which ``config.options`` fills in.
    """

    help: str
    metavar: str | None = None
    parse: Callable[[Any, str], Any] = _as_given
    toml: Any = None
    switch: str | None = None
    name: str = ""
    type: Any = None


def read_path(given: StrPath, directory: str) -> str:
    """A path as it is given, or relative to ``directory``."""
    return os.path.join(directory, given)


def read_ranges(given: Iterable[str | tuple[int, int]], _directory: str) -> tuple[Any, ...]:
    """Ranges, as text or half-open."""
    return tuple(parse_range(one) if isinstance(one, str) else one for one in given)


def parse_elfcorehdr_choice(given: str | int, _directory: str = "") -> tuple[int | None, bool]:
    """Read ``auto``, ``none`` or an address as ``(elfcorehdr, use_elfcorehdr)``.

    Raises:
        ConfigError: if it is something else.
    """
    if given in ("auto", "none"):
        return None, given == "auto"
    return parse_size(str(given)), True


def parse_vmcoreinfo_choice(
    given: StrPath | int, directory: str = ""
) -> tuple[str | int | None, bool]:
    """Read ``auto``, ``none``, an address or a path as ``(vmcoreinfo, use_vmcoreinfo)``.

    Args:
        given: A number is an address, whatever files there are; a ``Path`` is one, whatever it is
            called; of text, a file of that name is taken before an address.
        directory: What a path is relative to.
    """
    if isinstance(given, int):
        return given, True
    if given in ("auto", "none"):
        return None, given == "auto"
    path = read_path(given, directory)
    if isinstance(given, str) and not os.path.lexists(path) and _NUMBER.fullmatch(given):
        return parse_size(given), True
    return path, True


def parse_machine(text: str, _directory: str = "") -> int:
    """Read an architecture: its name in ``uname -m``, QEMU or ELF (without ``EM_``), or its number.

    Raises:
        ConfigError: if there is no such architecture.
    """
    known = machine_number(text)
    if known is not None:
        return known
    for number, name in machine_names().items():
        if text.lower() == name:  # before numbers: Intel's is called 386
            return number
    if re.fullmatch(r"[0-9]{1,5}", text) and int(text) < 1 << 16:
        return int(text)
    raise ConfigError(f"{text!r}: not an ELF machine; expected a name such as x86_64 or aarch64")


def machine_names() -> dict[int, str]:
    """ELF machine numbers and their names in lower case, as pyelftools knows them."""
    from elftools.elf.enums import ENUM_E_MACHINE  # noqa: PLC0415  # 30 ms that few commands need

    return {
        number: name.removeprefix("EM_").lower()
        for name, number in ENUM_E_MACHINE.items()
        if isinstance(number, int)
    }
