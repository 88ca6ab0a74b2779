"""Write the submission of a run: the same as ``saltseg submit``."""

from saltseg.cli.app import main

if __name__ == "__main__":
    main("submit")
