"""Finding things in memory that nobody pointed at."""
