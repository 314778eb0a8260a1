"""Dumps: files that say themselves which memory they hold. An opener for each format."""
