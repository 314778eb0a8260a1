"""How the kernel's data is read: symbols, types, modules, its log."""
