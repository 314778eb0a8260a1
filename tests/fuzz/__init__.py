"""One target for each parser: whatever bytes it is given, it parses them or raises our own error.

``pytest tests/fuzz`` runs every target on its seeds, on what was once found, and on some hundred
inputs that hypothesis makes; ``python -m tests.fuzz`` runs one under atheris for as long as wanted.
docs/fuzzing.md tells more.
"""
