"""Score a submission against known masks: the same as ``saltseg score``."""

from saltseg.cli.app import main

if __name__ == "__main__":
    main("score")
