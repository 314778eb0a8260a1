"""``python -m bench``: every benchmark, one after the other."""

from bench import extents

if __name__ == "__main__":
    extents.main()
