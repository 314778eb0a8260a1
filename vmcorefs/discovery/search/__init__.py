"""Looking through memory for what tells of a kernel."""
