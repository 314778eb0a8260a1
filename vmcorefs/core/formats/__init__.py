"""Dump formats, bytes to values and back: one module or folder for each."""
