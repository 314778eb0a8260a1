"""Bytes in: inputs that are read by position. One module per kind of input."""
