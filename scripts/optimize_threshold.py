"""Tune the post-processing of a run: the same as ``saltseg tune``."""

from saltseg.cli.app import main

if __name__ == "__main__":
    main("tune")
