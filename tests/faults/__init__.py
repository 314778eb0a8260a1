"""Readers and the log when something goes wrong under a mount: docs/faults.md is made here."""
