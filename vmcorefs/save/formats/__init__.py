"""The formats that a dump is written in."""
