"""Train an experiment on a dataset, fold by fold: the same as ``saltseg train``."""

from saltseg.cli.app import main

if __name__ == "__main__":
    main("train")
