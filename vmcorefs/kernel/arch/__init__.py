"""What differs from one architecture to the next about a kernel: a module each."""
