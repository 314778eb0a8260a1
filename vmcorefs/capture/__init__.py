"""What runs in the capture kernel after a panic, and what prepares it on the healthy system."""
