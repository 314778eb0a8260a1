"""Saving, with no real format: places, order, and what failures leave."""
