"""The kernel's own description of its types: BTF."""
