"""What was loaded."""

from __future__ import annotations

from typing import Final

import drgn
from drgn.helpers.linux.module import for_each_module, module_address_regions, module_taints

from vmcorefs.reports.report.asked import Asked
from vmcorefs.reports.report.schema import Module
from vmcorefs.reports.report.walk.absent import ABSENT

_MAX_MODULES: Final = 4096
_MAX_VERSION: Final = 256


def describe_modules(asked: Asked, program: drgn.Program) -> list[Module]:
    """The modules, the one that was loaded last first, as far as their list can be followed."""
    found: list[Module] = []
    try:
        for module in for_each_module(program):
            found.append(_describe(asked, module))
            if len(found) == _MAX_MODULES:
                raise ValueError("there are more")
    except ABSENT as error:
        asked.miss("modules", f"{len(found)} found, then: {error}")
    return found


def _describe(asked: Asked, module: drgn.Object) -> Module:
    name = module.name.string_().decode("utf-8", "backslashreplace")

    def size() -> int:
        return sum(length for _, length in module_address_regions(module))

    def version() -> str:
        if not module.version:
            return ""
        text: bytes = module.prog_.read_c_string(int(module.version), max_size=_MAX_VERSION)
        return text.decode("utf-8", "backslashreplace")

    where = f"modules.{name}"
    return Module(
        name=name,
        version=asked.get(f"{where}.version", version, ABSENT) or "",
        size=asked.get(f"{where}.size", size, ABSENT),
        taints=asked.get(f"{where}.taints", lambda: module_taints(module), ABSENT) or "",
    )
