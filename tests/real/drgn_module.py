"""Run by the tests as ``drgn_module.py TREE MODULE FUNCTION``: what drgn finds by itself."""

from __future__ import annotations

import sys

from drgn import Program


def main(tree: str, name: str, function: str) -> None:
    """Print the module's debug file, and what it says of the function."""
    program = Program()
    program.set_core_dump(f"{tree}/vmcore")
    program.debug_info_options.kernel_directories = (tree,)
    program.load_default_debug_info()
    (module,) = (module for module in program.modules() if module.name == name)
    found = program.function(function)
    sys.stdout.write(f"{module.debug_file_path}\n{found.type_} {found.address_ or 0:#x}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
