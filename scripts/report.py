"""Write the page about a run: scores and their caveats, curves, tables, images.

One HTML file that works offline: learning curves with the learning rate, the curve of the decision rule,
precision and recall, scores by coverage and by fold, and the best, median and worst training and validation
images. What the run does not have yet is named on the page.

    python scripts/report.py synthetic-demo
    python scripts/report.py tgs-unet --input /data/seismic

The images come from the dataset that the run was trained on, input/<dataset>.
"""

from pathlib import Path

from saltseg import cli


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("run", help="name of the run or blend, a folder under output/runs or output/blends")
    parser.add_argument(
        "--picture", type=Path, metavar="PNG", help="also draw a good, a middling and a poor tile alone"
    )
    cli.add_directories(parser)
    arguments = parser.parse_args()

    from saltseg import runs, storage
    from saltseg.errors import InputError
    from saltseg.reporting import report

    run = runs.existing_run(arguments.output, arguments.run)
    dataset = run.read_provenance().get("dataset")
    if not dataset:
        raise InputError(f"{run.provenance} names no dataset; train the run again")
    root = arguments.input / dataset
    if not root.is_dir():
        print(f"note: no dataset in {root}, so the page has no images; --input says where datasets are")
    print(report.write(run, root))
    if arguments.picture:
        storage.write_atomic(arguments.picture, report.picture(run, root))
        print(arguments.picture)
    cli.next_step("python scripts/leaderboard.py")


if __name__ == "__main__":
    cli.run(main)
