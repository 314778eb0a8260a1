"""Which tools will open a dump, and by which rule."""
