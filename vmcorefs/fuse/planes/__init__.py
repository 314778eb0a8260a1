"""Planes: the ways in which a file's reads are served. They know tables and Linux, not pyfuse3."""
