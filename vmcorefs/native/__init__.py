"""What is done to every page in machine code, where that was built; its callers do without too."""
