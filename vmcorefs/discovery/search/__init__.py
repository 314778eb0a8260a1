"""Searching memory for traces of a kernel."""
