"""ELF files of symbols, and unwind tables."""
