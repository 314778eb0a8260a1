"""Files out: each is a name, a size and a table. None of them knows FUSE."""
