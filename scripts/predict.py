"""Predict with a trained run: the same as ``saltseg predict``."""

from saltseg.cli.app import main

if __name__ == "__main__":
    main("predict")
