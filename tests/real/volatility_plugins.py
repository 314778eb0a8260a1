"""Run by the tests as ``volatility_plugins.py SYMBOLS DUMP CACHE [LAYERS]``: what its plugins say.

All those for Linux run in one process, on what its automagic finds once, but for those that take
long, want options, or need no symbols.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any, Final

import volatility3.plugins
import volatility3.symbols
from volatility3 import framework
from volatility3.framework import automagic, constants, contexts, interfaces, plugins
from volatility3.framework.configuration import requirements

FIRST: Final = "linux.pslist.PsList"
LEFT_OUT: Final = (
    "linux.kallsyms.Kallsyms",  # a minute
    "linux.pagecache.RecoverFs",  # ten seconds
    "linux.psscan.PsScan",  # twenty seconds
    "linux.graphics.fbdev.Fbdev",  # wants another package
    "linux.module_extract.ModuleExtract",
    "linux.pagecache.InodePages",
    "linux.vmaregexscan.VmaRegExScan",
    "linux.vmcoreinfo.VMCoreInfo",
)


class Discarded(interfaces.plugins.FileHandlerInterface, io.BytesIO):  # type: ignore[misc]
    """A file that a plugin writes."""

    def __init__(self, name: str) -> None:
        io.BytesIO.__init__(self)
        interfaces.plugins.FileHandlerInterface.__init__(self, name)


class Runner:
    """volatility3 on one dump."""

    def __init__(self, symbols: str, dump: str, cache: str, *layers: str) -> None:
        constants.CACHE_PATH, constants.OFFLINE = cache, True
        volatility3.plugins.__path__ = [*layers, *constants.PLUGINS_PATH]
        volatility3.symbols.__path__ = [symbols, *constants.SYMBOL_BASEPATHS]
        framework.import_files(volatility3.plugins, ignore_errors=True)
        self.context = contexts.Context()
        self.context.config["automagic.LayerStacker.single_location"] = Path(dump).as_uri()
        self.plugins = framework.list_plugins()
        first = self.plugins[FIRST]
        chosen = automagic.choose_automagic(automagic.available(self.context), first)
        constructed = plugins.construct_plugin(
            self.context, chosen, first, "plugins", None, Discarded
        )
        self.kernel = constructed.config["kernel"]

    def run(self, name: str) -> dict[str, Any]:
        """A plugin's rows, and the error that ended them, or None."""
        plugin = self.plugins[name]
        for needed in plugin.get_requirements():
            if isinstance(needed, requirements.ModuleRequirement):
                self.context.config[f"plugins.{plugin.__name__}.{needed.name}"] = self.kernel
        rows: list[list[str]] = []

        def add(node: interfaces.renderers.TreeNode, _: None) -> None:
            rows.append([str(node.path_depth), *map(_text, node.values)])

        error = None
        try:
            made = plugins.construct_plugin(self.context, [], plugin, "plugins", None, Discarded)
            made.run().populate(add, None)
        except Exception as raised:  # noqa: BLE001  # of every kind
            error = f"{type(raised).__name__}: {raised}"
        return {"rows": rows, "error": error}

    def names(self) -> list[str]:
        """Those that are run; ``linux.ip`` first, as it changes how a type is read."""
        names = [
            name
            for name in self.plugins
            if name.startswith("linux.")
            and name not in LEFT_OUT
            and name.replace("linux.", "linux.malware.", 1) not in self.plugins  # an old name
        ]
        return sorted(names, key=lambda name: (not name.startswith("linux.ip."), name))


def _text(value: object) -> str:
    """A cell; one without a value has no text that is the same in each run."""
    absent = isinstance(value, interfaces.renderers.BaseAbsentValue)
    return type(value).__name__ if absent else str(value)


if __name__ == "__main__":
    runner = Runner(*sys.argv[1:])
    print(json.dumps({name: runner.run(name) for name in runner.names()}))  # noqa: T201
