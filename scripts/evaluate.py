"""Score a run on the labelled images of another dataset: does what it learned carry over?

python scripts/evaluate.py synthetic-unet --data tgs      trained on simulated tiles, judged on real ones
"""

import json

from saltseg import cli


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("run", help="the run's name under output/runs")
    parser.add_argument("--data", required=True, metavar="DATASET", help="folder under input/ with train.csv and masks")
    cli.add_directories(parser)
    arguments = parser.parse_args()

    from saltseg import runs, storage
    from saltseg.inference import compare, steps

    run = runs.existing_run(arguments.output, arguments.run)
    found = compare.evaluate(run, steps.Place(arguments.input, arguments.output), arguments.data)
    target = run.path / f"on_{arguments.data}.json"
    storage.write_json(target, found)
    print(json.dumps(found, indent=2))
    print(f"written: {target}")
    cli.next_step("python scripts/leaderboard.py")


if __name__ == "__main__":
    cli.run(main)
