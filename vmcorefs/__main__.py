"""The program ``vmcorefs``, which is ``python -m vmcorefs`` too."""

import os
import sys


def main() -> None:
    """Run the command."""
    # numpy's OpenBLAS would start a thread for each CPU, which spins; nothing here uses it
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        from vmcorefs.cli import main as command  # noqa: PLC0415  # it imports numpy
    except KeyboardInterrupt:
        sys.exit(130)  # as vmcorefs.cli does
    command()


if __name__ == "__main__":
    main()
