"""Compare all runs and blends: the same as ``saltseg leaderboard``."""

from saltseg.cli.app import main

if __name__ == "__main__":
    main("leaderboard")
