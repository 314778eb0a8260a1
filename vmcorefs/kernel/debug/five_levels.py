"""Page tables of 5 levels for volatility3, which walks 4: a file of the tree, for its ``-p``."""

from __future__ import annotations

from typing import Final

# text, and no module: vmcorefs runs where there is no volatility3
FIVE_LEVELS: Final = b'''\
"""Page tables of 5 levels: vol -p DIRECTORY, where this file is in DIRECTORY."""

from volatility3.framework.automagic.linux import LinuxIntelVMCOREINFOStacker
from volatility3.framework.layers import intel
from volatility3.framework.symbols.linux import VMCoreInfo


class LinuxIntel57(intel.LinuxIntel32e):
    """Linux's addresses of 57 bits (Intel SDM, volume 3, 4.5.4)."""

    _maxphyaddr = 52
    _maxvirtaddr = 57
    _structure = [("page map layer 5", 9, False), *intel.Intel32e.structure]


class FiveLevelStacker(LinuxIntelVMCOREINFOStacker):
    """Finds the kernel as volatility3 does, and has its page tables walked from the fifth level."""

    stack_order = LinuxIntelVMCOREINFOStacker.stack_order - 1

    @classmethod
    def stack(cls, context, layer_name, progress_callback=None):
        """The layer of a kernel that says in its VMCOREINFO that it uses 5 levels, or None."""
        found = super().stack(context, layer_name, progress_callback)
        if found is None:
            return None
        notes = VMCoreInfo.search_vmcoreinfo_elf_note(context, layer_name, progress_callback)
        if not any(values.get("NUMBER(pgtable_l5_enabled)") for _, values in notes):
            return None
        return LinuxIntel57(
            context, config_path=found.config_path, name=found.name, metadata={"os": "Linux"}
        )
'''
