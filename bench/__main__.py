"""``python -m bench [NAME [ARG...]]``: one benchmark, or all that need no input."""

import sys

from bench import (
    busy,
    dump_level,
    extents,
    many,
    mount,
    peers,
    reads,
    report,
    save,
    scan,
    slopes,
    tools,
    triage,
    vmlinux,
)

ALONE = {"extents": extents.main, "mount": mount.main, "reads": reads.main, "scan": scan.main}
BENCHMARKS = {
    **ALONE,
    "busy": busy.main,
    "dump-level": dump_level.main,
    "many": many.main,
    "peers": peers.main,
    "report": report.main,
    "save": save.main,
    "slopes": slopes.main,
    "tools": tools.main,
    "triage": triage.main,
    "vmlinux": vmlinux.main,
}

if __name__ == "__main__":
    name, arguments = (*sys.argv[1:2], "")[0], sys.argv[2:]
    if name in BENCHMARKS:
        BENCHMARKS[name](arguments)
    elif name:
        sys.exit(f"{name}: no such benchmark; there are {', '.join(BENCHMARKS)}")
    else:
        for main in ALONE.values():
            main([])
