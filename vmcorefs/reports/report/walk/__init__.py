"""Following the kernel's structures: the only rooms that know drgn."""
