"""Writing a dump: what is kept, in which format, and where it goes."""
