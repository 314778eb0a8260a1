"""Physical addresses: units, ranges, and tables of extents."""
