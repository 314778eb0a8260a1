"""The kdump-compressed format."""
