"""List everything that is wrong with a dataset: the same as ``saltseg check``."""

from saltseg.cli.app import main

if __name__ == "__main__":
    main("check")
