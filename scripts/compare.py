"""Compare two runs image by image: the same as ``saltseg compare``."""

from saltseg.cli.app import main

if __name__ == "__main__":
    main("compare")
