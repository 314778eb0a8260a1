"""How to read the kernel's data: symbols, types, modules, its log."""
