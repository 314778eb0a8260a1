"""The kernel that died: found once, used by everything that needs to know about it."""
