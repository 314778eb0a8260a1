"""Formats that say where each range of memory belongs, and nothing of the kernel that is in it."""
