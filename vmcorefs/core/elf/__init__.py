"""ELF as cores use it: headers, notes, the elfcorehdr."""
