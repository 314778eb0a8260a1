"""Dump formats, bytes to values and back: a module or a folder each."""
