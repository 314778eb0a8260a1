"""Inputs that are elsewhere, read by a process of their own."""
