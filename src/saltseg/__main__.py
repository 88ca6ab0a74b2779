"""``python -m saltseg`` is the command ``saltseg``."""

from saltseg.cli.app import main

if __name__ == "__main__":
    main()
