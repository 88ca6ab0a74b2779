"""Average several runs: the same as ``saltseg blend``."""

from saltseg.cli.app import main

if __name__ == "__main__":
    main("blend")
