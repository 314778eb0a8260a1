"""What the healthy machine does before a panic."""
