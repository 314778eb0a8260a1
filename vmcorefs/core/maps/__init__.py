"""Memory maps, and the forms they come in."""
