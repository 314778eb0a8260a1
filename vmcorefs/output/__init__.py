"""Where a file goes: a disk, a stream, another machine, a store."""
