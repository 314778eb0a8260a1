"""Many dumps: variants of a real one, poisoned ones, and what becomes of them."""
