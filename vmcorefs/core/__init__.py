"""Pure computation, without I/O: extents, ELF, notes, maps, the vmcore's layout.

Nothing here opens, reads or writes a file; ``import-linter`` enforces it.
"""
