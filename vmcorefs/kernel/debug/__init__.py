"""Files that describe the kernel to other tools, made of its memory, or found on this machine."""
