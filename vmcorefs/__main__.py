"""``python -m vmcorefs``."""

from vmcorefs.cli import main

if __name__ == "__main__":
    main()
