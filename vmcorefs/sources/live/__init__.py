"""Memory of machines that still run: it is read where it lies, and changes meanwhile."""
