"""Compare all runs and blends: scores out of fold and on the solution, gain of TTA, training time.

Prints a table, best cross-fitted score first within each dataset, and writes the same as a page,
output/leaderboard.html. For real data it also says between which lines of Kaggle's 2018 board a run would be
expected; that is an expectation, not a result.

    python scripts/leaderboard.py
"""

from pathlib import Path

from saltseg import cli


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--output", type=Path, default=Path("output"), metavar="DIR", help="results (default: output)")
    arguments = parser.parse_args()

    from saltseg.reporting import leaderboard

    found = leaderboard.rows(arguments.output)
    print(leaderboard.table(found))
    print(f"\npage: {leaderboard.write(arguments.output, found)}")
    cli.next_step(f"python scripts/report.py {found[0].name}")


if __name__ == "__main__":
    cli.run(main)
