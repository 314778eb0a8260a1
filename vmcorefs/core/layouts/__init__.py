"""Where everything is in a vmcore or kcore file."""
