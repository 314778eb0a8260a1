"""The mount: names and reads over FUSE. Nothing here knows a format."""
