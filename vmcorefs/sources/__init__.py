"""Bytes in: what gives bytes by position. One module per kind of input."""
