"""Write the page about a run: the same as ``saltseg report``."""

from saltseg.cli.app import main

if __name__ == "__main__":
    main("report")
