"""Where everything stands in a file: vmcores and kcores."""
