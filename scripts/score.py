"""Score a submission against known masks, as Kaggle would.

Prints the score of all images, of the public third and of the private rest, and a table by coverage: how much
of the true mask is salt, from 0 (none) to 10 (more than 90 %). A file that Kaggle would refuse is refused,
with row and reason.

    python scripts/score.py output/runs/synthetic-demo/submission.csv input/synthetic/solution.csv
"""

from pathlib import Path

from saltseg import cli


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("submission", type=Path, help="the CSV file to score: id,rle_mask")
    parser.add_argument("solution", type=Path, help="the true masks: id,rle_mask and optionally usage")
    arguments = parser.parse_args()

    from saltseg.core import submission
    from saltseg.errors import InputError

    solution = submission.check(arguments.solution, allow_usage=True)
    refused = [("solution", problem) for problem in solution.problems]
    if not refused:
        found = submission.check(arguments.submission, solution.ids)
        refused = [("submission", problem) for problem in found.problems]
    if refused:  # Kaggle shows the first; here is the whole list
        for kind, problem in refused:
            print(f"{kind}: {problem}")
        file = arguments.solution if refused[0][0] == "solution" else arguments.submission
        raise InputError(f"{file} is refused for {len(refused)} reasons, listed above; correct it")

    result = submission.score(arguments.submission, arguments.solution)
    for name, value, count in (
        ("all", result.all, result.n),
        ("public", result.public, result.n_public),
        ("private", result.private, result.n_private),
    ):
        shown = "     -" if value is None else f"{value:.4f}"
        print(f"{name:<8} {shown}  {count:>6} images")
    print("\ncoverage of the true mask  images   score")
    for row in result.per_coverage:
        number = int(row["coverage_class"])
        label = "no salt" if number == 0 else f"{10 * (number - 1)}-{10 * number} %"
        print(f"{label:<25} {row['n']:>7}  {row['score']:.4f}")
    cli.next_step("python scripts/leaderboard.py")


if __name__ == "__main__":
    cli.run(main)
