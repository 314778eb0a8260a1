"""Saving, by the command and real places: other machines, stores, full disks, kills."""
