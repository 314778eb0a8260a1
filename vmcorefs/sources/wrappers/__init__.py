"""What an image is wrapped in: compressed files and archives, read by position."""
