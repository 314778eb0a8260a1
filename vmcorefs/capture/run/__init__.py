"""What the capture kernel does after a panic."""
