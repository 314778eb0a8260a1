"""Why the machine died: one report out of its memory."""
