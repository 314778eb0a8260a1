"""The mount: names and reads over FUSE. Nothing here depends on a dump format."""
