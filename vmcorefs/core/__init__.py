"""What is true with no input and no output: extents, ELF, notes, maps, the vmcore's layout.

Nothing here opens, reads or writes a file; ``import-linter`` sees to it.
"""
