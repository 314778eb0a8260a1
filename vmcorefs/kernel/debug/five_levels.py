"""Page tables of 5 levels for volatility3, which walks 4: a file of the tree, for its ``-p``."""

from __future__ import annotations

from typing import Final

# text, and no module: vmcorefs runs where there is no volatility3
FIVE_LEVELS: Final = b'''\
"""Page tables of 5 levels: vol -p DIRECTORY, where this file is in DIRECTORY."""

from volatility3.framework.automagic import linux
from volatility3.framework.layers import intel


class LinuxIntel57(intel.LinuxIntel32e):
    """Linux's addresses of 57 bits (Intel SDM, volume 3, 4.5.4)."""

    _maxphyaddr = 52
    _maxvirtaddr = 57
    _structure = [("page map layer 5", 9, False), *intel.Intel32e.structure]


class FiveLevelStacker(linux.LinuxIntelVMCOREINFOStacker):
    """Finds the kernel as volatility3 does, and sees whether five levels lead to its banner.

    A kernel writes its VMCOREINFO note when it crashes: where it hangs there is none.
    """

    stack_order = linux.LinuxIntelVMCOREINFOStacker.stack_order - 1

    @classmethod
    def stack(cls, context, layer_name, progress_callback=None):
        """The layer of a kernel that uses 5 levels, or None."""
        found = super().stack(context, layer_name, progress_callback)
        if found is None:
            found = linux.LinuxIntelStacker.stack(context, layer_name, progress_callback)
        if found is None:
            return None
        banner = found.config[linux.LinuxSymbolFinder.banner_config_key].encode("latin-1")
        five = LinuxIntel57(
            context, config_path=found.config_path, name=found.name, metadata={"os": "Linux"}
        )
        for name in context.symbol_space:
            symbols = context.symbol_space[name]
            if "linux_banner" in symbols.symbols:
                linked = symbols.get_symbol("linux_banner").address
                place = linked + found.config["kernel_virtual_offset"]
                if five.read(place & five.address_mask, len(banner), pad=True) == banner:
                    return five
        return None
'''
