"""Memory maps: what they say, and the forms that they come in."""
