"""Whole captures, damaged on purpose, opened by the command, the library and real mounts.

``tests/fuzz`` gives bytes to one parser. Here a capture that is good is changed where something is
read that the image says of itself: headers, notes, VMCOREINFO, page tables, lists, logs, symbols,
BTF, maps, the description. Whatever the change, vmcorefs ends with a result or with its own error,
in bounded time and memory, and no file has a byte that ``layout.json`` does not account for.

``python -m tests.mutants --cases 10000``; docs/fuzzing.md has the figures.
"""
