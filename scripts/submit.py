"""Write the submission of a run: masks of the test images under the run's decision rule, run-length encoded.

  python scripts/submit.py tgs-unet

The file has exactly the ids and the order of sample_submission.csv; it is read back and compared. Where the
dataset has a solution (the synthetic one has), it is scored as Kaggle would.
"""

from saltseg import cli


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("run", help="the run's name under output/runs")
    cli.add_directories(parser)
    arguments = parser.parse_args()

    from saltseg import runs
    from saltseg.inference import steps

    run = runs.existing_run(arguments.output, arguments.run)
    score = steps.submit(run, steps.Place(arguments.input, arguments.output))
    print(f"submission: {run.submission}")
    if score:
        print(f"score: {score['all']:.4f} on all {score['n']} test images")
        for part in ("public", "private"):
            if score[part] is not None:
                print(f"  {part} {score[part]:.4f} on {score['n_' + part]}")
    cli.next_step(f"python scripts/report.py {run.name}")


if __name__ == "__main__":
    cli.run(main)
