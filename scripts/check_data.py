"""Check a dataset under input/ and list everything that is wrong with it, each problem with its fix.

Every table, image and mask is read. Found are missing, unreadable, wrongly sized or coloured images, masks
that are not binary or differ from their RLE, repeated or missing ids, malformed RLEs, unexpected columns and
stray files. Exit code 0 and a few figures for a sound dataset, 2 and the whole list otherwise.

  python scripts/check_data.py tgs              a dataset under input/
  python scripts/check_data.py some/folder      a copy that lies elsewhere, before it is linked
"""

from pathlib import Path
from typing import TYPE_CHECKING

from saltseg import cli

if TYPE_CHECKING:
    from saltseg.data.verify import Problem, Statistics


def main() -> int:
    """Parse, verify, print."""
    parser = cli.parser(__doc__)
    parser.add_argument("dataset", metavar="DATASET", help="name under input/, or the path of a folder")
    parser.add_argument("--input", type=Path, default=Path("input"), metavar="DIR", help="default: input")
    arguments = parser.parse_args()

    from tqdm import tqdm

    from saltseg.data import competition, verify

    root = arguments.input / arguments.dataset
    if not root.is_dir() and Path(arguments.dataset).is_dir():
        root = Path(arguments.dataset)
    elif not root.is_dir():
        root = competition.dataset_root(arguments.input, arguments.dataset)
    with tqdm(desc="checking", unit="file", delay=2, leave=False) as bar:

        def advance(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        problems = verify.verify(root, advance)
    if problems:
        print_problems(root, problems)
        return 2
    print_statistics(root, verify.statistics(root))
    if root.parent.resolve() == arguments.input.resolve():
        elsewhere = "" if arguments.input == Path("input") else f" --input {arguments.input}"
        cli.next_step(f"python scripts/run.py unet --data {root.name}{elsewhere}")
    else:
        cli.next_step(f"python scripts/prepare_data.py --source {root}")
    return 0


def print_problems(root: Path, problems: "list[Problem]") -> None:
    """Print the problems, those with one fix together, the rarest group first."""
    groups: dict[str, list[Problem]] = {}
    for problem in problems:
        groups.setdefault(problem.fix, []).append(problem)
    print(f"{root}: {len(problems):,} problem{'s' * (len(problems) > 1)}")
    for fix, group in sorted(groups.items(), key=lambda item: len(item[1])):
        print(f"\n{len(group):,} x  fix: {fix}")
        width = min(60, max(len(problem.where) for problem in group))
        for problem in group:
            print(f"  {problem.where:<{width}}  {problem.what}")


def print_statistics(root: Path, counts: "Statistics") -> None:
    """Print what a sound dataset holds."""
    print(f"{root}: no problems")
    print(
        f"  {counts.train:,} labelled tiles: {counts.empty_share:.1%} without salt, mean coverage "
        f"{counts.mean_coverage:.1%}, {counts.constant_tiles:,} constant"
    )
    answers = "with solution.csv, so scores can be computed here" if counts.solution else "no solution.csv"
    print(f"  {counts.test:,} tiles to predict, {answers}")
    if counts.sections is not None:
        print(f"  tiles cut from {counts.sections:,} sections, so folds can be grouped")
    if counts.without_depth:
        print(f"  note: depths.csv lacks {counts.without_depth:,} of the tiles (depths are not needed)")


if __name__ == "__main__":
    cli.run(main)
