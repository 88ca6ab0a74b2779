"""Write the submission of a run: masks of the test images under the run's decision rule, run-length encoded.

  python scripts/submit.py tgs-unet
  python scripts/submit.py tgs-final --rule-of tgs-student      another run's tuned rule, for a run that has none

The file has exactly the ids and the order of sample_submission.csv; it is read back and compared. Where the
dataset has a solution (the synthetic one has), it is scored as Kaggle would.
"""

from saltseg import cli


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("run", help="the run's name under output/runs")
    parser.add_argument("--rule-of", metavar="RUN", help="the run or blend whose decision rule applies (default: RUN)")
    cli.add_directories(parser)
    arguments = parser.parse_args()

    from saltseg import runs
    from saltseg.inference import steps
    from saltseg.reporting import notes

    run = runs.existing_run(arguments.output, arguments.run)
    other = runs.existing_run(arguments.output, arguments.rule_of) if arguments.rule_of else None
    score = steps.submit(run, steps.Place(arguments.input, arguments.output), other)
    print(f"submission: {run.submission}")
    if other is not None:
        print(f"its rule is that of {other.name}: {notes.rule_text(steps.rule_of(run))}")
    if score:
        print(f"score: {score['all']:.4f} on all {score['n']} test images")
        for part in ("public", "private"):
            if score[part] is not None:
                print(f"  {part} {score[part]:.4f} on {score['n_' + part]}")
    cli.next_step(f"python scripts/{'publish' if run.taught_by_all_folds() else 'report'}.py {run.name}")


if __name__ == "__main__":
    cli.run(main)
