"""Train, predict, tune, submit, report, leaderboard: the same as ``saltseg run``."""

from saltseg.cli.app import main

if __name__ == "__main__":
    main("run")
