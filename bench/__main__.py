"""``python -m bench [extents|reads|mount] [ARG...]``: one benchmark, or all with their defaults."""

import sys

from bench import extents, mount, reads

BENCHMARKS = {"extents": extents.main, "mount": mount.main, "reads": reads.main}

if __name__ == "__main__":
    name, arguments = (*sys.argv[1:2], "")[0], sys.argv[2:]
    if name in BENCHMARKS:
        BENCHMARKS[name](arguments)
    elif name:
        sys.exit(f"{name}: no such benchmark; there are {', '.join(BENCHMARKS)}")
    else:
        for main in BENCHMARKS.values():
            main([])
