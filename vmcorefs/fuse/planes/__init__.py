"""Planes: ways to serve a file's reads. They depend on tables and Linux, not on pyfuse3."""
