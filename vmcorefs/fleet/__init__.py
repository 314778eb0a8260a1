"""Many dumps: a row for each, groups of equal crashes; the work is shared out by Dask."""
