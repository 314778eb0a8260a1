"""What runs in the capture kernel, and what prepares it."""
