"""Put a dataset in Kaggle's layout under input/: the same as ``saltseg prepare``."""

from saltseg.cli.app import main

if __name__ == "__main__":
    main("prepare")
