"""Files that people have in place of plain memory: knowing each by its content, and what to do."""
